"""However many of those who serve lie: no wrong row is accepted, and whoever asks is answered."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rhizome_index.simulation.scenario import load, run
from tests.simulation.play import broken

SEEDS = range(1, 9)


@pytest.mark.slow
@pytest.mark.parametrize(("lying", "answered_least"), [(20, 0.99), (50, 0.99), (80, 0.90)])
def test_the_more_lie_the_less_it_matters(lying: int, answered_least: float) -> None:
    """Answers are checked one by one by the checkers that watch every run; of several runs there must be many."""
    chosen = load("liars")
    chosen = replace(chosen, values={**chosen.values, "lying": lying, "posts": 40, "readers": 4})
    answered = asked = lies = 0
    for seed in SEEDS:
        report = run(chosen, seed)
        assert [problem for problem in broken(report) if "is answered" not in problem] == []
        answered += report.answered
        asked += report.answered + report.unanswered
        lies += report.measured["lies"]
    assert asked >= 100 and lies >= 100 and answered >= answered_least * asked, f"{answered} of {asked}, {lies} lies"
