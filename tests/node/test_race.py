"""Asking one peer after another: silence costs a moment, failure none, and who answers is not asked twice."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from rhizome_index.errors import UnavailableError
from rhizome_index.limits import FETCH_LATE_SECONDS
from rhizome_index.node.race import Race


async def play(peers: dict[str, float | None], heard_every: float | None = None) -> tuple[object, list[str], float]:
    """The answer, who was asked, and how long it took. A peer's number: when it answers; None: it fails at once."""
    race: Race[str] = Race()
    asked = []

    async def ask(peer: str) -> str:
        asked.append(peer)
        seconds = peers[peer]
        if seconds is None:
            raise UnavailableError(peer)
        if heard_every is not None:
            while seconds > heard_every:
                await trio.sleep(heard_every)
                race.note_heard()
                seconds -= heard_every
        await trio.sleep(seconds)
        return peer.upper()

    started = trio.current_time()
    found = await race.run(list(peers), ask)
    assert set(race.problems) == {peer for peer in asked if peers[peer] is None}
    return found, asked, trio.current_time() - started


async def test_a_quick_answer_is_the_only_one(autojump_clock: MockClock) -> None:
    assert await play({"a": 0.5, "b": 0.1}) == (("A", "a"), ["a"], 0.5)


async def test_failure_costs_nothing(autojump_clock: MockClock) -> None:
    assert await play({"a": None, "b": None, "c": 0.5, "d": 0.1}) == (("C", "c"), ["a", "b", "c"], 0.5)


async def test_silence_costs_a_moment_each(autojump_clock: MockClock) -> None:
    found, asked, seconds = await play({"a": 1000, "b": 1000, "c": 1000, "d": 0.25, "e": 0.1})
    assert (found, asked, seconds) == (("D", "d"), ["a", "b", "c", "d"], 3 * FETCH_LATE_SECONDS + 0.25)


async def test_the_silent_may_still_win(autojump_clock: MockClock) -> None:
    assert (await play({"a": 1.5 * FETCH_LATE_SECONDS, "b": 1000}))[:2] == (("A", "a"), ["a", "b"])


async def test_nobody_else_is_asked_while_one_answers(autojump_clock: MockClock) -> None:
    assert (await play({"a": 20, "b": 1}, heard_every=FETCH_LATE_SECONDS / 2))[:2] == (("A", "a"), ["a"])


async def test_nobody_has_it(autojump_clock: MockClock) -> None:
    assert await play({"a": None, "b": None}) == (None, ["a", "b"], 0)
    assert await play({}) == (None, [], 0)
