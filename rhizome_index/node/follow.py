"""Follow datasets: learn of new heads, bring what is kept of them, switch when it is here.

Heads are pulled now and then and whenever a hint comes; never is an older one taken.
Each follow is a task of its own, and a few sync at the same time, the others in the
order in which they came. A head that its publisher's own records contradict is
refused for good, and the reason kept.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import trio

from rhizome_index.blocks.cid import Cid
from rhizome_index.errors import IntegrityError, RemoteError, RhizomeError, StoreError, UnavailableError
from rhizome_index.index.address import Address
from rhizome_index.index.head import Head
from rhizome_index.limits import (
    BEHIND_TRIES,
    HEADS_ASKED,
    HEADS_PULL_SECONDS,
    PROGRESS_SECONDS,
    RETRY_SECONDS,
    SYNCS_AT_ONCE_MAX,
)
from rhizome_index.node.cost import Cost
from rhizome_index.node.directory import Directory
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.events import INFO, WARNING, note
from rhizome_index.node.frauds import Frauds
from rhizome_index.node.inquire import Inquirer
from rhizome_index.node.part import PartKeeper
from rhizome_index.node.register import FULL, Follow, Register
from rhizome_index.node.room import Room
from rhizome_index.node.sync import Progress, Syncer
from rhizome_index.node.tally import DONE, FAILED, REFUSED, Tally


@dataclass(slots=True)
class FollowState:
    """How one follow is doing.

    newest    sequence of the newest head heard of, or None
    pull_at   when peers are asked again what they know, even where a newer head was heard of: virtual or real seconds
    begun     attempts to bring it up to date so far, the one under way included
    ended     attempts that are over; `settled` is set when one is
    error     why the last attempt failed, or None
    refused   manifests that contradict their own records, with the reason
    damaged   blocks that were set aside when it was last mended
    """

    follow: Follow
    newest: int | None = None
    checked_at: float | None = None
    pull_at: float = 0.0
    begun: int = 0
    ended: int = 0
    error: RhizomeError | None = None
    progress: Progress = field(default_factory=Progress)
    cost: Cost = field(default_factory=Cost)
    refused: dict[Cid, str] = field(default_factory=dict)
    damaged: frozenset[Cid] = frozenset()
    is_syncing: bool = False
    hinted: trio.Event = field(default_factory=trio.Event)
    asked: trio.Event = field(default_factory=trio.Event)
    settled: trio.Event = field(default_factory=trio.Event)
    lock: trio.Lock = field(default_factory=trio.Lock)

    @property
    def problem(self) -> str:
        """Why the last attempt failed, or empty."""
        return "" if self.error is None else str(self.error)

    def settle(self, error: RhizomeError | None) -> None:
        """An attempt is over."""
        self.error = error
        self.ended = self.begun
        self.settled.set()
        self.settled = trio.Event()


class Follower:
    """Keeps everything that the register says is followed. `on_head` is told of each head switched to."""

    def __init__(
        self,
        store: DiskStore,
        register: Register,
        directory: Directory,
        syncer: Syncer,
        keeper: PartKeeper,
        inquirer: Inquirer,
        clock: Callable[[], float],
        chance: random.Random,
        tally: Tally,
    ) -> None:
        self._store = store
        self._register = register
        self._directory = directory
        self._syncer = syncer
        self._keeper = keeper
        self._inquirer = inquirer
        self._frauds = Frauds(store)
        self._room = Room(store)
        self._clock = clock
        self._chance = chance
        self._tally = tally
        self._slots = trio.CapacityLimiter(SYNCS_AT_ONCE_MAX)
        self._tasks: dict[Address, tuple[Follow, trio.CancelScope]] = {}
        self._changed = trio.Event()
        self.states: dict[Address, FollowState] = {}
        self.on_head: Callable[[Head], None] = lambda head: None

    async def run(self) -> None:
        """Follow until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                try:
                    wanted = {follow.address: follow for follow in self._register.follows()}
                except StoreError:  # busy or failing: what is followed goes on as it was
                    wanted = {address: follow for address, (follow, _) in self._tasks.items()}
                for address, (follow, scope) in list(self._tasks.items()):
                    if wanted.get(address) != follow:
                        scope.cancel()
                        del self._tasks[address]
                for address, follow in wanted.items():
                    if address not in self._tasks:
                        scope = trio.CancelScope()
                        self._tasks[address] = (follow, scope)
                        self.state(follow)
                        nursery.start_soon(self._keep_following, follow, scope)
                for address in self.states.keys() - wanted.keys():
                    del self.states[address]
                with trio.move_on_after(HEADS_PULL_SECONDS):
                    await self._changed.wait()
                self._changed = trio.Event()

    def refresh(self) -> None:
        """What is followed has changed."""
        self._changed.set()

    def hint(self, address: Address) -> None:
        """There may be a new head of a dataset."""
        state = self.states.get(address)
        if state is not None:
            state.hinted.set()

    async def _keep_following(self, follow: Follow, scope: trio.CancelScope) -> None:
        state = self.states[follow.address]
        failures = 0
        with scope:
            while True:
                failures = 0 if state.hinted.is_set() else failures
                state.hinted, state.asked = trio.Event(), trio.Event()
                state.begun += 1
                began = trio.current_time()
                problem: RhizomeError | None = None
                is_behind = False
                try:
                    head = await self.bring(follow)
                    # Who hears of a head early may not find it: those whom it knows are bringing it themselves.
                    is_behind = state.newest is not None and head.sequence < state.newest
                except RhizomeError as error:
                    problem = error
                failures = failures + 1 if is_behind or problem is not None else 0
                state.checked_at = self._clock()
                _tell_problem(state, problem)
                state.settle(problem)
                if not failures:  # whose disk or line takes long for one head has others to serve, too
                    with trio.move_on_after(min(HEADS_PULL_SECONDS, trio.current_time() - began)):
                        await state.asked.wait()
                doubled = max(0, failures - (BEHIND_TRIES if is_behind else 1))
                pause = min(HEADS_PULL_SECONDS, RETRY_SECONDS * 2**doubled) if failures else HEADS_PULL_SECONDS
                with trio.move_on_after(pause * (0.75 + 0.5 * self._chance.random())):
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._widen, state)
                        await state.hinted.wait()
                        nursery.cancel_scope.cancel()

    async def _widen(self, state: FollowState) -> None:
        """Look beyond those who are connected; a peer that was reached may know more."""
        with suppress(StoreError):
            if await self._directory.widen(state.follow.address):
                state.hinted.set()

    async def wait_brought(self, follow: Follow, tell: Callable[[FollowState], Awaitable[None]]) -> None:
        """Have the follow's own task bring it up to date, and wait for an attempt that begins from now on.

        tell  is given how it is doing, now and then and at the end

        Raises RhizomeError, as `bring` does.
        """
        state = self.state(follow)
        attempt = state.begun + 1
        state.hinted.set()
        state.asked.set()
        self.refresh()
        while state.ended < attempt:
            if self.states.get(follow.address) is not state:
                raise UnavailableError(f"{follow.address} is no longer followed like that")
            await tell(state)
            with trio.move_on_after(PROGRESS_SECONDS):
                await state.settled.wait()
        await tell(state)
        if state.error is not None:
            raise state.error

    async def bring(self, follow: Follow) -> Head:
        """Be up to date with one dataset: the head that is held then. Raises RhizomeError."""
        state = self.state(follow)
        async with state.lock:
            with self._store.uses.guarding():
                return await self._bring(follow, state)

    def state(self, follow: Follow) -> FollowState:
        """The state of a follow; a new one if it is followed in another way than before."""
        state = self.states.get(follow.address)
        if state is None or state.follow != follow:
            state = self.states[follow.address] = FollowState(follow)
        return state

    async def _bring(self, follow: Follow, state: FollowState) -> Head:
        address = follow.address
        providers = await self._directory.providers(address)
        if not providers:
            raise UnavailableError(f"nobody is known who serves {address}")
        held = self._store.held_head(address)
        newest = self._heard_since(held, state) or await self._newest(address, providers, state)
        if newest is None or (held is not None and held.sequence >= newest.sequence):
            if held is None:
                self._check_newest(address)
                raise UnavailableError(f"no peer asked knows a head of {address}")
            await self._mend(follow, held, providers, state)
            self._check_newest(address)
            return held
        if newest.manifest in state.refused:
            raise IntegrityError(state.refused[newest.manifest])
        if follow.policy.kind != FULL:  # who derives everything finds out by himself
            await self._inquirer.ask(newest, providers, state.cost)
        async with self._slots:
            self._room.check()
            state.is_syncing, state.progress = True, Progress()
            how, begun_at, bytes_before = FAILED, trio.current_time(), state.cost.bytes_received
            try:
                if follow.policy.kind == FULL:
                    head = await self._syncer.sync(newest, providers, state.cost, state.progress)
                else:
                    head = await self._keeper.keep(newest, follow.policy, providers, state.cost, state.progress)
                how = DONE
                note(
                    INFO,
                    "synced",
                    dataset=str(address),
                    head=head.sequence,
                    bytes=state.cost.bytes_received - bytes_before,
                    seconds=round(trio.current_time() - begun_at, 3),
                )
            except RemoteError:
                raise
            except IntegrityError as error:
                state.refused[newest.manifest] = str(error)
                how = REFUSED
                raise
            finally:
                state.is_syncing = False
                self._tally.syncs[how] += 1
        if self._store.current_head(address) == head:  # else a query was answered from a newer one meanwhile
            self.on_head(head)
        return head

    def _check_newest(self, address: Address) -> None:
        """Raise IntegrityError if what the publisher has signed last is convicted of fraud, so that its user knows."""
        newest = self._store.newest_head(address)
        if newest is not None:
            self._frauds.check(newest)

    async def mend(self, address: Address, peers: Sequence[str]) -> None:
        """Bring back what is missing of something that is followed. Raises RhizomeError."""
        for follow in self._register.follows():
            if follow.address == address:
                state = self.state(follow)
                async with state.lock:
                    with self._store.uses.guarding():
                        held = self._store.held_head(address)
                        if held is None:
                            await self._bring(follow, state)
                        else:
                            await self._bring_back(follow, held, peers, state)

    async def _mend(self, follow: Follow, held: Head, peers: Sequence[str], state: FollowState) -> None:
        """Bring back blocks that were set aside since the last look."""
        damaged = frozenset(self._store.damaged())
        if damaged - state.damaged:
            await self._bring_back(follow, held, peers, state)
        state.damaged = damaged

    async def _bring_back(self, follow: Follow, held: Head, peers: Sequence[str], state: FollowState) -> None:
        if follow.policy.kind == FULL:
            await self._syncer.mend(held, peers, state.cost)
        else:
            await self._keeper.keep(held, follow.policy, peers, state.cost, Progress())

    def _heard_since(self, held: Head | None, state: FollowState) -> Head | None:
        """A head that we have been told of since: nobody has to be asked whether there is one, unless that failed."""
        if held is None or state.error is not None or trio.current_time() >= state.pull_at:
            return None
        heard = self._store.believed_head(held.address)
        if heard is None or heard.sequence <= held.sequence:
            return None
        state.newest = heard.sequence
        return heard

    async def _newest(self, address: Address, providers: list[str], state: FollowState) -> Head | None:
        """The newest head that a few providers, its publisher if there, or we know.

        All that is heard is kept: two may contradict.
        """
        state.pull_at = trio.current_time() + HEADS_PULL_SECONDS
        asked = providers[:HEADS_ASKED]
        asked += [peer for peer in providers[HEADS_ASKED:] if peer == address.publisher]
        for peer in asked:
            try:
                told = (await self._directory.ask(peer, [address], state.cost)).get(address)
            except (UnavailableError, IntegrityError):
                continue
            for head in told.heads if told else ():
                self._store.put_heard(head)
        newest = self._store.believed_head(address)
        state.newest = newest.sequence if newest else None
        return newest


def _tell_problem(state: FollowState, problem: RhizomeError | None) -> None:
    """Note why a follow does not go on, once."""
    if problem is None or str(problem) == state.problem:
        return
    dataset = str(state.follow.address)
    if isinstance(problem, IntegrityError) and not isinstance(problem, RemoteError):
        # Not why: that may quote a record.
        text = f"what the publisher of {dataset} has signed is refused; rhizome status says why"
        note(WARNING, "publisher_refused", text, dataset=dataset)
    else:
        note(INFO, "follow_failing", dataset=dataset, reason=str(problem))
