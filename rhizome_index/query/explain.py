"""Why a query is answered the way it is: every candidate, what it would read, and why it lost.

Costs are those of `choose`, in entries read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rhizome_index.errors import UsageError
from rhizome_index.index.condition import Expr
from rhizome_index.index.schema import Collection
from rhizome_index.query.choose import Estimate, choose, estimate
from rhizome_index.query.combine import Choice, Combination, all_candidates
from rhizome_index.query.expr import Query
from rhizome_index.query.plan import ALL, PRIMARY, Candidate
from rhizome_index.query.wording import text_of
from rhizome_index.tree.walk import Walk

CHOSEN = "chosen"


@dataclass(frozen=True, slots=True)
class Explained:
    """One candidate.

    plan      in words
    in_range  entries in its range, exactly; of several the least (all) or the sum (any)
    entries   entries it is expected to read, and `records` to fetch beside them
    cost      of both, in entries
    ordered   whether rows come in the query's order
    verdict   CHOSEN, or why not
    """

    plan: str
    in_range: int
    entries: int
    records: int
    cost: int
    ordered: bool
    verdict: str


def explain(query: Query, collection: Collection, *, allow_scan: bool) -> Walk[tuple[list[Explained], Estimate | None]]:
    """The candidates of a query, the chosen one first and then by cost; and what is chosen, if anything is.

    Raises UsageError for an impossible order.
    """
    estimates = yield from estimate(query, collection, all_candidates(query, collection))
    refusal = ""
    chosen: Estimate | None = None
    try:
        chosen = yield from choose(query, collection, allow_scan=allow_scan)
    except UsageError as error:
        refusal = str(error)
    found = [_explained(item, chosen, refusal) for item in estimates]
    return sorted(found, key=lambda item: (item.verdict != CHOSEN, item.cost)), chosen


def _explained(item: Estimate, chosen: Estimate | None, refusal: str) -> Explained:
    candidate = item.candidate
    if chosen is None:
        verdict = refusal
    elif candidate == chosen.candidate:
        verdict = CHOSEN
    elif chosen.cost and item.cost > chosen.cost:
        verdict = f"costs {item.cost / chosen.cost:,.1f} times as much"
    else:
        verdict = "costs more" if item.cost > chosen.cost else "costs as much"
    if chosen is not None and candidate.repeats and verdict != CHOSEN:
        verdict += ", and may find a record twice"
    return Explained(
        describe(candidate),
        item.in_range,
        round(item.entries),
        round(item.records),
        round(item.cost),
        candidate.ordered,
        verdict,
    )


def describe(candidate: Choice) -> str:
    """A candidate in words: what is read, and which conditions are left to check."""
    if isinstance(candidate, Combination):
        word = " and " if candidate.plan.kind == ALL else " or "
        text = word.join(_describe_one(part) for part in candidate.parts)
    else:
        text = _describe_one(candidate)
    if candidate.residual:
        text += " then " + _joined(candidate.residual)
    if candidate.grouped:
        text += ", counted by its groups"
    elif candidate.covered:
        text += ", without the records"
    return text


def _describe_one(candidate: Candidate) -> str:
    name = "primary" if candidate.access.index == PRIMARY else candidate.access.index
    direction = " backwards" if candidate.access.reverse else ""
    return f"{name}({_joined(candidate.bound)}){direction}" if candidate.bound else f"all of {name}{direction}"


def _joined(terms: Sequence[Expr]) -> str:
    return " and ".join(map(text_of, terms))
