"""The gap rule against its own definition, in whole levels and in windows of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhizome_index.errors import UsageError
from rhizome_index.limits import MAX_WEIGHT_DEFAULT, MAX_WEIGHT_RANGE, SALT_BYTES_MAX
from rhizome_index.tree.boundary import Rule, find_cuts

MAX = 50
levels = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 29)), max_size=60)


def by_definition(priorities: list[bytes], weights: list[int]) -> list[int]:
    """While a run weighs more than MAX and has two items or more, cut it at its lowest-priority gap."""
    cuts: list[int] = []

    def cut(start: int, end: int) -> None:
        if end - start < 2 or sum(weights[start:end]) <= MAX:
            return
        gap = min(range(start + 1, end), key=lambda place: (priorities[place], place))
        cuts.append(gap)
        cut(start, gap)
        cut(gap, end)

    cut(0, len(priorities))
    return sorted(cuts)


def test_a_rule_at_its_limits_and_one_past_each() -> None:
    low, high = MAX_WEIGHT_RANGE
    assert low < Rule(b"").max_weight == MAX_WEIGHT_DEFAULT < high
    for weight in (low, high):
        assert Rule(bytes(SALT_BYTES_MAX), weight).max_weight == weight
    for salt, weight in ((0, low - 1), (0, high + 1), (SALT_BYTES_MAX + 1, low)):
        with pytest.raises(UsageError, match="a cutting rule needs"):
            Rule(bytes(salt), weight)


@given(levels)
def test_cuts_are_those_of_the_definition(level: list[tuple[int, int]]) -> None:
    priorities = [bytes([priority]) for priority, _ in level]
    weights = [weight for _, weight in level]
    assert find_cuts(priorities, weights, MAX, before=False).positions == by_definition(priorities, weights)


@given(levels, st.data())
def test_a_window_between_standing_cuts_is_cut_as_the_whole_is(
    level: list[tuple[int, int]], data: st.DataObject
) -> None:
    priorities = [bytes([priority]) for priority, _ in level]
    weights = [weight for _, weight in level]
    whole = by_definition(priorities, weights)
    start = data.draw(st.sampled_from([0, *whole]))
    end = data.draw(st.sampled_from([cut for cut in [*whole, len(level)] if cut >= start]))
    after = priorities[end] if end < len(level) else None
    found = find_cuts(priorities[start:end], weights[start:end], MAX, before=start > 0, after=after)
    assert [cut + start for cut in found.positions] == [cut for cut in whole if start < cut < end]


@given(levels, st.data())
def test_what_is_decided_early_stays(level: list[tuple[int, int]], data: st.DataObject) -> None:
    priorities = [bytes([priority]) for priority, _ in level]
    weights = [weight for _, weight in level]
    whole = by_definition(priorities, weights)
    end = data.draw(st.integers(0, len(level)))
    found = find_cuts(priorities[:end], weights[:end], MAX, before=False, at_end=False)
    decided = [cut for cut in found.positions if cut < found.undecided_from]
    assert decided == [cut for cut in whole if cut < min(found.undecided_from, end)]
