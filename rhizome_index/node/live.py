"""Keep a query open: answer it, wait for the next head, walk what that changes.

A dataset of our own, or one that is followed, has its next head in the store as soon as
it is published or brought. Of any other its providers are asked now and then. Either
way the walk is the same: what is here is read, what is not is fetched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import trio

from rhizome_index.errors import UnavailableError
from rhizome_index.index.address import Address
from rhizome_index.index.freshness import ANY_AGE, Freshness
from rhizome_index.index.head import Head
from rhizome_index.index.schema import Collection
from rhizome_index.limits import LIVE_LOOK_SECONDS, LIVE_PULL_SECONDS
from rhizome_index.node.cost import Cost
from rhizome_index.node.gather import Gatherer
from rhizome_index.node.resolution import Resolution
from rhizome_index.node.resolve import FindPeers, Resolver
from rhizome_index.query.choose import choose
from rhizome_index.query.combine import Choice
from rhizome_index.query.expr import ROWS, Query
from rhizome_index.query.live import Change, Live
from rhizome_index.tree.boundary import Rule
from rhizome_index.trust.ladder import ANYTHING, Requirement, Standing

OnProblem = Callable[[UnavailableError], None]


@dataclass(frozen=True, slots=True)
class Turn:
    """The answer for one head.

    changes  what differs from the turn before; of the first one all rows, in order
    count    how many rows there are
    cost     what this turn has cost
    standing  what is proven of the answer
    """

    head: Head
    changes: list[Change]
    count: int
    cost: Cost
    standing: Standing


class LiveResolver:
    """One query that is kept open.

    problem     why the newest head could not be taken up, if so: it is tried again
    on_problem  is told of it, once
    """

    def __init__(
        self,
        resolver: Resolver,
        address: Address,
        query: Query,
        freshness: Freshness = ANY_AGE,
        on_problem: OnProblem | None = None,
        required: Requirement = ANYTHING,
    ) -> None:
        """Raises UsageError for a query that cannot be kept open."""
        self._resolver = resolver
        self._address = address
        self._query = query
        self._freshness = freshness
        self._required = required
        self._live = Live(query)
        self._head: Head | None = None
        self.problem: UnavailableError | None = None
        self.on_problem = on_problem

    async def next_turn(self, find_peers: FindPeers | None, *, local: bool, allow_scan: bool) -> Turn:
        """The answer; and from then on, however long that takes, the turn for the next head. See `Resolver.resolve`.

        Raises IntegrityError for a publisher that lies, UnprovenError, and UsageError.
        """
        if self._head is None:
            turn = await self._begin(find_peers, local=local, allow_scan=allow_scan)
        else:
            turn = await self._next(self._head, find_peers, allow_scan=allow_scan)
        self._head = turn.head
        return turn

    async def _begin(self, find_peers: FindPeers | None, *, local: bool, allow_scan: bool) -> Turn:
        resolution = Resolution(self._query, Cost(), freshness=self._freshness, required=self._required)
        started = trio.current_time()
        async for _ in self._resolver.resolve(
            self._address, resolution, find_peers, local=local, allow_scan=allow_scan
        ):
            pass  # what was proven is here now: the rows are read from there, with where they stand
        assert resolution.opening is not None and resolution.answer is not None
        head, manifest = resolution.opening.head, resolution.opening.manifest
        peers = await find_peers(self._address) if find_peers is not None else ()
        gatherer = self._resolver.gatherer(peers, resolution.cost)
        collection = manifest.collection(self._query.collection)
        chosen = resolution.answer.candidate if self._query.kind == ROWS else None
        changes = await self._begin_with(gatherer, collection, chosen, allow_scan=allow_scan)
        resolution.cost.seconds = trio.current_time() - started
        return await self._turn(head, manifest.rule, changes, resolution.cost)

    async def _turn(self, head: Head, rule: Rule, changes: list[Change], cost: Cost) -> Turn:
        """Raises UnprovenError if less is proven than is required."""
        standing = await self._resolver.proven.require(self._required, head, rule, *self._live.read_from, cost)
        return Turn(head, changes, self._live.count, cost, standing)

    async def _begin_with(
        self, gatherer: Gatherer, collection: Collection, chosen: Choice | None, *, allow_scan: bool
    ) -> list[Change]:
        if chosen is None:
            chosen = (await gatherer.run(choose(self._live.asked, collection, allow_scan=allow_scan))).candidate
        changes: list[Change] = await gatherer.run(self._live.begin(collection, chosen))
        return changes

    async def _next(self, head: Head, find_peers: FindPeers | None, *, allow_scan: bool) -> Turn:
        while True:
            is_here = find_peers is None or self._resolver.holds(self._address)
            await trio.sleep(LIVE_LOOK_SECONDS if is_here else LIVE_PULL_SECONDS)
            cost, peers = Cost(), list[str]()
            started = trio.current_time()
            try:
                if find_peers is not None and not is_here:
                    peers += await find_peers(self._address)
                newest = await self._resolver.heads.newest(self._address, peers[:1], cost)
                if newest.sequence > head.sequence:
                    rule, changes = await self._take_up(newest, peers, cost, allow_scan=allow_scan)
                    cost.seconds = trio.current_time() - started
                    self.problem = None
                    return await self._turn(newest, rule, changes, cost)
                self.problem = None
            except UnavailableError as error:
                self._note(error)

    def _note(self, problem: UnavailableError) -> None:
        is_new = str(problem) != str(self.problem)
        self.problem = problem
        if is_new and self.on_problem is not None:
            self.on_problem(problem)

    async def _take_up(
        self, head: Head, peers: Sequence[str], cost: Cost, *, allow_scan: bool
    ) -> tuple[Rule, list[Change]]:
        gatherer = self._resolver.gatherer(peers, cost)
        _, manifest = await gatherer.manifest(head.manifest)
        collection = manifest.collection(self._query.collection)
        changes: list[Change] | None = None
        with suppress(UnavailableError):  # what was there before may be gone; then all is read anew
            changes = await gatherer.run(self._live.advance(collection))
        if changes is None:
            changes = await self._begin_with(gatherer, collection, None, allow_scan=allow_scan)
        cost.blocks_local += gatherer.blocks_local
        cost.blocks_remote += gatherer.fetched
        self._resolver.heads.keep(head)
        return manifest.rule, changes
