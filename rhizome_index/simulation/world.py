"""A world: virtual time, seeded chance and a trace of all that happens.

Promises: what runs in a world depends on its seed and its arguments alone, in any
process and under any hash seed. Time passes only when everybody waits, and then
jumps to the next thing that happens. The trace is a hash over every event, so two
runs can be compared by one line.

It does not know networks, peers or datasets.

Rules for what runs here: durations from `trio.current_time`, wall time from
`World.clock`, chance from `World.chance`, no threads, no order taken from sets of
texts or from addresses in memory. trio schedules from a seed only when told so
through private names; `_seed_scheduler` is the one place that knows them.
"""

from __future__ import annotations

import hashlib
import heapq
import random
import sys
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any, TextIO, TypeVar

import trio
import trio.testing

from rhizome_index.errors import RhizomeError

EPOCH_SECONDS = 1_767_225_600.0  # 2026-01-01T00:00:00Z: the wall time at which every world begins

T = TypeVar("T")


class Trace:
    """A running hash over events. `events` says how many there were; lines also go to `file`, if there is one."""

    def __init__(self, file: TextIO | None = None) -> None:
        self.events = 0
        self._hash = hashlib.sha256()
        self._file = file

    def note(self, kind: str, who: str, what: str = "") -> None:
        """Something happens now."""
        line = f"{trio.current_time():.9f} {kind} {who} {what}\n"
        self.events += 1
        self._hash.update(line.encode())
        if self._file is not None:
            self._file.write(line)

    @property
    def digest(self) -> str:
        """What the events so far come to."""
        return self._hash.hexdigest()


class World:
    """One run. Things to come are kept in an agenda: see `at`."""

    def __init__(self, seed: int, trace_file: TextIO | None = None) -> None:
        self.seed = seed
        self.trace = Trace(trace_file)
        self._agenda: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._entries = 0
        self._alarm: trio.CancelScope | None = None

    def run(self, main: Callable[[], Awaitable[T]]) -> T:
        """Run `main` to its end, in virtual time that begins at 0. What it raises comes through unwrapped."""
        _seed_scheduler(self.seed)
        outcome: list[T] = []
        failure: list[BaseException] = []

        async def live() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_agenda)
                try:
                    outcome.append(await main())
                except Exception as error:
                    failure.append(error)
                nursery.cancel_scope.cancel()

        trio.run(live, clock=trio.testing.MockClock(autojump_threshold=0))
        if failure:
            raise failure[0]
        return outcome[0]

    def chance(self, *names: object) -> random.Random:
        """A source of chance for one component: the same for the same seed and names, independent of all others."""
        text = "/".join(map(str, (self.seed, *names)))
        return random.Random(int.from_bytes(hashlib.sha256(text.encode()).digest()))

    @property
    def now(self) -> float:
        """Seconds since the world began."""
        return trio.current_time()

    def clock(self) -> float:
        """Wall time: seconds since 1970."""
        return EPOCH_SECONDS + trio.current_time()

    def at(self, when: float, action: Callable[..., None], *args: Any) -> None:
        """Do something at a time, or at once if that has passed; things of one time in the order of their coming."""
        self._entries += 1
        heapq.heappush(self._agenda, (when, self._entries, action, args))
        if self._alarm is not None and when < self._alarm.deadline:
            self._alarm.deadline = when

    def after(self, seconds: float, action: Callable[..., None], *args: Any) -> None:
        """Do something that many seconds from now."""
        self.at(trio.current_time() + seconds, action, *args)

    async def _keep_agenda(self) -> None:
        agenda, never = self._agenda, trio.lowlevel.ParkingLot()
        while True:
            with trio.CancelScope(deadline=agenda[0][0] if agenda else float("inf")) as alarm:
                self._alarm = alarm
                await never.park()
            self._alarm = None
            now = trio.current_time()
            while agenda and agenda[0][0] <= now:
                _, _, action, args = heapq.heappop(agenda)
                action(*args)


def _seed_scheduler(seed: int) -> None:
    """Make trio choose the order of runnable tasks from a seed.

    Raises RhizomeError where this trio has no longer what that takes.
    """
    run = sys.modules["trio._core._run"]
    chance = getattr(run, "_r", None)
    if not hasattr(run, "_ALLOW_DETERMINISTIC_SCHEDULING") or not isinstance(chance, random.Random):
        raise RhizomeError(
            f"trio {version('trio')} cannot be scheduled from a seed in the way known here",
            hint="use the version of trio in setup.cfg",
        )
    run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[attr-defined]
    chance.seed(seed)
