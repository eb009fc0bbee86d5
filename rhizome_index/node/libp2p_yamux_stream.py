"""One stream of a yamux connection: what is unread, what may be sent, and when it is over.

Promises: any method may be cancelled, and a write cancelled between two frames
resets the stream; bytes are lost only by a reset; a sender that its peer keeps
waiting gives up. It does not know transports or frames that arrive: `libp2p_yamux`
checks those and passes them on.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import trio
from libp2p.abc import IMuxedStream
from libp2p.stream_muxer.exceptions import MuxedStreamEOF, MuxedStreamReset

from rhizome_index.limits import (
    STREAM_FRAME_BYTES,
    STREAM_WINDOW_BYTES,
    STREAM_WINDOW_BYTES_MAX,
    WRITE_TIMEOUT_SECONDS,
)

if TYPE_CHECKING:
    from rhizome_index.node.libp2p_yamux import Session

HEADER = struct.Struct("!BBHII")  # version, type, flags, stream id, length
DATA, WINDOW, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8


class MuxStream(IMuxedStream):
    """One stream. Any method may be cancelled; a write cancelled between two frames resets the stream."""

    def __init__(self, session: Session, stream_id: int, *, is_ours: bool) -> None:
        self.muxed_conn: Session = session
        self.stream_id = stream_id
        self.is_ours = is_ours
        self._waiting = trio.lowlevel.ParkingLot()
        self._buffer = bytearray()
        self._is_reset = self._is_sent = self._is_received = self._is_unwanted = False
        self._may_send = STREAM_WINDOW_BYTES
        self._window = STREAM_WINDOW_BYTES
        self.may_receive = STREAM_WINDOW_BYTES
        self._read = 0  # bytes read and not yet granted anew
        self._granted_at = 0.0
        self.is_announced = is_ours  # whether anybody here has been told of it
        self.opened_at = trio.current_time()
        self.closed_at = 0.0  # when our side closed; 0 while it has not

    @property
    def is_closed(self) -> bool:
        return self._is_reset or (self._is_sent and self._is_received)

    def has_unread(self) -> bool:
        """Whether something has come that nobody has read."""
        return bool(self._buffer)

    async def write(self, data: bytes) -> None:
        """Send all of `data`. Raises MuxedStreamReset if the stream is over, or unread for too long."""
        sent = 0
        await trio.lowlevel.checkpoint()
        try:
            while sent < len(data):
                sent += await self._write_part(data[sent : sent + STREAM_FRAME_BYTES])
        except trio.Cancelled:
            if sent:
                self.abandon()  # half a message has gone: what follows would be read as its rest
            raise

    async def _write_part(self, data: bytes) -> int:
        """Send what the window has room for, at least a byte, and say how much. Cancelled, it has sent nothing."""
        if not self._may_send:
            await self._wait_window()
        if self._is_reset or self._is_sent:
            raise MuxedStreamReset("the stream is over")
        count = min(self._may_send, len(data))
        self._may_send -= count
        try:
            await self.muxed_conn.write_frame(HEADER.pack(0, DATA, 0, self.stream_id, count) + data[:count])
        except trio.Cancelled:
            self._may_send += count
            self._waiting.unpark_all()
            raise
        return count

    async def _wait_window(self) -> None:
        try:
            with trio.fail_after(WRITE_TIMEOUT_SECONDS):
                while not self._may_send and not self._is_reset and not self._is_sent:
                    await self._waiting.park()
        except trio.TooSlowError:
            self.abandon()
            raise MuxedStreamReset("the peer does not read") from None

    async def read(self, n: int | None = -1) -> bytes:
        """At least one byte and at most `n` (-1 and None: all there is). Raises MuxedStreamEOF, MuxedStreamReset."""
        await trio.lowlevel.checkpoint()
        while not self._buffer:
            if self._is_received:
                raise MuxedStreamEOF("the peer has finished")
            if self._is_reset:
                raise MuxedStreamReset("the stream was reset")
            await self._waiting.park()
        if n is None or n < 0 or n >= len(self._buffer):
            data = bytes(self._buffer)
            self._buffer.clear()
        else:
            data = bytes(self._buffer[:n])
            del self._buffer[:n]
        self._grant(len(data))
        return data

    def _grant(self, count: int) -> None:
        """Let the peer send again what was read, half a window at a time: an update costs a frame."""
        self._read += count
        self.muxed_conn.unread_bytes -= count
        if self._read < self._window // 2 or self._is_received or self._is_reset:
            return
        granted, self._read = self._read, 0
        now, latency = trio.current_time(), self.muxed_conn.latency_seconds
        if latency and now - self._granted_at < 4 * latency and self._window < STREAM_WINDOW_BYTES_MAX:
            granted += self._window  # the window is what holds this sender back
            self._window *= 2
        self._granted_at = now
        self.may_receive += granted
        self.muxed_conn.queue(WINDOW, 0, self.stream_id, granted)

    async def close(self) -> None:
        """Say that we have finished sending. What the peer still sends can be read."""
        await trio.lowlevel.cancel_shielded_checkpoint()
        if not self._is_sent and not self._is_reset:
            self._is_sent = True
            self.closed_at = trio.current_time()
            self.muxed_conn.queue(WINDOW, FIN, self.stream_id, 0)
            self._settle()

    def disregard(self) -> None:
        """Drop what has arrived and will arrive. With `close` it ends both directions without a reset."""
        self._is_unwanted = True
        self._drop_unread()

    async def reset(self) -> None:
        """Abandon both directions."""
        await trio.lowlevel.cancel_shielded_checkpoint()
        self.abandon()

    def abandon(self) -> None:
        """`reset`, without waiting."""
        if not self.is_closed:
            self.muxed_conn.queue(WINDOW, RST, self.stream_id, 0)
        self._drop_unread()
        self.fall()

    def _drop_unread(self) -> None:
        self.muxed_conn.unread_bytes -= len(self._buffer)
        self._buffer.clear()

    def fall(self) -> None:
        """The stream is over, by a reset or with its connection. What has arrived can still be read."""
        if not (self._is_sent and self._is_received):
            self._is_reset = True
        self._settle()

    def deliver(self, data: bytes | memoryview) -> None:
        """Bytes from the peer; the session has checked them against `may_receive`."""
        if not self._is_unwanted and not self._is_reset:
            self._buffer += data
            self.muxed_conn.unread_bytes += len(data)
            self._waiting.unpark_all()

    def obey(self, flags: int, granted: int) -> None:
        """The flags of a frame, and the bytes that it lets us send."""
        self._may_send += granted
        if flags & FIN:
            self._is_received = True
        if flags & RST:
            self.fall()
        if flags or granted:
            self._settle()

    def _settle(self) -> None:
        self._waiting.unpark_all()
        if self.is_closed:
            self.muxed_conn.forget(self.stream_id)

    def set_deadline(self, ttl: int) -> None:
        raise NotImplementedError("use trio's deadlines")

    def get_remote_address(self) -> tuple[str, int] | None:
        return self.muxed_conn.get_remote_address()

    async def __aenter__(self) -> MuxStream:
        return self
