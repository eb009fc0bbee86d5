"""Bring a dataset here, or what has changed in it.

One request brings the changes since the head that is held; what comes as chunks is
fetched from several peers at once, level by level, and kept as it arrives, so that
a sync that was cut off goes on where it was. Nothing is believed: the primary is
made anew from its entries, every index is derived from the records, and all roots
must be those of the signed manifest. Only then does the dataset switch to the new
head, at once; queries under way keep the old one.

An index never travels. A publisher whose index does not follow from its records is
found out here, its head refused, and the proof kept for others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

from rhizome_index.blocks.cid import Cid
from rhizome_index.errors import IntegrityError, RemoteError, UnavailableError, UsageError
from rhizome_index.index.head import Head
from rhizome_index.index.manifest import Manifest
from rhizome_index.index.record import decode_record, parse_path
from rhizome_index.index.schema import Collection, primary_key
from rhizome_index.index.size import say_size
from rhizome_index.index.write import RecordWalk, Sorter, add_index, apply_changes, rebuild
from rhizome_index.limits import ANSWER_SILENCE_SECONDS, SEGMENTS_MAX, SORT_BYTES_MAX
from rhizome_index.node.accuse import find_fraud
from rhizome_index.node.cost import Cost
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.fetch import Block, Fetcher, Wanted
from rhizome_index.node.frauds import Frauds, refused
from rhizome_index.node.gather import Gatherer
from rhizome_index.node.ladder import Ladder
from rhizome_index.node.link import Links, SilentError
from rhizome_index.node.mend import derive_again, fill
from rhizome_index.node.race import Race
from rhizome_index.node.room import Room
from rhizome_index.node.sink import without_collecting
from rhizome_index.node.spill import SpillingSorter
from rhizome_index.node.swarm import SpentError
from rhizome_index.tree.boundary import Rule
from rhizome_index.tree.node import Node, Tree
from rhizome_index.tree.walk import load_many, load_root
from rhizome_index.trust.fraud import Claim
from rhizome_index.trust.ladder import MADE, derivations_of
from rhizome_index.trust.search import find_difference, find_failure
from rhizome_index.wire import sync as protocol
from rhizome_index.wire.sync import Sync, Syncing

CheckHead = Callable[[Head, str], None]


@dataclass(slots=True)
class Progress:
    """How far a sync is. `phase` is "asking", "fetching", "deriving" or "done"."""

    phase: str = "asking"
    entries_done: int = 0
    entries_total: int = 0
    bytes_received: int = 0


class Syncer:
    """Syncs datasets into one store.

    check_head  raises for a head that must not be taken from a peer: from the future, or disowned
    """

    def __init__(self, store: DiskStore, links: Links, check_head: CheckHead) -> None:
        self._store = store
        self._links = links
        self._check_head = check_head
        self._frauds = Frauds(store)
        self._ladder = Ladder(store)

    async def sync(self, newest: Head, peers: Sequence[str], cost: Cost, progress: Progress) -> Head:
        """Hold all of a dataset as of a head or, if none of these peers has that, a newer one than is held; that head.

        Raises UnavailableError if no peer has it or the peers failed on the way (what came is kept), and
        IntegrityError if a peer or the publisher lied. What the latter can be proven guilty of is kept.
        """
        held = self._store.held_head(newest.address)
        syncing, peer = await self.ask_changes(newest, held, peers, cost)
        head, manifest = syncing.head, syncing.manifest
        assert head is not None and manifest is not None
        if held is None or head.manifest != held.manifest:
            self._store.put_many([(head.manifest, syncing.manifest_bytes)])
            self._frauds.check(head)
            one = _OneSync(self._store, Fetcher(self._links, _first(peer, peers), cost), head, cost, progress)
            old = None if held is None else one.manifest(held.manifest)
            for name in sorted(manifest.collections):
                if not await one.bring(old, manifest, name, syncing):
                    await self._links.drop(peer)
                    raise RemoteError(peer, f"changes of {name!r} that do not lead to the head")
        with self._store.transaction():
            for collection in manifest.collections.values():
                self._ladder.note(head.address, derivations_of(manifest.rule, collection).values(), MADE)
            self._store.set_held(head)
        progress.phase = "done"
        return head

    async def mend(self, head: Head, peers: Sequence[str], cost: Cost) -> None:
        """Bring back what is missing of a dataset that was all here. Raises UnavailableError for what nobody has."""
        with suppress(UnavailableError):
            derive_again(self._store, head)
        await fill(self._store, head, Fetcher(self._links, peers, cost))

    async def ask_changes(
        self, newest: Head, held: Head | None, peers: Sequence[str], cost: Cost
    ) -> tuple[Syncing, str]:
        """What has changed, from the first peer that says so: up to the newest head if anybody has that."""
        known = held.manifest if held is not None else None
        patience = ANSWER_SILENCE_SECONDS if len(peers) > 1 else None
        problems: list[Exception] = [UnavailableError(f"nobody to ask about {newest.address}")]
        hopeless: set[str] = set()
        # Not everybody has the newest head, and not everybody knows the one that is held.
        for wanted, start in dict.fromkeys(product((newest.manifest, None), (known, None))):
            race: Race[Syncing] = Race()
            ask = partial(self._ask_peer, Sync(newest.address, start, wanted), held, patience, race, cost)
            found = await race.run([peer for peer in peers if peer not in hopeless], ask)
            if found is not None:
                return found
            problems += race.problems.values()
            hopeless |= {peer for peer, error in race.problems.items() if isinstance(error, SilentError | RemoteError)}
        raise next((problem for problem in problems if isinstance(problem, IntegrityError)), problems[-1])

    async def _ask_peer(
        self, request: Sync, held: Head | None, patience: float | None, race: Race[Syncing], cost: Cost, peer: str
    ) -> Syncing:
        """One peer's whole answer, asked for in as many parts as it takes. Raises UnavailableError if it has none."""
        whole: Syncing | None = None
        is_fruitless = False  # the answer before was
        for _ in range(SEGMENTS_MAX):
            part = Syncing(request)
            cost.note_request(peer)
            try:
                received = await self._links.converse(
                    peer, protocol.PROTOCOL, request.fields(), part, silence_seconds=patience, on_heard=race.note_heard
                )
                cost.note_received(received)
                is_fruitless = False
            except SpentError:
                was_fruitless, is_fruitless = is_fruitless, not part.cut_off()
                if is_fruitless and was_fruitless:
                    raise
                if is_fruitless:
                    continue
            if part.failure is not None:
                raise UnavailableError(f"peer {peer} does not have {request.address}")
            assert part.head is not None
            if whole is None:
                whole = part
                self._check_head(part.head, peer)
                if held is not None and part.head.sequence < held.sequence:
                    raise UnavailableError(f"peer {peer} knows head {part.head.sequence} only")
            else:
                whole.extend(part)
            if part.is_complete:
                return whole
            request = replace(request, manifest=part.head.manifest, place=part.place)
        raise UnavailableError("the changes did not come to an end")


class _OneSync:
    """One dataset on its way here."""

    def __init__(self, store: DiskStore, fetcher: Fetcher, head: Head, cost: Cost, progress: Progress) -> None:
        self._store = store
        self._fetcher = fetcher
        self._head = head
        self._gatherer = Gatherer(store, fetcher)
        self._room = Room(store)
        self._cost = cost
        self._progress = progress
        self._leaf_bytes = self._leaf_entries = 0  # of records that came

    def _needs(self) -> str:
        """How much all the records need, as far as that can be told by those that came."""
        total, done = self._progress.entries_total, self._progress.entries_done
        if not self._leaf_entries:
            return ""
        about = say_size(self._leaf_bytes * total // self._leaf_entries)
        return f"{done:,} of {total:,} records of {self._head.address} are here, and all of them need about {about}"

    def manifest(self, cid: Cid) -> Manifest:
        return self._gatherer.local.manifest(cid)

    async def bring(self, old: Manifest | None, new: Manifest, name: str, syncing: Syncing) -> bool:
        """Make one collection be here, and be what the manifest says; whether the changes that came were right."""
        wanted = new.collections[name]
        form = syncing.forms[name]
        held = old.collections.get(name) if old is not None and old.rule == new.rule else None
        if form != protocol.CHUNKS and held is not None:
            made = await self._apply(new.rule, held, wanted, syncing.deltas.get(name, protocol.Delta()))
            if made == wanted:
                return True
            if made is not None and made.primary == wanted.primary:
                await self._accuse(find_difference(new, made))
            # The delta was wrong, or the publisher's tree is not what its entries give: the chunks decide.
        try:
            await self._fetch_tree(wanted.primary)
            made = await self._derive(partial(rebuild, new.rule, wanted))
        except RemoteError:
            raise
        except (UsageError, IntegrityError) as error:
            await self._accuse(find_failure(new, name, error, self._gatherer.sink, self._new_sorter()))
            raise IntegrityError(f"the publisher's {wanted.name!r} cannot be derived: {error}") from None
        if made != wanted:
            await self._accuse(find_difference(new, made))
            raise IntegrityError(f"the publisher's {wanted.name!r} does not follow from its records")
        return form != protocol.DELTA

    async def _apply(
        self, rule: Rule, held: Collection, wanted: Collection, delta: protocol.Delta
    ) -> Collection | None:
        """What a delta makes of the collection that is held; None if nobody honest sends it."""
        self._store.put_many(delta.records)
        try:
            return await self._derive(self._changed(rule, held, wanted, as_records(wanted, delta)))
        except (UsageError, IntegrityError):
            return None

    async def _accuse(self, search: RecordWalk[Claim | None]) -> None:
        """Raise IntegrityError if it can be proven, with what peers have, that the publisher lies."""
        with suppress(UnavailableError):
            fraud = await find_fraud(self._store, self._fetcher, self._head, search)
            if fraud is not None:
                raise refused(self._head, fraud.verdict)

    def _changed(
        self, rule: Rule, held: Collection, wanted: Collection, changes: Sequence[tuple[bytes, bytes | None]]
    ) -> Callable[..., RecordWalk[Collection]]:
        """A walk from the collection that is held to the one wanted."""

        def walk(sink: Any, new_sorter: Any) -> RecordWalk[Collection]:
            kept = held.indexes
            for name, index in held.indexes.items():
                if name not in wanted.indexes or wanted.indexes[name].definition != index.definition:
                    kept = kept.remove(name)
            made = replace(wanted, primary=held.primary, indexes=kept)
            made = yield from apply_changes(rule, made, changes, sink, new_sorter)
            for name, index in sorted(wanted.indexes.items()):
                if name not in made.indexes:
                    made = yield from add_index(rule, made, name, index.definition, sink, new_sorter)
            return made

        return walk

    async def _derive(self, walk: Callable[..., RecordWalk[Collection]]) -> Collection:
        """Drive a walk that makes a collection, keeping its blocks as they come."""
        self._progress.phase = "deriving"
        with without_collecting():
            made: Collection = await self._gatherer.run(walk(sink=self._gatherer.sink, new_sorter=self._new_sorter()))
        return made

    def _new_sorter(self) -> Callable[[], Sorter]:
        return partial(SpillingSorter, self._store.folder, SORT_BYTES_MAX // 4)

    async def _fetch_tree(self, tree: Tree) -> None:
        """Fetch the chunks of a tree that are not here, one level after another."""
        progress = self._progress
        progress.phase = "fetching"
        progress.entries_total += tree.count
        await self._fetch([tree.root], {})
        root: Node = await self._gatherer.run(load_root(tree))
        level = [root]
        while level[0].level:
            counts = {cid: count for node in level for cid, count in zip(node.values, node.counts, strict=True)}
            leaves = level[0].level == 1
            missing = [cid for cid in counts if not self._store.has(cid)]
            if leaves:
                progress.entries_done += sum(counts.values()) - sum(counts[cid] for cid in missing)
            await self._fetch(missing, counts if leaves else {})
            if leaves:
                return
            refs = [node.child(place) for node in level for place in range(len(node.keys))]
            level = await self._gatherer.run(load_many(refs))

    async def _fetch(self, cids: Sequence[Cid], counts: dict[Cid, int]) -> None:
        """Fetch blocks; `counts` says how many entries each brings."""
        missing = [cid for cid in cids if not self._store.has(cid)]

        def take(blocks: Sequence[Block]) -> None:
            self._room.check(self._needs)
            self._store.put_fetched(blocks)
            for cid, data in blocks:
                if cid in counts:
                    self._leaf_bytes += len(data)
                    self._leaf_entries += counts[cid]
                    self._progress.entries_done += counts[cid]
            self._progress.bytes_received = self._cost.bytes_received

        if missing:
            await self._fetcher.fetch([Wanted(cid) for cid in missing], take)


def as_records(collection: Collection, delta: protocol.Delta) -> list[tuple[bytes, bytes | None]]:
    """The changes with the bytes of the records that they link to. Raises IntegrityError for what is no such record."""
    linked, path = dict(delta.records), parse_path(collection.key)
    changes: list[tuple[bytes, bytes | None]] = []
    for key, value in delta.changes:
        data = None if value is None else linked.get(value, value)
        try:
            stands = data is None or primary_key(decode_record(data), path) == key
        except UsageError:
            stands = False
        if not stands:
            raise IntegrityError("a record that stands at another primary key than its own")
        changes.append((key, data))
    return changes


def _first(peer: str, peers: Sequence[str]) -> list[str]:
    return [peer, *(other for other in peers if other != peer)]
