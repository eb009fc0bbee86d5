"""Yamux for connections between peers that do not trust each other.

Promises: a frame is written whole or the connection ends; what a peer can make us
hold is bounded (streams, bytes unread, control frames unsent) and a peer that
goes past a bound loses its connection; frames that bring little are read so fast
and no faster; a stream is nobody's work before something is said on it; nobody
waits for ever; a peer that has fallen silent is noticed, and its round trip is
known.

It does not know protocols or multistream: it gives streams of bytes to py-libp2p,
whose own session keeps none of these promises. It stands in for that session
(see `libp2p_guards`) and speaks to any other implementation.

Rules: the reading task never waits for the writing side, or two peers that send
much to each other would wait for ever. So control frames are queued, in order,
and go out before whatever is written next.

Source: https://github.com/hashicorp/yamux/blob/master/spec.md
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, NamedTuple

import trio
from libp2p.abc import IMuxedConn, ISecureConn
from libp2p.connection_types import ConnectionType
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable
from multiaddr import Multiaddr

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
    SMALL_FRAME_BYTES,
    SMALL_FRAMES_AT_ONCE,
    SMALL_FRAMES_PER_SECOND,
    SMALL_FRAMES_TOGETHER,
    STREAM_WINDOW_BYTES_MAX,
    UNREAD_BYTES_MAX,
    WRITE_TIMEOUT_SECONDS,
)
from rhizome_index.node.libp2p_yamux_stream import ACK, DATA, GO_AWAY, HEADER, PING, RST, SYN, WINDOW, MuxStream
from rhizome_index.wire.allowance import Allowance


class BrokenProtocol(Exception):
    """The peer sent what yamux or a bound of ours forbids: the connection ends."""


class _Body(NamedTuple):
    """The DATA frame whose bytes are arriving. `stream` is None when nobody wants them."""

    stream: MuxStream | None
    flags: int
    left: int


class Session(IMuxedConn):
    """One connection's streams. `start` runs it until it ends; `close` ends it."""

    def __init__(
        self,
        conn: ISecureConn,
        peer_id: ID,
        is_initiator: bool | None = None,
        on_close: Callable[[], Awaitable[Any]] | None = None,
    ) -> None:
        self.secured_conn: Any = conn
        self.peer_id = peer_id
        self.on_close = on_close
        self.event_started = trio.Event()
        self.event_closed = trio.Event()
        self.latency_seconds: float | None = None
        self.streams: dict[int, MuxStream] = {}
        self._numbers = {True: 0, False: 0}  # of those, ours and theirs
        self._is_initiator = conn.is_initiator if is_initiator is None else is_initiator
        self._next_id = 1 if self._is_initiator else 2
        self._arriving, self._arrived = trio.open_memory_channel[MuxStream](CONNECTION_STREAMS_MAX)
        self._writing = trio.Lock()
        self._queued = bytearray()
        self._flushing = trio.lowlevel.ParkingLot()
        self._unparsed = b""
        self.unread_bytes = 0  # over all streams
        self.moved_bytes = 0  # in both directions
        self.is_blamed = False  # whether it ends for what the peer did
        self._body: _Body | None = None
        self._small_frames = 0  # not yet paid for
        self._allowance = Allowance(SMALL_FRAMES_PER_SECOND, SMALL_FRAMES_AT_ONCE)
        self._scope = trio.CancelScope()
        self._write_scope = trio.CancelScope()
        self._is_over = False
        self._heard_at = 0.0
        self._pinged: tuple[int, float] = (0, 0.0)
        self._ponged = trio.Event()

    @property
    def is_initiator(self) -> bool:
        return self._is_initiator

    @property
    def is_established(self) -> bool:
        return self.event_started.is_set() and not self._is_over

    @property
    def is_closed(self) -> bool:
        return self.event_closed.is_set()

    @property
    def is_relayed(self) -> bool:
        """Whether it goes over a circuit."""
        return self.get_connection_type() is ConnectionType.RELAYED

    async def start(self) -> None:
        """Run the connection until it ends. Raises nothing: whatever goes wrong costs only this connection."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    for task in (self._read_frames, self._send_queued, self._keep_alive, self._sweep):
                        nursery.start_soon(self._run, task)
                    self.event_started.set()
        except* BrokenProtocol:
            self.is_blamed = True
        except* Exception:
            pass  # broken by the transport, or by the peer in a way that costs nobody much
        finally:
            await self.close()

    async def _run(self, task: Callable[[], Awaitable[None]]) -> None:
        """When one of the session's tasks ends, all do: at once, even one that is stuck in a write."""
        try:
            await task()
        finally:
            self.fall()

    async def close(self, error_code: int = 0) -> None:
        """End the connection, with a goodbye if the line is free. Calling it again does nothing."""
        if self.event_closed.is_set():
            return
        is_first = not self._is_over
        deadline = trio.current_time() + CLOSE_TIMEOUT_SECONDS
        with trio.CancelScope(shield=True, deadline=deadline):
            if is_first and not self._writing.locked():
                self.queue(GO_AWAY, 0, 0, error_code)
                with suppress(MuxedConnUnavailable):
                    await self.write_frame(b"", timeout_seconds=CLOSE_TIMEOUT_SECONDS)
            self.fall()
            with suppress(Exception):  # it may be gone already
                await self.secured_conn.close()
        if not self.event_closed.is_set():
            self.event_closed.set()
            if self.on_close is not None:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_TIMEOUT_SECONDS):
                    await self.on_close()

    def fall(self) -> None:
        """Mark the connection as over and wake everybody who waits for it."""
        if not self._is_over:
            self._is_over = True
            self._arriving.close()
            for stream in list(self.streams.values()):
                stream.fall()
            self.streams.clear()
            self._numbers = {True: 0, False: 0}
            self._scope.cancel()
            self._write_scope.cancel()  # half a frame does no harm any more

    # --- streams ---

    async def open_stream(self) -> MuxStream:
        """A stream of ours. Raises MuxedConnUnavailable if the connection is over or has too many already."""
        await trio.lowlevel.checkpoint()
        if self._is_over:
            raise MuxedConnUnavailable("the connection is over")
        if self._numbers[True] >= CONNECTION_STREAMS_MAX:
            raise MuxedConnUnavailable("too many streams are open with this peer")
        stream = self._remember(self._next_id, is_ours=True)
        self.queue(WINDOW, SYN, self._next_id, 0)
        self._next_id += 2
        return stream

    async def accept_stream(self) -> MuxStream:
        """The next stream that the peer has opened and said something on.

        Raises MuxedConnUnavailable at the end of the connection.
        """
        with suppress(trio.EndOfChannel, trio.ClosedResourceError):
            stream = await self._arrived.receive()
            if not self._is_over:
                return stream
        raise MuxedConnUnavailable("the connection is over")

    def _remember(self, stream_id: int, *, is_ours: bool) -> MuxStream:
        stream = self.streams[stream_id] = MuxStream(self, stream_id, is_ours=is_ours)
        self._numbers[is_ours] += 1
        return stream

    def forget(self, stream_id: int) -> None:
        """A stream is over."""
        stream = self.streams.pop(stream_id, None)
        if stream is not None:
            self._numbers[stream.is_ours] -= 1

    # --- writing ---

    def queue(self, kind: int, flags: int, stream_id: int, length: int) -> None:
        """Send a control frame soon, in order and before any frame written later."""
        if not self._is_over:
            self._queued += HEADER.pack(0, kind, flags, stream_id, length)
            self._flushing.unpark_all()

    async def write_frame(self, frame: bytes, *, timeout_seconds: float = WRITE_TIMEOUT_SECONDS) -> None:
        """Write what is queued and `frame`: all of it, or the connection ends.

        Half a frame would make all that follows unreadable, so no cancellation reaches the transport. Cancelled
        while it waits for its turn, it has written nothing. Raises MuxedConnUnavailable.
        """
        async with self._writing:
            if self._is_over:
                raise MuxedConnUnavailable("the connection is over")
            frame = bytes(self._queued) + frame
            self._queued.clear()
            if not frame:
                return  # another frame took what was queued along
            self.moved_bytes += len(frame)
            try:
                with trio.CancelScope(shield=True), trio.fail_after(timeout_seconds) as self._write_scope:
                    await self.secured_conn.write(frame)
            except Exception as error:
                self.fall()
                raise MuxedConnUnavailable("the peer is gone or does not read") from error

    async def _send_queued(self) -> None:
        while True:
            if self._queued:
                await self.write_frame(b"")
            else:
                await self._flushing.park()

    # --- reading ---

    async def _read_frames(self) -> None:
        while not self._is_over:
            data = await self.secured_conn.read(None)
            if not data:
                return
            self._heard_at = trio.current_time()
            self.moved_bytes += len(data)
            while self.take(data):
                data = b""
                await self._pay()
            await self._pay()

    async def _pay(self) -> None:
        """Wait until the small frames that were taken are paid for. Raises BrokenProtocol where a bound is passed."""
        if len(self._queued) > CONTROL_BYTES_MAX:
            raise BrokenProtocol("asks for more answers than it reads")
        if self.unread_bytes > UNREAD_BYTES_MAX:
            raise BrokenProtocol("sends more than anybody reads")
        small, self._small_frames = self._small_frames, 0
        owed_seconds = self._allowance.owe(small, trio.current_time()) if small else 0
        if owed_seconds:
            await trio.sleep(owed_seconds)

    def take(self, data: bytes) -> bool:
        """Bytes from the peer, cut anywhere; whether more of them can be taken once the small frames are paid for.

        Raises BrokenProtocol.
        """
        data = self._unparsed + data if self._unparsed else data
        start, is_more = 0, False
        with memoryview(data) as view:
            while True:
                if self._body is not None:
                    start += self._take_body(view[start : start + self._body.left])
                    if self._body is not None:
                        break
                if len(view) - start < HEADER.size:
                    break
                if is_more := self._small_frames >= SMALL_FRAMES_TOGETHER:
                    break
                header = HEADER.unpack_from(view, start)
                start += HEADER.size
                self._take_header(*header)
        self._unparsed = data[start:]  # bodies are passed on as they arrive: a part of a header, or small frames
        return is_more

    def _take_header(self, version: int, kind: int, flags: int, stream_id: int, length: int) -> None:
        if version != 0 or kind > GO_AWAY:
            raise BrokenProtocol("not yamux")
        if kind != DATA or length < SMALL_FRAME_BYTES:
            self._small_frames += 1
        if kind == PING:
            self._take_ping(flags, length)
        elif kind == GO_AWAY:
            self.fall()
        else:
            stream = self._accept(stream_id) if flags & SYN else self.streams.get(stream_id)
            if kind == WINDOW:
                if stream is not None:
                    stream.obey(flags, length)
                return
            # The window is checked on the announcement, before a byte is kept.
            if length > (STREAM_WINDOW_BYTES_MAX if stream is None else stream.may_receive):
                raise BrokenProtocol("sends past its window")
            if stream is not None:
                stream.may_receive -= length
            self._body = _Body(stream, flags, length)

    def _take_body(self, data: memoryview) -> int:
        assert self._body is not None
        stream, flags, left = self._body
        if stream is not None and data:
            stream.deliver(data)
        left -= len(data)
        self._body = self._body._replace(left=left) if left else None
        if stream is not None:
            if not left:
                stream.obey(flags, 0)
            self._announce(stream)
        return len(data)

    def _accept(self, stream_id: int) -> MuxStream | None:
        if stream_id in self.streams or stream_id == 0 or (stream_id % 2 == 1) == self._is_initiator:
            raise BrokenProtocol("opens a stream under a number that is not free")
        if self._numbers[False] >= CONNECTION_STREAMS_MAX:
            self.queue(WINDOW, RST, stream_id, 0)
            return None
        self._small_frames += NEW_STREAM_FRAMES
        self.queue(WINDOW, ACK, stream_id, 0)
        return self._remember(stream_id, is_ours=False)

    def _announce(self, stream: MuxStream) -> None:
        """Somebody has to listen to a stream, now that something has been said on it."""
        if not stream.is_announced:
            stream.is_announced = True
            try:
                self._arriving.send_nowait(stream)
            except trio.WouldBlock:
                stream.abandon()

    # --- keeping alive ---

    def _take_ping(self, flags: int, value: int) -> None:
        if flags & SYN:
            self.queue(PING, ACK, 0, value)
        elif flags & ACK and value == self._pinged[0]:
            measured = trio.current_time() - self._pinged[1]
            known = self.latency_seconds
            self.latency_seconds = measured if known is None else (known + measured) / 2
            self._ponged.set()

    async def _keep_alive(self) -> None:
        """Ping for ever: at once, again soon (the first measures a busy start), then at intervals."""
        pause = PING_AGAIN_SECONDS
        for number in range(1, 2**31):
            self._ponged = trio.Event()
            self._pinged = (number, trio.current_time())
            self.queue(PING, SYN, 0, number)
            with trio.move_on_after(PING_TIMEOUT_SECONDS):
                await self._ponged.wait()
            # Bulk data may hold up a pong, but then something was heard.
            if not self._ponged.is_set() and self._heard_at < self._pinged[1]:
                return  # the peer has fallen silent
            await trio.sleep(pause)
            pause = PING_INTERVAL_SECONDS

    async def _sweep(self) -> None:
        """Reset streams that we closed and the peer does not, and those that it opened and says nothing on."""
        while True:
            await trio.sleep(LINGER_SECONDS)
            now = trio.current_time()
            for stream in list(self.streams.values()):
                is_left = stream.closed_at and now - stream.closed_at >= LINGER_SECONDS
                if is_left or (not stream.is_announced and now - stream.opened_at >= IDLE_TIMEOUT_SECONDS):
                    stream.abandon()

    # --- what py-libp2p asks of a connection ---

    def get_transport_addresses(self) -> list[Multiaddr]:
        addresses: list[Multiaddr] = self.secured_conn.get_transport_addresses()
        return addresses

    def get_connection_type(self) -> ConnectionType:
        return self.secured_conn.get_connection_type()  # type: ignore[no-any-return]

    def get_remote_address(self) -> tuple[str, int] | None:
        return self.secured_conn.get_remote_address()  # type: ignore[no-any-return]
