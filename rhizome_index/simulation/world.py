"""A world: virtual time, seeded chance and a trace of all that happens.

Promises: what runs in a world depends on its seed and its arguments alone, in any
process and under any hash seed. Time passes only when everybody waits, and then
jumps to the next thing that happens; if nothing ever will, the run fails. The trace
is a hash over every event, so two runs can be compared by one line.

It does not know networks, peers or datasets.

Rules for what runs here: durations from `trio.current_time`, wall time from
`World.clock`, chance from `World.chance`, no threads, no order taken from sets of
texts or from addresses in memory. What is done from the agenda wakes tasks and adds to
the agenda; it sets no deadline. trio schedules from a seed only when told so through
private names, which only the functions at the end know.

What is to come is done from trio's clock, which trio asks how long to sleep exactly
when no task can run: a task of its own, woken for each event, would take a third of
the time that a run takes. It goes on from event to event until one wakes a task, and
then to those of the next millisecond, so that many tasks wake together: a pass through
trio takes longer than most events do. Events happen at their exact times.
"""

from __future__ import annotations

import gc
import hashlib
import heapq
import random
import sys
from collections.abc import Awaitable, Callable, Iterator, Sized
from contextlib import contextmanager
from importlib.metadata import version
from math import inf
from typing import Any, TextIO, TypeVar

import trio
import trio.abc

from rhizome_index.errors import RhizomeError

EPOCH_SECONDS = 1_767_225_600.0  # 2026-01-01T00:00:00Z: the wall time at which every world begins
_ASKED_IN_VAIN = 10  # times in a row
_TICK_SECONDS = 0.001  # within which tasks that are to wake wait for each other
_STEPS_PER_COLLECTION = 50_000  # there is little garbage that takes collecting, and looking for it takes long
_STEPS_PER_FULL_COLLECTION = 1_000_000  # a thousand peers are millions of objects

T = TypeVar("T")


class Trace:
    """A running hash over events. `events` says how many there were; lines also go to `file`, if there is one."""

    def __init__(self, clock: Callable[[], float], file: TextIO | None = None) -> None:
        self.events = 0
        self._clock = clock
        self._hash = hashlib.sha256()
        self._file = file

    def note(self, kind: str, who: str, what: str = "") -> None:
        """Something happens now."""
        line = f"{self._clock():.9f} {kind} {who} {what}\n"
        self.events += 1
        self._hash.update(line.encode())
        if self._file is not None:
            self._file.write(line)

    @property
    def digest(self) -> str:
        """What the events so far come to."""
        return self._hash.hexdigest()


class _Agenda(trio.abc.Clock):
    """Virtual time, and what is to happen in it.

    fail      takes what an action has raised, and that nothing will ever happen any more; None while nobody is there
    runnable  tasks that trio will run next
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.runnable: Sized = ()
        self.fail: Callable[[Exception], None] | None = None
        self._entries: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0
        self._steps = 0
        self._asked_in_vain = 0

    def add(self, when: float, action: Callable[..., None], args: tuple[Any, ...]) -> None:
        self._count += 1
        heapq.heappush(self._entries, (when, self._count, action, args))

    # --- for trio ---

    def start_clock(self) -> None:
        pass

    def current_time(self) -> float:
        return self.now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """No task can run before `deadline`: go on to that, or to what happens earlier and wakes one."""
        entries, runnable, until = self._entries, self.runnable, deadline
        try:
            while entries and entries[0][0] <= until:
                when, _, action, args = heapq.heappop(entries)
                self._step(when)
                action(*args)
                if runnable and until == deadline:
                    until = min(deadline, self.now + _TICK_SECONDS)
            if runnable:
                return 0.0
            if deadline == inf:
                self._check_stuck()
                return 0.0
            self._step(deadline)
        except Exception as error:
            if self.fail is None:
                raise
            self.fail(error)
        return 0.0

    def _step(self, when: float) -> None:
        """Time goes on."""
        self._steps += 1
        if not self._steps % _STEPS_PER_COLLECTION:
            gc.collect(2 if not self._steps % _STEPS_PER_FULL_COLLECTION else 1)
        self._asked_in_vain = 0
        self.now = max(self.now, when)

    def _check_stuck(self) -> None:
        """trio wakes itself through a socket now and then; otherwise nothing comes from outside."""
        self._asked_in_vain += 1
        if self.fail is not None and self._asked_in_vain > _ASKED_IN_VAIN:
            raise RhizomeError("every task waits, and nothing is to come", hint="a scenario has to end")


class World:
    """One run. Things to come are kept in an agenda: see `at`."""

    def __init__(self, seed: int, trace_file: TextIO | None = None) -> None:
        self.seed = seed
        self._agenda = _Agenda()
        self.trace = Trace(self._agenda.current_time, trace_file)

    def run(self, main: Callable[[], Awaitable[T]]) -> T:
        """Run `main` to its end, in virtual time that begins at 0. What it raises comes through unwrapped."""
        _seed_scheduler(self.seed)
        outcome: list[T] = []
        failures: list[Exception] = []

        async def live() -> None:
            self._agenda.runnable = _runnable()
            with trio.CancelScope() as scope:

                def fail(error: Exception) -> None:
                    failures.append(error)
                    scope.cancel()

                self._agenda.fail = fail
                try:
                    outcome.append(await main())
                except Exception as error:
                    failures.append(error)
            self._agenda.fail = None

        with _collecting_by_steps():
            trio.run(live, clock=self._agenda)
        if failures:
            raise failures[0]
        return outcome[0]

    def chance(self, *names: object) -> random.Random:
        """A source of chance for one component: the same for the same seed and names, independent of all others."""
        text = "/".join(map(str, (self.seed, *names)))
        return random.Random(int.from_bytes(hashlib.sha256(text.encode()).digest()))

    @property
    def now(self) -> float:
        """Seconds since the world began."""
        return self._agenda.now

    def clock(self) -> float:
        """Wall time: seconds since 1970."""
        return EPOCH_SECONDS + self._agenda.now

    def at(self, when: float, action: Callable[..., None], *args: Any) -> None:
        """Do something at a time, or at once if that has passed; things of one time in the order of their coming.

        It is done when no task can run at that time any more.
        """
        self._agenda.add(when, action, args)

    def after(self, seconds: float, action: Callable[..., None], *args: Any) -> None:
        """Do something that many seconds from now."""
        self._agenda.add(self._agenda.now + seconds, action, args)


def exponential(chance: float) -> float:
    """A draw from the exponential distribution of mean 1, to a thousandth, from a number between 0 and 1.

    Close enough for weather and lives, and exact on every machine, as logarithms are not.
    """
    whole, part = 0, 1.0 - chance
    while part <= 0.5 and whole < 50:
        part *= 2
        whole += 1
    return round(0.6931 * (whole + 2 * (1 - part)), 3)


@contextmanager
def _collecting_by_steps() -> Iterator[None]:
    """Collect garbage only where the agenda says so: else it would depend on what ran in this process before."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _seed_scheduler(seed: int) -> None:
    """Make trio choose the order of runnable tasks from a seed.

    Raises RhizomeError where this trio has no longer what that takes.
    """
    run = sys.modules["trio._core._run"]
    chance = getattr(run, "_r", None)
    if not hasattr(run, "_ALLOW_DETERMINISTIC_SCHEDULING") or not isinstance(chance, random.Random):
        raise _unknown_trio()
    run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[attr-defined]
    chance.seed(seed)


def _runnable() -> Sized:
    """The tasks that the trio around us will run next: a view. Raises RhizomeError where trio has no such thing."""
    try:
        found = sys.modules["trio._core._run"].GLOBAL_RUN_CONTEXT.runner.runq
    except AttributeError:
        raise _unknown_trio() from None
    assert isinstance(found, Sized)
    return found


def _unknown_trio() -> RhizomeError:
    return RhizomeError(
        f"trio {version('trio')} cannot be scheduled from a seed in the way known here",
        hint="use the version of trio in setup.cfg",
    )
