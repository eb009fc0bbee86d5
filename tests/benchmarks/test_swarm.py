"""What the benchmarks of the swarm do, in small: real processes, real connections."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks import hostile, kills, providers, soak


@pytest.mark.slow
def test_hostile_peers_keep_nobody_out(tmp_path: Path) -> None:
    found = hostile.run(tmp_path, attackers=18, askers=4, seconds=5.0)
    assert not found["beside"].problems and len(found["beside"].seconds) > 4
    assert found["peak"] < hostile.BOUNDS["memory"] and not found["said"]


@pytest.mark.slow
async def test_visitors_leave_nothing_behind(tmp_path: Path) -> None:
    assert await soak.run(tmp_path, minutes=0.2, per_minute=60, fillings=8) == []


@pytest.mark.slow
def test_a_sync_survives_kills_of_either_side(tmp_path: Path) -> None:
    found = kills.run(tmp_path, posts=3000, kills=6, seed=0)
    assert found.kills.total() >= 6 and found.twice <= kills.TWICE_MAX


@pytest.mark.slow
def test_bad_providers_bring_no_wrong_byte(tmp_path: Path) -> None:
    """How long it takes is for a quiet machine to say."""
    found = providers.run(tmp_path, posts=2000, bytes_per_second=400_000)
    assert found.keys() == providers.CASES.keys()
