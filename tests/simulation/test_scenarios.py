"""Every scenario keeps its promises, and one seed is one run in any process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from rhizome_index.simulation.scenario import known

SMALL = {"cold_start": ["--peers", "5"]}


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
