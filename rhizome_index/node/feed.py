"""Answer feeds: one query over many datasets, each read no further than the merge needs.

From the store by one walk over all of them, where everything is here and their indexes give the order.
Otherwise each is asked for itself, and what is needed of all at once: of one peer that serves a thousand
of them it takes one round trip to have the first row of each, and a second one for the rest.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence

import trio

from rhizome_index.errors import (
    IntegrityError,
    PartialError,
    RhizomeError,
    UnavailableError,
    UnprovenError,
    UsageError,
)
from rhizome_index.index.address import Address
from rhizome_index.index.freshness import ANY_AGE, Freshness
from rhizome_index.index.head import Head
from rhizome_index.index.schema import Collection
from rhizome_index.limits import (
    FEED_BUDGET_BYTES,
    FEED_DATASETS_MAX,
    FEED_PARTS_REMEMBERED_MAX,
    FEED_QUESTIONS_MAX,
)
from rhizome_index.node.cost import Cost
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.local import LocalSource
from rhizome_index.node.resolution import Resolution
from rhizome_index.node.resolve import FindPeers, Resolver
from rhizome_index.query.choose import choose
from rhizome_index.query.combine import Choice
from rhizome_index.query.expr import Query
from rhizome_index.query.feed import Feed, FeedPart, can_walk, walk_feed
from rhizome_index.query.rows import Row
from rhizome_index.tree.boundary import Rule
from rhizome_index.trust.ladder import ANYTHING, Requirement, Standing, lowest

Found = tuple[Address, Row]
Way = tuple[Rule, Collection, Choice]  # how a dataset is read


class FeedParts:
    """How the datasets that are here take part in feeds. Remembered from one feed to the next."""

    def __init__(self, store: DiskStore) -> None:
        self._store = store
        self._heads: dict[Address, Head] = {}
        self._version = (-1, -1)
        self._parts: OrderedDict[tuple[Address, bytes, bytes, bool], FeedPart] = OrderedDict()

    def walk(
        self, query: Query, addresses: Sequence[Address], cost: Cost, *, allow_scan: bool
    ) -> tuple[list[Found], list[Way]] | None:
        """The whole feed and how each was read, if the store has all that it takes and the entries can be merged."""
        self._look()
        source = LocalSource(self._store)
        digest = query.digest
        try:
            parts = [self._part(address, query, digest, source, allow_scan=allow_scan) for address in addresses]
            if not can_walk(parts):
                return None
            source.blocks = 0
            rows, entries = source.run(walk_feed(query, parts))
        except (UnavailableError, IntegrityError, UsageError):
            return None  # whoever reads them one by one says what is wrong, or finds what is missing at peers
        cost.blocks_local += source.blocks
        cost.entries_scanned += entries
        return rows, [(part.rule, part.collection, part.candidate) for part in parts]

    def _look(self) -> None:
        """Forget the heads if anything has been written."""
        version = self._store.version()
        if version != self._version:
            self._heads.clear()
            self._version = version

    def _part(
        self, address: Address, query: Query, digest: bytes, source: LocalSource, *, allow_scan: bool
    ) -> FeedPart:
        head = self._heads.get(address) or self._head(address)
        name = (address, head.manifest, digest, allow_scan)
        part = self._parts.get(name)
        if part is not None:
            self._parts.move_to_end(name)
            return part
        manifest = source.manifest(head.manifest)
        collection = manifest.collection(query.collection)
        chosen = source.run(choose(query, collection, allow_scan=allow_scan)).candidate
        part = FeedPart(address, manifest.rule, collection, chosen)
        self._parts[name] = part
        while len(self._parts) > FEED_PARTS_REMEMBERED_MAX:
            self._parts.popitem(last=False)
        return part

    def _head(self, address: Address) -> Head:
        head = self._store.current_head(address)  # none that is convicted
        if head is None:
            raise UnavailableError(f"no head of {address} here")
        self._heads[address] = head
        return head


class FeedResolver:
    """One query over some datasets.

    datasets  how many
    problems  those that could not be asked, with the reason
    """

    def __init__(
        self,
        resolver: Resolver,
        parts: FeedParts,
        query: Query,
        addresses: Sequence[Address],
        freshness: Freshness = ANY_AGE,
        required: Requirement = ANYTHING,
    ) -> None:
        """Raises UsageError for a query that cannot be asked of many datasets, or of so many."""
        if not 1 <= len(addresses) <= FEED_DATASETS_MAX:
            raise UsageError(f"a feed is of 1 to {FEED_DATASETS_MAX:,} datasets, not of {len(addresses):,}")
        self._resolver = resolver
        self._parts = parts
        self._addresses = addresses
        self._freshness = freshness
        self._required = required
        self._ways: list[Way] = []
        self.datasets = len(addresses)
        self._feed = Feed(query, addresses)
        self._questions = trio.CapacityLimiter(FEED_QUESTIONS_MAX)
        self.cost = Cost()
        self.problems: dict[Address, RhizomeError] = {}

    async def resolve(
        self, find_peers: FindPeers | None, *, local: bool, allow_scan: bool
    ) -> AsyncIterator[list[Found]]:
        """The rows of all, in order, as they become certain. See `Resolver.resolve`.

        Raises PartialError at the end if some datasets could not be asked; what that was, if none could.
        """
        if local and self._freshness == ANY_AGE and self._required == ANYTHING:
            whole = self._parts.walk(self._feed.query, self._addresses, self.cost, allow_scan=allow_scan)
            if whole is not None:
                found_here, self._ways = whole
                yield [(address, self._feed.projected(row)) for address, row in found_here]
                return
        while wanting := self._feed.wanting():
            found: dict[Address, tuple[Resolution, list[Row]]] = {}
            async with trio.open_nursery() as nursery:
                for address, query in wanting:
                    resolution, rows = found[address] = self._question(query), []
                    batches = self._resolver.resolve(
                        address, resolution, find_peers, local=local, allow_scan=allow_scan
                    )
                    nursery.start_soon(self._read, address, batches, rows)
            self._note(found)
            yield [(address, self._feed.projected(row)) for address, row in self._feed.rows()]
        if len(self.problems) == len(self._addresses):
            raise next(iter(self.problems.values()))
        if self.problems:
            raise PartialError(
                f"{len(self.problems):,} of {len(self._addresses):,} datasets could not be asked; "
                f"the first of them: {next(iter(self.problems.values()))}",
                hint="the rows of the others are right",
            )

    def _question(self, query: Query) -> Resolution:
        return Resolution(
            query, Cost(), freshness=self._freshness, required=self._required, first_budget=FEED_BUDGET_BYTES
        )

    def standing(self) -> Standing:
        """What is proven of the answer of each dataset that could be asked."""
        ladder = self._resolver.proven.ladder
        return lowest(ladder.of_choice(*way) for way in self._ways)

    async def _read(self, address: Address, batches: AsyncIterator[list[Row]], rows: list[Row]) -> None:
        try:
            async with self._questions:
                async for batch in batches:
                    rows += batch
        except (UnavailableError, IntegrityError, UsageError, UnprovenError) as error:
            self.problems[address] = error

    def _note(self, found: dict[Address, tuple[Resolution, list[Row]]]) -> None:
        """What a round of questions has brought."""
        for address, (resolution, rows) in found.items():
            self.cost.add(resolution.cost)
            if address in self.problems or resolution.answer is None:
                self._feed.leave_out(address)
            else:
                assert resolution.opening is not None
                answer = resolution.answer
                self._feed.note(address, resolution.query, answer.collection, rows)
                self._ways.append((resolution.opening.manifest.rule, answer.collection, answer.candidate))
        self.cost.round_trips += max(resolution.cost.round_trips for resolution, _ in found.values())
