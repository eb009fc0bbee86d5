"""Worlds: virtual time, an agenda in order, chance that is nobody else's, and a scheduler that can be seeded."""

from __future__ import annotations

import gc
import sys
import weakref

import pytest
import trio

from rhizome_index.errors import RhizomeError
from rhizome_index.simulation import world as world_module
from rhizome_index.simulation.world import EPOCH_SECONDS, World

TICK = world_module._TICK_SECONDS


def test_things_happen_when_they_are_due_and_in_their_order() -> None:
    happened: list[tuple[str, float]] = []
    world = World(1)

    def note(name: str) -> None:
        happened.append((name, world.now))
        world.trace.note("note", name)

    async def main() -> None:
        world.at(5.0, note, "third")
        world.at(2.0, note, "first")
        world.at(2.0, note, "second")
        await trio.sleep(3)
        world.after(1.0, note, "between")
        world.at(0.0, note, "late")
        await trio.sleep(10)
        assert world.clock() == EPOCH_SECONDS + 13

    world.run(main)
    assert happened == [("first", 2.0), ("second", 2.0), ("late", 3.0), ("between", 4.0), ("third", 5.0)]
    assert world.trace.events == 5


def test_tasks_that_wake_within_a_tick_wake_together_and_events_keep_their_times() -> None:
    happened: list[float] = []
    woke: list[tuple[str, float]] = []
    world = World(1)

    async def wait(name: str, when: float) -> None:
        event = trio.Event()
        world.at(when, lambda: (happened.append(world.now), event.set()))
        await event.wait()
        woke.append((name, world.now))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number, when in enumerate((1.0, 1.0 + TICK / 2, 1.0 + TICK, 1.0 + 2 * TICK)):
                nursery.start_soon(wait, f"{number}", when)

    world.run(main)
    assert happened == [1.0, 1.0 + TICK / 2, 1.0 + TICK, 1.0 + 2 * TICK]
    assert sorted(woke) == [(name, 1.0 + TICK) for name in "012"] + [("3", 1.0 + 2 * TICK)]


def test_events_before_anybody_wakes_take_no_pass_through_trio() -> None:
    world = World(1)
    passes: list[float] = []

    class Instrument(trio.abc.Instrument):
        def before_io_wait(self, timeout: float) -> None:
            passes.append(world.now)

    async def main() -> None:
        trio.lowlevel.add_instrument(Instrument())
        for number in range(1000):
            world.at(number / 100, lambda: None)
        await trio.sleep(20)

    world.run(main)
    assert len(passes) < 10


def tasks_of(seed: int) -> str:
    """The trace of many tasks that wait for the same moments."""
    world = World(seed)

    async def task(name: str) -> None:
        for _ in range(5):
            await trio.sleep(1)
            world.trace.note("woke", name)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(task, str(number))

    world.run(main)
    return world.trace.digest


def test_the_scheduler_is_seeded() -> None:
    assert tasks_of(1) == tasks_of(1)
    assert tasks_of(1) != tasks_of(2)


def test_each_has_a_chance_of_its_own() -> None:
    world = World(7)
    assert world.chance("a", 1).random() == World(7).chance("a", 1).random()
    others = {World(8).chance("a", 1).random(), world.chance("a", 2).random(), world.chance("b", 1).random()}
    assert world.chance("a", 1).random() not in others and len(others) == 3


@pytest.mark.parametrize("name", ["_r", "_ALLOW_DETERMINISTIC_SCHEDULING"])
def test_a_trio_that_cannot_be_seeded_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delattr(sys.modules["trio._core._run"], name)

    async def main() -> None:
        raise AssertionError

    with pytest.raises(RhizomeError, match="cannot be scheduled from a seed"):
        World(1).run(main)


def test_a_run_in_which_nothing_can_happen_any_more_fails() -> None:
    async def main() -> None:
        await trio.sleep(5)
        await trio.sleep_forever()

    world = World(1)
    with pytest.raises(RhizomeError, match="nothing is to come"):
        world.run(main)
    assert world.now == 5


def test_what_an_action_raises_comes_through() -> None:
    world = World(1)

    def fail() -> None:
        raise KeyError("x")

    async def main() -> None:
        world.at(3.0, fail)
        await trio.sleep(10)

    with pytest.raises(KeyError):
        world.run(main)
    assert world.now == 3


def test_what_main_raises_comes_through() -> None:
    async def main() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        World(1).run(main)


def test_garbage_is_collected_after_so_many_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """What collecting finalizes may be seen: it must not depend on what ran in this process before."""
    monkeypatch.setattr(world_module, "_STEPS_PER_COLLECTION", 3)
    monkeypatch.setattr(world_module, "_STEPS_PER_FULL_COLLECTION", 6)
    gone: list[float] = []

    async def main() -> None:
        for _ in range(20):
            cycle: list[object] = []
            cycle.append(cycle)
            weakref.finalize(Holder(cycle), lambda: gone.append(world.now))
            assert len([[] for _ in range(5000)]) == 5000  # enough for Python to collect by itself
            await trio.sleep(1)

    class Holder:
        def __init__(self, cycle: list[object]) -> None:
            cycle.append(self)

    world = World(1)
    world.run(main)
    assert gone and set(gone) <= {float(second) for second in range(2, 21, 3)}
    assert gc.isenabled()
