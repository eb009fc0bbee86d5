"""Allowances: never more than gathers, and all of it to be had."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rhizome_index.wire.allowance import Allowance

PAUSES = st.lists(st.floats(0, 10), min_size=1, max_size=200)


@given(PAUSES, st.integers(1, 20), st.integers(1, 20))
def test_nobody_gets_more_than_that(pauses: list[float], per_second: int, at_once: int) -> None:
    allowance = Allowance(per_second, at_once)
    spent, now = 0, 100.0
    for pause in pauses:
        now += pause
        spent += allowance.spend(1, now)
    assert spent <= at_once + per_second * sum(pauses[1:]) + 1e-6


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 5))
def test_all_of_it_is_to_be_had(per_second: int, at_once: int, seconds: int) -> None:
    allowance = Allowance(per_second, at_once)
    assert [allowance.spend(1, 0.0) for _ in range(at_once + 1)] == [True] * at_once + [False]
    after = [allowance.spend(1, float(seconds)) for _ in range(seconds * per_second + 1)]
    assert sum(after) == min(at_once, seconds * per_second)


def test_what_is_owed_is_made_good_in_time() -> None:
    allowance = Allowance(10, 100)
    assert allowance.owe(100, 0.0) == 0
    assert allowance.owe(5, 0.0) == 0.5
    assert allowance.owe(5, 1.0) == 0
    assert not allowance.spend(1, 1.0) and allowance.spend(1, 1.1)
