"""One peer's view of the simulated network: `node.swarm.Swarm` and its streams.

Promises what that interface says, with the bounds of the real one: receive windows
that grow while they are read, idle streams that end, peers that do not read losing
their connection, a cap on streams. A dial takes four round trips (TCP, two
negotiations, Noise), opening a stream takes one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

import trio

from rhizome_index.errors import UnavailableError, UsageError
from rhizome_index.limits import (
    IDLE_TIMEOUT_SECONDS,
    STREAM_WINDOW_BYTES,
    STREAM_WINDOW_BYTES_MAX,
    STREAMS_PER_PEER_MAX,
    WRITE_TIMEOUT_SECONDS,
)
from rhizome_index.node.swarm import Notice, StreamHandler
from rhizome_index.node.tally import IN, OUT, Tally
from rhizome_index.simulation.network import SEGMENT_BYTES, Connection, Host, SimNetwork, checksum

_HANDSHAKE_ROUND_TRIPS = 4
_READ_BYTES = 256 * 1024


class SimStream:
    """One end of a stream. Ends call each other through their connection only, which takes its time."""

    def __init__(
        self, host: Host, connection: Connection, protocol: str, swarm: SimSwarm, *, lasting: bool = False
    ) -> None:
        self.host = host
        self.connection = connection
        self.protocol = protocol
        self.is_queued = False
        self.twin: SimStream | None = None
        self._swarm = swarm
        self._peer_id, self._sender = connection.other(host).peer_id, connection.other(host).name
        self._active_at = swarm.world.now
        self.problem = ""  # why it can no longer be used at all
        self._senders, self._receivers = trio.lowlevel.ParkingLot(), trio.lowlevel.ParkingLot()  # those who wait
        # sending
        self._queue: deque[bytes] = deque()  # b"" stands for the end
        self._queued = self._taken = 0  # bytes, ever
        self._credit = self._window = STREAM_WINDOW_BYTES
        self._is_closed = False
        # receiving
        self._received: deque[bytes] = deque()
        self._read = 0  # bytes, since the twin was last told
        self._has_ended = False
        connection.ends[self] = None
        if not lasting:
            swarm.world.after(IDLE_TIMEOUT_SECONDS, self._watch_silence)

    @property
    def peer_id(self) -> str:
        return self._peer_id

    # --- for its user ---

    async def send(self, data: bytes) -> None:
        """See `node.swarm.Stream`. Cancelled when a part has gone, it resets the stream."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check()
        if not data:
            await trio.lowlevel.checkpoint()
            return
        self.host.counts.messages_sent += 1
        self._swarm.tally.note_sent(self._peer_id, self.protocol, len(data))
        self._active_at = self._swarm.world.now
        self._queue.append(data)
        self._queued += len(data)
        end = self._queued
        self.host.offer(self)
        try:
            if self._taken >= end:
                await trio.lowlevel.cancel_shielded_checkpoint()
            while self._taken < end:
                before = self._taken
                with trio.move_on_after(WRITE_TIMEOUT_SECONDS) as scope:
                    await self._senders.park()
                self._check()
                if scope.cancelled_caught and self._taken == before:
                    self.connection.leave(self.host, "it does not read")
                    self._check()
        except trio.Cancelled:
            self._abandon()
            raise

    async def receive(self) -> bytes:
        """See `node.swarm.Stream`. Raises UnavailableError also after IDLE_TIMEOUT_SECONDS of silence."""
        if self._received or self._has_ended or self.problem or self._is_closed:
            await trio.lowlevel.checkpoint()
        while not self._received:
            if self._has_ended:
                return b""
            self._check()
            await self._receivers.park()
        size = 0
        parts = []
        while self._received and size + len(self._received[0]) <= _READ_BYTES:
            parts.append(self._received.popleft())
            size += len(parts[-1])
        self._note_read(size)
        return b"".join(parts) if len(parts) > 1 else parts[0]

    async def close(self) -> None:
        """See `node.swarm.Stream`. What was sent before still goes out."""
        if not self._is_closed and not self.problem:
            self._is_closed = True
            self._received.clear()
            self._queue.append(b"")
            self.host.offer(self)
            self._wake()

    async def reset(self) -> None:
        self._abandon()

    def _check(self) -> None:
        if self.problem or self._is_closed:
            raise UnavailableError(f"peer {self._peer_id} is gone: {self.problem or 'the stream is closed'}")

    def _note_read(self, size: int) -> None:
        self._read += size
        if self._read >= self._window // 2 and self.twin is not None:
            grown = min(STREAM_WINDOW_BYTES_MAX, 2 * self._window) - self._window
            self._window += grown
            self.connection.signal(self.host, partial(self.twin.grant, self._read + grown))
            self._read = 0

    def _watch_silence(self) -> None:
        """Reset it once nothing has been said for a while."""
        silent_from = self._active_at + IDLE_TIMEOUT_SECONDS
        if self.problem or (self._is_closed and self._has_ended):
            return
        if self._swarm.world.now < silent_from:
            self._swarm.world.at(silent_from, self._watch_silence)
        else:
            self._abandon(f"nothing was said for {IDLE_TIMEOUT_SECONDS:g} s")

    def _abandon(self, reason: str = "the stream was reset") -> None:
        """Reset it."""
        if not self.problem:
            self.fail(reason)
            if self.twin is not None:
                self.connection.signal(self.host, self.twin.take_reset)

    async def wait_answered(self) -> None:
        """Until the other host has answered, or the stream is gone."""
        while self.twin is None and not self.problem:
            await self._senders.park()

    # --- for its host and its connection ---

    @property
    def is_ready(self) -> bool:
        queue = self._queue
        return bool(queue) and not self.problem and (self._credit > 0 or not queue[0]) and self.twin is not None

    def take(self) -> tuple[int, Callable[[], None]]:
        assert self.twin is not None
        data = self._queue.popleft()
        if not data:
            self._drop_if_over()
            return 0, self.twin.take_end
        size = min(len(data), SEGMENT_BYTES, self._credit)
        if size < len(data):
            self._queue.appendleft(data[size:])
            data = data[:size]
        self._credit -= size
        self._taken += size
        self._senders.unpark_all()
        return size, partial(self.twin.take_data, data)

    def fail(self, reason: str) -> None:
        self.problem = self.problem or reason
        self._queue.clear()
        self.connection.ends.pop(self, None)
        self._wake()

    # --- from its twin ---

    def take_data(self, data: bytes) -> None:
        """Bytes have arrived."""
        if self._is_closed:
            self._note_read(len(data))  # nobody listens, but whoever sends must not be held up
        if self.problem or self._is_closed:
            return
        self.host.counts.bytes_received += len(data)
        self._swarm.tally.note_received(self._peer_id, self.protocol, len(data))
        self._swarm.world.trace.note("data", self.host.name, f"{self._sender} {self.protocol} {checksum(data)}")
        self._active_at = self._swarm.world.now
        self._received.append(data)
        self._receivers.unpark_all()

    def take_end(self) -> None:
        """The other end has finished."""
        self._has_ended = True
        self._drop_if_over()
        self._receivers.unpark_all()

    def take_reset(self) -> None:
        """The other end has reset the stream."""
        self._has_ended = True
        self.fail("the stream was reset")

    def grant(self, size: int) -> None:
        """The other end has read."""
        self._credit += size
        self.host.offer(self)

    def take_answer(self, twin: SimStream | None) -> None:
        """The other host has opened its end, or speaks no such protocol."""
        self.twin = twin
        if twin is None:
            self.fail(f"it does not speak {self.protocol}")
        elif self.problem:  # nobody waits for it any more
            self.connection.signal(self.host, twin.take_reset)
        self._senders.unpark_all()

    def _wake(self) -> None:
        """Whoever waits, for whatever: it is over."""
        self._senders.unpark_all()
        self._receivers.unpark_all()

    def _drop_if_over(self) -> None:
        if self._is_closed and self._has_ended:
            self.connection.ends.pop(self, None)


class SimSwarm:
    """One peer's place in the simulated network. Made when the peer starts, gone when it stops."""

    def __init__(
        self,
        network: SimNetwork,
        host: Host,
        nursery: trio.Nursery,
        *,
        handshake_round_trips: int = _HANDSHAKE_ROUND_TRIPS,
    ) -> None:
        self.world = network.world
        self._network = network
        self._host = host
        self._nursery = nursery
        self._handshake_round_trips = handshake_round_trips
        self.tally = Tally()
        self._inbound: dict[tuple[str, str], int] = {}
        self._handlers: dict[str, tuple[StreamHandler, bool]] = {}
        host.accept = self._accept

    @property
    def peer_id(self) -> str:
        return self._host.peer_id

    @property
    def addresses(self) -> tuple[str, ...]:
        return (self._host.address,) if self._host.place.is_dialable else ()

    @property
    def connected_peers(self) -> tuple[str, ...]:
        return tuple(self._host.connections)

    def handle(self, protocol: str, handler: StreamHandler, *, lasting: bool = False) -> None:
        self._handlers[protocol] = (handler, lasting)

    def watch(self, notice: Notice) -> None:
        self._host.watchers.append(notice)

    def listen_through(self, relay: str, addresses: Sequence[str]) -> None:
        raise AssertionError("no relays are simulated")

    def is_relayed(self, peer_id: str) -> bool:
        return False

    async def dial(self, address: str, *, timeout_seconds: float) -> str:
        """See `node.swarm.Swarm`."""
        await trio.lowlevel.checkpoint()
        peer_id = address.rpartition("/p2p/")[2]
        if not address.startswith("/ip4/") or peer_id in ("", address):
            raise UsageError(f"not an address: {address[:100]!r}")
        if peer_id == self.peer_id:
            raise UsageError(f"that is our own address: {address}", hint="dial another peer")
        if peer_id in self._host.connections:
            return peer_id
        self._host.counts.dials += 1
        target = self._network.dialled.get(address)
        reason = f"timed out after {timeout_seconds:g} s"
        with trio.move_on_after(timeout_seconds):
            if target is not None and self._may_reach(target):
                base = self._network.base_seconds(self._host, target)
                round_trips = self._handshake_round_trips if target.is_running else 1
                await trio.sleep(sum(self._network.delay_seconds(base) for _ in range(2 * round_trips)))
            if target is None or not self._may_reach(target):
                await trio.sleep_forever()
                raise AssertionError
            if target.is_running:
                self._network.connect(self._host, target)
                return peer_id
            reason = "connection refused"
        self.world.trace.note("unreachable", self._host.name, f"{address} {reason}")
        raise UnavailableError(f"cannot reach {address}: {reason}")

    def _may_reach(self, target: Host) -> bool:
        is_cut = self._network.is_cut(self._host, target) or self._network.is_cut(target, self._host)
        return target.place.is_dialable and not is_cut

    async def dial_relay(self, address: str, *, timeout_seconds: float) -> str:
        return await self.dial(address, timeout_seconds=timeout_seconds)

    async def open_stream(
        self, peer_id: str, protocol: str, *, timeout_seconds: float, lasting: bool = False
    ) -> SimStream:
        """See `node.swarm.Swarm`. One round trip. Cancelled, it leaves nothing open."""
        connection = self._host.connections.get(peer_id)
        if connection is None:
            await trio.lowlevel.checkpoint()
            raise UnavailableError(f"peer {peer_id} is not connected")
        stream = SimStream(self._host, connection, protocol, self, lasting=lasting)
        connection.signal(self._host, partial(_knock, connection.other(self._host), stream))
        try:
            with trio.move_on_after(timeout_seconds):
                await stream.wait_answered()
        finally:
            if stream.twin is None:
                await stream.reset()
        if stream.twin is None or stream.problem:
            raise UnavailableError(f"no stream with peer {peer_id}: {stream.problem}")
        self.tally.streams[protocol, OUT] += 1
        return stream

    async def disconnect(self, peer_id: str, *, for_cause: bool = False) -> None:
        await trio.lowlevel.checkpoint()
        connection = self._host.connections.get(peer_id)
        if connection is not None:
            connection.leave(self._host, "it was disconnected")

    def latency_seconds(self, peer_id: str) -> float | None:
        connection = self._host.connections.get(peer_id)
        return None if connection is None else 2 * connection.latency_seconds

    def _accept(self, opener: SimStream) -> None:
        """A peer opens a stream: open this end of it, if its protocol is spoken here, and say so."""
        connection = opener.connection
        if self._host.connections.get(opener.host.peer_id) is not connection:
            return  # we have left it, and the peer will hear of it
        found = self._handlers.get(opener.protocol)
        stream = None
        if found is not None:
            handler, lasting = found
            stream = SimStream(self._host, connection, opener.protocol, self, lasting=lasting)
            stream.twin = opener
            self.tally.streams[opener.protocol, IN] += 1
            self.world.trace.note("open", self._host.name, opener.protocol)
            self._nursery.start_soon(self._answer, handler, stream)
        connection.signal(self._host, partial(opener.take_answer, stream))

    async def _answer(self, handler: StreamHandler, stream: SimStream) -> None:
        """Run a handler. What it raises stays here, as in the real network, and is noted."""
        name = (stream.peer_id, stream.protocol)
        self._inbound[name] = self._inbound.get(name, 0) + 1
        try:
            if self._inbound[name] > STREAMS_PER_PEER_MAX:
                await stream.reset()
            else:
                await handler(stream)
        except Exception as error:
            self._host.failures.append(error)
        finally:
            self._inbound[name] -= 1
            await stream.close()


def _knock(host: Host, opener: SimStream) -> None:
    """The wish for a stream has arrived at a host."""
    if host.accept is not None:
        host.accept(opener)
