"""Blocks by name from several peers at once.

Promises: each block is checked against its name before anybody sees it, and given
once, as soon as it is here; what one peer lacks is asked of the next; a peer that lies, is gone or is too
slow loses its part to the others; when nothing is left to hand out, what the
slowest has been asked for is asked of an idle peer too, and the first answer
counts. So one bad provider among several costs little. The first few peers are asked; the others only where one of
those is of no more use.

Does not know: what blocks mean, where they go, who is worth asking.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

import trio

from rhizome_index.blocks.cid import Cid, format_cid
from rhizome_index.errors import IntegrityError, RhizomeError, UnavailableError, first_of
from rhizome_index.limits import (
    ANSWER_SILENCE_SECONDS,
    FETCH_JOB_BYTES,
    FETCH_JOB_WANTS,
    FETCH_JOBS_PER_PEER,
    FETCH_LATE_SECONDS,
    PROVIDERS_WANTED,
    WANTS_MAX,
)
from rhizome_index.node.cost import Cost
from rhizome_index.node.link import Links
from rhizome_index.node.swarm import SpentError
from rhizome_index.wire.want import PROTOCOL, OnBlocks, Want, Wanting

Block = tuple[Cid, bytes]

_LATE = 2.0  # times the mean duration of a job: then an idle peer is asked for the same
_LATE_SECONDS_MIN = 0.05  # less is noise


@dataclass(frozen=True, slots=True)
class Wanted:
    """A block by its name; or a record, which stands at `key` in the primary tree `root`."""

    cid: Cid
    root: Cid | None = None
    key: bytes = b""


class Fetcher:
    """Fetches from some connected peers, until none of them is left.

    packed  blocks may come deflated, which takes the peer's time and saves some two fifths of the bytes
    """

    def __init__(self, links: Links, peers: Sequence[str], cost: Cost, *, packed: bool = False) -> None:
        self._links = links
        self._packed = packed
        self._peers = list(dict.fromkeys(peers))
        self._cost = cost
        self._lines = {peer: _Line() for peer in self._peers}
        self._sizes = _Sizes()
        self.problems: list[RhizomeError] = []

    @property
    def peers(self) -> tuple[str, ...]:
        """Peers that have not failed yet."""
        return tuple(self._peers)

    async def fetch(self, wanted: Sequence[Wanted], on_blocks: OnBlocks) -> None:
        """Fetch all of these, each name once. `on_blocks` gets them as they arrive, in any order.

        Raises UnavailableError if none of the peers has one of them; what it names is the first such.
        """
        jobs = _Jobs(wanted, on_blocks, partial(self._sizes.split, workers=FETCH_JOBS_PER_PEER * len(self._peers)))
        try:
            async with trio.open_nursery() as nursery:
                reserve = iter(tuple(self._peers))
                for peer in islice(reserve, PROVIDERS_WANTED):
                    nursery.start_soon(self._employ, peer, jobs, reserve)
        except BaseExceptionGroup as group:  # `on_blocks` failed
            raise first_of(group) from None
        if jobs.left:
            raise self._lacking(next(iter(jobs.left)))

    def _lacking(self, cid: Cid) -> RhizomeError:
        for problem in self.problems:
            if isinstance(problem, IntegrityError):
                return problem
        for problem in self.problems:
            if isinstance(problem, SpentError):
                return problem
        return UnavailableError(f"no peer has the block {format_cid(cid)}")

    async def _employ(self, peer: str, jobs: _Jobs, reserve: Iterator[str]) -> None:
        """Let a peer work as long as it can; then, if something is left, another one in its place."""
        while True:
            async with trio.open_nursery() as nursery:
                for _ in range(FETCH_JOBS_PER_PEER):
                    nursery.start_soon(self._work, peer, jobs)
            following = next(reserve, None) if jobs.left else None
            if following is None:
                return
            peer = following

    async def _work(self, peer: str, jobs: _Jobs) -> None:
        while jobs.left and peer in self._peers:
            job = jobs.take(peer)
            if job is None:
                if not jobs.may_come(peer, self._peers):
                    return
                await jobs.wait(peer)
                continue
            found = await self._ask(peer, job, jobs)
            if jobs.problem is not None:
                raise jobs.problem
            if found is not None:
                jobs.deliver(job, peer, found)
            elif not job.is_over:
                jobs.give_back(job, peer)

    async def _ask(self, peer: str, job: _Job, jobs: _Jobs) -> list[tuple[Cid, bytes | None]] | None:
        """What a peer answers to a job; None if it cannot or need not do it. Blocks have been taken by then."""
        first = job.wanted[0]
        names = [item.cid if first.root is None else item.key for item in job.wanted]
        cids = [item.cid for item in job.wanted]
        want = Want(first.root, tuple(names), packed=self._packed)
        line = self._lines[peer]
        wanting = Wanting(want, cids, partial(self._take_blocks, line, jobs, first.root is not None))
        number = line.number
        self._cost.note_request(peer)
        job.begin(peer)
        patience = ANSWER_SILENCE_SECONDS if len(self._peers) > 1 else None
        try:
            with trio.CancelScope() as scope:
                job.scopes.append(scope)
                received = await self._links.converse(peer, PROTOCOL, want.fields(), wanting, silence_seconds=patience)
                self._cost.note_received(received)
        except (UnavailableError, IntegrityError) as problem:
            if isinstance(problem, SpentError) and line.goes_on(number):
                return list(zip(cids, wanting.blocks, strict=False))
            if peer in self._peers:
                self._peers.remove(peer)
                self.problems.append(problem)
            return None
        if scope.cancelled_caught or wanting.failure is not None:
            return None  # another peer was faster, or this one is busy
        return list(zip(cids, wanting.blocks, strict=False))

    def _take_blocks(self, line: _Line, jobs: _Jobs, are_records: bool, blocks: Sequence[Block]) -> None:
        self._sizes.note(blocks, are_records=are_records)
        line.is_of_use = line.is_of_use or bool(blocks)
        jobs.take_blocks(blocks)


@dataclass(slots=True)
class _Line:
    """The connections with one peer, one after another, where a relay allows each so much.

    number     of the one that is used now
    is_of_use  whether a block has come over it
    idle       how many before it, one after another, were of no use
    """

    number: int = 0
    is_of_use: bool = False
    idle: int = 0

    def goes_on(self, number: int) -> bool:
        """That one has ended, as one job has found or another: whether the next is worth having.

        One that others have used before may end before it has brought anything, but not two in a row.
        """
        if number == self.number:
            self.idle = 0 if self.is_of_use else self.idle + 1
            self.number += 1
            self.is_of_use = False
        return self.idle < 2


@dataclass(eq=False, slots=True)
class _Job:
    """Some wants of one kind, asked of one peer at a time, or of two when the first is late."""

    wanted: list[Wanted]
    begun_at: float = 0.0
    askers: list[str] = field(default_factory=list)
    scopes: list[trio.CancelScope] = field(default_factory=list)
    is_over: bool = False

    def begin(self, peer: str) -> None:
        self.askers.append(peer)
        self.begun_at = trio.current_time()


Split = Callable[[Sequence[Wanted]], list[_Job]]


class _Jobs:
    """What is left of one fetch, and who is at it.

    problem  why blocks could not be given on
    """

    def __init__(
        self, wanted: Sequence[Wanted], on_blocks: OnBlocks, split: Callable[[Sequence[Wanted]], list[_Job]]
    ) -> None:
        self._split = split
        self.left = {item.cid: item for item in wanted}
        self._refused: dict[Cid, set[str]] = {}
        self._on_blocks = on_blocks
        self._waiting = deque(split(list(self.left.values())))
        self._running: list[_Job] = []
        self._changed = trio.Event()
        self._done = 0
        self._seconds = 0.0
        self.problem: RhizomeError | None = None

    def take_blocks(self, blocks: Sequence[Block]) -> None:
        """Some blocks have come, of whatever job: they are given on, each once."""
        fresh = [block for block in blocks if self.left.pop(block[0], None) is not None]
        try:
            if fresh and self.problem is None:
                self._on_blocks(fresh)
        except RhizomeError as error:  # not the fault of the peer whose answer is being read
            self.problem = error

    def take(self, peer: str) -> _Job | None:
        """A job for a peer: one that waits, or one that another peer is late with."""
        for _ in range(len(self._waiting)):
            job = self._waiting.popleft()
            if self._may_have(job, peer):
                self._running.append(job)
                return job
            self._waiting.append(job)
        for job in self._running:
            if self._may_share(job, peer) and trio.current_time() >= job.begun_at + self._late_seconds():
                return job
        return None

    def may_come(self, peer: str, peers: Sequence[str]) -> bool:
        """Whether something may still become this peer's to do."""
        return any(self._may_have(job, peer) for job in self._waiting) or any(
            self._may_have(job, peer) and peer not in job.askers for job in self._running
        )

    async def wait(self, peer: str) -> None:
        """Until something has changed, or a job that this peer could do too is late."""
        begun = [job.begun_at for job in self._running if self._may_share(job, peer)]
        with trio.move_on_at(min(begun, default=float("inf")) + self._late_seconds()):
            await self._changed.wait()

    def deliver(self, job: _Job, peer: str, found: Sequence[tuple[Cid, bytes | None]]) -> None:
        """A peer has answered a job, maybe in part; its blocks have been taken."""
        if job.is_over:
            return
        self._done += 1
        self._seconds += trio.current_time() - job.begun_at
        for cid, data in found:
            if data is None:
                self._refused.setdefault(cid, set()).add(peer)
        self._end(job)

    def give_back(self, job: _Job, peer: str) -> None:
        """A peer cannot do a job."""
        for item in job.wanted:
            self._refused.setdefault(item.cid, set()).add(peer)
        job.askers.remove(peer)
        if not job.askers:
            self._end(job)

    def _end(self, job: _Job) -> None:
        job.is_over = True
        self._running.remove(job)
        for scope in job.scopes:
            scope.cancel()
        self._waiting.extend(self._split([item for item in job.wanted if item.cid in self.left]))
        self._changed.set()
        self._changed = trio.Event()

    def _may_have(self, job: _Job, peer: str) -> bool:
        return not all(peer in self._refused.get(item.cid, ()) for item in job.wanted)

    def _may_share(self, job: _Job, peer: str) -> bool:
        return len(job.askers) == 1 and peer not in job.askers and self._may_have(job, peer)

    def _late_seconds(self) -> float:
        return max(_LATE_SECONDS_MIN, _LATE * self._seconds / self._done) if self._done else FETCH_LATE_SECONDS


class _Sizes:
    """How large blocks were, records and others apart, and so how many of them make a job."""

    def __init__(self) -> None:
        self._bytes = Counter({True: 0, False: 0})
        self._blocks = Counter({True: 0, False: 0})

    def note(self, blocks: Sequence[Block], *, are_records: bool) -> None:
        self._blocks[are_records] += len(blocks)
        self._bytes[are_records] += sum(len(data) for _, data in blocks)

    def split(self, wanted: Sequence[Wanted], workers: int) -> list[_Job]:
        """Jobs of one kind each, blocks or records of one tree, in order; enough of them for all workers."""
        share = -(-len(wanted) // max(1, workers))
        jobs: list[_Job] = []
        most = FETCH_JOB_WANTS
        for item in wanted:
            if not jobs or len(jobs[-1].wanted) >= most or jobs[-1].wanted[0].root != item.root:
                jobs.append(_Job([]))
                most = max(FETCH_JOB_WANTS, min(share, self._most(item.root is not None)))
            jobs[-1].wanted.append(item)
        return jobs

    def _most(self, are_records: bool) -> int:
        count, size = self._blocks[are_records], self._bytes[are_records]
        return min(WANTS_MAX, FETCH_JOB_BYTES * count // size) if size else FETCH_JOB_WANTS
