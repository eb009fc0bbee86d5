"""One query being answered: what is known of it so far."""

from __future__ import annotations

from dataclasses import dataclass

from rhizome_index.blocks.cid import Cid
from rhizome_index.index.freshness import ANY_AGE, Freshness
from rhizome_index.limits import PROOF_BYTES_MAX
from rhizome_index.node.cost import Cost
from rhizome_index.query.answer import Answer, Cursor
from rhizome_index.query.expr import Query
from rhizome_index.query.rows import Row
from rhizome_index.trust.ladder import ANYTHING, Requirement
from rhizome_index.wire.ask import Opening


@dataclass(slots=True)
class Resolution:
    """One query being answered: what is known of it so far.

    proof      blocks in the walk's order, for saving: only where it was asked for
    freshness  what is insisted on of the head
    required   what has to be proven
    first_budget  bytes that the first request may bring: little is expected
    """

    query: Query
    cost: Cost
    opening: Opening | None = None
    answer: Answer | None = None
    last: Row | None = None
    proof: list[tuple[Cid, bytes]] | None = None
    after: Cursor | None = None
    freshness: Freshness = ANY_AGE
    required: Requirement = ANYTHING
    first_budget: int = PROOF_BYTES_MAX

    @property
    def is_complete(self) -> bool:
        return self.answer is not None and self.answer.is_complete

    def give(self) -> list[Row]:
        """The rows that are known now and were not given yet."""
        rows = list(self.answer.rows()) if self.answer is not None else []
        if rows:
            self.last = rows[-1]
        return rows

    def cursor(self) -> Cursor | None:
        """The cursor behind the last row, if rows may follow."""
        if self.answer is None or self.opening is None:
            return None
        return self.answer.cursor(self.opening.head.manifest, self.last)
