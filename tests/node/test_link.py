"""Asking over kept streams: nothing grows, nobody waits for a peer that stalls, everybody for one that is slow."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from rhizome_index.blocks import cbor
from rhizome_index.errors import IntegrityError, RemoteError, UnavailableError, UsageError
from rhizome_index.limits import (
    ANSWER_BYTES_PER_SECOND_MIN,
    ANSWER_SECONDS_MAX,
    ANSWER_SILENCE_SECONDS,
    ASK_TIMEOUT_SECONDS,
    BUDGET_COUNTED_MIN,
    FRAME_PAYLOAD_BYTES,
    IN_FLIGHT_BYTES_MAX,
    PROOF_BYTES_MAX,
)
from rhizome_index.node.link import Links, SilentError
from rhizome_index.node.swarm import Stream
from rhizome_index.wire import message as m
from rhizome_index.wire.frame import FrameReader, encode_frame
from rhizome_index.wire.pick import Picker
from tests.node.memory_swarm import MemorySwarm

PROTOCOL = "/rhizome/test/1"
IN_FLIGHT = IN_FLIGHT_BYTES_MAX // PROOF_BYTES_MAX  # requests that say nothing of a budget


class Conversation:
    """Takes any answer."""

    def __init__(self) -> None:
        self.replies: list[m.Reply] = []
        self.is_over = False

    def take(self, reply: m.Reply) -> None:
        self.replies.append(reply)
        self.is_over = isinstance(reply, m.End | m.Failure)


class Other:
    """A peer: notes what it is asked, and answers what `answers` gives for it, or nothing."""

    def __init__(self, answers: Callable[[m.Request], bytes] = lambda request: b"") -> None:
        self.asked: list[int] = []
        self.stream: Stream
        self._answers = answers

    async def answer(self, stream: Stream) -> None:
        self.stream = stream
        frames = FrameReader()
        while data := await stream.receive():
            for body in frames.feed(data):
                request = m.decode_request(body)
                self.asked.append(request.number)
                await stream.send(self._answers(request))


def at_once(request: m.Request) -> bytes:
    return m.encode_end(request.number, {})


def bulky(request: m.Request) -> bytes:
    """As much as an answer may have."""
    blocks = m.BlockPacker(request.number)
    size = FRAME_PAYLOAD_BYTES - 100
    frames = [frame for _ in range(PROOF_BYTES_MAX // size) for frame in blocks.add(bytes(size))]
    return b"".join([*frames, *blocks.flush(), at_once(request)])


def links_to(other: Other, nursery: trio.Nursery) -> tuple[Links, MemorySwarm]:
    swarm = MemorySwarm(nursery, other.answer)
    return Links(swarm, nursery, Picker(lambda: 0.5)), swarm


async def hold(lock: trio.Lock) -> None:
    async with lock:
        await trio.sleep_forever()


async def ask(links: Links, peer: str = "other", **fields: int) -> int:
    return await links.converse(peer, PROTOCOL, fields, Conversation())


class Choking(Conversation):
    """Takes no answer at all."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def take(self, reply: m.Reply) -> None:
        raise self._error


@pytest.mark.parametrize("error", [IntegrityError("no"), UsageError("no")], ids=["integrity", "usage"])
async def test_whatever_is_wrong_with_an_answer_costs_its_peer_and_nobody_else(
    error: Exception, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """The node goes on: `nursery` would be cancelled if anything else were raised while reading."""
    links, swarm = links_to(Other(at_once), nursery)
    with pytest.raises(RemoteError, match="no"):
        await links.converse("other", PROTOCOL, {}, Choking(error))
    assert swarm.disconnected == swarm.blamed == ["other"]
    assert await ask(links, "another") > 0


async def test_an_answer_to_nothing_that_was_asked_costs_the_connection(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    links, swarm = links_to(Other(lambda request: m.encode_end(request.number + 1, {})), nursery)
    with pytest.raises(RemoteError, match="nothing that was asked"):
        await ask(links)
    assert swarm.disconnected == swarm.blamed == ["other"]


# --- nothing grows ---


async def test_peers_leave_nothing_behind(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    links, swarm = links_to(Other(at_once), nursery)
    for number in range(20):
        await ask(links, f"peer {number}")
        await ask(links, f"peer {number}")
    assert len(links._links) == 20 and len(swarm.streams["peer 1"]) == 1
    for number in range(20):
        await links.drop(f"peer {number}")
    with pytest.raises(UnavailableError):
        await ask(links, "peer 1")
    await wait_all_tasks_blocked()
    gc.collect()
    assert not links._links and not links._opening


async def test_no_more_is_asked_at_once_than_a_peer_answers(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    other = Other()
    links, _ = links_to(other, nursery)
    for _ in range(IN_FLIGHT + 2):
        nursery.start_soon(ask, links)
    await wait_all_tasks_blocked()
    assert other.asked == [*range(IN_FLIGHT)]
    await other.stream.send(m.encode_end(3, {}))
    await wait_all_tasks_blocked()
    assert other.asked == [*range(IN_FLIGHT + 1)]
    nursery.cancel_scope.cancel()


async def test_what_was_given_up_counts_until_it_has_ended(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    other = Other()
    links, swarm = links_to(other, nursery)
    nursery.start_soon(ask, links)
    await wait_all_tasks_blocked()
    async with trio.open_nursery() as given_up:
        for _ in range(IN_FLIGHT - 1):
            given_up.start_soon(ask, links)
        await wait_all_tasks_blocked()
        given_up.cancel_scope.cancel()
    nursery.start_soon(ask, links)
    await wait_all_tasks_blocked()
    assert other.asked == [*range(IN_FLIGHT)]
    await other.stream.send(m.encode_failure(4, m.MISSING, ""))
    await wait_all_tasks_blocked()
    assert len(other.asked) == IN_FLIGHT + 1 and len(swarm.streams["other"]) == 1
    nursery.cancel_scope.cancel()


async def test_when_all_is_given_up_the_peer_may_stop(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    other = Other(lambda request: b"" if request.fields else at_once(request))
    links, swarm = links_to(other, nursery)
    for _ in range(3):
        with trio.move_on_after(1):
            await links.converse("other", PROTOCOL, {"silent": True}, Conversation())
        (*_, stream) = swarm.streams["other"]
        await wait_all_tasks_blocked()
        assert stream.is_reset
    with trio.fail_after(1):
        await ask(links)
    assert len(swarm.streams["other"]) == 4 and not swarm.disconnected


async def test_who_waits_for_a_turn_gets_it_on_the_next_stream(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    other = Other()
    links, swarm = links_to(other, nursery)
    async with trio.open_nursery() as given_up:
        for _ in range(IN_FLIGHT):
            given_up.start_soon(ask, links)
        await wait_all_tasks_blocked()
        nursery.start_soon(ask, links)
        await wait_all_tasks_blocked()
        given_up.cancel_scope.cancel()
    await wait_all_tasks_blocked()
    assert len(swarm.streams["other"]) == 2 and other.asked[IN_FLIGHT:] == [0]
    await other.stream.send(m.encode_end(0, {}))


async def test_all_who_wait_for_a_turn_go_on_when_the_peer_ends_the_stream(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    other = Other()
    links, swarm = links_to(other, nursery)
    with pytest.raises(BaseExceptionGroup):
        async with trio.open_nursery() as failing:
            failing.start_soon(ask, links)
            await wait_all_tasks_blocked()
            async with trio.open_nursery() as given_up:
                for _ in range(IN_FLIGHT - 1):
                    given_up.start_soon(ask, links)
                await wait_all_tasks_blocked()
                given_up.cancel_scope.cancel()
            for _ in range(3):
                nursery.start_soon(ask, links)
            await wait_all_tasks_blocked()
            await other.stream.close()
    await wait_all_tasks_blocked()
    assert len(swarm.streams["other"]) == 2 and other.asked[IN_FLIGHT:] == [0, 1, 2]
    nursery.cancel_scope.cancel()


async def test_a_request_that_was_never_sent_is_not_given_up(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    links, _ = links_to(Other(at_once), nursery)
    await ask(links)
    (link,) = links._links.values()
    async with trio.open_nursery() as others:
        others.start_soon(hold, link._sending)
        await wait_all_tasks_blocked()
        for _ in range(IN_FLIGHT):
            with trio.move_on_after(1):
                await ask(links)
        others.cancel_scope.cancel()
    assert not link._given_up and not link._waiting and not link.is_closed
    await ask(links)


async def test_numbers_wrap_around_those_in_use(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    other = Other()
    links, _ = links_to(other, nursery)
    nursery.start_soon(ask, links)
    await wait_all_tasks_blocked()
    (link,) = links._links.values()
    link._next = 2**32 - 1
    nursery.start_soon(ask, links)
    nursery.start_soon(ask, links)
    await wait_all_tasks_blocked()
    assert other.asked == [0, 2**32 - 1, 1]
    nursery.cancel_scope.cancel()


async def test_unfinished_blocks_of_answers_nobody_asked_for_are_bounded(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    def parts(request: m.Request) -> bytes:
        part = bytes(60_000)
        numbers = range(IN_FLIGHT_BYTES_MAX // len(part) + 1)
        return b"".join(encode_frame(cbor.encode([number, "part", part])) for number in numbers)

    links, swarm = links_to(Other(parts), nursery)
    with pytest.raises(RemoteError, match="beyond all budgets"):
        await ask(links)
    assert swarm.disconnected == swarm.blamed == ["other"]


def test_unfinished_blocks_have_so_many_bytes_at_the_limit_and_one_past_it() -> None:
    reader, part = m.ReplyReader(), bytes(2**20)
    for number in range(IN_FLIGHT_BYTES_MAX // len(part)):
        assert reader.read(cbor.encode([number, "part", part])) is None
    with pytest.raises(IntegrityError):
        reader.read(cbor.encode([0, "part", b"x"]))
    reader = m.ReplyReader()
    for _ in range(2 * IN_FLIGHT_BYTES_MAX // len(part)):
        assert reader.read(cbor.encode([7, "part", part])) is None
        assert reader.read(cbor.encode([7, "blocks", [b"c"]])) == m.Blocks(7, (part + b"c",))
    for _ in range(2 * IN_FLIGHT_BYTES_MAX // len(part)):
        assert reader.read(cbor.encode([7, "part", part])) is None
        reader.forget(7)


async def test_small_requests_go_out_together_and_a_large_one_waits(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    other = Other()
    links, _ = links_to(other, nursery)
    for budget in [1] * (IN_FLIGHT_BYTES_MAX // BUDGET_COUNTED_MIN - 1) + [BUDGET_COUNTED_MIN + 1, 0]:
        nursery.start_soon(partial(ask, links, budget=budget))
        await wait_all_tasks_blocked()
    assert len(other.asked) == IN_FLIGHT_BYTES_MAX // BUDGET_COUNTED_MIN
    await other.stream.send(m.encode_end(3, {}))
    await wait_all_tasks_blocked()
    assert len(other.asked) == IN_FLIGHT_BYTES_MAX // BUDGET_COUNTED_MIN
    await other.stream.send(m.encode_end(4, {}))
    await wait_all_tasks_blocked()
    assert len(other.asked) == IN_FLIGHT_BYTES_MAX // BUDGET_COUNTED_MIN + 1
    nursery.cancel_scope.cancel()


# --- slow and stalled peers ---


async def elapsed(asking: Callable[[], Any]) -> float:
    started = trio.current_time()
    await asking()
    return trio.current_time() - started


async def test_a_peer_that_says_nothing_is_given_up(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    links, swarm = links_to(Other(), nursery)
    with trio.fail_after(2 * ASK_TIMEOUT_SECONDS), pytest.raises(UnavailableError, match="within 30 s"):
        await ask(links)
    assert trio.current_time() == pytest.approx(ASK_TIMEOUT_SECONDS) and swarm.disconnected == ["other"]
    assert not swarm.blamed


async def test_silence_is_borne_for_so_long_and_no_longer(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """Silent is who says nothing to anybody on that stream; he keeps his connection, for he may say something yet."""
    other = Other()
    links, swarm = links_to(other, nursery)
    nursery.start_soon(ask, links)
    await wait_all_tasks_blocked()

    async def speak_once() -> None:
        await trio.sleep(ANSWER_SILENCE_SECONDS / 2)
        await other.stream.send(encode_frame(cbor.encode([0, "part", b"a"])))

    nursery.start_soon(speak_once)
    with pytest.raises(SilentError):
        await links.converse("other", PROTOCOL, {}, Conversation(), silence_seconds=ANSWER_SILENCE_SECONDS)
    assert trio.current_time() == pytest.approx(2 * ANSWER_SILENCE_SECONDS) and not swarm.disconnected
    nursery.cancel_scope.cancel()


async def test_a_slow_line_is_waited_for(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """Two large answers share it, and each takes many times as long as one may be silent."""
    links, swarm = links_to(Other(bulky), nursery)
    swarm.bytes_per_second = 2.1 * ANSWER_BYTES_PER_SECOND_MIN
    async with trio.open_nursery() as both:
        both.start_soon(ask, links)
        both.start_soon(ask, links)
    assert trio.current_time() > 8 * ASK_TIMEOUT_SECONDS and not swarm.disconnected


async def test_of_many_answers_under_way_each_costs_what_it_would_alone(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """A feed has a thousand under way: what comes for one must not be a matter for all who wait."""

    async def steps(count: int) -> int:
        """Calls of functions while so many answers come that were all asked for before."""
        other = Other()
        links, _ = links_to(other, nursery)
        found = 0

        def note(*_: object) -> None:
            nonlocal found
            found += 1

        async with trio.open_nursery() as asking:
            for _ in range(count):
                asking.start_soon(partial(ask, links, budget=BUDGET_COUNTED_MIN))
            await wait_all_tasks_blocked()
            assert len(other.asked) == count
            sys.setprofile(note)
            for number in other.asked:
                await other.stream.send(m.encode_end(number, {}))
        sys.setprofile(None)
        return found

    few, many = await steps(50), await steps(400)
    assert many < 12 * few


async def test_who_gets_no_turn_leaves_the_others_theirs(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    async def wait_long() -> None:
        await links.converse("other", PROTOCOL, {}, Conversation(), timeout_seconds=10 * ASK_TIMEOUT_SECONDS)

    links, swarm = links_to(Other(), nursery)
    for _ in range(IN_FLIGHT):
        nursery.start_soon(wait_long)
    await wait_all_tasks_blocked()
    with pytest.raises(UnavailableError, match="within 30 s"):
        await ask(links)
    assert not swarm.disconnected
    nursery.cancel_scope.cancel()


async def test_a_drip_is_not_waited_for(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    links, swarm = links_to(Other(bulky), nursery)
    swarm.bytes_per_second = ANSWER_BYTES_PER_SECOND_MIN / 16
    with pytest.raises(UnavailableError):
        await ask(links)
    assert trio.current_time() < 1.2 * ASK_TIMEOUT_SECONDS


async def test_nothing_is_waited_for_for_ever(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    async def endless(stream: Stream) -> None:
        await stream.receive()
        for _ in range(2000):
            await stream.send(encode_frame(cbor.encode([0, "blocks", [bytes(20_000)]])))
            await trio.sleep(10_000 / ANSWER_BYTES_PER_SECOND_MIN)

    swarm = MemorySwarm(nursery, endless)
    links = Links(swarm, nursery, Picker(lambda: 0.5))
    with pytest.raises(UnavailableError):
        await ask(links)
    assert trio.current_time() == pytest.approx(ANSWER_SECONDS_MAX)


async def test_requests_move_over_to_a_direct_connection_and_answers_under_way_end_where_they_began(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    other = Other()
    links, swarm = links_to(other, nursery)
    relayed = {"other"}
    links.is_relayed = relayed.__contains__
    nursery.start_soon(ask, links)
    await wait_all_tasks_blocked()
    old = other.stream
    relayed.clear()
    other._answers = at_once
    await ask(links)
    await ask(links)
    first, second = swarm.streams["other"]
    assert other.stream is not old
    await old.send(at_once(m.Request(0, {})))
    await wait_all_tasks_blocked()
    with pytest.raises(UnavailableError):
        await old.send(b"x")
    await ask(links)
    assert len(swarm.streams["other"]) == 2 and first is not second


async def test_an_idle_stream_through_a_relay_ends_when_there_is_a_better_one(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    other = Other(at_once)
    links, swarm = links_to(other, nursery)
    links.is_relayed = lambda peer: not swarm.streams["other"][1:]
    await ask(links)
    old = other.stream
    links.is_relayed = lambda peer: False
    await ask(links)
    await wait_all_tasks_blocked()
    with pytest.raises(UnavailableError):
        await old.send(b"x")


async def test_direct_connections_are_asked_first(nursery: trio.Nursery) -> None:
    links, _ = links_to(Other(), nursery)
    peers = [f"peer {number}" for number in range(8)]
    links.is_relayed = lambda peer: peer in peers[:4]
    for _ in range(20):
        assert set(links.order(peers)[:4]) == set(peers[4:])
