"""Every scenario keeps its promises, and one seed is one run in any process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from rhizome_index.simulation.scenario import known
from tests.simulation.traces import UNORDERED

SMALL = {"cold_start": ["--peers", "5"]}


@pytest.fixture(scope="module")
def traces() -> tuple[dict[str, str], dict[str, str]]:
    """The traces of all scenarios, from two processes with different hash seeds, one of which runs them backwards."""
    commands = (
        (["-m", "tests.simulation.traces"], "1"),
        (["-m", "tests.simulation.traces", "backwards"], "2"),
    )
    running = [
        subprocess.Popen(
            [sys.executable, *words], env=os.environ | {"PYTHONHASHSEED": hash_seed}, stdout=subprocess.PIPE, text=True
        )
        for words, hash_seed in commands
    ]
    one, other = (json.loads(process.communicate()[0]) for process in running)
    return one, other


@pytest.mark.parametrize("name", known())
def test_one_seed_is_one_trace(name: str, traces: tuple[dict[str, str], dict[str, str]]) -> None:
    one, other = traces
    assert one[name] == other[name]


def test_a_trace_shows_what_depends_on_the_process(traces: tuple[dict[str, str], dict[str, str]]) -> None:
    one, other = traces
    assert one[UNORDERED] != other[UNORDERED] and len(set(one.values())) == len(one)


def simulate(name: str, hash_seed: int, *more: str) -> dict[str, Any]:
    """A report of a process of its own; scenarios that break a promise exit with 4."""
    command = [sys.executable, "-m", "rhizome_index.cli", "simulate", name, "--json", *more]
    environment = os.environ | {"PYTHONHASHSEED": str(hash_seed)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 4), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    del found["real_seconds"]
    assert found["holds"] == (done.returncode == 0)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", known())
def test_one_seed_is_one_run_in_any_process(name: str) -> None:
    one, other = (simulate(name, hash_seed, "--seed", "3", *SMALL.get(name, ())) for hash_seed in (1, 2))
    assert one == other
    assert one["holds"], one["verdicts"]
    third = simulate(name, 1, "--seed", "4", *SMALL.get(name, ()))
    assert third["trace"] != one["trace"]
