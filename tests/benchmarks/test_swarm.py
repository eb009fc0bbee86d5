"""What the benchmarks of the swarm do, in small: real processes, real connections."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks import hostile, soak


@pytest.mark.slow
def test_hostile_peers_keep_nobody_out(tmp_path: Path) -> None:
    found = hostile.run(tmp_path, attackers=18, askers=4, seconds=5.0)
    assert not found["beside"].problems and len(found["beside"].seconds) > 4
    assert found["peak"] < hostile.BOUNDS["memory"] and not found["said"]


@pytest.mark.slow
async def test_visitors_leave_nothing_behind(tmp_path: Path) -> None:
    assert await soak.run(tmp_path, minutes=0.2, per_minute=60, fillings=8) == []
