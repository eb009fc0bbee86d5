"""From a connection through a relay to a direct one: both sides say where they are, and dial each other.

Whoever was reached through a relay begins. Each says where it listens, and first of all where the
relay sees it; both dial at the same moment, from the ends of their connections with the
relay (see `libp2p_opening`), so that it works where routers let in nobody but who was dialled.
What cannot be dialled like that is dialled plainly: by the other side at once, by who was
reached a moment later, so that one connection comes of it.

When there is a direct connection, new streams use it, and the relayed one ends as
soon as nothing more goes over it.

Some who are told of no address that they would dial fall silent in the middle of it, though they can be reached
themselves: then what they have said counts, or what they say by identify.

Rules: a peer's addresses are hearsay, which cost a few dials, a few times for each connection
through a relay. So is where a relay sees us: that is said to the peer at the other
end of a circuit of this relay, and to nobody else. It does not know what streams are for.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import trio
from libp2p.peer.id import ID

from rhizome_index.errors import IntegrityError, UnavailableError, UsageError
from rhizome_index.limits import (
    CIRCUIT_MESSAGE_BYTES_MAX,
    IDENTIFY_BYTES_MAX,
    RETIRE_BYTES,
    RETIRE_LOOK_SECONDS,
    RETIRE_SECONDS_MAX,
    UPGRADE_ANSWERS_MAX,
    UPGRADE_DELAY_SECONDS,
    UPGRADE_DIAL_SECONDS,
    UPGRADE_SECONDS,
    UPGRADE_TURN_SECONDS,
    UPGRADE_VIEW_SECONDS,
    UPGRADES_AT_ONCE_MAX,
)
from rhizome_index.node.events import DEBUG, INFO, note
from rhizome_index.node.framed import receive_message
from rhizome_index.node.libp2p_opening import Opened, Place, can_open, open_all, own_end, relay_of, take
from rhizome_index.node.libp2p_reasons import reason_of
from rhizome_index.node.libp2p_yamux import Session
from rhizome_index.node.swarm import Stream
from rhizome_index.node.tally import DONE, FAILED
from rhizome_index.wire import dcutr, identify
from rhizome_index.wire.frame import FrameReader
from rhizome_index.wire.mdns import announced

if TYPE_CHECKING:
    from rhizome_index.node.libp2p_swarm import Libp2pSwarm


class View(NamedTuple):
    """How a relay sees a connection of ours with it: our end, and the address that it has for the relay."""

    end: Place
    address: str


class Upgrader:
    """Upgrades connections of one peer, in tasks of `nursery`. `network` is the library's."""

    def __init__(self, swarm: Libp2pSwarm, network: Any, nursery: trio.Nursery) -> None:
        self._swarm = swarm
        self._network = network
        self._nursery = nursery
        self._upgrading: set[str] = set()
        self._opening: dict[str, trio.CancelScope] = {}
        self._answers: WeakKeyDictionary[Session, int] = WeakKeyDictionary()  # by connections through relays
        self._views: WeakKeyDictionary[Session, View] = WeakKeyDictionary()  # by connections with relays

    def start(self) -> None:
        """Begin to answer, and to look at connections as they come."""
        self._swarm.handle(dcutr.PROTOCOL, self._answer)
        self._swarm.watch_connections(self._look)

    def _look(self, connection: Any) -> None:
        """A connection has come up."""
        session: Session = connection.muxed_conn
        peer = str(session.peer_id)
        if not session.is_relayed:
            if peer in self._opening:
                self._opening[peer].cancel()
            for other in self._swarm.relayed_connections(peer):
                self._nursery.start_soon(self._retire, peer, other)
        elif session.is_initiator:
            self._nursery.start_soon(self._look_ahead, peer)
        elif peer not in self._upgrading and len(self._upgrading) < UPGRADES_AT_ONCE_MAX:
            self._upgrading.add(peer)
            self._nursery.start_soon(self._upgrade, peer)

    # --- whoever was reached begins ---

    async def _upgrade(self, peer: str) -> None:
        try:
            await trio.sleep(UPGRADE_DELAY_SECONDS)
            if not self._swarm.is_relayed(peer):
                return
            with trio.move_on_after(UPGRADE_SECONDS), suppress(UnavailableError, IntegrityError):
                view = await self._see(peer)
                try:
                    addresses = await self._agree(peer, view)
                except UnavailableError:
                    addresses = (await self._identify(peer)).listens
                await self._meet(peer, addresses, view, as_client=False)
        finally:
            self._upgrading.discard(peer)

    async def _agree(self, peer: str, view: View | None) -> tuple[str, ...]:
        """Tell a peer where we are and when to dial: where it is. Returns at the moment to dial it."""
        stream = await self._swarm.open_stream(peer, dcutr.PROTOCOL, timeout_seconds=UPGRADE_SECONDS)
        try:
            asked = trio.current_time()
            await stream.send(dcutr.encode_connect(self._ours(view)))
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
        session = self._swarm.session(peer)
        is_busy = peer in self._upgrading or len(self._upgrading) >= UPGRADES_AT_ONCE_MAX
        if session is None or not session.is_relayed or is_busy:
            await stream.reset()
            return
        self._answers[session] = self._answers.get(session, 0) + 1
        if self._answers[session] > UPGRADE_ANSWERS_MAX:
            await stream.reset()
            return
        self._upgrading.add(peer)
        try:
            reader = FrameReader(CIRCUIT_MESSAGE_BYTES_MAX)
            with trio.move_on_after(UPGRADE_SECONDS), suppress(UnavailableError, IntegrityError):
                addresses = dcutr.read_connect(await receive_message(stream, reader))
                view = await self._see(peer)
                await stream.send(dcutr.encode_connect(self._ours(view)))
                with suppress(UnavailableError):
                    dcutr.check_sync(await receive_message(stream, reader))
                await self._meet(peer, addresses, view, as_client=True)
        finally:
            self._upgrading.discard(peer)

    async def _look_ahead(self, peer: str) -> None:
        """Know how the relay sees us when the peer asks, so that the answer takes no longer than the way."""
        await trio.sleep(UPGRADE_DELAY_SECONDS / 2)
        await self._see(peer)

    # --- both ---

    async def _identify(self, peer: str) -> identify.Identified:
        """What a peer says of itself and of us. Raises UnavailableError, IntegrityError."""
        stream = await self._swarm.open_stream(peer, identify.PROTOCOL, timeout_seconds=UPGRADE_SECONDS)
        try:
            return identify.read_identify(await receive_message(stream, FrameReader(IDENTIFY_BYTES_MAX)))
        finally:
            with trio.CancelScope(shield=True):
                await stream.close()

    async def _see(self, peer: str) -> View | None:
        """How the relay through which a peer is connected sees us; None if it does not say, or not of use."""
        relays = (relay_of(connection.muxed_conn) for connection in self._swarm.relayed_connections(peer))
        relay = next((relay for relay in relays if relay is not None), None)
        session = None if relay is None else self._swarm.session(relay)
        end = None if session is None else own_end(session)
        if relay is None or session is None or end is None:
            return None
        if session not in self._views:
            with trio.move_on_after(UPGRADE_VIEW_SECONDS), suppress(UnavailableError, IntegrityError):
                address = (await self._identify(relay)).observed
                if address is not None and can_open(address, end):
                    self._views[session] = View(end, address)
        return self._views.get(session)

    def _ours(self, view: View | None) -> list[str]:
        """Where we can be reached: first where a relay sees us, which both sides dial at the same moment."""
        tail = f"/p2p/{self._swarm.peer_id}"
        seen = [] if view is None else [view.address]
        return list(dict.fromkeys(seen + [text.removesuffix(tail) for text in announced(self._swarm.addresses)]))

    async def _meet(self, peer: str, addresses: Sequence[str], view: View | None, *, as_client: bool) -> None:
        """Dial a peer's addresses, all that can be from where a relay sees us, until there is a direct connection."""
        places = [address.removesuffix(f"/p2p/{peer}") for address in addresses]
        opening = [] if view is None else [place for place in places if can_open(place, view.end)]
        async with trio.open_nursery() as nursery:
            if view is not None and opening:
                nursery.start_soon(self._open, peer, opening, view.end, as_client)
            if not as_client:
                await trio.sleep(UPGRADE_TURN_SECONDS)
            await self._dial(peer, [place for place in places if place not in opening])

    async def _open(self, peer: str, places: Sequence[str], end: Place, as_client: bool) -> None:
        """Dial them from an end of ours, and shake hands with one after the other of those that answer."""
        found, results = trio.open_memory_channel[Opened](len(places))
        scope = self._opening[peer] = trio.CancelScope()

        async def open_them() -> None:
            with scope:
                await open_all(places, end, found, as_client=as_client)

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(open_them)
                async for opened in results:
                    await self._take(peer, opened)
        finally:
            del self._opening[peer]
            with suppress(trio.WouldBlock, trio.EndOfChannel), trio.CancelScope(shield=True):
                while True:
                    await _discard(results.receive_nowait())

    async def _take(self, peer: str, opened: Opened) -> None:
        if not self._swarm.is_relayed(peer):
            await _discard(opened)
            return
        reason = opened.reason
        if opened.raw is not None:
            try:
                await take(self._network, opened, ID.from_string(peer))
            except Exception as error:  # the library raises nearly anything
                reason = reason_of(error)
        self._note(peer, opened.address, reason)

    def _note(self, peer: str, address: str, failed: str = "") -> None:
        self._swarm.tally.upgrades[FAILED if failed else DONE] += 1
        if failed:
            note(DEBUG, "upgrade_failed", peer=peer, reason=failed)
        else:
            note(INFO, "upgraded", peer=peer, address=f"{address}/p2p/{peer}")

    async def _dial(self, peer: str, addresses: Sequence[str]) -> None:
        """Dial a peer's addresses plainly, until there is a direct connection, by whichever side."""
        for address in addresses:
            if not self._swarm.is_relayed(peer):
                return
            try:
                await self._swarm.dial(f"{address}/p2p/{peer}", timeout_seconds=UPGRADE_DIAL_SECONDS)
            except (UnavailableError, UsageError) as error:
                self._note(peer, address, str(error))
                continue
            self._note(peer, address)
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


async def _discard(opened: Opened) -> None:
    if opened.raw is not None:
        await opened.raw.close()
