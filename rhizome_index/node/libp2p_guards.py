"""What py-libp2p 0.8.1 needs to be told before peers can rely on it.

Each guard names the behaviour it guards against; a regression test fails without
it. They reach into the library, which is why its version is pinned. When an
upgrade makes a guard needless, its test says so: then it goes.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Sequence
from typing import Any

import trio
from libp2p.io.exceptions import IOException
from libp2p.network.connection import swarm_connection
from libp2p.protocol_muxer import multiselect_client
from libp2p.protocol_muxer.exceptions import MultiselectClientError
from libp2p.stream_muxer import muxer_multistream
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.stream_muxer.yamux import yamux
from libp2p.utils.varint import encode_delim

from rhizome_index.limits import (
    CLOSE_TIMEOUT_SECONDS,
    FIRST_PING_SECONDS,
    PEER_STREAMS_MAX,
    PING_INTERVAL_SECONDS,
    PING_TIMEOUT_SECONDS,
    RECEIVE_WINDOW_BYTES_MAX,
    WRITE_TIMEOUT_SECONDS,
)

_log = logging.getLogger(__name__)

PIECE_BYTES = yamux.MAX_MESSAGE_SIZE - yamux.HEADER_SIZE  # the most that one frame carries


class GuardedStream(yamux.YamuxStream):
    """A stream whose peer keeps to its window, and that loses nothing when a call is cancelled.

    The library buffers whatever a peer sends, takes bytes out of its buffer before a checkpoint (where a
    cancellation loses them), answers every single byte read with a window update, polls for its window, and
    lets a reader sleep on when the stream is reset from this side.
    """

    def __init__(self, stream_id: int, conn: Any, is_initiator: bool) -> None:
        self._credit = trio.Event()
        super().__init__(stream_id, conn, is_initiator)

    @property
    def recv_window(self) -> int:  # type: ignore[override]
        """What the peer may still send."""
        return self._recv_window

    @recv_window.setter
    def recv_window(self, value: int) -> None:
        self._recv_window = value
        if value < 0:
            self.conn.abandon()  # type: ignore[attr-defined]

    @property
    def send_window(self) -> int:  # type: ignore[override]
        """What we may still send."""
        return self._send_window

    @send_window.setter
    def send_window(self, value: int) -> None:
        self._send_window = value
        self.wake()

    def wake(self) -> None:
        """Let a writer look again: its window or the stream has changed."""
        self._credit.set()
        self._credit = trio.Event()

    async def write(self, data: bytes) -> None:
        """Send all of `data`. Cancelled, it may have sent a part; the connection stays whole."""
        start = 0
        while start < len(data):
            while self._send_window <= 0 and not self._is_over():
                await self._credit.wait()
            if self._is_over():
                raise MuxedStreamError("the stream is closed for sending")
            piece = data[start : start + min(self._send_window, PIECE_BYTES)]
            self._send_window -= len(piece)
            header = struct.pack(yamux.YAMUX_HEADER_FORMAT, 0, yamux.TYPE_DATA, 0, self.stream_id, len(piece))
            await self.conn._write_frame(header + piece)
            start += len(piece)

    def _is_over(self) -> bool:
        return self.send_closed or self.closed or self.reset_received or self.conn.event_shutting_down.is_set()

    async def read(self, n: int | None = -1) -> bytes:
        """Up to n bytes. Only the waiting can be cancelled, so that nothing read is lost."""
        conn, number = self.conn, self.stream_id
        while not (
            conn.stream_buffers.get(number)
            or self.recv_closed
            or self.closed
            or self.reset_received
            or conn.event_shutting_down.is_set()
            or number not in conn.stream_events
        ):
            if conn.stream_events[number].is_set():
                conn.stream_events[number] = trio.Event()
            await conn.stream_events[number].wait()
        with trio.CancelScope(shield=True):
            return await super().read(n)

    async def _auto_tune_and_send_window_update(self, *, bytes_read: int = 0) -> None:
        """Give credit back once half of the window is used; what is buffered and on its way stays within it."""
        used = self._recv_window + len(self.conn.stream_buffers.get(self.stream_id, b""))
        if self.target_recv_window - used < self.target_recv_window // 2 or self.recv_closed or self.closed:
            return
        self.target_recv_window = min(self.target_recv_window * 2, RECEIVE_WINDOW_BYTES_MAX)
        credit = self.target_recv_window - used
        self._recv_window += credit
        await self.send_window_update(credit)

    async def finish(self) -> None:
        """Send what ends our side, and forget the stream even if the peer never ends its own."""
        await self.close()
        if not self.recv_closed:
            self.recv_closed = self.closed = True
            self.conn.stream_buffers.get(self.stream_id, bytearray()).clear()
            await self.conn._finalize_stream(self, fully_closed=True)


class GuardedYamux(yamux.Yamux):
    """Yamux whose connection survives cancellation, notices a dead peer, and is given up when it must be.

    The library writes a frame of the encrypted connection in pieces: cancelled between two of them, it leaves
    the connection listed as good and corrupt for ever. So frames are written under a shield; when the deadline
    passes, the connection goes instead.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._write_timeout = WRITE_TIMEOUT_SECONDS

    async def _write_frame(self, data: bytes) -> None:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + self._write_timeout) as scope:
            async with self._write_lock:
                await self.secured_conn.write(data)
        if scope.cancelled_caught:
            self.abandon()
            raise IOException("the peer does not read")

    def abandon(self) -> None:
        """Give this connection up at once, without a word to the peer. Its owner closes the socket."""
        self.event_shutting_down.set()
        for stream in self.streams.values():
            stream.closed = stream.send_closed = stream.recv_closed = stream.reset_received = True
            self._wake(stream)
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    def _wake(self, stream: Any) -> None:
        event = self.stream_events.get(stream.stream_id)
        if event is not None:
            event.set()
        stream.wake()

    def _finalize_stream_locked(self, stream: Any, *, fully_closed: bool) -> None:
        self._wake(stream)
        super()._finalize_stream_locked(stream, fully_closed=fully_closed)

    async def open_stream(self) -> yamux.YamuxStream:
        if self.stream_backlog_semaphore.value == 0:  # the library would wait, maybe for ever
            raise MuxedStreamError("too many streams are open with this peer")
        with trio.CancelScope(shield=True):  # a slot would leak; every wait inside has its deadline
            return await super().open_stream()

    async def close(self, error_code: int = yamux.GO_AWAY_NORMAL) -> None:
        self._write_timeout = CLOSE_TIMEOUT_SECONDS
        streams = list(self.streams.values())
        deadline = trio.current_time() + 2 * CLOSE_TIMEOUT_SECONDS
        with trio.CancelScope(shield=True, deadline=deadline):
            await super().close(error_code)
        self.event_closed.set()
        for stream in streams:
            self._wake(stream)

    async def _measure_rtt_loop(self) -> None:
        """Ping, and give the connection up when no answer comes: the library ignores that."""
        await trio.sleep(FIRST_PING_SECONDS)
        while not self.event_shutting_down.is_set():
            self._ping_id = (self._ping_id + 1) % 2**32
            self._ping_event = trio.Event()
            self._ping_sent_time = trio.current_time()
            header = (0, yamux.TYPE_PING, yamux.FLAG_SYN, 0, self._ping_id)
            try:
                await self._write_frame(struct.pack(yamux.YAMUX_HEADER_FORMAT, *header))
            except Exception:
                return  # the reader sees the same
            with trio.move_on_after(PING_TIMEOUT_SECONDS) as scope:
                await self._ping_event.wait()
            if scope.cancelled_caught:
                self.abandon()
                return
            await trio.sleep(PING_INTERVAL_SECONDS)


async def select_at_once(self: Any, protocols: Sequence[Any], communicator: Any, negotiate_timeout: int = 30) -> Any:
    """Negotiate in one round trip instead of two when there is only one protocol to offer.

    A negotiator reads message by message, so that both may travel together.
    """
    if len(protocols) != 1:
        return await _select_one_of(self, protocols, communicator, negotiate_timeout)
    hello, wanted = multiselect_client.MULTISELECT_PROTOCOL_ID, str(protocols[0])
    with trio.move_on_after(negotiate_timeout):
        try:
            await communicator.read_writer.write(encode_delim(hello.encode()) + encode_delim(wanted.encode()))
            said = await communicator.read()
            if said == hello:
                said = await communicator.read()
        except Exception as error:
            raise MultiselectClientError(f"the negotiation broke off: {error}") from error
        if said != wanted:
            raise MultiselectClientError(f"protocol not supported: {wanted}")
        return protocols[0]
    raise MultiselectClientError("the negotiation timed out")


_select_one_of = multiselect_client.MultiselectClient.select_one_of


def install() -> None:
    """Put the guards of the whole library in place. Calling it again changes nothing."""
    # The negotiator ignores the muxer class it is given and takes this name instead.
    vars(muxer_multistream)["Yamux"] = GuardedYamux
    vars(yamux)["YamuxStream"] = GuardedStream
    # The largest single frame; by default one frame may be 16 MiB.
    vars(yamux)["MAX_WINDOW_SIZE"] = RECEIVE_WINDOW_BYTES_MAX
    multiselect_client.MultiselectClient.select_one_of = select_at_once  # type: ignore[method-assign]
    # This module logs to the root logger, which prints warnings to standard error.
    vars(swarm_connection)["logging"] = logging.getLogger("libp2p.network.connection")
    logging.getLogger("libp2p").setLevel(logging.CRITICAL + 1)


def guard_host(host: Any) -> None:
    """Put the guards of one host in place, before it runs."""
    network = host.get_network()
    _hold_inbound(network)
    _shield_opening(network)
    _contain_handlers(host, network)
    # Asking each new peer who it is costs more than the connection; nothing here needs the answer.
    # Others may still ask us.
    host._schedule_identify = lambda peer_id, *, reason: None


def _hold_inbound(network: Any) -> None:
    """Make an inbound connection hold its slot until it closes.

    The library takes a slot for each inbound connection and gives it back at shutdown only, so that a listener
    is deaf after 250 of them. Its handler ends early when the upgrade fails: so it "fails" once it is over.
    """
    upgrade = network.upgrade_inbound_raw_conn

    async def upgrade_and_hold(raw_conn: Any, address: Any) -> Any:
        muxed = await upgrade(raw_conn, address)
        await muxed.event_closed.wait()
        raise OSError("the connection is over")

    network.upgrade_inbound_raw_conn = upgrade_and_hold


def _shield_opening(network: Any) -> None:
    """Open a stream wholly or not at all: cancelled halfway, it would hold its slot for ever."""
    new_stream = network.new_stream

    async def open_wholly(peer_id: Any) -> Any:
        with trio.CancelScope(shield=True):
            return await new_stream(peer_id)

    network.new_stream = open_wholly


def _contain_handlers(host: Any, network: Any) -> None:
    """Keep whatever goes wrong on one inbound stream from ending the host, and bound the streams of one peer.

    The library runs handlers, its own negotiation included, in the task group of the host.
    """
    handle = host._swarm_stream_handler
    open_streams: dict[str, int] = {}

    async def contained(stream: Any) -> None:
        peer = str(stream.muxed_conn.peer_id)
        open_streams[peer] = open_streams.get(peer, 0) + 1
        try:
            if open_streams[peer] > PEER_STREAMS_MAX:
                await stream.reset()
            else:
                await handle(stream)
        except* Exception as errors:
            _log.debug("a stream of %s ended: %r", peer, errors)
            await stream.reset()
        finally:
            open_streams[peer] -= 1
            if not open_streams[peer]:
                del open_streams[peer]

    network.set_stream_handler(contained)
