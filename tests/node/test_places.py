"""Places for answers: who reads slowly makes room for who has fewer, and nobody waits for long."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from rhizome_index.limits import HELD_UP_SECONDS, TURN_TIMEOUT_SECONDS
from rhizome_index.node.places import Place, Places


class Answers:
    """Answers that take so many places. `ended` are those that had to make room, by their names."""

    def __init__(self, count: int, nursery: trio.Nursery) -> None:
        self.places = Places(count)
        self.ended: list[str] = []
        self.refused: list[str] = []
        self._goes_on = trio.Event()
        self._nursery = nursery

    async def begin(self, peer: str, *, held_up: bool = False, times: int = 1) -> None:
        """Answer a peer, for ever; `held_up` by it."""
        for _ in range(times):
            self._nursery.start_soon(self._answer, peer, held_up)
            await wait_all_tasks_blocked()

    async def _answer(self, peer: str, held_up: bool) -> None:
        place = await self.places.take(peer)
        if place is None:
            self.refused.append(peer)
            return
        try:
            with place.scope:
                await self._stay(place, held_up)
        finally:
            self.places.leave(place)
        self.ended.append(peer)

    async def _stay(self, place: Place, held_up: bool) -> None:
        if held_up:
            with place.held_up():
                await trio.sleep_forever()
        await trio.sleep_forever()

    def held_by(self) -> str:
        return "".join(sorted(place.peer_id for place in self.places.held))


@pytest.fixture
def answers(nursery: trio.Nursery) -> Answers:
    return Answers(4, nursery)


async def test_there_are_so_many(answers: Answers, autojump_clock: MockClock) -> None:
    await answers.begin("a", times=2)
    await answers.begin("b", times=2)
    await answers.begin("c")
    assert answers.held_by() == "aabb"
    await trio.sleep(TURN_TIMEOUT_SECONDS * 0.99)
    assert answers.refused == []
    await trio.sleep(TURN_TIMEOUT_SECONDS * 0.02)
    assert answers.refused == ["c"] and answers.ended == []
    for place in list(answers.places.held):
        place.scope.cancel()
    await wait_all_tasks_blocked()
    await answers.begin("c", times=4)
    assert answers.held_by() == "cccc"


async def test_who_has_most_loses_what_waited_longest(answers: Answers, autojump_clock: MockClock) -> None:
    await answers.begin("a", held_up=True)
    await trio.sleep(1)
    await answers.begin("b")
    await answers.begin("b", held_up=True)
    oldest = next(place for place in answers.places.held if place.peer_id == "b" and place.held_up_at)
    await trio.sleep(1)
    await answers.begin("b", held_up=True)
    await trio.sleep(HELD_UP_SECONDS)
    await answers.begin("c")
    assert answers.held_by() == "abbc" and oldest.scope.cancelled_caught
    await answers.begin("d")
    assert answers.held_by() == "abcd"  # the other one of b, who had most again
    await answers.begin("e")
    assert answers.held_by() == "bcde"  # all have one: the longest
    await answers.begin("f")
    assert answers.held_by() == "bcde"  # b is answered, and so are those who came
    assert answers.refused == []


async def test_those_who_come_together_each_find_one_who_makes_room(
    answers: Answers, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    await answers.begin("a", held_up=True, times=4)
    await trio.sleep(1)
    for peer in "bc":
        nursery.start_soon(answers.begin, peer)
    await wait_all_tasks_blocked()
    assert answers.held_by() == "aabc"


async def test_a_moment_is_not_too_long(answers: Answers, autojump_clock: MockClock) -> None:
    await answers.begin("a", held_up=True, times=4)
    await answers.begin("b")
    await trio.sleep(HELD_UP_SECONDS * 0.99)
    assert answers.held_by() == "aaaa"
    await trio.sleep(HELD_UP_SECONDS * 1.02)
    assert answers.held_by() == "aaab" and answers.ended == ["a"]


async def test_slow_readers_take_none_from_one_another(answers: Answers, autojump_clock: MockClock) -> None:
    await answers.begin("a", held_up=True, times=2)
    await answers.begin("b", held_up=True, times=2)
    await trio.sleep(1)
    await answers.begin("a")
    await trio.sleep(2 * TURN_TIMEOUT_SECONDS)
    assert answers.held_by() == "aabb" and answers.ended == [] and answers.refused == ["a"]


async def test_a_greedy_one_makes_room_for_another(answers: Answers, autojump_clock: MockClock) -> None:
    await answers.begin("a", held_up=True, times=3)
    await answers.begin("b")
    await trio.sleep(1)
    await answers.begin("b")
    assert answers.held_by() == "aabb"


async def test_of_those_who_wait_who_has_fewest_is_next(answers: Answers, autojump_clock: MockClock) -> None:
    await answers.begin("a", times=3)
    await answers.begin("b")
    for peer in "abcd":
        await answers.begin(peer)
    for expected in ("aabc", "abcd", "abcd"):
        next(place for place in answers.places.held if place.peer_id == "a").scope.cancel()
        await wait_all_tasks_blocked()
        assert answers.held_by() == expected


async def test_who_gives_up_waiting_leaves_nothing_behind(autojump_clock: MockClock) -> None:
    places = Places(1)
    place = await places.take("a")
    assert place is not None
    for is_late in (False, True):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(places.take, "b")
                await wait_all_tasks_blocked()
                scope.cancel()
                if is_late:
                    places.leave(place)  # it becomes b's, who does not want it any more
        assert not places._queue and len(places.held) == 1 - is_late
