"""Verify the step to a dataset's next head, without holding the dataset: what changed comes from a peer, as to a
follower; of the trees before it, only the ways to what changed are fetched."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from rhizome_index.errors import IntegrityError, RecordError, RemoteError, UnavailableError, UsageError
from rhizome_index.index.head import Head
from rhizome_index.index.manifest import Manifest
from rhizome_index.index.write import RecordWalk
from rhizome_index.limits import CARRY_HEADS_MAX
from rhizome_index.node.accuse import find_fraud
from rhizome_index.node.cost import Cost
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.fetch import Fetcher
from rhizome_index.node.frauds import Frauds, refused
from rhizome_index.node.gather import Gatherer
from rhizome_index.node.ladder import Ladder
from rhizome_index.node.link import Links
from rhizome_index.node.local import LocalSource
from rhizome_index.node.part import find_index
from rhizome_index.node.sync import Syncer, as_records
from rhizome_index.trust.fraud import Claim
from rhizome_index.trust.ladder import AUDITED, Standing, carried, derivation_of
from rhizome_index.trust.transition import can_be_carried, carry, find_bad_record, find_broken_primary, find_broken_step
from rhizome_index.wire.sync import DELTA, SAME, Delta


@dataclass(frozen=True, slots=True)
class Carried:
    """A step that was verified.

    base      the head from which it was
    standing  what is proven of the index now
    changes   of records
    """

    head: Head
    base: Head
    standing: Standing
    changes: int
    cost: Cost


class Carrier:
    """Verifies steps on behalf of one store."""

    def __init__(self, store: DiskStore, links: Links, syncer: Syncer) -> None:
        self._store = store
        self._links = links
        self._syncer = syncer
        self._ladder = Ladder(store)
        self._frauds = Frauds(store)

    async def carry(self, newest: Head, name: str, index: str, peers: Sequence[str], cost: Cost) -> Carried:
        """Verify an index from the newest head before it of which enough is proven, and note what that proves.

        Raises UsageError if there is none; UnavailableError; RemoteError for changes that do not lead to the head;
        IntegrityError for an index that does not follow: the proof is kept.
        """
        base = self._base(newest, name, index)
        syncing, peer = await self._syncer.ask_changes(newest, base, peers, cost)
        head, manifest = syncing.head, syncing.manifest
        assert head is not None and manifest is not None
        self._frauds.check(head)
        find_index(manifest, name, index)
        before = LocalSource(self._store).manifest(base.manifest)
        form = syncing.forms.get(name)
        if form not in (SAME, DELTA) or not can_be_carried(before, manifest, name, index):
            raise UnavailableError(
                f"too much has changed since head {base.sequence} to verify it change by change",
                hint="audit it anew, or follow the dataset",
            )
        self._store.put_many([(head.manifest, syncing.manifest_bytes)])
        delta = syncing.deltas.get(name, Delta())
        others = (other for other in peers if other != peer)
        fetcher = Fetcher(self._links, [peer, *others], cost, packed=True)
        self._store.put_many(delta.records)
        await self._step(_Step(head, before, manifest, name, index), delta, fetcher, peer)
        old, new = before.collections[name], manifest.collections[name]
        for tree in ("", index):
            found = carried(self._ladder.standing(derivation_of(before.rule, old, tree)), old, new, tree)
            if found is not None:
                self._ladder.note(head.address, [derivation_of(manifest.rule, new, tree)], found.level, found.bound)
        self._store.put_head(head)
        standing = self._ladder.standing(derivation_of(manifest.rule, new, index))
        return Carried(head, base, standing, len(delta.changes), cost)

    def _base(self, newest: Head, name: str, index: str) -> Head:
        """The last head before that one of whose index enough is proven. Raises UsageError."""
        source = LocalSource(self._store)
        for head in self._store.heads_before(newest, CARRY_HEADS_MAX):
            if not self._store.has(head.manifest):
                continue
            manifest = source.manifest(head.manifest)
            collection = manifest.collections.get(name)
            if collection is None or index not in collection.indexes:
                continue
            if self._ladder.standing(derivation_of(manifest.rule, collection, index)).level >= AUDITED:
                return head
        raise UsageError(
            f"no head of {newest.address} before {newest.sequence} is proven as far as L3",
            hint=f"audit the index first: rhizome audit {newest.address} {name}.{index}",
        )

    async def _step(self, step: _Step, delta: Delta, fetcher: Fetcher, peer: str) -> None:
        gatherer = Gatherer(self._store, fetcher, caching=True)
        before, after = step.before.collections[step.name], step.after.collections[step.name]
        problem: RecordError | IntegrityError | None = None
        try:
            changes = as_records(after, delta)
            made = await gatherer.run(carry(step.after, before, step.index, changes, gatherer.sink))
        except RemoteError:
            raise
        except (RecordError, IntegrityError) as error:
            problem = error
        if problem is not None:
            await self._accuse(step, fetcher, find_bad_record(step.after, step.name, problem))
        elif made.primary == after.primary:
            if made.indexes[step.index] == after.indexes[step.index]:
                return
            await self._accuse(step, fetcher, find_broken_step(step.after, made, step.index))
            raise IntegrityError(f"{step.name}.{step.index} does not follow from the head before by what has changed")
        else:
            with suppress(UnavailableError):  # a peer that has sent wrong changes may not even have what they lead to
                await self._accuse(step, fetcher, find_broken_primary(step.after, made))
        await self._links.drop(peer)
        raise RemoteError(peer, f"changes of {step.name!r} that do not lead to the head")

    async def _accuse(self, step: _Step, fetcher: Fetcher, search: RecordWalk[Claim | None]) -> None:
        """Raise IntegrityError if it can be proven that the publisher lies."""
        fraud = await find_fraud(self._store, fetcher, step.head, search)
        if fraud is not None:
            raise refused(step.head, fraud.verdict)


@dataclass(frozen=True, slots=True)
class _Step:
    """From the manifest before to that of a head, in one index."""

    head: Head
    before: Manifest
    after: Manifest
    name: str
    index: str
