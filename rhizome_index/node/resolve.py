"""Resolve queries: from the store if it has what the walk needs, otherwise by asking peers.

The way of a query: the local walk; else one `ask` to a peer, whose proof is
replayed; else, where peers have the blocks but not the whole answer, a walk of
our own with batched `want`s. What was proven is kept, so that the next walk finds
it here. A peer that lies loses its connection and the next one is asked.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace

from rhizome_index.blocks.cid import Cid
from rhizome_index.errors import (
    IntegrityError,
    PartialError,
    RhizomeError,
    UnavailableError,
    UsageError,
)
from rhizome_index.index.address import Address
from rhizome_index.index.schema import Collection
from rhizome_index.limits import SEGMENTS_MAX
from rhizome_index.node.cache import Cache
from rhizome_index.node.cost import Cost
from rhizome_index.node.directory import Directory
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.fetch import Fetcher
from rhizome_index.node.frauds import Frauds
from rhizome_index.node.gather import Gatherer
from rhizome_index.node.hedge import ask_hedged
from rhizome_index.node.inquire import Inquirer
from rhizome_index.node.ladder import Ladder
from rhizome_index.node.link import Links, SilentError, in_turn
from rhizome_index.node.local import LocalSource
from rhizome_index.node.newest import Clock, Newest
from rhizome_index.node.proven import Proven
from rhizome_index.node.race import Race
from rhizome_index.node.resolution import Resolution
from rhizome_index.node.serve import LocalAnswerer, Plans
from rhizome_index.node.swarm import SpentError
from rhizome_index.node.weigh import SPEED_ASSUMED, WANTS, Location, Speed, locations
from rhizome_index.query.answer import Answer
from rhizome_index.query.choose import Estimate, choose
from rhizome_index.query.combine import Choice, all_candidates, find_candidate
from rhizome_index.query.explain import Explained, explain
from rhizome_index.query.expr import Query
from rhizome_index.query.found import Counted, Found
from rhizome_index.query.proof import record
from rhizome_index.query.rows import Row
from rhizome_index.wire import ask as ask_protocol
from rhizome_index.wire import message as m
from rhizome_index.wire.ask import Ask, Asking, Opening

FindPeers = Callable[[Address], Awaitable[Sequence[str]]]


class LackingError(UnavailableError):
    """A peer has not all that an answer needs, but maybe a part of it."""

    def __init__(self, peer: str, message: str) -> None:
        super().__init__(message)
        self.peer = peer


class Resolver:
    """Answers queries for one home."""

    def __init__(
        self,
        store: DiskStore,
        clock: Clock,
        links: Links | None = None,
        directory: Directory | None = None,
        inquirer: Inquirer | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._links = links
        self._directory = directory
        self._inquirer = inquirer
        self._plans: Plans = {}
        self._frauds = Frauds(store)
        self._cache = Cache(store)
        self.heads = Newest(store, clock, directory)
        self.proven = Proven(Ladder(store), inquirer, directory)

    async def resolve(
        self,
        address: Address,
        resolution: Resolution,
        find_peers: FindPeers | None,
        *,
        local: bool,
        allow_scan: bool,
    ) -> AsyncIterator[list[Row]]:
        """The rows of a query, as they become certain.

        find_peers  gives connected peers to ask about a dataset, in order; None: there is nobody
        local       try the store first

        Raises UnavailableError, RemoteError (every peer lied), PartialError (some rows were given) or UnprovenError
        (none were, because less is proven than is required).
        """
        problems: list[RhizomeError] = []
        if local:
            try:
                self._resolve_here(address, resolution, allow_scan=allow_scan)
                await self.proven.check(resolution)
                yield resolution.give()
                return
            except UnavailableError as error:
                problems.append(error)
                resolution.answer = None
        asked: set[str] = set()
        for find in () if find_peers is None else (find_peers, self._find_others):
            if asked and not all(isinstance(problem, UnavailableError) for problem in problems):
                break  # it was not that nobody serves it
            peers = [peer for peer in await find(address) if peer not in asked]
            if not asked and problems and peers and self._wants_are_best(address, resolution, peers):
                if await self._walk_over(address, resolution, peers, problems, allow_scan=allow_scan):
                    yield resolution.give()
                    return
                resolution.opening = resolution.answer = None
            asked.update(peers)
            failures: list[RhizomeError] = []
            async for rows in self._ask_peers(address, resolution, peers, failures, allow_scan=allow_scan):
                yield rows
            if resolution.is_complete:
                return
            problems += failures
            lacking = [error.peer for error in failures if isinstance(error, LackingError | SpentError)]
            if lacking and await self._walk_over(address, resolution, lacking, problems, allow_scan=allow_scan):
                yield resolution.give()
                return
            if not asked:
                break  # everybody has been looked for already
        if resolution.last is not None:
            problem = problems[-1]
            raise PartialError(f"the answer is right as far as it goes, but incomplete: {problem}", hint=problem.hint)
        raise self.heads.never_back(address, _worst(problems, address))

    async def _find_others(self, address: Address) -> Sequence[str]:
        """Who serves a dataset, when those whom the user has named do not."""
        return await self._directory.providers(address) if self._directory is not None else ()

    def _resolve_here(self, address: Address, resolution: Resolution, *, allow_scan: bool) -> None:
        source = LocalAnswerer(self._store, self._plans)
        wanted = resolution.after.manifest if resolution.after else None
        try:
            head, manifest_bytes, manifest = source.snapshot(address, wanted)
        except UnavailableError:
            if (newest := self._store.newest_head(address)) is not None:
                self._frauds.check(newest)
            raise
        self._frauds.check(head)
        resolution.freshness.check(head, self._clock())
        collection = manifest.collection(resolution.query.collection)
        if resolution.after is not None:
            chosen = [find_candidate(resolution.query, collection, resolution.after.plan)]
        else:
            try:
                chosen = [source.choose(resolution.query, manifest, allow_scan=allow_scan)]
            except UnavailableError:
                # A sparse store may lack what choosing reads, and still have an answer.
                chosen = all_candidates(resolution.query, collection)
        planned = source.blocks
        answer, blocks = _first_answer(resolution, collection, chosen, source)
        resolution.opening = Opening(head, manifest, manifest_bytes)
        resolution.answer = answer
        resolution.cost.blocks_local += source.blocks - planned
        resolution.cost.entries_scanned = answer.entries
        if resolution.proof is not None:
            resolution.proof += blocks

    async def _ask_peers(
        self,
        address: Address,
        resolution: Resolution,
        peers: Sequence[str],
        failures: list[RhizomeError],
        *,
        allow_scan: bool,
    ) -> AsyncIterator[list[Row]]:
        """The rows that one of these peers has; why others have none is added to `failures`."""

        async def ask(peer: str, race: Race[Asking]) -> Asking:
            asking = self._next_request(address, resolution, allow_scan=allow_scan)
            await self._request(resolution, peer, asking, None, race.note_heard)
            return asking

        first: Asking | None = None
        if resolution.answer is None and len(peers) > 1:
            assert self._links is not None
            found = await ask_hedged(self._links, peers, ask, failures)
            if found is None:
                return
            first, peers = found
        for peer, patience in in_turn(peers, failures):
            try:
                async for rows in self._ask(address, resolution, peer, patience, first, allow_scan=allow_scan):
                    yield rows
                return
            except (UnavailableError, IntegrityError) as error:
                failures.append(error)
                first = None

    async def _ask(
        self,
        address: Address,
        resolution: Resolution,
        peer: str,
        patience: float | None,
        first: Asking | None,
        *,
        allow_scan: bool,
    ) -> AsyncIterator[list[Row]]:
        """Ask one peer, again and again until the answer is complete; `first` is what it has answered already."""
        was_fruitless = False
        for _ in range(SEGMENTS_MAX):
            asking = first
            if asking is None:
                asking = self._next_request(address, resolution, allow_scan=allow_scan)
                try:
                    await self._request(resolution, peer, asking, patience)
                except SpentError:
                    if was_fruitless:
                        raise
                    was_fruitless = True  # others may have used the connection before
                    continue
            first, was_fruitless = None, False
            assert asking.opening is not None and asking.answer is not None and asking.replay is not None
            resolution.opening, resolution.answer = asking.opening, asking.answer
            resolution.cost.blocks_remote += len(asking.replay.blocks)
            resolution.cost.entries_scanned = asking.answer.entries
            self._keep(asking)
            if resolution.proof is not None:
                known = {cid for cid, _ in resolution.proof}
                resolution.proof += [block for block in asking.replay.blocks if block[0] not in known]
            await self.proven.check(resolution)
            yield resolution.give()
            if asking.answer.is_complete:
                return
        raise UnavailableError("the answer did not come to an end")

    async def _request(
        self,
        resolution: Resolution,
        peer: str,
        asking: Asking,
        patience: float | None,
        on_heard: Callable[[], None] | None = None,
    ) -> None:
        """One request and its answer, or the beginning of one, that is worth taking.

        Raises UnavailableError, IntegrityError.
        """
        assert self._links is not None
        cost = resolution.cost
        cost.note_request(peer)
        try:
            received = await self._links.converse(
                peer, ask_protocol.PROTOCOL, asking.ask.fields(), asking, silence_seconds=patience, on_heard=on_heard
            )
            cost.note_received(received)
        except SilentError:
            raise
        except UnavailableError:
            if not asking.cut_off():
                raise
        if asking.failure is not None:
            raise _refusal(peer, asking.failure)
        if resolution.opening is None:
            assert asking.opening is not None
            self.heads.check_newest(asking.opening.head, peer, pinned=resolution.after is not None)
            resolution.freshness.check(asking.opening.head, self._clock())

    def _next_request(self, address: Address, resolution: Resolution, *, allow_scan: bool) -> Asking:
        query, answer, opening, after = resolution.query, resolution.answer, resolution.opening, resolution.after
        if answer is not None and opening is not None:
            plan, position = answer.candidate.plan, answer.position
            ask = Ask(address, query, opening.head.manifest, True, plan, position, answer.left)
            return Asking(ask, opening, answer)
        ask = Ask(address, query, limit=query.limit, budget=resolution.first_budget, scan=allow_scan)
        if after is not None:
            # A position among sorted rows means nothing to the walk, which then covers the whole range.
            position = after.position if after.ordered else None
            ask = replace(ask, manifest=after.manifest, plan=after.plan, after=position)
        return Asking(ask, cursor=after)

    async def _walk_over(
        self,
        address: Address,
        resolution: Resolution,
        peers: Sequence[str],
        problems: list[RhizomeError],
        *,
        allow_scan: bool,
    ) -> bool:
        """Whether a walk of our own finds all it needs, here and at these peers; if not, why is added to `problems`."""
        try:
            await self._walk(address, resolution, peers, allow_scan=allow_scan)
            await self.proven.check(resolution)
        except (UnavailableError, IntegrityError) as error:
            problems.append(error)
            return False
        return True

    async def _walk(self, address: Address, resolution: Resolution, peers: Sequence[str], *, allow_scan: bool) -> None:
        """Answer by a walk of our own over what the store and several peers have together."""
        with ExitStack() as leases:
            leases.enter_context(self._store.uses.guarding())
            await self._walk_leased(address, resolution, peers, leases, allow_scan=allow_scan)

    async def _walk_leased(
        self,
        address: Address,
        resolution: Resolution,
        peers: Sequence[str],
        leases: ExitStack,
        *,
        allow_scan: bool,
    ) -> None:
        assert self._links is not None
        cost, query = resolution.cost, resolution.query
        gatherer = self.gatherer(peers, cost)
        if resolution.opening is None:
            head = await self.heads.wanted(address, resolution.after, peers, cost)
            resolution.freshness.check(head, self._clock())
            manifest_bytes, manifest = await gatherer.manifest(head.manifest)
            resolution.opening = Opening(head, manifest, manifest_bytes)
        leases.enter_context(self._store.uses.leasing(resolution.opening.head.manifest))
        collection = resolution.opening.manifest.collection(query.collection)
        if resolution.answer is None:
            if resolution.after is not None:
                candidate = find_candidate(query, collection, resolution.after.plan)
            else:
                candidate = (await gatherer.run(choose(query, collection, allow_scan=allow_scan))).candidate
                gatherer.touched.clear()
                gatherer.fetched = 0
            resolution.answer = Answer(query, collection, candidate, resolution.after)
        answer = resolution.answer
        answer.finish(await gatherer.run(answer.next_walk(), answer.take))
        self.heads.keep(resolution.opening.head)
        cost.entries_scanned = answer.entries
        cost.blocks_remote += gatherer.fetched
        cost.blocks_local += gatherer.blocks_local
        if resolution.proof is not None:
            known = {cid for cid, _ in resolution.proof}
            resolution.proof += [block for block in gatherer.touched.items() if block[0] not in known]

    def _wants_are_best(self, address: Address, resolution: Resolution, peers: Sequence[str]) -> bool:
        """Whether so much of an answer is here that what is missing is better wanted than all of it asked for."""
        source = LocalAnswerer(self._store, self._plans)
        try:
            _, _, manifest = source.snapshot(address, resolution.after.manifest if resolution.after else None)
            collection = manifest.collection(resolution.query.collection)
            estimate = source.run(choose(resolution.query, collection, allow_scan=True))
        except (UnavailableError, IntegrityError, UsageError):
            return False  # not even that is here
        return self._weighed(source, collection, estimate, peers)[0].location == WANTS

    def _weighed(
        self, source: LocalSource, collection: Collection, chosen: Estimate, peers: Sequence[str]
    ) -> list[Location]:
        return locations(source, collection, chosen, self._speed(peers))

    def _speed(self, peers: Sequence[str]) -> Speed | None:
        """What is expected of the best of these peers, where it was measured."""
        if self._links is None or not peers:
            return None
        measured = [self._links.speed(peer) for peer in peers]
        round_trips = [seconds for seconds, _ in measured if seconds is not None]
        rates = [rate for _, rate in measured if rate is not None]
        return Speed(min(round_trips, default=SPEED_ASSUMED[0]), max(rates, default=SPEED_ASSUMED[1]))

    async def explain(
        self, address: Address, query: Query, find_peers: FindPeers | None, *, allow_scan: bool
    ) -> tuple[list[Explained], list[Location]]:
        """The candidates of a query, from counts that are here or at peers, and where to answer the best of them from.

        Raises UnavailableError, UsageError.
        """
        peers = list(await find_peers(address)) if find_peers is not None else []
        resolution = Resolution(query, Cost())
        head = self._store.current_head(address) or await self.heads.newest(address, peers, resolution.cost)
        gatherer = self.gatherer(peers, resolution.cost)
        with self._store.uses.leasing(head.manifest):
            _, manifest = await gatherer.manifest(head.manifest)
            collection = manifest.collection(query.collection)
            found, chosen = await gatherer.run(explain(query, collection, allow_scan=allow_scan))
        if chosen is None:
            return found, []
        source = LocalAnswerer(self._store, self._plans)
        return found, self._weighed(source, collection, chosen, peers)

    def holds(self, address: Address) -> bool:
        """Whether all of a dataset is here."""
        return self._store.held_head(address) is not None

    def gatherer(self, peers: Sequence[str], cost: Cost) -> Gatherer:
        """For walks of our own over what the store and these peers have together."""
        fetcher = Fetcher(self._links, peers, cost) if self._links is not None and peers else None
        return Gatherer(self._store, fetcher, proving=True)

    def _keep(self, asking: Asking) -> None:
        """Keep what was proven, blocks before the head that leads to them."""
        assert asking.opening is not None and asking.replay is not None
        opening = asking.opening
        with suppress(UnavailableError), self._store.transaction():  # worth giving even where it cannot be kept
            self._cache.put([(opening.head.manifest, opening.manifest_bytes), *asking.replay.blocks])
            self._store.put_head(opening.head)


def _first_answer(
    resolution: Resolution, collection: Collection, chosen: Sequence[Choice], source: LocalAnswerer
) -> tuple[Answer, list[tuple[Cid, bytes]]]:
    """The answer of the first candidate whose walk the store can drive, and the blocks it touched."""
    problem: UnavailableError | None = None
    for candidate in chosen:
        answer = Answer(resolution.query, collection, candidate, resolution.after)
        blocks: list[tuple[Cid, bytes]] = []
        try:
            for step in record(answer.next_walk(), source):
                if isinstance(step, Found):
                    answer.take(step)
                elif isinstance(step, tuple):
                    blocks.append(step)
                else:
                    assert step is None or isinstance(step, Counted)
                    answer.finish(step)
            return answer, blocks
        except UnavailableError as error:
            problem = problem or error
    raise problem or UnavailableError("nothing answers this query here")


def _refusal(peer: str, failure: m.Failure) -> RhizomeError:
    if failure.code == m.REFUSED:
        text, _, hint = failure.text.partition("; ")
        return UsageError(text, hint=hint)
    text = f"peer {peer} has no answer ({failure.code}): {failure.text}"
    return LackingError(peer, text) if failure.code in (m.MISSING, m.UNKNOWN) else UnavailableError(text)


def _worst(problems: Sequence[RhizomeError], address: Address) -> RhizomeError:
    """The error that says most: a lie before an absence."""
    for kind in (IntegrityError, UnavailableError):
        for problem in reversed(problems):
            if isinstance(problem, kind):
                return problem
    return UnavailableError(
        f"nobody to ask about {address}", hint="name a peer that serves it: --peer /ip4/.../tcp/.../p2p/..."
    )
