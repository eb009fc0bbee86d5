"""How strong the checkers are: bugs planted in the node are found, at the seeds that found them before."""

from __future__ import annotations

import pytest

from tests.simulation.planted import BUGS, SEEDS, caught

HANDFUL = ("signatures_of_heads_are_not_checked", "writes_are_not_synced", "a_follower_gives_up")


def test_every_planted_bug_has_been_caught() -> None:
    assert caught().keys() == BUGS.keys() and all(seed in SEEDS for seed in caught().values())


@pytest.mark.parametrize("name", HANDFUL)
def test_a_handful_of_planted_bugs(name: str) -> None:
    assert BUGS[name].is_caught(caught()[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug(name: str) -> None:
    """Without it nothing is broken at the same seed."""
    assert BUGS[name].breaks(caught()[name], planted=False) == []
    assert BUGS[name].is_caught(caught()[name])
