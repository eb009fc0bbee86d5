"""Scrub a home's store: read everything, set aside what is damaged, bring back what is missing.

Promises: afterwards every block that can be read is right, and of each dataset that
is ours or followed it is known whether all that its head leads to is here. Indexes
that lack blocks are derived from the records again; what else is missing comes from
peers. A store whose own structure is damaged is left as it is: StoreError.

What queries of other people's datasets have left here is read too, but nothing
says that it ought to be whole.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from rhizome_index.blocks.cid import cid_of, digest_of
from rhizome_index.errors import IntegrityError, RhizomeError, StoreError, UnavailableError
from rhizome_index.index.address import Address
from rhizome_index.index.head import Head
from rhizome_index.node.cost import Cost
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.fetch import Fetcher
from rhizome_index.node.mend import derive_again, fill, missing_blocks
from rhizome_index.node.part import check_part
from rhizome_index.node.peer import Peer
from rhizome_index.node.pins import Pins
from rhizome_index.node.register import FULL, Policy, Register
from rhizome_index.node.signed import Signed
from rhizome_index.node.sqlite import RESTORE
from rhizome_index.node.tables import HEAD_COLUMNS, open_row

_BLOCKS_AT_ONCE = 256


@dataclass(slots=True)
class Kept:
    """A dataset that should be here: all of it, or the part that its policy names.

    head     the one to answer from; None if it is lost
    is_pin   it is a snapshot, and stays that
    missing  how many blocks are missing, as far as can be seen; of a part, 1 stands for any number
    mended   how many were missing and are here again
    """

    address: Address
    policy: Policy
    is_own: bool
    head: Head | None = None
    is_pin: bool = False
    missing: int = 0
    mended: int = 0

    @property
    def is_whole(self) -> bool:
        return self.head is not None and not self.missing


@dataclass(slots=True)
class Scrubbed:
    """What a scrub has found. `damaged` blocks and `damaged_heads` were set aside.

    problems  why peers could not mend something
    """

    blocks: int = 0
    bytes: int = 0
    damaged: int = 0
    damaged_heads: int = 0
    kept: list[Kept] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        return all(kept.is_whole for kept in self.kept)


def scrub(store: DiskStore, peer_id: str, on_blocks: Callable[[int], None] = lambda count: None) -> Scrubbed:
    """Read the store of a peer and mend what can be mended without others. Raises StoreError.

    on_blocks  told how many blocks have been read since it was last told
    """
    _check_structure(store)
    found = Scrubbed()
    _read_blocks(store, found, on_blocks)
    _read_heads(store, found)
    found.kept = _all_kept(store, peer_id)
    for kept in found.kept:
        _look_again(store, kept)
        if kept.missing and kept.head is not None and kept.policy.kind == FULL:
            with suppress(UnavailableError):
                derive_again(store, kept.head)
            _look_again(store, kept)
    return found


async def mend(peer: Peer, found: Scrubbed) -> None:
    """Bring back from peers what a scrub has found missing, and note in `found` what that has changed."""
    for kept in found.kept:
        if kept.is_whole:
            continue
        try:
            await _mend(peer, kept)
        except RhizomeError as error:
            found.problems.append(f"{kept.address}: {error}")
        _look_again(peer.store, kept)


async def _mend(peer: Peer, kept: Kept) -> None:
    membership = peer.joined()
    peers = await peer.providers(kept.address)
    cost = Cost()
    if kept.is_pin and kept.head is not None:
        await fill(peer.store, kept.head, Fetcher(membership.links, peers, cost))
        return
    if not kept.is_own:
        await membership.follower.mend(kept.address, peers)
        return
    for other in peers:
        with suppress(UnavailableError, IntegrityError):  # the next one may know more
            told = (await membership.directory.ask(other, [kept.address], cost)).get(kept.address)
            for head in told.heads if told else ():
                peer.store.put_head(head)
    _find_head(peer.store, kept)
    if kept.head is None:
        raise UnavailableError("its newest head is lost, and no peer asked knows it")
    await fill(peer.store, kept.head, Fetcher(membership.links, peers, cost))


def _check_structure(store: DiskStore) -> None:
    """Raise StoreError if SQLite's own structure is damaged; its indexes are made anew if that is enough."""
    told = store.execute("pragma integrity_check(1)")
    if told != [("ok",)]:
        with suppress(StoreError):
            store.execute("reindex")
        told = store.execute("pragma integrity_check(1)")
    if told != [("ok",)]:
        raise StoreError(
            f"the store in {store.folder} is damaged: {str(told[0][0]).splitlines()[-1]}",
            hint=f"move store.sqlite away; {RESTORE}",
        )


def _read_blocks(store: DiskStore, found: Scrubbed, on_blocks: Callable[[int], None]) -> None:
    last = -(2**63)
    statement = "select id, cast(digest as blob), cast(data as blob) from blocks where id > ? order by id limit ?"
    while rows := store.execute(statement, (last, _BLOCKS_AT_ONCE)):
        last = rows[-1][0]
        found.blocks += len(rows)
        found.bytes += sum(len(data or b"") for _, _, data in rows)
        bad = [(number, digest) for number, digest, data in rows if digest_of(cid_of(data or b"")) != digest]
        if bad:
            with store.transaction():
                for number, digest in bad:
                    store.execute("insert or ignore into damaged values (?)", (digest or b"",))
                    store.execute("delete from blocks where id = ?", (number,))
            found.damaged += len(bad)
        on_blocks(len(rows))


def _read_heads(store: DiskStore, found: Scrubbed) -> None:
    for row in store.execute(f"select {HEAD_COLUMNS} from heads"):
        try:
            open_row(*row)
        except IntegrityError:
            found.damaged_heads += 1
            with store.transaction():
                store.execute(f"delete from heads where ({HEAD_COLUMNS}) is (?, ?, ?, ?)", row)


def _all_kept(store: DiskStore, peer_id: str) -> list[Kept]:
    """What should be here: datasets of this peer's own, what it follows and has brought here, and what is pinned."""
    own = {head.address for head in store.all_heads() if head.address.publisher == peer_id}
    own |= {address for address in Signed(store).addresses() if address.publisher == peer_id}
    found = [Kept(address, Policy(), is_own=True) for address in sorted(own)]
    for follow in Register(store).follows():
        if follow.address not in own and store.is_held(follow.address):
            found.append(Kept(follow.address, follow.policy, is_own=False))
    return found + [Kept(head.address, Policy(), is_own=False, head=head, is_pin=True) for head in Pins(store).all()]


def _find_head(store: DiskStore, kept: Kept) -> None:
    if kept.is_pin:
        return
    kept.head = store.current_head(kept.address) if kept.is_own else store.held_head(kept.address)
    if kept.is_own and kept.head is not None and kept.head.sequence < Signed(store).last(kept.address):
        kept.head = None  # an older one is no place to go on from


def _look_again(store: DiskStore, kept: Kept) -> None:
    """How whole a dataset is now."""
    _find_head(store, kept)
    before, kept.missing = kept.missing, 0
    if kept.head is not None:
        kept.missing = _count_missing(store, kept.head, kept.policy)
    kept.mended += max(0, before - kept.missing)


def _count_missing(store: DiskStore, head: Head, policy: Policy) -> int:
    if policy.kind == FULL:
        return len(missing_blocks(store, head))
    try:
        check_part(store, head, policy)
    except UnavailableError:
        return 1
    return 0
