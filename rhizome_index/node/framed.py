"""Frames over a socket or a stream, and whatever comes behind them as it is.

Does not know: what is in a frame.
"""

from __future__ import annotations

from contextlib import closing

import trio

from rhizome_index.errors import UnavailableError
from rhizome_index.limits import FRAME_BYTES_MAX
from rhizome_index.node.swarm import Stream
from rhizome_index.wire.frame import FrameReader


class Framed:
    """A connection whose frames are read one after another."""

    def __init__(self, stream: trio.SocketStream, frame_bytes_max: int = FRAME_BYTES_MAX) -> None:
        self.stream = stream
        self._reader = FrameReader(frame_bytes_max)

    async def receive_frame(self) -> bytes | None:
        """The next frame; None at the end. Raises IntegrityError, trio.BrokenResourceError."""
        data = b""
        while True:
            with closing(self._reader.feed(data)) as frames:
                if (body := next(frames, None)) is not None:
                    return body
            data = await self.stream.receive_some()
            if not data:
                return None

    def take_rest(self) -> bytes:
        """What has been read behind the last frame."""
        return self._reader.take_rest()


async def receive_message(stream: Stream, reader: FrameReader) -> bytes:
    """The next message on a stream; what comes behind it stays in the reader.

    Raises IntegrityError, UnavailableError.
    """
    data = b""
    while True:
        with closing(reader.feed(data)) as frames:
            if (body := next(frames, None)) is not None:
                return body
        data = await stream.receive()
        if not data:
            raise UnavailableError(f"peer {stream.peer_id} says nothing more")
