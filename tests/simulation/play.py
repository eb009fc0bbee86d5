"""Play a scenario that a test has written."""

from __future__ import annotations

from rhizome_index.simulation.backends import SIMULATED
from rhizome_index.simulation.network import Weather
from rhizome_index.simulation.report import Report
from rhizome_index.simulation.scenario import Main, Scenario, Value, run


def play(
    main: Main, seed: int = 1, *, peers: int = 4, minutes: float = 1.0, on: str = SIMULATED, **values: Value
) -> Report:
    """What it has shown."""
    return run(Scenario("test", "", main, peers, minutes, Weather(), values), seed, on=on)


def broken(report: Report) -> list[str]:
    """The promises that were not kept, with what was wrong."""
    return [f"{verdict.promise}: {verdict.problem}" for verdict in report.verdicts if not verdict.holds]
