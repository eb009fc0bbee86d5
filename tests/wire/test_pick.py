"""The lottery of peers: good ones often, others now and then, newcomers at once, failures less and less."""

from __future__ import annotations

import random
from collections import Counter

from rhizome_index.limits import PEERS_COUNTED_MAX
from rhizome_index.wire.pick import Picker


def first_of(picker: Picker, peers: str, now: float = 0.0, draws: int = 2000) -> Counter[str]:
    return Counter(picker.order(peers, now)[0] for _ in range(draws))


def a_picker(**latencies: float) -> Picker:
    picker = Picker(random.Random(1).random)
    for peer, seconds in latencies.items():
        picker.note_success(peer, seconds, 0, seconds)
    return picker


def test_every_peer_comes_once() -> None:
    picker = a_picker(a=0.1)
    assert sorted(picker.order("abca", 0.0)) == ["a", "b", "c"]
    assert picker.order("", 0.0) == []


def test_strangers_are_drawn_evenly() -> None:
    drawn = first_of(a_picker(), "abcd")
    assert set(drawn) == set("abcd") and max(drawn.values()) < 1.3 * min(drawn.values())


def test_the_quick_are_drawn_more_often_but_not_always() -> None:
    drawn = first_of(a_picker(a=0.01, b=0.03), "ab")
    assert 2 < drawn["a"] / drawn["b"] < 4


def test_a_newcomer_serves_at_once() -> None:
    drawn = first_of(a_picker(a=0.01, b=0.02, c=0.04), "abcd")
    assert drawn["d"] > drawn["c"] > 0


def test_bandwidth_counts() -> None:
    picker = a_picker(a=0.01, b=0.01)
    picker.note_success("a", 0.01, 1_000_000, 0.01)
    picker.note_success("b", 10.0, 1_000_000, 0.01)
    drawn = first_of(picker, "ab")
    assert drawn["a"] > 10 * drawn["b"] > 0


def test_failures_make_rare_and_are_forgotten() -> None:
    picker = a_picker(a=0.01, b=0.01)
    for _ in range(3):
        picker.note_failure("a", now=100.0)
    assert first_of(picker, "ab", now=100.0)["a"] < 60
    assert 700 < first_of(picker, "ab", now=2000.0)["a"] < 1300


def test_the_same_chance_gives_the_same_order() -> None:
    assert a_picker(a=0.1).order("abcdef", 0.0) == a_picker(a=0.1).order("abcdef", 0.0)


def test_memory_is_bounded() -> None:
    picker = a_picker()
    for number in range(PEERS_COUNTED_MAX + 1):
        picker.note_failure(str(number), 0.0)
    assert len(picker._peers) == PEERS_COUNTED_MAX


DRAWS = 2000


def drawn_first(picker: Picker, *names: str, now: float = 0.0) -> dict[str, float]:
    """How often each comes first, as a part of all draws."""
    counts = Counter(picker.order(names, now)[0] for _ in range(DRAWS))
    return {name: counts[name] / DRAWS for name in names}


def test_a_near_peer_that_takes_its_time_for_small_answers_is_drawn_less() -> None:
    picker = Picker(random.Random(1).random)
    for _ in range(8):
        picker.note_success("slow", 0.9, 2000, latency_seconds=0.01)
        picker.note_success("quick", 0.1, 2000, latency_seconds=0.09)
    assert drawn_first(picker, "slow", "quick")["slow"] < 0.2


def test_cheap_talk_makes_up_for_no_failure() -> None:
    talker, worker = Picker(random.Random(1).random), Picker(random.Random(1).random)
    for picker in (talker, worker):
        picker.note_failure("a", 0.0)
        picker.note_failure("a", 0.0)
    for _ in range(10):
        talker.note_success("a", 0.1, 100, None, forgives=False)
        worker.note_success("a", 0.1, 100, None)
        for picker in (talker, worker):
            picker.note_success("b", 0.1, 100, None)
    assert drawn_first(talker, "a", "b")["a"] < 0.15 < 0.4 < drawn_first(worker, "a", "b")["a"]
