"""Every scenario, made small, at very many seeds: no promise is ever broken.

Several at the same time, in processes of their own. To go on where this ends, or to see one of them again:

    python -m tests.simulation.test_seeds 201 400 [NAME...]
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import pytest

from rhizome_index.simulation.scenario import Scenario, Value, known, load, run
from tests.simulation.play import broken

SEEDS = range(1, 201)
_PEERS, _MINUTES = 4, 0.4
_LITTLE: dict[str, Value] = {"posts": 20, "asks": 2, "sybils": 2, "readers": 2}  # at most
_SMALL: dict[str, dict[str, Value]] = {  # where that would show nothing
    "heavy_churn": {"life_seconds": 8, "pause_seconds": 3, "every_seconds": 3},
    "living_swarm": {"life_seconds": 15, "pause_seconds": 4, "asks_seconds": 5, "every_seconds": 4},
    "partition_and_heal": {"every_seconds": 4},
    "liars": {"asks": 1},
    "flash_crowd": {"share_max": 0.6},  # of eight, one is an eighth anyway
}
_MINUTES_OTHER = {"equivocation": 1.5}  # evidence goes from peer to peer with the pulls
_PEERS_OTHER = {"flash_crowd": 8, "eclipse": 3, "liars": 3}


def small(name: str) -> Scenario:
    """A scenario with few peers and little to do."""
    chosen = load(name)
    values = {key: min(value, _LITTLE.get(key, value)) for key, value in chosen.values.items()}
    peers = min(chosen.peers, _PEERS_OTHER.get(name, _PEERS))
    return replace(
        chosen,
        peers=peers,
        minutes=min(chosen.minutes, _MINUTES_OTHER.get(name, _MINUTES)),
        values={**values, **_SMALL.get(name, {})},
    )


def problems_at(name: str, seed: int) -> list[str]:
    """The promises that a scenario breaks at a seed."""
    return [f"{name} at seed {seed}: {problem}" for problem in broken(run(small(name), seed))]


def problems(executor: Executor, name: str, seeds: Iterable[int]) -> Iterator[str]:
    """The promises that it breaks at any of these."""
    for future in [executor.submit(problems_at, name, seed) for seed in seeds]:
        yield from future.result()


def workers() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn"))


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with workers() as found:
        yield found


@pytest.mark.slow
@pytest.mark.parametrize("name", known())
def test_no_promise_is_broken_at_many_seeds(name: str, executor: Executor) -> None:
    assert list(problems(executor, name, SEEDS)) == []


if __name__ == "__main__":
    first, last, *names = sys.argv[1:]
    with workers() as pool:
        for one in names or known():
            for problem in problems(pool, one, range(int(first), int(last) + 1)):
                print(problem, flush=True)
            print("done:", one, flush=True)
