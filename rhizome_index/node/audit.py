"""Audit an index that is elsewhere: the walk of `trust.audit`, over what is here and what peers have.

What is found is proven, kept and shown; a peer that withholds what was drawn leaves the
audit unfinished, which proves nothing. What comes on the way is kept like any blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rhizome_index.errors import IntegrityError, UnavailableError
from rhizome_index.index.head import Head
from rhizome_index.index.write import RecordWalk
from rhizome_index.node.accuse import find_fraud
from rhizome_index.node.cost import Cost
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.fetch import Fetcher
from rhizome_index.node.frauds import refused
from rhizome_index.node.gather import Gatherer
from rhizome_index.node.ladder import Ladder
from rhizome_index.node.link import Links
from rhizome_index.node.part import find_index
from rhizome_index.node.sync import Progress
from rhizome_index.trust.audit import Chance, audit, draw, escape_chance, wrong_at_least
from rhizome_index.trust.fraud import Claim
from rhizome_index.trust.ladder import AUDITED, Bound, derivation_of


@dataclass(frozen=True, slots=True)
class Audited:
    """An audit that found nothing wrong.

    records, entries    how many there are
    record_samples, entry_samples  how many of each were looked at
    escape_records, escape_entries  the chance that it finds nothing though as much as `bound` says is wrong
    """

    head: Head
    collection: str
    index: str
    bound: Bound
    records: int
    entries: int
    record_samples: int
    entry_samples: int
    escape_records: float
    escape_entries: float
    cost: Cost


@dataclass(slots=True)
class Auditor:
    """Audits indexes on behalf of one store.

    chance  where the positions come from: private, and unforeseeable
    links   to peers, if there are any
    """

    store: DiskStore
    chance: Chance
    links: Links | None = None
    progress: Progress = field(default_factory=Progress)

    async def audit(
        self, head: Head, name: str, index_name: str, bound: Bound, peers: Sequence[str], cost: Cost
    ) -> Audited:
        """Audit an index of a dataset, as of a head, and note what that proves.

        Raises IntegrityError if it is wrong, and UnavailableError for what nobody has: then nothing is proven.
        """
        fetcher = Fetcher(self.links, peers, cost, packed=True) if self.links is not None and peers else None
        gatherer = Gatherer(self.store, fetcher, caching=True)
        progress = self.progress
        _, manifest = await gatherer.manifest(head.manifest)
        collection, index = find_index(manifest, name, index_name)
        drawn = draw(self.chance, collection, index, bound.bad_fraction, bound.confidence)
        progress.phase, progress.entries_total = "sampling", len(drawn.records) + len(drawn.entries)

        def note(checked: int) -> None:
            progress.entries_done += checked
            progress.bytes_received = cost.bytes_received

        try:
            claim = await gatherer.run(audit(manifest, collection, index, drawn, note))
        except UnavailableError as error:
            raise UnavailableError(
                f"the audit could not be finished, so it proves nothing: {error}",
                hint="name other peers that serve it: --peer",
            ) from None
        if claim is not None:
            await convict(self.store, fetcher, head, claim)
        self.store.put_head(head)
        derivation = derivation_of(manifest.rule, collection, index_name)
        Ladder(self.store).note(head.address, [derivation], AUDITED, bound)
        progress.phase, progress.bytes_received = "done", cost.bytes_received
        records, entries = collection.primary.count, index.tree.count
        return Audited(
            head,
            name,
            index_name,
            bound,
            records,
            entries,
            len(drawn.records),
            len(drawn.entries),
            _escape(records, bound, len(drawn.records)),
            _escape(entries, bound, len(drawn.entries)),
            cost,
        )


def _escape(total: int, bound: Bound, samples: int) -> float:
    return escape_chance(total, wrong_at_least(total, bound.bad_fraction), samples) if total else 0.0


async def convict(store: DiskStore, fetcher: Fetcher | None, head: Head, claim: Claim) -> None:
    """Keep the proof of what was found wrong. Raises IntegrityError, which says what."""
    fraud = await find_fraud(store, fetcher, head, _known(claim))
    if fraud is None:
        raise IntegrityError(f"head {head.sequence} of {head.address} is wrong, and that could not be proven: {claim}")
    raise refused(head, fraud.verdict)


def _known(claim: Claim) -> RecordWalk[Claim | None]:
    """A search that has ended already."""
    yield from ()
    return claim
