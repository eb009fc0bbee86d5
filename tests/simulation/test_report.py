"""Figures of reports."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhizome_index.simulation.report import gini, lorenz, percentiles

loads = st.lists(st.integers(0, 10**9), min_size=1, max_size=50)


def test_percentiles_are_values_by_nearest_rank() -> None:
    assert percentiles(range(1, 101)) == {"p50": 50, "p90": 90, "p99": 99, "p100": 100}
    assert percentiles([3.0]) == {"p50": 3.0, "p90": 3.0, "p99": 3.0, "p100": 3.0}
    assert percentiles([]) == {}


def test_gini_of_known_distributions() -> None:
    assert gini([5, 5, 5, 5]) == pytest.approx(0)
    assert gini([0, 0, 0, 9]) == pytest.approx(0.75)
    assert gini([1, 2, 3, 4]) == pytest.approx(0.25)
    assert gini([0, 0]) == gini([]) == 0


@given(loads, st.integers(2, 5))
def test_gini_knows_neither_order_nor_unit(values: list[int], factor: int) -> None:
    assert -1e-9 <= gini(values) < 1
    assert gini(values) == pytest.approx(gini([factor * value for value in reversed(values)]))


@given(loads)
def test_a_lorenz_curve_rises_from_nothing_to_all_below_the_diagonal(values: list[int]) -> None:
    points = lorenz(values)
    if not sum(values):
        assert points == []
        return
    assert points[0] == 0 and points[-1] == 1 and points == sorted(points)
    assert all(part <= place / 20 + 1e-3 for place, part in enumerate(points))
