"""What comes of a query: rows as they become certain, a page at once, or turns as heads come."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from rhizome_index.errors import UnavailableError
from rhizome_index.index.address import Address
from rhizome_index.index.freshness import ANY_AGE, Freshness
from rhizome_index.index.head import Head
from rhizome_index.index.record import Record
from rhizome_index.limits import ROWS_HINTED_BY
from rhizome_index.node.cost import Cost
from rhizome_index.node.feed import FeedResolver
from rhizome_index.node.hinting import hints_for
from rhizome_index.node.live import LiveResolver, OnProblem, Turn
from rhizome_index.node.resolution import Resolution
from rhizome_index.query.answer import Cursor
from rhizome_index.query.expr import COUNT, Query
from rhizome_index.trust.ladder import ANYTHING, Requirement, Standing

if TYPE_CHECKING:
    from rhizome_index.api.node import Node


@dataclass(frozen=True, slots=True)
class Page:
    """A whole answer.

    rows      records, in order
    count     how many there are, for a count
    proof     how much is proven: "L1" to "L5"
    standing  the same, with what it means in words
    cursor    to go on behind the last row, or None
    head      the head it is an answer for
    hints     what may have been meant, where it has nothing
    """

    rows: list[Record]
    count: int
    proof: str
    standing: Standing
    cursor: str | None
    head: Head
    cost: Cost
    hints: tuple[str, ...] = ()


class Results:
    """One query being answered: iterate it for rows, or await `page()`."""

    def __init__(
        self,
        node: Node,
        address: Address,
        query: Query,
        after: Cursor | None,
        *,
        scan: bool = False,
        proof: bool = False,
        fresh: Freshness = ANY_AGE,
        required: Requirement = ANYTHING,
    ) -> None:
        self.node = node
        self.address = address
        self.resolution = Resolution(
            query, Cost(), proof=[] if proof else None, after=after, freshness=fresh, required=required
        )
        self._scan = scan
        self._first: list[Record] = []

    async def __aiter__(self) -> AsyncIterator[Record]:
        started = trio.current_time()
        cost = self.resolution.cost
        cost.connect_seconds = self.node.connect_seconds
        find_peers, local = self.node.ways_to(self.address)
        resolver = self.node.peer.resolver
        batches = resolver.resolve(self.address, self.resolution, find_peers, local=local, allow_scan=self._scan)
        async for rows in batches:
            cost.seconds = trio.current_time() - started
            self._first += [row.record for row in rows[: ROWS_HINTED_BY - len(self._first)]]
            for row in rows:
                yield row.record
        cost.seconds = trio.current_time() - started

    def standing(self) -> Standing:
        """What is proven of the answer, so far."""
        return self.node.peer.resolver.proven.standing(self.resolution)

    async def hints(self, *, ask: bool = False) -> list[str]:
        """What may have been meant, where an answer has nothing, or nothing at a path that the query names.

        ask  peers too, for the few blocks that it takes; otherwise only what is here is looked at
        """
        resolution = self.resolution
        answer = resolution.answer
        if resolution.after is not None or (answer is not None and answer.query.kind == COUNT and answer.count):
            return []
        find_peers, _ = self.node.ways_to(self.address)
        resolver = self.node.peer.resolver
        return await hints_for(resolver, self.address, resolution, self._first, find_peers if ask else None)

    async def page(self) -> Page:
        """The whole answer at once."""
        rows = [record async for record in self]
        answer, opening = self.resolution.answer, self.resolution.opening
        assert answer is not None and opening is not None
        cursor, standing = self.resolution.cursor(), self.standing()
        return Page(
            rows,
            answer.count if answer.query.kind == COUNT else len(rows),
            str(standing),
            standing,
            None if cursor is None else str(cursor),
            opening.head,
            self.resolution.cost,
            tuple(await self.hints()),
        )


class FeedResults:
    """One query over many datasets being answered: iterate it for (address, record)."""

    def __init__(
        self,
        node: Node,
        query: Query,
        addresses: Sequence[Address],
        *,
        scan: bool = False,
        fresh: Freshness = ANY_AGE,
        required: Requirement = ANYTHING,
    ) -> None:
        self.node = node
        self.query = query
        places = list(dict.fromkeys(addresses))
        self.feed = FeedResolver(node.peer.resolver, node.peer.feeds, query, places, fresh, required)
        self._scan = scan

    async def __aiter__(self) -> AsyncIterator[tuple[Address, Record]]:
        started = trio.current_time()
        peer, cost = self.node.peer, self.feed.cost
        cost.connect_seconds = self.node.connect_seconds
        find_peers = None if peer.membership is None else peer.providers
        async for rows in self.feed.resolve(find_peers, local=not peer.named, allow_scan=self._scan):
            cost.seconds = trio.current_time() - started
            for address, row in rows:
                yield address, row.record
        cost.seconds = trio.current_time() - started


class Watch:
    """A query that is kept open: iterate it for turns, the first of them the answer, the others as heads come.

    It can be left at any time, and iterated on later.
    """

    def __init__(
        self,
        node: Node,
        address: Address,
        query: Query,
        *,
        scan: bool = False,
        fresh: Freshness = ANY_AGE,
        on_problem: OnProblem | None = None,
        required: Requirement = ANYTHING,
    ) -> None:
        """`on_problem` is told why a newer head cannot be taken up, once; it is tried again."""
        self.node = node
        self.address = address
        self.query = query
        self._live = LiveResolver(node.peer.resolver, address, query, fresh, on_problem, required)
        self._scan = scan

    @property
    def problem(self) -> UnavailableError | None:
        """Why the newest head could not be taken up, if so: it is tried again."""
        return self._live.problem

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> Turn:
        find_peers, local = self.node.ways_to(self.address)
        return await self._live.next_turn(find_peers, local=local, allow_scan=self._scan)
