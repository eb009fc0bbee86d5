"""Experiments: the smallest run of each, and what they compare with does what it says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhizome_index.errors import IntegrityError
from rhizome_index.index.head import Identity
from rhizome_index.simulation.workload import Posts
from simulations.experiments import growth, log, newcomer, propagation

IDENTITY = Identity(bytes(32))


def without_times(found: dict[str, Any]) -> dict[str, Any]:
    """A run without what depends on the machine."""
    return {
        name: without_times(value) if isinstance(value, dict) else value
        for name, value in found.items()
        if name != "process_seconds"
    }


def test_heads_reach_followers_that_come_and_go() -> None:
    found = propagation.measure({"peers": 3, "life_seconds": 60.0, "heads": 1, "seed": 1})
    assert found["broken"] == [] and found["bytes"] > 0
    (head,) = found["heads"]
    assert 0 < head["live"] <= 2
    reached = list(head["reached"].values())
    assert reached == sorted(reached) and reached[0] > 0


def test_newcomers_ask_in_a_small_swarm() -> None:
    cell = {"peers": 4, "records": 30, "holders": growth.HALF, "newcomers": 4, "seed": 1}
    found = growth.measure(cell)
    assert [one["question"] for one in found["asked"]] == [0, 1, 2, 3]
    assert all(one["bytes"] > 0 and one["round_trips"] > 0 for one in found["asked"])
    assert without_times(growth.measure(cell)) == without_times(found)


@pytest.mark.parametrize("authors", [1, 3])
def test_a_newcomer_comes_to_the_right_answer_in_every_way(authors: int) -> None:
    cell = {"authors": authors, "posts": 100, "seed": 1}
    found = newcomer.measure(cell)
    assert all(found[way]["bytes"] > 0 and found[way]["seconds"] > 0 for way in newcomer.METHODS)
    assert found["log"]["entries"] == found["operations"] + authors
    assert without_times(newcomer.measure(cell)) == without_times(found)


numbers = st.floats(-100, 100)


@given(numbers, numbers, st.lists(st.integers(0, 20), min_size=2, unique=True))
def test_a_line_is_fitted_to_itself(a: float, b: float, powers: list[int]) -> None:
    found = growth.fit([2.0**power for power in powers], [a + b * power for power in powers])
    assert (found["a"], found["b"]) == (pytest.approx(a, abs=1e-6), pytest.approx(b, abs=1e-6))
    assert all(abs(left) < 1e-6 for left in found["residuals"].values())


def a_log(seed: int) -> tuple[bytes, Posts]:
    posts = Posts(30, seed)
    return b"".join(log.written(IDENTITY, newcomer.history(posts, 30))), posts


@given(st.integers(0, 100), st.lists(st.integers(1, 5000), max_size=10))
def test_a_log_that_is_played_gives_what_was_published(seed: int, sizes: list[int]) -> None:
    data, posts = a_log(seed)
    replay, at = log.Replay(), 0
    for size in [*sizes, len(data)]:
        replay.feed(data[at : at + size])
        at += size
    assert replay.records[IDENTITY.public_key] == posts.published


@given(st.data())
def test_a_log_that_was_tampered_with_is_refused(choose: st.DataObject) -> None:
    entries = list(log.written(IDENTITY, newcomer.history(Posts(300, 1), 5)))
    place = choose.draw(st.integers(0, len(entries) - 1))
    at = choose.draw(st.integers(4, len(entries[place]) - 1))
    entries[place] = entries[place][:at] + bytes([entries[place][at] ^ 1]) + entries[place][at + 1 :]
    with pytest.raises(IntegrityError):
        log.Replay().feed(b"".join(entries))
