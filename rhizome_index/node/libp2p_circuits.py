"""Connections through a relay: a circuit's stream carries Noise and Yamux like a socket does, and is upgraded like one.

Promises: a circuit is given up when it has taken what the relay allows it, or when
the relay goes; a relay that lies, is silent or floods costs its connection and the
circuit, and the peer at the other end proves who it is as it does over a socket. One
that we dialled for circuits alone is let go with the last of them. Where its limit has
ended a circuit of ours, the way to the peer is known for a moment longer.

It does not know who relays for us, nor why a peer is to be reached.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import trio
from libp2p.connection_types import ConnectionType
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import MuxedStreamEOF, MuxedStreamReset
from multiaddr import Multiaddr

from rhizome_index.errors import IntegrityError, UnavailableError
from rhizome_index.limits import (
    CIRCUIT_AGAIN_SECONDS,
    CIRCUIT_EARLY_SECONDS,
    CIRCUIT_MESSAGE_BYTES_MAX,
    CIRCUIT_MESSAGE_SECONDS,
    CIRCUIT_WRITE_BYTES,
)
from rhizome_index.node.framed import receive_message
from rhizome_index.node.libp2p_arrivals import arrivals
from rhizome_index.node.libp2p_yamux_stream import MuxStream
from rhizome_index.node.swarm import SpentError
from rhizome_index.wire import circuit
from rhizome_index.wire.circuit import Limit, Status
from rhizome_index.wire.counted import make_room
from rhizome_index.wire.frame import FrameReader
from rhizome_index.wire.multiaddr import RELAYED

if TYPE_CHECKING:
    from rhizome_index.node.libp2p_swarm import Libp2pSwarm

_READ_BYTES = 262_144


class Circuit(ReadWriteCloser):
    """One end of a circuit, as a connection's bytes. `read(n)` gives n bytes, or what is left before the end.

    relay   the id of the relay that it goes through
    rest    what has been read of it already
    closed  called once, when our end is closed
    spent   called when it ends because the relay allows it no more, before anybody is told that it has ended
    """

    def __init__(
        self,
        stream: MuxStream,
        relay: str,
        rest: bytes,
        limit: Limit,
        closed: Callable[[], None] | None = None,
        spent: Callable[[], None] = lambda: None,
    ) -> None:
        self.relay = relay
        self._stream = stream
        self._held = rest
        self._spent = spent
        self._moved = len(rest)  # in both directions: some relays count them as one
        self._bytes_max: float = limit.data_bytes or math.inf
        self._ends_at = trio.current_time() + limit.seconds if limit.seconds else math.inf
        self._may_send: float = limit.data_bytes or math.inf
        self._is_ended = False
        self._closed = closed

    def has_unread(self) -> bool:
        """Whether something has come that nobody has read."""
        return bool(self._held) or self._stream.has_unread()

    async def read(self, n: int | None = None) -> bytes:
        while not self._is_ended and len(self._held) < (1 if n is None else n):
            with trio.CancelScope(deadline=self._ends_at) as scope:
                try:
                    data = await self._stream.read(_READ_BYTES)
                    self._held += data
                    self._moved += len(data)
                except (MuxedStreamEOF, MuxedStreamReset):
                    self._is_ended = True
            self._is_ended = self._is_ended or scope.cancelled_caught
            if self._is_ended and self._is_spent():
                self._spent()
        n = len(self._held) if n is None else n
        data, self._held = self._held[:n], self._held[n:]
        return data

    async def write(self, data: bytes) -> None:
        """Raises ConnectionClosedError when the circuit is over, or would be: it has taken all it may."""
        self._may_send -= len(data)
        if self._may_send < 0 or trio.current_time() >= self._ends_at:
            self._spent()
            raise ConnectionClosedError("the circuit has had what the relay allows it", transport="circuit")
        try:
            await self._stream.write(data)
        except MuxedStreamReset as error:
            raise ConnectionClosedError(str(error), transport="circuit") from error
        self._moved += len(data)

    def _is_spent(self) -> bool:
        """Whether what has passed explains an end: what may follow is more than the relay allows, or it is late."""
        return (
            self._moved + CIRCUIT_WRITE_BYTES > self._bytes_max
            or trio.current_time() >= self._ends_at - CIRCUIT_EARLY_SECONDS
        )

    async def close(self) -> None:
        self._stream.disregard()
        await self._stream.close()
        closed, self._closed = self._closed, None
        if closed is not None:
            closed()

    def get_remote_address(self) -> tuple[str, int] | None:
        return None


class _Spent(NamedTuple):
    """A circuit of ours that a relay's limit has ended: through which relay it went, and how long that is known."""

    relay_address: str
    limit: Limit
    until: float


class Circuits:
    """The circuits of one peer's place in the network. What has to be tidied up is, in tasks of `nursery`."""

    def __init__(self, swarm: Libp2pSwarm, network: Any, nursery: trio.Nursery) -> None:
        self._swarm = swarm
        self._network = network
        self._nursery = nursery
        self._places: dict[str, tuple[str, ...]] = {}
        self._users: Counter[str] = Counter()  # of relays that we dialled for circuits alone
        self._spent: dict[str, _Spent] = {}  # by the peer at the other end

    @property
    def addresses(self) -> list[Multiaddr]:
        """Where we can be reached through relays, without our id at the end."""
        return [Multiaddr(address + RELAYED) for addresses in self._places.values() for address in addresses]

    def listen_through(self, relay: str, addresses: Sequence[str]) -> None:
        """Take circuits from this relay, which can be reached at these full addresses; none: take them no longer."""
        self._places.pop(relay, None)
        if addresses:
            self._places[relay] = tuple(addresses)

    async def dial(self, relay_address: str, peer: ID, timeout_seconds: float) -> None:
        """Connect to a peer behind a relay. Raises UnavailableError with the reason, and what the library raises."""
        known = self._swarm.connected_peers
        relay = await self._swarm.dial_relay(relay_address, timeout_seconds=timeout_seconds)
        if relay not in known or relay in self._users:
            self._users[relay] += 1
        released = partial(self._release, relay, str(peer))
        try:
            stream = await self._swarm.open_stream(relay, circuit.HOP, timeout_seconds=timeout_seconds, lasting=True)
        except BaseException:
            released()
            raise
        is_open = False
        try:
            reader = FrameReader(CIRCUIT_MESSAGE_BYTES_MAX)
            await stream.send(circuit.hop_connect(str(peer)))
            answer = circuit.read_answer(await receive_message(stream, reader))
            if answer.status != Status.OK:
                raise UnavailableError(answer.reason)
            spent = partial(self._note_spent, str(peer), relay_address, answer.limit)
            end = Circuit(stream.detach(), relay, reader.take_rest(), answer.limit, released, spent)
            is_open = True
        except IntegrityError:
            await self._swarm.disconnect(relay)
            raise UnavailableError("the relay answers nonsense") from None
        finally:
            if not is_open:
                await stream.reset()
                released()
        raw = RawConnection(end, True, ConnectionType.RELAYED, [])
        try:
            await self._network.upgrade_outbound_raw_conn(raw, peer)
        except BaseException:
            await end.close()
            raise
        self.forget(str(peer))  # how it was before

    def _note_spent(self, peer_id: str, relay_address: str, limit: Limit) -> None:
        make_room(self._spent)
        self._spent[peer_id] = _Spent(relay_address, limit, trio.current_time() + CIRCUIT_AGAIN_SECONDS)

    def forget(self, peer_id: str) -> None:
        """The peer is connected, or not to be connected to again."""
        self._spent.pop(peer_id, None)

    def way_back(self, peer_id: str) -> str | None:
        """Where a peer is reached that a relay's limit has parted from us just now."""
        spent = self._spent_with(peer_id)
        return None if spent is None else f"{spent.relay_address}{RELAYED}/p2p/{peer_id}"

    def why_ended(self, peer_id: str) -> SpentError | None:
        """What to say of a relayed connection that has ended just now, if the relay's limit was why."""
        spent = self._spent_with(peer_id)
        return None if spent is None else SpentError(peer_id, str(spent.limit))

    def _spent_with(self, peer_id: str) -> _Spent | None:
        spent = self._spent.get(peer_id)
        return None if spent is None or spent.until <= trio.current_time() else spent

    async def accept(self, stream: Any) -> None:
        """On a `Libp2pStream` a relay says that a peer wants to reach us. Ends with the connection."""
        relay, reader = stream.peer_id, FrameReader(CIRCUIT_MESSAGE_BYTES_MAX)
        try:
            with trio.fail_after(CIRCUIT_MESSAGE_SECONDS):
                _, limit = circuit.read_stop(await receive_message(stream, reader))
        except trio.TooSlowError:
            await stream.reset()
            return
        except IntegrityError:
            await stream.send(circuit.stop_answer(Status.MALFORMED))
            return
        if relay not in self._places:
            await stream.send(circuit.stop_answer(Status.PERMISSION_DENIED))
            return
        await stream.send(circuit.stop_answer(Status.OK))
        end = Circuit(stream.detach(), relay, reader.take_rest(), limit)
        raw = RawConnection(end, False, ConnectionType.RELAYED, [])
        upgrade = partial(self._network.upgrade_inbound_raw_conn, raw, Multiaddr(RELAYED))
        await arrivals().serve_from(f"relay {relay}", upgrade, end.has_unread)

    def _release(self, relay: str, peer_id: str) -> None:
        """A circuit is over."""
        if relay in self._users:
            self._users[relay] -= 1
            if not self._users[relay]:
                wait_seconds = 0.0 if self.way_back(peer_id) is None else CIRCUIT_AGAIN_SECONDS
                self._nursery.start_soon(self._let_go, relay, wait_seconds)

    async def _let_go(self, relay: str, wait_seconds: float) -> None:
        """Leave a relay that nobody uses for anything."""
        await trio.sleep(wait_seconds)
        if not self._users[relay]:
            del self._users[relay]
            if relay not in self._places and self._swarm.is_quiet(relay):
                await self._swarm.disconnect(relay)
