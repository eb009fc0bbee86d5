"""From a connection through a relay to a direct one: both sides say where they are, and dial each other.

Whoever was reached through a relay begins. What works: a plain dial, either way, of
the addresses that a peer listens on; so it takes one of the two that can be reached
directly, on the same local network, say. Two peers that are both behind routers which let
nobody in stay with the relay: their routers would have to be opened from the very
port that is listened on, at the same moment. So ours dial one after the other.

When there is a direct connection, new streams use it, and the relayed one ends as
soon as nothing more goes over it.

Some who are told of no address that they would dial fall silent in the middle of it, though they can be reached
themselves: then what they have said counts, or what they say by identify.

Rules: a peer's addresses are hearsay, which cost a few dials, one after another, once for
each connection through a relay. It does not know what streams are for.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import trio

from rhizome_index.errors import IntegrityError, UnavailableError, UsageError
from rhizome_index.limits import (
    CIRCUIT_MESSAGE_BYTES_MAX,
    IDENTIFY_BYTES_MAX,
    RETIRE_BYTES,
    RETIRE_LOOK_SECONDS,
    RETIRE_SECONDS_MAX,
    UPGRADE_DELAY_SECONDS,
    UPGRADE_DIAL_SECONDS,
    UPGRADE_SECONDS,
    UPGRADE_TURN_SECONDS,
    UPGRADES_AT_ONCE_MAX,
)
from rhizome_index.node.events import DEBUG, INFO, note
from rhizome_index.node.framed import receive_message
from rhizome_index.node.libp2p_yamux import Session
from rhizome_index.node.swarm import Stream
from rhizome_index.node.tally import DONE, FAILED
from rhizome_index.wire import dcutr, identify
from rhizome_index.wire.frame import FrameReader
from rhizome_index.wire.mdns import announced

if TYPE_CHECKING:
    from rhizome_index.node.libp2p_swarm import Libp2pSwarm


class Upgrader:
    """Upgrades connections of one peer, in tasks of `nursery`."""

    def __init__(self, swarm: Libp2pSwarm, nursery: trio.Nursery) -> None:
        self._swarm = swarm
        self._nursery = nursery
        self._upgrading: set[str] = set()

    def start(self) -> None:
        """Begin to answer, and to look at connections as they come."""
        self._swarm.handle(dcutr.PROTOCOL, self._answer)
        self._swarm.watch_connections(self._look)

    def _look(self, connection: Any) -> None:
        """A connection has come up."""
        session: Session = connection.muxed_conn
        peer = str(session.peer_id)
        if not session.is_relayed:
            for other in self._swarm.relayed_connections(peer):
                self._nursery.start_soon(self._retire, peer, other)
        elif not session.is_initiator and peer not in self._upgrading and len(self._upgrading) < UPGRADES_AT_ONCE_MAX:
            self._upgrading.add(peer)
            self._nursery.start_soon(self._upgrade, peer)

    # --- whoever was reached begins ---

    async def _upgrade(self, peer: str) -> None:
        try:
            await trio.sleep(UPGRADE_DELAY_SECONDS)
            if not self._swarm.is_relayed(peer):
                return
            with trio.move_on_after(UPGRADE_SECONDS), suppress(UnavailableError, IntegrityError):
                try:
                    addresses = await self._agree(peer)
                except UnavailableError:
                    addresses = (await self._identify(peer)).listens
                await trio.sleep(UPGRADE_TURN_SECONDS)
                await self._dial(peer, addresses)
        finally:
            self._upgrading.discard(peer)

    async def _agree(self, peer: str) -> tuple[str, ...]:
        """Tell a peer where we are and when to dial: where it is. Returns at the moment to dial it."""
        stream = await self._swarm.open_stream(peer, dcutr.PROTOCOL, timeout_seconds=UPGRADE_SECONDS)
        try:
            asked = trio.current_time()
            await stream.send(dcutr.encode_connect(self._ours()))
            addresses = dcutr.read_connect(await receive_message(stream, FrameReader(CIRCUIT_MESSAGE_BYTES_MAX)))
            round_trip = trio.current_time() - asked
            await stream.send(dcutr.encode_sync())
        finally:
            with trio.CancelScope(shield=True):
                await stream.close()
        await trio.sleep(round_trip / 2)
        return addresses

    # --- whoever reached it answers ---

    async def _answer(self, stream: Stream) -> None:
        peer = stream.peer_id
        if not self._swarm.is_relayed(peer) or peer in self._upgrading or len(self._upgrading) >= UPGRADES_AT_ONCE_MAX:
            await stream.reset()
            return
        self._upgrading.add(peer)
        try:
            reader = FrameReader(CIRCUIT_MESSAGE_BYTES_MAX)
            with trio.move_on_after(UPGRADE_SECONDS), suppress(UnavailableError, IntegrityError):
                addresses = dcutr.read_connect(await receive_message(stream, reader))
                await stream.send(dcutr.encode_connect(self._ours()))
                with suppress(UnavailableError):
                    dcutr.check_sync(await receive_message(stream, reader))
                await self._dial(peer, addresses)
        finally:
            self._upgrading.discard(peer)

    # --- both ---

    async def _identify(self, peer: str) -> identify.Identified:
        """What a peer says of itself and of us. Raises UnavailableError, IntegrityError."""
        stream = await self._swarm.open_stream(peer, identify.PROTOCOL, timeout_seconds=UPGRADE_SECONDS)
        try:
            return identify.read_identify(await receive_message(stream, FrameReader(IDENTIFY_BYTES_MAX)))
        finally:
            with trio.CancelScope(shield=True):
                await stream.close()

    def _ours(self) -> list[str]:
        tail = f"/p2p/{self._swarm.peer_id}"
        return [text.removesuffix(tail) for text in announced(self._swarm.addresses)]

    async def _dial(self, peer: str, addresses: Sequence[str]) -> None:
        """Dial a peer's addresses, until there is a direct connection, by whichever side."""
        tail = f"/p2p/{peer}"
        for address in addresses:
            if not self._swarm.is_relayed(peer):
                return
            full = address.removesuffix(tail) + tail
            try:
                await self._swarm.dial(full, timeout_seconds=UPGRADE_DIAL_SECONDS)
            except (UnavailableError, UsageError) as error:
                self._swarm.tally.upgrades[FAILED] += 1
                note(DEBUG, "upgrade_failed", peer=peer, reason=str(error))
                continue
            self._swarm.tally.upgrades[DONE] += 1
            note(INFO, "upgraded", peer=peer, address=full)
            return

    async def _retire(self, peer: str, connection: Any) -> None:
        """End a connection through a relay, beside which there is a direct one, when nothing more goes over it."""
        session: Session = connection.muxed_conn
        with trio.move_on_after(RETIRE_SECONDS_MAX):
            moved = -RETIRE_BYTES
            while session.moved_bytes - moved >= RETIRE_BYTES:
                moved = session.moved_bytes
                await trio.sleep(RETIRE_LOOK_SECONDS)
        if not self._swarm.is_relayed(peer):
            await connection.close()
