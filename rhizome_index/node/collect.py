"""Free the blocks of a store that nothing needs any more, and of those that queries have left the least recently used.

Needed is what these heads lead to: of every dataset the one to answer from, the
newest and the one held; of this home's own and of what it follows also the
HEADS_KEPT before, for followers that are a little behind and for pages under way;
those that are pinned; those that are being read from. Below a head whose dataset is
not all here, that means whatever is here of it, records that only their index knows
included. What only datasets lead to that are neither ours nor followed nor pinned was
left by queries: it stays as long as there is room.

Promises: nothing needed is ever freed, whatever instant the process is killed at.
Every step is a transaction of its own that takes nothing needed, so the next
collection goes on where this one ended. Where something is missing that should be
here, nothing is freed: what lies below a missing block cannot be told from waste.

Others go on meanwhile. Those of this process guard what they use (`uses.py`). Those of
other processes are waited for: blocks are freed while nobody else has the store open,
a few at a time, and after somebody had, what is needed is looked at again. Memory is
bounded: what was marked stands in a temporary file of SQLite's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeVar

from rhizome_index.blocks.cid import Cid, cid_of_digest, digest_of
from rhizome_index.errors import IntegrityError, StoreError, UnavailableError
from rhizome_index.index.address import Address
from rhizome_index.limits import HEADS_KEPT, MAKE_ROOM_SECONDS
from rhizome_index.node.cache import Cache, Use
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.local import LocalSource
from rhizome_index.node.marks import Marks
from rhizome_index.node.part import read_part
from rhizome_index.node.pins import Pins
from rhizome_index.node.reach import ENTRIES, INDEX, LEADS_NOWHERE, MANIFEST, RECORD, Place, children
from rhizome_index.node.register import FULL, Policy, Register
from rhizome_index.node.room import Measured, Room
from rhizome_index.node.signed import Signed
from rhizome_index.node.sync import Progress
from rhizome_index.node.uses import Kind
from rhizome_index.tree.node import decode_node

_BLOCKS_AT_ONCE = 64
_PAGES_AT_ONCE = 64
_EVICTED_AT_ONCE = 32
_DIGEST_BYTES = 32
_INCREMENTAL = 2  # as `pragma auto_vacuum` tells it
_SPARED = 0.9  # of what queries may leave: so much stays, lest each query make for another collection
_LEFT = (None, Kind.CACHED)  # what may go first
_SCRUB = "mend it first: rhizome scrub"

T = TypeVar("T")


class Root(NamedTuple):
    """The manifest of a head, for whose sake it stays, and how much of what it leads to should be here.

    is_whole  all of it
    part      what this keeps of it
    """

    address: Address | None
    manifest: Cid
    kind: Kind
    is_whole: bool = False
    part: Policy | None = None


@dataclass(slots=True)
class Collected:
    """What a collection has freed, or would, and what it has kept."""

    freed_blocks: int = 0
    freed_bytes: int = 0
    evicted_blocks: int = 0
    evicted_bytes: int = 0
    kept_blocks: int = 0
    kept_bytes: int = 0
    own_bytes: int = 0
    followed_bytes: int = 0
    pinned_bytes: int = 0
    cached_bytes: int = 0

    def keep(self, kind: Kind, size: int) -> None:
        """A block stays."""
        self.kept_blocks += 1
        self.kept_bytes += size
        if kind is Kind.OWN:
            self.own_bytes += size
        elif kind is Kind.FOLLOWED:
            self.followed_bytes += size
        elif kind is Kind.PINNED:
            self.pinned_bytes += size
        else:
            self.cached_bytes += size

    def evict(self, size: int) -> None:
        """A block that queries have left goes."""
        self.evicted_blocks += 1
        self.evicted_bytes += size
        self.kept_blocks -= 1
        self.kept_bytes -= size
        self.cached_bytes -= size


def collect(
    store: DiskStore,
    peer_id: str,
    *,
    is_trial: bool = False,
    on_blocks: Callable[[int], None] = lambda count: None,
    clock: Callable[[], float] = time.time,
) -> Collected:
    """Collect the store of a peer in one go, for whoever has it alone; see `Collection`.

    on_blocks  told how many blocks have been looked at since it was last told: each twice at most

    Raises StoreError where something is missing that should be here.
    """
    collection, began_at = Collection(store, peer_id, is_trial=is_trial), clock()
    for looked_at in collection.steps():
        on_blocks(looked_at)
        if collection.is_waiting:
            raise StoreError(f"another process is using the store in {store.folder}", hint="stop it, then try again")
    if not is_trial:
        if store.execute("pragma auto_vacuum")[0][0] != _INCREMENTAL:
            store.execute("pragma auto_vacuum = incremental")  # from now on bit by bit
            store.execute("vacuum")
            store.execute("pragma wal_checkpoint(truncate)")
        collection.measure(clock(), clock() - began_at)
    return collection.found


def make_room(store: DiskStore, peer_id: str, clock: Callable[[], float]) -> bool:
    """Collect if nobody else has the store open and it takes no more than MAKE_ROOM_SECONDS; whether it was done.

    Raises StoreError where something is missing that should be here.
    """
    collection, began_at = Collection(store, peer_id), clock()
    for _ in collection.steps():
        if collection.is_waiting or clock() - began_at > MAKE_ROOM_SECONDS:
            return False
    collection.measure(clock(), clock() - began_at)
    return True


class Collection:
    """Frees what nothing in the store of a peer needs, and gives the room back to the disk.

    is_trial    only find out how much that is
    found       so far
    is_waiting  for other processes that have the store open
    """

    def __init__(self, store: DiskStore, peer_id: str, *, is_trial: bool = False) -> None:
        self._store = store
        self._peer_id = peer_id
        self._is_trial = is_trial
        self._room = Room(store)
        self._cache = Cache(store)
        self._version = -1
        self._leased: frozenset[tuple[Cid, Kind]] = frozenset()
        self.found = Collected()
        self.is_waiting = False

    def steps(self) -> Iterator[int]:
        """Collect, pausing every few milliseconds: how many blocks have been looked at since.

        Raises StoreError where something is missing that should be here.
        """
        with closing(Marks()) as self._marks, self._store.uses.guarding():
            yield from self._mark_all()
            if not self._is_trial:
                self._cache.note_uses()
            yield from self._sweep()
            yield from self._evict()
        if not self._is_trial:
            yield from self._shrink()

    def measure(self, at_seconds: float, took_seconds: float) -> Measured:
        """What was found, in short, and noted for those who want to know later: when it ended, since 1970."""
        found = self.found
        measured = Measured(
            at_ms=int(at_seconds * 1000),
            own=found.own_bytes,
            followed=found.followed_bytes,
            pinned=found.pinned_bytes,
            cached=found.cached_bytes,
            file_bytes=self._room.file_bytes(),
            quota=self._room.quota,
            freed_blocks=found.freed_blocks,
            freed_bytes=found.freed_bytes,
            evicted_blocks=found.evicted_blocks,
            evicted_bytes=found.evicted_bytes,
            took_ms=int(took_seconds * 1000),
        )
        self._room.measured = measured
        return measured

    # --- what is needed ---

    def _mark_all(self) -> Iterator[int]:
        self._version = self._store.data_version()  # before looking: what is written from now on is seen then
        found: list[Root] = []
        for root in roots(self._store, self._peer_id):
            found.append(root)
            yield 0
        for root in sorted(found, key=lambda root: (not root.is_whole, root.kind)):
            if root.part is not None:
                yield from self._check_part(root, root.part)
            yield from self._mark(root)
        yield from self._mark_leased()

    def _mark_leased(self) -> Iterator[int]:
        """What is being read from, and was not when that was last looked for."""
        leased = frozenset(self._store.uses.leased)
        for manifest, kind in leased - self._leased:
            yield from self._mark(Root(None, manifest, kind))
        self._leased |= leased

    def _check_part(self, root: Root, policy: Policy) -> Iterator[int]:
        source = LocalSource(self._store)
        try:
            for _ in source.steps(read_part(source.manifest(root.manifest), policy, Progress())):
                yield 0
        except UnavailableError:
            raise _missing(root.address) from None

    def _mark(self, root: Root) -> Iterator[int]:
        """Mark what is here of all that a head leads to. Raises StoreError if all should be, and is not."""
        known = self._marks.kind_of(digest_of(root.manifest))
        if not root.is_whole and known is not None and known <= root.kind:
            return
        stack = [Place(root.manifest, MANIFEST)]
        looked_at = 0
        while stack:
            place = stack.pop()
            if not self._marks.add(place, root.kind, is_whole=root.is_whole):
                continue
            leads_nowhere = place.kind == RECORD or (root.is_whole and place.kind in LEADS_NOWHERE)
            if leads_nowhere and self._store.is_here(place.cid):
                looked_at += 1
            elif (data := self._store.peek(place.cid)) is not None:
                stack += children(place, data) if root.is_whole else _children_and_records(place, data)
                looked_at += 1
            elif root.is_whole:
                raise _missing(root.address)
            if looked_at >= _BLOCKS_AT_ONCE:
                yield looked_at
                looked_at = 0
        yield looked_at

    # --- what goes ---

    def _sweep(self) -> Iterator[int]:
        last = -(2**63)
        statement = "select id, cast(digest as blob), length(data) from blocks where id > ? order by id limit ?"
        while rows := self._store.execute(statement, (last, _BLOCKS_AT_ONCE)):
            last = rows[-1][0]
            wanted = [(digest or b"", size or 0) for _, digest, size in rows]
            yield from self._free(partial(self._sweep_some, wanted))
            yield len(rows)

    def _sweep_some(self, blocks: list[tuple[bytes, int]]) -> None:
        for digest, size in blocks:
            kind = self._marks.kind_of(digest)
            is_waste = kind is None and not self._store.uses.has(cid_of_digest(digest))
            if is_waste:
                self.found.freed_blocks += 1
                self.found.freed_bytes += size
            else:
                self.found.keep(Kind.CACHED if kind is None else kind, size)
            if self._is_trial:
                continue
            if kind in (Kind.CACHED, Kind.ANSWERED, Kind.ASKED):
                self._cache.add(digest, size)
            elif kind is not None or is_waste:
                self._cache.forget(digest)
            if is_waste:
                self._store.delete(digest)

    def _evict(self) -> Iterator[int]:
        """Of what queries have left, let the least recently used go, until the rest has room."""
        most = self._room.cache_max(self.found.followed_bytes + self.found.pinned_bytes, self.found.kept_bytes)
        if most is None or self._is_trial or self._room.cached_bytes <= most:
            return
        for may_go in (_LEFT, (*_LEFT, Kind.ANSWERED)):
            last: Use | None = (-1, b"")
            while last is not None:
                last = yield from self._free(partial(self._evict_some, may_go, last, int(most * _SPARED)))
                yield 0

    def _evict_some(self, may_go: tuple[Kind | None, ...], last: Use, spared: int) -> Use | None:
        """From among the oldest behind that one, until so many bytes are left; the last looked at, or None."""
        left = self._room.cached_bytes
        oldest = self._cache.oldest(last, _EVICTED_AT_ONCE)
        for _, digest in oldest:
            if left <= spared:
                return None
            kind = self._marks.kind_of(digest)
            if kind is not None and kind < Kind.ASKED:
                self._cache.forget(digest)  # something else has come to need it
            elif kind in may_go and not self._store.uses.has(cid_of_digest(digest)):
                size = self._store.delete(digest)
                self._cache.forget(digest)
                self.found.evict(size)
                left -= size
        return oldest[-1] if oldest else None

    def _free(self, free: Callable[[], T]) -> Generator[int, None, T]:
        """Do something in a transaction, at a moment at which what is marked is all that is needed."""
        if self._is_trial:
            return free()
        while True:
            with self._store.having_alone() as is_alone:
                self.is_waiting = not is_alone
                if is_alone:
                    with self._store.unhurried(), self._store.transaction():  # what is lost of it was waste
                        if self._is_current():
                            return free()
            if is_alone:
                yield from self._mark_again()
            else:
                yield 0

    def _is_current(self) -> bool:
        return self._store.data_version() == self._version and self._leased.issuperset(self._store.uses.leased)

    def _mark_again(self) -> Iterator[int]:
        is_same = self._store.data_version() == self._version
        yield from self._mark_leased() if is_same else self._mark_all()

    def _shrink(self) -> Iterator[int]:
        """Give the pages of what was deleted back to the disk, some at once."""
        if self._store.execute("pragma auto_vacuum")[0][0] != _INCREMENTAL:
            return  # made before stores could
        free = self._store.execute("pragma freelist_count")[0][0]
        while free:
            with self._store.unhurried():
                self._store.execute(f"pragma incremental_vacuum({_PAGES_AT_ONCE})")
            yield 0
            before, free = free, self._store.execute("pragma freelist_count")[0][0]
            if free >= before:
                break
        self._store.execute("pragma wal_checkpoint(truncate)")


def roots(store: DiskStore, peer_id: str) -> Iterator[Root]:
    """The heads of a peer's store whose blocks are needed.

    Raises StoreError if one of them is lost or damaged, or not all is here of a part that is followed.
    """
    own = {address for address in Signed(store).addresses() if address.publisher == peer_id}
    policies = {follow.address: follow.policy for follow in Register(store).follows()}
    try:
        for address in sorted({*store.datasets(), *own, *policies}):
            yield from _roots_of(store, address, policies.get(address), is_own=address in own)
    except IntegrityError as error:
        raise StoreError(str(error), hint=_SCRUB) from None
    for head in Pins(store).all():
        yield Root(head.address, head.manifest, Kind.PINNED, is_whole=True)


def _roots_of(store: DiskStore, address: Address, policy: Policy | None, *, is_own: bool) -> Iterator[Root]:
    newest = store.newest_head(address)
    if is_own:
        if newest is None or newest.sequence < Signed(store).last(address):
            raise _lost(address)
        yield Root(address, newest.manifest, Kind.OWN, is_whole=True)
    if store.is_held(address):
        held = store.held_head(address)
        if held is None:
            raise _lost(address)
        is_whole = policy is None or policy.kind == FULL
        yield Root(address, held.manifest, Kind.FOLLOWED, is_whole, None if is_whole else policy)
    kind = Kind.OWN if is_own else Kind.CACHED if policy is None else Kind.FOLLOWED
    for head in (newest, store.current_head(address)):
        if head is not None:
            yield Root(address, head.manifest, kind)
    if kind is not Kind.CACHED:
        for head in store.last_heads(address, HEADS_KEPT):
            yield Root(address, head.manifest, kind)


def _lost(address: Address) -> StoreError:
    return StoreError(f"the newest head of {address} is lost: what it needs cannot be told", hint=_SCRUB)


def _missing(address: Address | None) -> StoreError:
    return StoreError(f"blocks of {address} are missing: what lies below them cannot be told from waste", hint=_SCRUB)


def _children_and_records(place: Place, data: bytes) -> list[Place]:
    """What a block leads to, and of an index's leaf the records that it names: they may be here by themselves."""
    found = children(place, data)
    if place.kind not in (INDEX, ENTRIES):
        return found
    node = decode_node(data)
    if node.level:
        return found
    return [Place(cid_of_digest(value[:_DIGEST_BYTES]), RECORD) for value in node.values if len(value) >= _DIGEST_BYTES]
