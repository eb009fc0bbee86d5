"""The choice among the candidates of a query: what each would read, from exact counts.

Counts of ranges stand in the upper nodes of the trees, so an estimate costs a few
chunks. How many entries of a range pass the other conditions is guessed: as many as
in the whole collection where an index that binds the condition alone can tell, and
half where none can.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rhizome_index.errors import UsageError
from rhizome_index.index.condition import Expr
from rhizome_index.index.schema import Collection
from rhizome_index.limits import SCAN_FREE_ENTRIES
from rhizome_index.query.advice import advice
from rhizome_index.query.combine import Choice, Combination, all_candidates
from rhizome_index.query.expr import COUNT, ROWS, Query
from rhizome_index.query.plan import ALL, PRIMARY, Candidate, settled
from rhizome_index.tree.cursor import count
from rhizome_index.tree.walk import Walk

_RECORD_ENTRIES = 4.0  # a record elsewhere costs about as much as so many entries in a row
LEAF_ENTRIES = 50.0  # in a leaf of an index, about
CHUNK_BYTES = 3500.0  # about
RECORD_BYTES = 300.0  # about: nobody says how large records are before they are read
_JUMP_ENTRIES = 2.0  # and a jump as so many


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a candidate is expected to read.

    in_range  entries in its range, exactly; of several the least (all) or the sum (any)
    entries   entries it will read
    records   records it will fetch beside them
    """

    candidate: Choice
    in_range: int
    entries: float
    records: float

    @property
    def cost(self) -> float:
        """In entries read."""
        return self.entries + _RECORD_ENTRIES * self.records


def estimate(query: Query, collection: Collection, found: Sequence[Choice]) -> Walk[list[Estimate]]:
    """What each candidate would read."""
    query = settled(query, collection)
    counts: dict[object, int] = {}
    for part in dict.fromkeys(part for candidate in found for part in candidate.parts):
        counts[part.access] = yield from count(part.tree, part.access.span)
    total = max(1, collection.primary.count)
    share: dict[Expr, float] = {}  # how rare a condition is
    for candidate in found:
        if isinstance(candidate, Candidate) and len(candidate.bound) == 1:
            share[candidate.bound[0]] = min(1.0, max(counts[candidate.access], 0.5) / total)
    estimates = []
    for candidate in found:
        passing = 1.0
        for term in candidate.residual:
            passing *= share.get(term, 0.5)
        sizes = [counts[part.access] for part in candidate.parts]
        if isinstance(candidate, Combination):
            estimates.append(_of_several(query, candidate, sizes, passing, total))
        else:
            estimates.append(_of_one(query, candidate, sizes[0], passing))
    return estimates


def _of_one(query: Query, candidate: Candidate, in_range: int, passing: float) -> Estimate:
    if query.kind == COUNT and candidate.counts_alone:
        return Estimate(candidate, in_range, 0, 0)
    if candidate.grouped:  # the leaves where one group ends and the next begins
        return Estimate(candidate, in_range, min(in_range, LEAF_ENTRIES * in_range**0.5), 0)
    entries = float(in_range)
    if candidate.ordered and query.limit is not None and query.kind == ROWS:
        entries = min(entries, query.limit / max(passing, 1e-9))
    fetches = candidate.access.index != PRIMARY and (query.kind != COUNT or candidate.residual)
    if candidate.covered:
        return Estimate(candidate, in_range, entries, 0)
    return Estimate(candidate, in_range, entries, entries if fetches else entries / 4)


def _of_several(query: Query, candidate: Combination, sizes: Sequence[int], passing: float, total: int) -> Estimate:
    if candidate.plan.kind == ALL:
        met = float(total)
        for size in sizes:
            met *= min(1.0, size / total)
        in_range, entries = min(sizes), min(sizes) * len(sizes) * _JUMP_ENTRIES
    else:
        in_range, entries, met = sum(sizes), float(sum(sizes)), float(sum(sizes))
    if candidate.ordered and query.limit is not None and query.kind == ROWS:
        part = min(1.0, query.limit / max(passing * met, 1e-9))
        entries, met = entries * part, met * part
    needs_records = not candidate.covered and (query.kind != COUNT or candidate.residual)
    records = met if needs_records else 0.0
    return Estimate(candidate, in_range, max(entries, 1.0), records)


def choose(query: Query, collection: Collection, *, allow_scan: bool) -> Walk[Estimate]:
    """The cheapest candidate. Raises UsageError if only a scan of everything remains and that is not allowed."""
    estimates = yield from estimate(query, collection, all_candidates(query, collection))
    allowed = [item for item in estimates if allow_scan or not _is_scan(query, item)]
    if not allowed:
        raise UsageError(
            f"no index answers this; a scan would read all {estimates[-1].in_range:,} records of {collection.name!r}",
            hint=advice(query, collection),
        )
    return min(allowed, key=lambda item: (item.cost, item.candidate.parts[0].access.index == PRIMARY))


def _is_scan(query: Query, item: Estimate) -> bool:
    """Whether a candidate reads much of everything only to drop most of it."""
    candidate = item.candidate
    if not candidate.is_full or item.entries <= SCAN_FREE_ENTRIES or candidate.grouped:
        return False
    if query.is_grouped:
        return True
    if candidate.ordered and candidate.parts[0].access.index != PRIMARY and query.limit is not None:
        return False
    return bool(candidate.residual) or (not candidate.ordered and query.limit is not None)
