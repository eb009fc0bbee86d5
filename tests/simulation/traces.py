"""Print the trace of every scenario, each made small: run by tests in processes of their own.

With "backwards" as an argument in the other order, so that what ran before cannot matter unnoticed. One scenario more
depends on the order in which Python has texts in sets: its trace must be another under another hash seed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace

from rhizome_index.simulation.network import Weather
from rhizome_index.simulation.scenario import Scenario, Simulation, known, load, run

UNORDERED = "in no order"
_SMALL = {"posts": 10, "asks": 1, "sybils": 2, "readers": 1}


async def _unordered(sim: Simulation) -> None:
    for name in {str(number) for number in range(100)}:
        sim.world.trace.note("name", name)


def scenarios() -> Iterator[Scenario]:
    """All of them, with few peers and little to do."""
    for name in known():
        chosen = load(name)
        values = {key: min(value, _SMALL.get(key, value)) for key, value in chosen.values.items()}
        yield replace(chosen, peers=min(chosen.peers, 3), minutes=min(chosen.minutes, 0.3), values=values)
    yield Scenario(UNORDERED, "", _unordered, 1, 1, Weather(), {})


if __name__ == "__main__":
    order = -1 if "backwards" in sys.argv else 1
    print(json.dumps({chosen.name: run(chosen, 7).trace for chosen in list(scenarios())[::order]}))
