"""Free the blocks of a store that nothing needs any more.

Needed is what these heads lead to: of every dataset the one to answer from, the
newest and the one held; of this home's own and of what it follows also the
HEADS_KEPT before, for followers that are a little behind and for pages under way.
Below a head whose dataset is not all here, that means whatever is here of it,
records that only their index knows included.

Promises: nothing needed is ever freed, whatever instant the process is killed at.
Every step is a transaction of its own that takes nothing needed, so the next
collection goes on where this one ended. Where something is missing that should be
here, nothing is freed: what lies below a missing block cannot be told from waste.

Whoever calls has the store alone (`Home.open_store`): a sync counts on blocks that no
head leads to yet. Writers that came nevertheless end the collection. Memory is
bounded: what was marked stands in a temporary file of SQLite's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple

import apsw

from rhizome_index.blocks.cid import cid_of_digest, digest_of
from rhizome_index.errors import IntegrityError, StoreError, UnavailableError
from rhizome_index.index.address import Address
from rhizome_index.index.head import Head
from rhizome_index.limits import HEADS_KEPT
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.part import check_part
from rhizome_index.node.reach import ENTRIES, INDEX, MANIFEST, RECORD, Place, children
from rhizome_index.node.register import FULL, Policy, Register
from rhizome_index.node.signed import Signed
from rhizome_index.node.sqlite import TRY_AGAIN
from rhizome_index.tree.node import decode_node

_BLOCKS_AT_ONCE = 256
_PAGES_AT_ONCE = 256
_DIGEST_BYTES = 32
_INCREMENTAL = 2  # as `pragma auto_vacuum` tells it
_SCRUB = "mend it first: rhizome scrub"

OnBlocks = Callable[[int], None]


class Root(NamedTuple):
    """A head, and whether all that it leads to should be here."""

    head: Head
    is_whole: bool


@dataclass(slots=True)
class Collected:
    """What a collection has freed, or would, and what it has kept."""

    freed_blocks: int = 0
    freed_bytes: int = 0
    kept_blocks: int = 0
    kept_bytes: int = 0


def collect(
    store: DiskStore, peer_id: str, *, is_trial: bool = False, on_blocks: OnBlocks = lambda count: None
) -> Collected:
    """Free what nothing in the store of a peer needs, and give the room back to the disk.

    is_trial   only find out how much that is
    on_blocks  told how many blocks have been looked at since it was last told: each twice at most

    Raises StoreError where something is missing that should be here, or others write meanwhile.
    """
    version = store.data_version()
    found = Collected()
    with closing(_Marks()) as marks:
        for root in roots(store, peer_id):
            if root.is_whole or not marks.has(digest_of(root.head.manifest)):
                _mark(store, root, marks, on_blocks)
        _sweep(store, marks, version, is_trial, found, on_blocks)
    if not is_trial:
        _shrink(store)
    return found


def roots(store: DiskStore, peer_id: str) -> list[Root]:
    """The heads of a peer's store whose blocks are needed, those of whole datasets first.

    Raises StoreError if one of them is lost or damaged, or not all is here of a part that is followed.
    """
    signed, register = Signed(store), Register(store)
    own = {address for address in signed.addresses() if address.publisher == peer_id}
    policies = {follow.address: follow.policy for follow in register.follows()}
    try:
        heads = store.all_heads()
    except IntegrityError as error:
        raise StoreError(str(error), hint=_SCRUB) from None
    found: list[Root] = []
    for address in sorted({head.address for head in heads} | own | set(policies)):
        found += _single_heads(store, address)
        if address in own:
            newest = store.newest_head(address)
            if newest is None or newest.sequence < signed.last(address):
                raise _lost(address)
            found.append(Root(newest, is_whole=True))
        if store.is_held(address):
            held = store.held_head(address)
            if held is None:
                raise _lost(address)
            policy = policies.get(address, Policy())
            if policy.kind != FULL:
                _check_part(store, held, policy)
            found.append(Root(held, is_whole=policy.kind == FULL))
        if address in own or address in policies:
            before = [head for head in heads if head.address == address]
            found += [Root(head, is_whole=False) for head in before[-HEADS_KEPT:]]
    return sorted(found, key=lambda root: not root.is_whole)


def _check_part(store: DiskStore, head: Head, policy: Policy) -> None:
    try:
        check_part(store, head, policy)
    except UnavailableError:
        raise _missing(head.address) from None


def _single_heads(store: DiskStore, address: Address) -> Iterator[Root]:
    for head in (store.current_head(address), store.newest_head(address)):
        if head is not None:
            yield Root(head, is_whole=False)


def _lost(address: Address) -> StoreError:
    return StoreError(f"the newest head of {address} is lost: what it needs cannot be told", hint=_SCRUB)


def _missing(address: Address) -> StoreError:
    return StoreError(f"blocks of {address} are missing: what lies below them cannot be told from waste", hint=_SCRUB)


class _Marks:
    """Places that are needed, in a temporary file that goes with the process."""

    def __init__(self) -> None:
        self._db = apsw.Connection("")
        self._db.execute("pragma journal_mode = off; pragma synchronous = off")
        self._db.execute(
            "create table marks (digest blob, kind text, is_whole int, primary key (digest, kind, is_whole)) "
            "without rowid"
        )
        self._db.execute("begin")

    def add(self, place: Place, is_whole: bool) -> bool:
        """Whether it is a new one."""
        row = (digest_of(place.cid), place.kind, is_whole)
        try:
            self._db.execute("insert or ignore into marks values (?, ?, ?)", row)
        except apsw.Error as error:
            raise StoreError(f"no room to note what is needed: {error}", hint=TRY_AGAIN) from None
        return bool(self._db.changes())

    def has(self, digest: bytes) -> bool:
        return self._db.execute("select 1 from marks where digest = ? limit 1", (digest,)).fetchone() is not None

    def close(self) -> None:
        self._db.close()


def _mark(store: DiskStore, root: Root, marks: _Marks, on_blocks: OnBlocks) -> None:
    """Mark what is here of all that a head leads to. Raises StoreError if all should be, and is not."""
    stack = [Place(root.head.manifest, MANIFEST)]
    while stack:
        place = stack.pop()
        if not marks.add(place, root.is_whole):
            continue
        if place.kind == RECORD and store.has(place.cid):
            continue
        data = store.get(place.cid)
        if data is not None:
            on_blocks(1)
            stack += children(place, data) if root.is_whole else _children_and_records(place, data)
        elif root.is_whole:
            raise _missing(root.head.address)


def _children_and_records(place: Place, data: bytes) -> list[Place]:
    """What a block leads to, and of an index's leaf the records that it names: they may be here by themselves."""
    found = children(place, data)
    if place.kind not in (INDEX, ENTRIES):
        return found
    node = decode_node(data)
    if node.level:
        return found
    return [Place(cid_of_digest(value[:_DIGEST_BYTES]), RECORD) for value in node.values if len(value) >= _DIGEST_BYTES]


def _sweep(
    store: DiskStore, marks: _Marks, version: int, is_trial: bool, found: Collected, on_blocks: OnBlocks
) -> None:
    last = -(2**63)
    statement = "select id, cast(digest as blob), length(data) from blocks where id > ? order by id limit ?"
    while rows := store.execute(statement, (last, _BLOCKS_AT_ONCE)):
        last = rows[-1][0]
        needed = [marks.has(digest or b"") for _, digest, _ in rows]
        waste = [row for row, is_needed in zip(rows, needed, strict=True) if not is_needed]
        if waste and not is_trial:
            with store.transaction():
                if store.data_version() != version:
                    raise StoreError(
                        f"another process has written to {store.folder} meanwhile; nothing needed was freed",
                        hint="stop it, then try again",
                    )
                for number, _, _ in waste:
                    store.execute("delete from blocks where id = ?", (number,))
        freed = sum(size or 0 for _, _, size in waste)
        found.freed_blocks += len(waste)
        found.freed_bytes += freed
        found.kept_blocks += len(rows) - len(waste)
        found.kept_bytes += sum(size or 0 for _, _, size in rows) - freed
        on_blocks(len(rows))


def _shrink(store: DiskStore) -> None:
    """Give the pages of what was deleted back to the disk, some at once."""
    store.forget_chunks()  # what is remembered may be gone
    if store.execute("pragma auto_vacuum")[0][0] == _INCREMENTAL:
        free = store.execute("pragma freelist_count")[0][0]
        while free:
            store.execute(f"pragma incremental_vacuum({_PAGES_AT_ONCE})")
            before, free = free, store.execute("pragma freelist_count")[0][0]
            if free >= before:
                break
    else:  # made before stores could: once as a whole, from then on bit by bit
        store.execute("pragma auto_vacuum = incremental")
        store.execute("vacuum")
    store.execute("pragma wal_checkpoint(truncate)")
