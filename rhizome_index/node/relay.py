"""Volunteering as a relay: peers that nobody can dial are reached through us.

Rules: a peer has a place only while it is connected, and for a time; each circuit
has its bytes and its time, each peer its circuits, and all together theirs. What
passes is held in memory one piece at a time, and is not looked at: the ends encrypt it.
Every way to fail ends one circuit and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import trio
from multiaddr import Multiaddr

from rhizome_index.errors import IntegrityError, UnavailableError
from rhizome_index.limits import (
    CIRCUIT_BYTES_MAX,
    CIRCUIT_MESSAGE_BYTES_MAX,
    CIRCUIT_MESSAGE_SECONDS,
    CIRCUIT_SECONDS_MAX,
    CIRCUITS_MAX,
    CIRCUITS_PER_PEER_MAX,
    RESERVATION_ADDRESSES_MAX,
    RESERVATION_SECONDS,
    RESERVATIONS_MAX,
)
from rhizome_index.node.framed import receive_message
from rhizome_index.node.swarm import Stream, Swarm
from rhizome_index.wire import circuit
from rhizome_index.wire.circuit import Status
from rhizome_index.wire.frame import FrameReader
from rhizome_index.wire.multiaddr import RELAYED

_LIMIT = circuit.Limit(int(CIRCUIT_SECONDS_MAX), CIRCUIT_BYTES_MAX)


class Relay:
    """Relays circuits between peers that are connected to us.

    clock  seconds since 1970: when a place ends is told to others
    """

    def __init__(self, swarm: Swarm, clock: Callable[[], float]) -> None:
        self._swarm = swarm
        self._clock = clock
        self._places: dict[str, float] = {}  # until when each peer has one, in trio's time
        self._circuits: Counter[str] = Counter()  # of each peer, at either end

    def start(self) -> None:
        """Begin to answer."""
        self._swarm.handle(circuit.HOP, self._answer, lasting=True)

    async def _answer(self, stream: Stream) -> None:
        reader = FrameReader(CIRCUIT_MESSAGE_BYTES_MAX)
        try:
            with trio.fail_after(CIRCUIT_MESSAGE_SECONDS):
                asked = circuit.read_hop(await receive_message(stream, reader))
        except trio.TooSlowError:
            await stream.reset()
            return
        except IntegrityError:
            await stream.send(circuit.hop_refusal(Status.MALFORMED))
            return
        if isinstance(asked, circuit.Reserve):
            await stream.send(self._reserve(stream.peer_id))
            return
        ends = (stream.peer_id, asked.peer_id)
        if not self._has_place(asked.peer_id):
            await stream.send(circuit.hop_refusal(Status.NO_RESERVATION))
        elif self._is_full(ends):
            await stream.send(circuit.hop_refusal(Status.LIMIT_EXCEEDED))
        else:
            self._circuits.update(ends)
            try:
                await self._connect(stream, asked.peer_id, reader)
            finally:
                self._circuits.subtract(ends)
                self._circuits += Counter()  # forgets those that have none

    def _reserve(self, peer_id: str) -> bytes:
        """The answer to a peer that wants a place, or to keep the one it has."""
        connected = set(self._swarm.connected_peers)
        self._places = {peer: end for peer, end in self._places.items() if peer in connected and self._is_ahead(end)}
        if peer_id not in self._places and len(self._places) >= RESERVATIONS_MAX:
            return circuit.hop_refusal(Status.RESERVATION_REFUSED)
        self._places[peer_id] = trio.current_time() + RESERVATION_SECONDS
        ours = [address for address in self._swarm.addresses if RELAYED not in address]
        addresses = [Multiaddr(address).to_bytes() for address in ours[:RESERVATION_ADDRESSES_MAX]]
        return circuit.hop_reserved(int(self._clock() + RESERVATION_SECONDS), addresses, _LIMIT)

    def _has_place(self, peer_id: str) -> bool:
        return self._is_ahead(self._places.get(peer_id, 0.0)) and peer_id in self._swarm.connected_peers

    def _is_ahead(self, moment: float) -> bool:
        return moment > trio.current_time()

    def _is_full(self, ends: tuple[str, str]) -> bool:
        return self._circuits.total() >= 2 * CIRCUITS_MAX or any(
            self._circuits[peer] >= CIRCUITS_PER_PEER_MAX for peer in ends
        )

    async def _connect(self, stream: Stream, peer_id: str, reader: FrameReader) -> None:
        """Ask the peer behind us, and if it accepts carry what both say."""
        try:
            other = await self._swarm.open_stream(
                peer_id, circuit.STOP, timeout_seconds=CIRCUIT_MESSAGE_SECONDS, lasting=True
            )
        except UnavailableError:
            await stream.send(circuit.hop_refusal(Status.CONNECTION_FAILED))
            return
        answers = FrameReader(CIRCUIT_MESSAGE_BYTES_MAX)
        try:
            if not await _ask(other, stream.peer_id, answers):
                await stream.send(circuit.hop_refusal(Status.CONNECTION_FAILED))
                return
            await stream.send(circuit.hop_connected(_LIMIT))
            with trio.move_on_after(CIRCUIT_SECONDS_MAX):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_carry, stream, other, reader.take_rest(), nursery.cancel_scope)
                    nursery.start_soon(_carry, other, stream, answers.take_rest(), nursery.cancel_scope)
        finally:
            with trio.CancelScope(shield=True):
                await other.close()


async def _ask(stream: Stream, peer_id: str, answers: FrameReader) -> bool:
    """Whether the peer at the other end takes a circuit with this one."""
    with suppress(UnavailableError, IntegrityError), trio.move_on_after(CIRCUIT_MESSAGE_SECONDS):
        await stream.send(circuit.stop_connect(peer_id, _LIMIT))
        return circuit.is_accepted(await receive_message(stream, answers))
    return False


async def _carry(source: Stream, target: Stream, first: bytes, both: trio.CancelScope) -> None:
    """Pass on what one end says, until it ends or has said as much as it may; then the circuit is over."""
    left = CIRCUIT_BYTES_MAX
    data = first or None
    with suppress(UnavailableError):
        while data is None or (data and len(data) <= left):
            if data:
                left -= len(data)
                await target.send(data)
            data = await source.receive()
    both.cancel()
