"""Frames against one session, over a transport that is none: what each makes it say, hold or end.

The clock jumps to the next deadline whenever all wait: who would wait for ever fails at once.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable, MuxedStreamEOF, MuxedStreamReset
from trio.testing import MockClock, wait_all_tasks_blocked

from rhizome_index.limits import (
    CLOSE_TIMEOUT_SECONDS,
    CONNECTION_STREAMS_MAX,
    CONTROL_BYTES_MAX,
    IDLE_TIMEOUT_SECONDS,
    LINGER_SECONDS,
    NEW_STREAM_FRAMES,
    PING_AGAIN_SECONDS,
    PING_INTERVAL_SECONDS,
    PING_TIMEOUT_SECONDS,
    SMALL_FRAMES_AT_ONCE,
    SMALL_FRAMES_PER_SECOND,
    STREAM_WINDOW_BYTES,
    STREAM_WINDOW_BYTES_MAX,
    UNREAD_BYTES_MAX,
    WRITE_TIMEOUT_SECONDS,
)
from rhizome_index.node.libp2p_yamux import Session
from rhizome_index.node.libp2p_yamux_stream import ACK, DATA, FIN, GO_AWAY, HEADER, PING, RST, SYN, WINDOW

Header = tuple[int, int, int, int]  # kind, flags, stream, length


class Transport:
    """A transport in memory.

    is_stuck  whether what is written waits for ever
    is_alive  whether pings are answered
    on_close  what happens when it is closed
    """

    def __init__(self) -> None:
        self.sent = bytearray()
        self.is_stuck = self.is_alive = self.is_closed = False
        self.on_close: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
        self._feed, self._fed = trio.open_memory_channel[bytes](math.inf)

    async def read(self, n: int | None) -> bytes:
        return await self._fed.receive()

    async def write(self, data: bytes) -> None:
        while self.is_stuck:
            await trio.sleep_forever()
        self.sent += data
        if self.is_alive:
            for kind, flags, _, number in _headers(data):
                if (kind, flags) == (PING, SYN):
                    self._feed.send_nowait(frame(PING, ACK, 0, number))

    async def close(self) -> None:
        self.is_closed = True
        await self.on_close()

    async def bring(self, *frames: bytes) -> None:
        """Let bytes arrive, and wait until all has been done about them."""
        self._feed.send_nowait(b"".join(frames))
        await wait_all_tasks_blocked()

    def said(self) -> list[Header]:
        """The control frames that were sent since the last look, but for pings."""
        found = _headers(self.sent)
        self.sent.clear()
        return [header for header in found if header[:2] != (PING, SYN)]


def frame(kind: int, flags: int, stream: int, length: int, body: bytes = b"", *, version: int = 0) -> bytes:
    return HEADER.pack(version, kind, flags, stream, length) + body


def _headers(frames: bytes) -> list[Header]:
    return [HEADER.unpack_from(frames, start)[1:] for start in range(0, len(frames), HEADER.size)]


OPEN = frame(WINDOW, SYN, 1, 0)


@asynccontextmanager
async def running(*, is_initiator: bool = False) -> AsyncIterator[tuple[Session, Transport]]:
    """A session, of a connection that its peer has opened unless said otherwise; but not for ever."""
    transport: Any = Transport()
    session = Session(transport, "peer", is_initiator)  # type: ignore[arg-type]
    with trio.fail_after(1000):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.start)
            await session.event_started.wait()
            await wait_all_tasks_blocked()
            yield session, transport
            nursery.cancel_scope.cancel()


# --- what a peer may not say ---


@pytest.mark.parametrize(
    "frames",
    [
        frame(PING, SYN, 0, 1, version=1),
        frame(GO_AWAY + 1, 0, 0, 0),
        OPEN + OPEN,
        frame(WINDOW, SYN, 0, 0),
        frame(WINDOW, SYN, 2, 0),
        OPEN + frame(DATA, 0, 1, STREAM_WINDOW_BYTES + 1),
        frame(DATA, SYN, 1, STREAM_WINDOW_BYTES + 1),
        OPEN + frame(DATA, 0, 1, STREAM_WINDOW_BYTES, bytes(STREAM_WINDOW_BYTES)) + frame(DATA, 0, 1, 1),
        frame(DATA, 0, 1, STREAM_WINDOW_BYTES_MAX + 1),
    ],
    ids=[
        "another version",
        "a kind that is none",
        "a number in use",
        "the number 0",
        "a number of ours",
        "a byte past the window",
        "a byte past the window, at once",
        "a byte past the window, later",
        "more than any window for nobody",
    ],
)
async def test_what_is_forbidden_ends_the_connection(frames: bytes, autojump_clock: MockClock) -> None:
    async with running() as (session, transport):
        await transport.bring(frames)
        assert session.is_closed and transport.is_closed


@pytest.mark.parametrize("number", [0, 1])
async def test_who_opened_the_connection_has_the_odd_numbers(number: int, autojump_clock: MockClock) -> None:
    async with running(is_initiator=True) as (session, transport):
        await transport.bring(frame(WINDOW, SYN, 2, 0))
        assert (await session.open_stream()).stream_id == 1 and len(session.streams) == 2
        await transport.bring(frame(WINDOW, SYN, number, 0))
        assert session.is_closed


async def test_a_goodbye_and_an_end_end_the_connection(autojump_clock: MockClock) -> None:
    for farewell in (frame(GO_AWAY, 0, 0, 0), b""):
        async with running() as (session, transport):
            await transport.bring(OPEN, frame(DATA, 0, 1, 1, b"x"))
            stream = await session.accept_stream()
            assert await stream.read() == b"x"
            await transport.bring(farewell)
            assert session.is_closed and transport.is_closed and not session.streams
            with pytest.raises(MuxedStreamReset):
                await stream.read()
            with pytest.raises(MuxedConnUnavailable):
                await session.open_stream()
            with pytest.raises(MuxedConnUnavailable):
                await session.accept_stream()
            with pytest.raises(MuxedConnUnavailable):
                await session.write_frame(b"x")
            session.queue(PING, SYN, 0, 9)
            assert not session._queued


async def test_who_waits_for_a_stream_is_woken_by_the_end(autojump_clock: MockClock) -> None:
    async with running() as (session, transport), trio.open_nursery() as nursery:

        async def accept() -> None:
            with pytest.raises(MuxedConnUnavailable):
                await session.accept_stream()

        nursery.start_soon(accept)
        await transport.bring(frame(GO_AWAY, 0, 0, 0))


# --- what it may, and what that makes us hold ---


async def test_a_whole_window_and_bytes_for_nobody_are_in_order(autojump_clock: MockClock) -> None:
    """Bytes that were on their way when their stream was reset."""
    async with running() as (session, transport):
        await transport.bring(OPEN, frame(DATA, 0, 1, STREAM_WINDOW_BYTES, bytes(STREAM_WINDOW_BYTES)))
        assert session.unread_bytes == STREAM_WINDOW_BYTES
        await transport.bring(frame(DATA, 0, 77, STREAM_WINDOW_BYTES_MAX, bytes(STREAM_WINDOW_BYTES_MAX)))
        assert not session.is_closed and session.unread_bytes == STREAM_WINDOW_BYTES
        (await session.accept_stream()).abandon()
        assert not session.unread_bytes
        await transport.bring(frame(DATA, 0, 1, 5, b"late!"))
        assert not session.is_closed and not session.unread_bytes


async def test_frames_may_be_cut_anywhere(autojump_clock: MockClock) -> None:
    async with running() as (session, transport):
        for byte in OPEN + frame(DATA, 0, 1, 3, b"abc") + frame(DATA, FIN, 1, 2, b"de"):
            await transport.bring(bytes([byte]))
        stream = await session.accept_stream()
        assert await stream.read() == b"abcde" and not session.unread_bytes
        with pytest.raises(MuxedStreamEOF):
            await stream.read()


async def test_a_stream_too_many_is_reset(autojump_clock: MockClock) -> None:
    async with running() as (session, transport):
        numbers = range(1, 2 * CONNECTION_STREAMS_MAX, 2)
        await transport.bring(*(frame(WINDOW, SYN, number, 0) for number in numbers))
        assert transport.said() == [(WINDOW, ACK, number, 0) for number in numbers]
        await transport.bring(frame(WINDOW, SYN, 999, 0))
        assert transport.said() == [(WINDOW, RST, 999, 0)]
        assert len(session.streams) == CONNECTION_STREAMS_MAX and not session.is_closed
        await session.open_stream()  # ours count apart


async def test_streams_reset_before_anybody_looks_are_bounded(autojump_clock: MockClock) -> None:
    async with running() as (session, transport):
        for number in range(1, 2 * CONNECTION_STREAMS_MAX, 2):
            await transport.bring(frame(DATA, SYN, number, 1, b"x"), frame(WINDOW, RST, number, 0))
        await trio.sleep(1)
        transport.said()
        await transport.bring(frame(DATA, SYN, 999, 1, b"x"))
        assert transport.said() == [(WINDOW, ACK, 999, 0), (WINDOW, RST, 999, 0)]
        assert not session.streams and not session.is_closed


async def test_streams_of_both_sides_are_counted_apart_and_their_places_come_back(autojump_clock: MockClock) -> None:
    async with running() as (session, transport):
        for _ in range(3):
            ours = [await session.open_stream() for _ in range(CONNECTION_STREAMS_MAX)]
            with pytest.raises(MuxedConnUnavailable, match="too many"):
                await session.open_stream()
            await transport.bring(OPEN)
            assert len(session.streams) == CONNECTION_STREAMS_MAX + 1
            for stream in ours:
                await stream.reset()
            await transport.bring(frame(WINDOW, RST, 1, 0), frame(WINDOW, RST, 1, 0))
            assert not session.streams


async def test_a_stream_is_nobodys_before_something_is_said_on_it(autojump_clock: MockClock) -> None:
    async with running() as (session, transport), trio.open_nursery() as nursery:
        transport.is_alive = True
        told: list[int] = []

        async def accept() -> None:
            while True:
                told.append((await session.accept_stream()).stream_id)

        nursery.start_soon(accept)
        await transport.bring(*(frame(WINDOW, SYN, number, 0) for number in (1, 3, 5)))
        assert told == []
        await transport.bring(frame(DATA, 0, 3, 1, b"x"), frame(DATA, 0, 3, 1, b"x"))
        assert told == [3]
        await trio.sleep(IDLE_TIMEOUT_SECONDS - 1)
        assert set(session.streams) == {1, 3, 5}
        transport.said()
        await trio.sleep(LINGER_SECONDS + 1)
        assert transport.said() == [(WINDOW, RST, 1, 0), (WINDOW, RST, 5, 0)] and set(session.streams) == {3}
        nursery.cancel_scope.cancel()


async def test_small_frames_are_read_so_fast_and_no_faster(autojump_clock: MockClock) -> None:
    async with running() as (session, transport):

        async def is_read(*frames: bytes) -> bool:
            """Whether what comes behind these frames is read at once, and not a while later."""
            await transport.bring(*frames)
            await transport.bring(OPEN)
            was_read = bool(session.streams)
            await trio.sleep(1)
            assert session.streams
            await transport.bring(frame(WINDOW, RST, 1, 0))
            await trio.sleep(0.01)
            return was_read

        pings = [frame(PING, SYN, 0, 7)] * int(SMALL_FRAMES_AT_ONCE)
        assert await is_read(*pings)
        assert not await is_read(*pings[: int(SMALL_FRAMES_PER_SECOND * 1.5)])
        large, small = ([frame(DATA, 0, 99, size, bytes(size))] * 2000 for size in (1024, 1023))
        assert await is_read(*large)
        assert await is_read(*large)
        assert not await is_read(*small, *small, *small[:1000])


async def test_a_stream_costs_as_much_as_many_small_frames(autojump_clock: MockClock) -> None:
    numbers = range(1, 2 * CONNECTION_STREAMS_MAX, 2)
    openings = [frame(WINDOW, SYN, number, 0) for number in numbers]
    endings = [frame(WINDOW, RST, number, 0) for number in numbers]
    async with running() as (session, transport):
        await transport.bring(*openings)
        assert len(session.streams) == CONNECTION_STREAMS_MAX  # after it has been quiet: all at once
        await transport.bring(*endings)
        await transport.bring(*openings)
        await trio.sleep(1)
        assert len(session.streams) == pytest.approx(SMALL_FRAMES_PER_SECOND / NEW_STREAM_FRAMES, rel=0.2)
        await trio.sleep(2)
        assert len(session.streams) == CONNECTION_STREAMS_MAX


async def test_small_frames_that_come_together_are_all_taken_in_order(autojump_clock: MockClock) -> None:
    """Also where more of them come at once than are taken together, with a body among them, cut anywhere."""
    async with running() as (session, transport), trio.open_nursery() as nursery:
        got: list[bytes] = []

        async def read() -> None:
            stream = await session.accept_stream()
            while len(got) < 2000:
                got.append(await stream.read(1))

        nursery.start_soon(read)
        bodies = [bytes([number % 251]) for number in range(2000)]
        data = OPEN + b"".join(frame(DATA, 0, 1, 1, body) for body in bodies)
        for start in range(0, len(data), 5003):
            await transport.bring(data[start : start + 5003])
        await trio.sleep(10)
        assert got == bodies


async def test_streams_of_a_connection_that_is_over_are_nobodys_work(autojump_clock: MockClock) -> None:
    async with running() as (session, transport):
        await transport.bring(frame(DATA, SYN, 1, 1, b"x"), frame(DATA, SYN, 3, 1, b"x"), frame(GO_AWAY, 0, 0, 0))
        for _ in range(2):
            with pytest.raises(MuxedConnUnavailable):
                await session.accept_stream()


async def test_who_breaks_the_protocol_is_blamed_and_who_leaves_or_falls_silent_is_not(
    autojump_clock: MockClock,
) -> None:
    for data, is_blamed in ((frame(GO_AWAY, 0, 0, 0), False), (OPEN + OPEN, True), (b"", False)):
        async with running() as (session, transport):
            if data:
                await transport.bring(data)
            await session.event_closed.wait()
            assert session.is_blamed == is_blamed


async def test_so_much_may_be_unread(autojump_clock: MockClock) -> None:
    async with running() as (session, transport):
        for number in range(1, 2 * UNREAD_BYTES_MAX // STREAM_WINDOW_BYTES, 2):
            await transport.bring(frame(DATA, SYN, number, STREAM_WINDOW_BYTES, bytes(STREAM_WINDOW_BYTES)))
        assert session.unread_bytes == UNREAD_BYTES_MAX and not session.is_closed
        await transport.bring(frame(DATA, SYN, 999, 1, b"x"))
        assert session.is_closed


async def test_so_many_answers_may_wait(autojump_clock: MockClock) -> None:
    async with running() as (session, transport):
        transport.is_stuck = True
        await transport.bring(frame(PING, SYN, 0, 0))  # its answer holds the line
        for _ in range(2):
            await trio.sleep(2)
            await transport.bring(*[frame(PING, SYN, 0, 7)] * (CONTROL_BYTES_MAX // HEADER.size // 2))
        assert len(session._queued) > CONTROL_BYTES_MAX - 2 * HEADER.size
        assert not session.is_closed
        await transport.bring(frame(PING, SYN, 0, 0))
        await transport.bring(frame(PING, SYN, 0, 0))
        assert session.is_closed


# --- writing ---


async def test_a_write_that_is_cut_off_ends_the_connection_in_time(autojump_clock: MockClock) -> None:
    async with running() as (session, transport):
        transport.is_stuck = True
        with pytest.raises(MuxedConnUnavailable, match="does not read"):
            await session.write_frame(b"x")
        assert trio.current_time() == WRITE_TIMEOUT_SECONDS and not session.is_established
        await wait_all_tasks_blocked()
        assert session.is_closed and transport.is_closed


async def test_the_end_of_a_connection_does_not_wait_for_a_write(autojump_clock: MockClock) -> None:
    async with running() as (session, transport):
        transport.is_stuck = True
        async with trio.open_nursery() as nursery:

            async def write() -> None:
                with pytest.raises(MuxedConnUnavailable):
                    await session.write_frame(b"x")

            nursery.start_soon(write)
            await transport.bring(frame(GO_AWAY, 0, 0, 0))
        assert trio.current_time() == 0 and session.is_closed


# --- closing ---


async def test_closing_says_so_tells_whoever_asked_and_does_it_once(autojump_clock: MockClock) -> None:
    told = 0

    async def note() -> None:
        nonlocal told
        told += 1

    async with running() as (session, transport):
        session.on_close = note
        await session.close()
        await session.close()
        assert transport.said() == [(GO_AWAY, 0, 0, 0)]
        assert transport.is_closed and session.is_closed and told == 1


async def test_closing_has_its_time_and_no_more(autojump_clock: MockClock) -> None:
    async with running() as (session, transport):
        transport.is_stuck = True
        transport.on_close = session.on_close = partial(trio.sleep, 1000)
        await session.close()
        assert session.is_closed and trio.current_time() <= 2 * CLOSE_TIMEOUT_SECONDS


async def test_closing_goes_on_when_it_is_cancelled_and_when_the_transport_fails(autojump_clock: MockClock) -> None:
    async def fail() -> None:
        raise OSError("gone")

    async with running() as (session, transport):
        transport.on_close = fail
        with trio.CancelScope() as scope:
            scope.cancel()
            await session.close()
        assert session.is_closed and transport.is_closed and transport.said() == [(GO_AWAY, 0, 0, 0)]


# --- keeping alive ---


async def test_pings_are_answered(autojump_clock: MockClock) -> None:
    async with running() as (_, transport):
        await transport.bring(frame(PING, SYN, 0, 77))
        assert transport.said() == [(PING, ACK, 0, 77)]


async def test_the_round_trip_is_measured_at_once_and_again_and_again(autojump_clock: MockClock) -> None:
    async with running() as (session, transport):
        await transport.bring(frame(PING, ACK, 0, 9))  # an answer to nothing
        assert session.latency_seconds is None
        for number, pause in enumerate([PING_AGAIN_SECONDS, PING_INTERVAL_SECONDS, PING_INTERVAL_SECONDS], 1):
            assert HEADER.unpack(transport.sent[-HEADER.size :]) == (0, PING, SYN, 0, number)
            await trio.sleep(0.5)
            await transport.bring(frame(PING, ACK, 0, number))
            assert session.latency_seconds == pytest.approx(0.5, abs=0.02)
            await trio.sleep(pause + 0.01)


@pytest.mark.parametrize("is_busy", [False, True])
async def test_a_silent_peer_is_left_and_a_busy_one_is_not(is_busy: bool, autojump_clock: MockClock) -> None:
    """Bulk data may hold up a pong."""
    await trio.sleep(1)
    async with running() as (session, transport):
        await trio.sleep(PING_TIMEOUT_SECONDS - 1)
        if is_busy:
            await transport.bring(OPEN)
        assert not session.is_closed
        await trio.sleep(2)
        assert session.is_closed != is_busy


async def test_a_stream_that_we_closed_is_reset_after_a_while_and_no_other(autojump_clock: MockClock) -> None:
    async with running() as (session, transport):
        transport.is_alive = True
        await transport.bring(frame(PING, ACK, 0, 1), *(frame(DATA, SYN, number, 1, b"x") for number in (1, 3)))
        closed, kept = await session.accept_stream(), await session.accept_stream()
        await trio.sleep(1)
        await closed.close()
        await trio.sleep(LINGER_SECONDS - 0.5)
        assert transport.said() == [(WINDOW, ACK, 1, 0), (WINDOW, ACK, 3, 0), (WINDOW, FIN, 1, 0)]
        await trio.sleep(LINGER_SECONDS)
        assert transport.said() == [(WINDOW, RST, 1, 0)]
        assert list(session.streams.values()) == [kept]
