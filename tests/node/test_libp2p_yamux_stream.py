"""One stream, without its session: what it holds, what it says, when it is over, and how far its window grows.

The clock jumps to the next deadline whenever all wait: who would wait for ever fails at once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from libp2p.stream_muxer.exceptions import MuxedStreamEOF, MuxedStreamReset
from trio.testing import MockClock, wait_all_tasks_blocked

from rhizome_index.limits import (
    STREAM_FRAME_BYTES,
    STREAM_WINDOW_BYTES,
    STREAM_WINDOW_BYTES_MAX,
    WRITE_TIMEOUT_SECONDS,
)
from rhizome_index.node.libp2p_yamux_stream import FIN, HEADER, RST, WINDOW, MuxStream


class Granting:
    """Stands for a session: notes what a stream says, and takes frames while its line is free."""

    def __init__(self, latency_seconds: float | None = None) -> None:
        self.latency_seconds = latency_seconds
        self.unread_bytes = 0
        self.granted = 0
        self.grants = 0
        self.flags: list[int] = []
        self.written: list[int] = []
        self.forgotten: list[int] = []
        self.line = trio.Lock()

    def queue(self, kind: int, flags: int, stream_id: int, value: int) -> None:
        assert kind == WINDOW
        if flags:
            self.flags.append(flags)
        else:
            self.granted += value
            self.grants += 1

    async def write_frame(self, frame: bytes) -> None:
        assert len(frame) > HEADER.size
        async with self.line:
            self.written.append(len(frame) - HEADER.size)

    def forget(self, stream_id: int) -> None:
        self.forgotten.append(stream_id)


@asynccontextmanager
async def opened(latency_seconds: float | None = None) -> AsyncIterator[tuple[Granting, MuxStream]]:
    """A stream of such a session; but not for ever."""
    session = Granting(latency_seconds)
    with trio.fail_after(1000):
        yield session, MuxStream(session, 1, is_ours=True)  # type: ignore[arg-type]


# --- windows ---


async def read_all(latency_seconds: float | None, windows: int) -> tuple[MuxStream, Granting]:
    """A stream whose peer sends all it may, so many times, and that is read at once."""
    async with opened(latency_seconds) as (session, stream):
        for _ in range(windows):
            size, stream.may_receive = stream.may_receive, 0
            stream.deliver(bytes(size))
            assert session.unread_bytes == size
            while stream._buffer:
                await stream.read(65536)
        return stream, session


async def test_a_window_grows_to_its_limit_and_no_further(autojump_clock: MockClock) -> None:
    stream, session = await read_all(60.0, 12)
    assert stream._window == STREAM_WINDOW_BYTES_MAX
    assert stream.may_receive <= STREAM_WINDOW_BYTES_MAX and session.unread_bytes == 0


async def test_a_window_that_nobody_waits_for_does_not_grow(autojump_clock: MockClock) -> None:
    for latency in (None, 0.0):
        stream, session = await read_all(latency, 4)
        assert stream._window == STREAM_WINDOW_BYTES
        assert (session.granted, session.grants) == (4 * STREAM_WINDOW_BYTES, 8)  # half a window at a time


async def test_nothing_is_granted_to_a_peer_that_has_finished(autojump_clock: MockClock) -> None:
    async with opened() as (session, stream):
        stream.deliver(bytes(STREAM_WINDOW_BYTES))
        stream.obey(FIN, 0)
        assert len(await stream.read()) == STREAM_WINDOW_BYTES
        assert (session.granted, session.unread_bytes) == (0, 0)
        with pytest.raises(MuxedStreamEOF):
            await stream.read()


# --- writing ---


async def test_a_write_keeps_to_the_window_and_goes_on_when_it_opens(autojump_clock: MockClock) -> None:
    async with opened() as (session, stream):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.write, bytes(STREAM_WINDOW_BYTES + 5))
            await wait_all_tasks_blocked()
            assert sum(session.written) == STREAM_WINDOW_BYTES and max(session.written) == STREAM_FRAME_BYTES
            stream.obey(0, 3)
            await wait_all_tasks_blocked()
            assert session.written[-1] == 3
            stream.obey(0, 9)
        assert session.written[-1] == 2 and stream._may_send == 7 and session.flags == []


async def test_a_peer_that_opens_no_window_costs_its_stream(autojump_clock: MockClock) -> None:
    async with opened() as (session, stream):
        with pytest.raises(MuxedStreamReset, match="does not read"):
            await stream.write(bytes(STREAM_WINDOW_BYTES + 1))
        assert trio.current_time() == WRITE_TIMEOUT_SECONDS
        assert session.flags == [RST] and session.forgotten == [1]


@pytest.mark.parametrize("end", ["reset", "fall", "close", "abandon"])
async def test_who_waits_for_a_window_is_told_of_the_end(end: str, autojump_clock: MockClock) -> None:
    async with opened() as (session, stream):
        stream._may_send = 0
        async with trio.open_nursery() as nursery:

            async def write() -> None:
                with pytest.raises(MuxedStreamReset, match="over"):
                    await stream.write(b"x")

            nursery.start_soon(write)
            await wait_all_tasks_blocked()
            done = getattr(stream, end)()
            if done is not None:
                await done
        with pytest.raises(MuxedStreamReset):
            await stream.write(b"x")
        assert session.written == []


@pytest.mark.parametrize("sent", [0, 1])
async def test_a_write_cancelled_before_its_first_frame_has_done_nothing(sent: int, autojump_clock: MockClock) -> None:
    """After it, half a message has gone: what follows would be read as its rest."""
    async with opened() as (session, stream):
        stream._may_send = sent * STREAM_FRAME_BYTES
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.write, bytes(2 * STREAM_FRAME_BYTES))
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert (session.written, session.flags) == ([STREAM_FRAME_BYTES] * sent, [RST] * sent)


async def test_what_a_cancelled_write_gives_back_others_may_use(autojump_clock: MockClock) -> None:
    async with opened() as (session, stream):
        stream._may_send = 2
        async with trio.open_nursery() as others, session.line, trio.open_nursery() as cancelled:
            cancelled.start_soon(stream.write, b"ab")  # takes the window and waits for the line
            await wait_all_tasks_blocked()
            others.start_soon(stream.write, b"cd")  # waits for the window
            await wait_all_tasks_blocked()
            cancelled.cancel_scope.cancel()
        assert session.written == [2] and stream._may_send == 0


# --- ends ---


async def test_what_nobody_wants_is_not_kept(autojump_clock: MockClock) -> None:
    async with opened() as (session, stream):
        stream.deliver(b"came")
        stream.disregard()
        stream.deliver(b"comes")
        assert session.unread_bytes == 0 and not stream._buffer and session.flags == []


async def test_a_reset_is_said_once_and_drops_what_came(autojump_clock: MockClock) -> None:
    async with opened() as (session, stream):
        stream.deliver(b"came")
        await stream.reset()
        await stream.reset()
        stream.deliver(b"comes")
        assert session.unread_bytes == 0 and session.flags == [RST] and 1 in session.forgotten
        with pytest.raises(MuxedStreamReset):
            await stream.read()


async def test_what_came_before_a_reset_of_the_peer_can_be_read(autojump_clock: MockClock) -> None:
    async with opened() as (session, stream):
        stream.deliver(b"came")
        stream.obey(RST, 0)
        assert await stream.read() == b"came"
        with pytest.raises(MuxedStreamReset):
            await stream.read()
        stream.abandon()
        assert session.flags == [] and session.forgotten


async def test_a_stream_is_over_when_both_sides_have_finished(autojump_clock: MockClock) -> None:
    async with opened() as (session, stream):
        await trio.sleep(1)
        await stream.close()
        await stream.close()
        assert session.flags == [FIN] and not session.forgotten and stream.closed_at == 1
        stream.deliver(b"last")
        stream.obey(FIN, 0)
        assert session.forgotten == [1] and await stream.read() == b"last"
        stream.abandon()
        with pytest.raises(MuxedStreamEOF):
            await stream.read()
        assert session.flags == [FIN]


@pytest.mark.parametrize("flag", [FIN, RST])
async def test_who_waits_for_bytes_is_told_of_the_end(flag: int, autojump_clock: MockClock) -> None:
    async with opened() as (_, stream), trio.open_nursery() as nursery:

        async def read() -> None:
            with pytest.raises(MuxedStreamEOF if flag == FIN else MuxedStreamReset):
                await stream.read()

        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        stream.obey(flag, 0)
