"""A stream's window: how far it grows while it is read."""

from __future__ import annotations

import trio

from rhizome_index.limits import STREAM_WINDOW_BYTES, STREAM_WINDOW_BYTES_MAX
from rhizome_index.node.libp2p_yamux_stream import WINDOW, MuxStream


class Granting:
    """Stands for a session: notes what a stream lets its peer send."""

    def __init__(self, latency_seconds: float | None) -> None:
        self.latency_seconds = latency_seconds
        self.unread_bytes = 0
        self.granted = 0

    def queue(self, kind: int, flags: int, stream_id: int, value: int) -> None:
        assert kind == WINDOW
        self.granted += value


async def read_all(latency_seconds: float | None, windows: int) -> tuple[MuxStream, Granting]:
    """A stream whose peer sends all it may, so many times, and that is read at once."""
    session = Granting(latency_seconds)
    stream = MuxStream(session, 1, is_ours=True)  # type: ignore[arg-type]
    for _ in range(windows):
        size, stream.may_receive = stream.may_receive, 0
        session.unread_bytes += size
        stream._buffer += bytes(size)
        while stream._buffer:
            await stream.read(65536)
    return stream, session


async def test_a_window_grows_to_its_limit_and_no_further() -> None:
    with trio.fail_after(10):
        stream, session = await read_all(60.0, 12)
    assert stream._window == STREAM_WINDOW_BYTES_MAX
    assert stream.may_receive <= STREAM_WINDOW_BYTES_MAX and session.unread_bytes == 0


async def test_a_window_that_nobody_waits_for_does_not_grow() -> None:
    for latency in (None, 0.0):
        stream, session = await read_all(latency, 4)
        assert stream._window == STREAM_WINDOW_BYTES and session.granted == 4 * STREAM_WINDOW_BYTES
