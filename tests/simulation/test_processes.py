"""Scenarios over real processes: the same verdicts as in the simulated world, and nothing is left of them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from rhizome_index.errors import UsageError
from rhizome_index.simulation.backends import SIMULATED
from rhizome_index.simulation.byzantine import Withholder
from rhizome_index.simulation.disks import Speed
from rhizome_index.simulation.network import Weather
from rhizome_index.simulation.scenario import Scenario, Simulation, adapt, load, run
from tests.simulation.play import broken, play

PROCESSES = "processes"
Act = Callable[[Simulation], Awaitable[Any]]


@pytest.fixture(autouse=True)
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the homes of members are made."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def processes_in(folder: Path) -> list[str]:
    """Processes that were started with something in a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if str(folder) in words and path.parent.name != str(os.getpid()):
            found.append(words)
    return found


def verdicts(name: str, on: str, peers: int, minutes: float | None = None, **values: str) -> dict[str, bool]:
    report = run(adapt(load(name), peers=peers, minutes=minutes, values=values), 1, on=on)
    assert any(verdict.checked for verdict in report.verdicts if "every answer" in verdict.promise)
    return {verdict.promise: verdict.holds for verdict in report.verdicts}


def test_three_processes_start_cold(homes: Path) -> None:
    found = verdicts("cold_start", PROCESSES, 2, 0.02, posts="20")
    assert all(found.values()) and found == verdicts("cold_start", SIMULATED, 2, 0.02, posts="20")
    assert processes_in(homes) == [] and list(homes.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cold_start", "publisher_offline"])
def test_twenty_processes(name: str) -> None:
    found = verdicts(name, PROCESSES, 20)
    assert all(found.values()) and found == verdicts(name, SIMULATED, 20)


def test_a_member_that_was_killed_is_back_where_it_was_with_what_it_had(homes: Path) -> None:
    async def main(sim: Simulation) -> None:
        publisher = await sim.publish(5)
        address = publisher.host.address
        reader = await sim.peer("reader", named=[publisher], follows=[publisher])
        await sim.cluster.kill(publisher)
        assert not publisher.is_alive and sim.cluster.running() == [reader]
        await sim.cluster.start(publisher, met=[reader])
        assert publisher.host.address == address
        sim.publish_more(publisher, 2)
        while (held := reader.running.peer.store.held_head(publisher.dataset)) is None or held.sequence < 2:
            await sim.sleep(0.1)
        assert await sim.ask(reader, publisher) is not None
        await sim.cluster.stop(publisher)

    assert broken(play(main, on=PROCESSES)) == []
    assert processes_in(homes) == []


def test_a_process_that_ends_by_itself_is_noticed(homes: Path) -> None:
    async def main(sim: Simulation) -> None:
        publisher = await sim.publish(5)
        sim.cluster.processes[publisher.name].kill()  # type: ignore[attr-defined]
        await publisher.gone.wait()

    assert any("nothing crashed" in text and "ended by itself" in text for text in broken(play(main, on=PROCESSES)))


def test_a_scenario_that_fails_leaves_nothing_behind(homes: Path) -> None:
    async def main(sim: Simulation) -> None:
        await sim.publish(5)
        raise KeyError("planted")

    with pytest.raises(KeyError, match="planted"):
        play(main, on=PROCESSES)
    assert processes_in(homes) == [] and list(homes.iterdir()) == []


def loses_power(sim: Simulation) -> Awaitable[Any]:
    async def act() -> None:
        await sim.cluster.kill(await sim.publish(1), power=True)

    return act()


def is_cut_off(sim: Simulation) -> Awaitable[Any]:
    async def act() -> None:
        sim.network.cut([])

    return act()


@pytest.mark.parametrize(
    ("what", "act"),
    [
        ("a slow disk", lambda sim: sim.peer("slow", speed=Speed(1.0))),
        ("a withholder", lambda sim: sim.peer("liar", strategy=Withholder(sim.chance))),
        ("cannot be dialled", lambda sim: sim.peer("home", place=sim.place(is_dialable=False))),
        ("cutting the network", is_cut_off),
        ("a loss of power", loses_power),
    ],
)
def test_what_no_real_process_can_be_made_to_do_is_refused(what: str, act: Act, homes: Path) -> None:
    async def main(sim: Simulation) -> None:
        await act(sim)

    with pytest.raises(UsageError, match=what):
        play(main, on=PROCESSES)
    assert processes_in(homes) == []


def test_weather_is_refused() -> None:
    async def main(sim: Simulation) -> None:
        raise AssertionError

    with pytest.raises(UsageError, match="weather"):
        run(Scenario("test", "", main, 1, 1.0, Weather(loss=0.1), {}), 1, on=PROCESSES)
