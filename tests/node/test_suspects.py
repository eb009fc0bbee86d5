"""Machines that misbehaved: whatever they do, they come in so often and no more, and nobody else waits for them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhizome_index.limits import (
    HANDSHAKE_TIMEOUT_SECONDS,
    SUSPECT_HANDSHAKES_PER_SECOND,
    SUSPECT_HANDSHAKES_WAITING,
    SUSPECT_SECONDS,
    SUSPECTS_MAX,
)
from rhizome_index.node.suspects import Suspects

INTERVAL_SECONDS = 1 / SUSPECT_HANDSHAKES_PER_SECOND


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(0, 20))))
def test_all_suspects_together_begin_evenly_spaced_and_wait_no_longer_than_a_handshake(
    arrivals: list[tuple[float, int]],
) -> None:
    suspects = Suspects()
    now, turns = 0.0, []
    for number in range(21):
        suspects.note(str(number), now)
    for pause, number in arrivals:
        now += pause
        suspects.note(str(number), now)
        delay = suspects.admit(str(number), 0, now)
        if delay is None:
            assert turns[-1] + INTERVAL_SECONDS - now >= HANDSHAKE_TIMEOUT_SECONDS - 1e-9
        else:
            assert 0 <= delay < HANDSHAKE_TIMEOUT_SECONDS
            turns.append(now + delay)
        assert suspects.admit("another", 100, now) == 0
    assert all(later - earlier >= INTERVAL_SECONDS - 1e-9 for earlier, later in pairwise(turns))


def test_one_suspect_leaves_turns_to_the_others() -> None:
    suspects = Suspects()
    suspects.note("bad", 0.0)
    assert suspects.admit("bad", SUSPECT_HANDSHAKES_WAITING - 1, 0.0) == 0
    assert suspects.admit("bad", SUSPECT_HANDSHAKES_WAITING, 0.0) is None
    assert suspects.admit("bad", 0, 0.0) == INTERVAL_SECONDS  # who was turned away took no turn


def test_who_behaves_for_a_while_is_no_suspect() -> None:
    suspects = Suspects()
    suspects.note("once", 0.0)
    suspects.note("again", 0.0)
    suspects.note("again", 1.0)
    for number in range(30):
        suspects.admit("once", 0, SUSPECT_SECONDS - number / 100)
    assert suspects.admit("once", 0, SUSPECT_SECONDS) == 0
    assert suspects.admit("again", 0, SUSPECT_SECONDS) != 0
    assert suspects.admit("again", 0, SUSPECT_SECONDS + 1) == 0


def test_so_many_are_remembered_and_the_oldest_is_forgotten() -> None:
    suspects = Suspects()
    for number in range(SUSPECTS_MAX):
        suspects.note(str(number), 0.0)
    suspects.note("0", 1.0)  # known already: nobody has to go
    suspects.admit("0", 0, 1.0)
    suspects.note("new", 1.0)
    assert suspects.admit("1", 0, 1.0) == 0
    assert suspects.admit("2", 0, 1.0) == pytest.approx(INTERVAL_SECONDS)
    assert suspects.admit("0", 0, 1.0) == pytest.approx(2 * INTERVAL_SECONDS)
