"""py-libp2p over the simulated network: its real Noise and Yamux on links that have latency, bandwidth, loss and cuts.

What TCP would carry is carried by one stream of the simulated network for each
connection. Its dial takes a round trip for the handshake of TCP, and one more until
the other host has answered. Above that everything is the library's, and ours.

The library takes the time and chance of its own from the system, so that a run is in
virtual time but not the same for the same seed. Importing this module imports it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from libp2p.abc import IListener, IRawConnection, ITransport
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.transport.exceptions import OpenConnectionError
from multiaddr import Multiaddr

from rhizome_index.errors import RhizomeError, UnavailableError
from rhizome_index.limits import DIAL_TIMEOUT_SECONDS
from rhizome_index.node.libp2p_swarm import open_swarm
from rhizome_index.node.swarm import Stream, StreamHandler, Swarm
from rhizome_index.simulation.cluster import Cluster, Member
from rhizome_index.simulation.network import Host, SimNetwork
from rhizome_index.simulation.swarm import SimSwarm

_CARRIED = "tcp"  # the one protocol of the simulated network that is spoken here
_HANDSHAKE_ROUND_TRIPS = 1


class _Carrier(ReadWriteCloser):
    """The bytes of one connection. `read(n)` gives n bytes, or what is left before the end."""

    def __init__(self, stream: Stream, remote: Host) -> None:
        self._stream = stream
        self._remote = remote
        self._held = bytearray()
        self._is_ended = False
        self._writing = trio.Lock()

    async def read(self, n: int | None = None) -> bytes:
        while not self._is_ended and len(self._held) < (1 if n is None else n):
            try:
                more = await self._stream.receive()
            except UnavailableError as error:
                raise ConnectionClosedError(str(error), transport=_CARRIED) from None
            self._held += more
            self._is_ended = not more
        size = len(self._held) if n is None else n
        data = bytes(self._held[:size])
        del self._held[:size]
        return data

    async def write(self, data: bytes) -> None:
        async with self._writing:
            try:
                await self._stream.send(data)
            except UnavailableError as error:
                raise ConnectionClosedError(str(error), transport=_CARRIED) from None

    async def close(self) -> None:
        await self._stream.close()

    def get_remote_address(self) -> tuple[str, int] | None:
        _, _, ip, _, port, *_ = self._remote.address.split("/")
        return ip, int(port)


class _Listener(IListener):
    """Hands on what others open, from when it is told to."""

    def __init__(self, links: SimSwarm, network: SimNetwork, serve: Callable[[Any], Awaitable[None]]) -> None:
        self._links = links
        self._network = network
        self._serve = serve
        self._addresses: tuple[Multiaddr, ...] = ()

    async def listen(self, maddr: Multiaddr) -> None:
        await trio.lowlevel.checkpoint()
        self._addresses += (maddr,)
        self._links.handle(_CARRIED, self._accept, lasting=True)

    async def _accept(self, stream: Stream) -> None:
        if self._addresses:
            try:
                await self._serve(_Carrier(stream, self._network.hosts[stream.peer_id]))
            except* Exception:
                pass  # as the library's own listener has it: it concerns that connection only

    def get_addrs(self) -> tuple[Multiaddr, ...]:
        return self._addresses

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()
        self._addresses = ()


class LinkTransport(ITransport):
    """A transport for py-libp2p, for the addresses of the simulated network."""

    def __init__(self, links: SimSwarm, network: SimNetwork) -> None:
        self._links = links
        self._network = network

    async def dial(self, maddr: Multiaddr) -> IRawConnection:
        try:
            peer = await self._links.dial(self._network.full_address(str(maddr)), timeout_seconds=DIAL_TIMEOUT_SECONDS)
            stream = await self._links.open_stream(peer, _CARRIED, timeout_seconds=DIAL_TIMEOUT_SECONDS, lasting=True)
        except RhizomeError as error:
            raise OpenConnectionError(str(error)) from None
        return RawConnection(_Carrier(stream, self._network.hosts[peer]), initiator=True)

    def create_listener(self, handler_function: Callable[[Any], Awaitable[None]]) -> IListener:
        return _Listener(self._links, self._network, handler_function)

    def can_dial(self, maddr: Multiaddr) -> bool:
        return True

    can_listen = can_dial

    def protocols(self) -> list[str]:
        return ["tcp"]


class _Watched:
    """A swarm that notes what handlers of streams raise."""

    def __init__(self, swarm: Swarm, host: Host) -> None:
        self._swarm = swarm
        self._host = host

    def handle(self, protocol: str, handler: StreamHandler, *, lasting: bool = False) -> None:
        async def watched(stream: Stream) -> None:
            try:
                await handler(stream)
            except Exception as error:
                self._host.failures.append(error)

        self._swarm.handle(protocol, watched, lasting=lasting)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._swarm, name)


class LinkedCluster(Cluster):
    """A cluster whose members speak py-libp2p."""

    @asynccontextmanager
    async def open_swarm(self, member: Member, nursery: trio.Nursery) -> AsyncIterator[Swarm]:
        """A member's place in the simulated network, with the library between."""
        host = member.host
        links = SimSwarm(self.network, host, nursery, handshake_round_trips=_HANDSHAKE_ROUND_TRIPS)
        listen = [host.address.rpartition("/p2p/")[0]] if host.place.is_dialable else []
        async with open_swarm(member.identity.seed, listen, LinkTransport(links, self.network)) as swarm:
            watched: Any = _Watched(swarm, host)
            yield watched
