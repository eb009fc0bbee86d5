"""The real network: py-libp2p over TCP and WebSocket, with Noise and Yamux.

Promises what `swarm` says, whatever the library raises: its errors are
translated at this door, its handlers cannot bring the host down, and every wait
has a deadline. It dials nobody unasked. Importing this module imports libp2p,
which takes half a second: only commands that need a network do, and only when
they need it.

It does not know what is said on a stream, nor who is worth talking to.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio
from libp2p import new_host
from libp2p.abc import ITransport
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as new_noise_key
from libp2p.custom_types import TProtocol
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.peer.id import ID
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE_ID
from libp2p.security.noise.transport import Transport as NoiseTransport
from multiaddr import Multiaddr

from rhizome_index.errors import UnavailableError, UsageError
from rhizome_index.limits import CLOSE_TIMEOUT_SECONDS, STREAMS_PER_PEER_MAX
from rhizome_index.node import libp2p_addresses, libp2p_guards
from rhizome_index.node.libp2p_circuits import Circuits
from rhizome_index.node.libp2p_opening import dial_from_listening
from rhizome_index.node.libp2p_reasons import reason_of
from rhizome_index.node.libp2p_stream import Libp2pStream
from rhizome_index.node.libp2p_upgrade import Upgrader
from rhizome_index.node.libp2p_yamux import Session
from rhizome_index.node.libp2p_yamux_stream import MuxStream
from rhizome_index.node.swarm import Notice, StreamHandler
from rhizome_index.node.tally import IN, OUT, Tally
from rhizome_index.wire.circuit import STOP

Announce = Callable[[Sequence[Multiaddr]], list[Multiaddr]]

_YAMUX_ID = "/yamux/1.0.0"


class Libp2pSwarm:
    """One peer's place in the real network. Made by `open_swarm`.

    announce  makes of the addresses that listeners are bound to those that others are told
    nursery   for what goes on when a connection through a relay has ended
    """

    def __init__(self, host: Any, listening: Sequence[Multiaddr], announce: Announce, nursery: trio.Nursery) -> None:
        self._host = host
        self._network = host.get_network()
        self._listening = tuple(listening)
        self._announce = announce
        self.tally = Tally()
        self.tally.count_open_streams = self._count_open_streams
        self._inbound: dict[tuple[str, str], int] = {}
        self._dialling: dict[tuple[str, bool], trio.Lock] = {}
        self._circuits = Circuits(self, self._network, nursery)
        host._addrs_factory = self._announced  # what identify says, too
        self.handle(STOP, self._circuits.accept, lasting=True)

    @property
    def peer_id(self) -> str:
        return str(self._host.get_id())

    @property
    def addresses(self) -> tuple[str, ...]:
        found = self._announced([bound for address in self._listening for bound in self._bound(address)])
        return tuple(f"{address}/p2p/{self.peer_id}" for address in found)

    def _announced(self, bound: Sequence[Multiaddr]) -> list[Multiaddr]:
        return self._announce(bound) + self._circuits.addresses

    def _bound(self, address: Multiaddr) -> Sequence[Multiaddr]:
        """Where a listener is bound; nowhere once it has been closed."""
        listener = self._network.listeners.get(str(address))
        try:
            return () if listener is None else listener.get_addrs()
        except OSError:
            return ()

    @property
    def connected_peers(self) -> tuple[str, ...]:
        return tuple(str(peer) for peer in self._network.connections if self._session(peer) is not None)

    def _count_open_streams(self) -> int:
        sessions = (connection.muxed_conn for connection in self._network.get_connections())
        return sum(len(session.streams) for session in sessions if isinstance(session, Session))

    def latency_seconds(self, peer_id: str) -> float | None:
        session = self.session(peer_id)
        return None if session is None else session.latency_seconds

    def session(self, peer_id: str) -> Session | None:
        """The connection that is used with a peer."""
        return self._session(_parse_peer(peer_id))

    def _session(self, peer: ID) -> Session | None:
        """The connection to use with a peer, if it has a good one: a direct one if there is one."""
        found = None
        for connection in self._network.get_connections(peer):
            session = connection.muxed_conn
            if isinstance(session, Session) and session.is_established and not connection.is_closed:
                if not session.is_relayed:
                    return session
                found = found or session
        return found

    def listen_through(self, relay: str, addresses: Sequence[str]) -> None:
        self._circuits.listen_through(relay, addresses)

    def is_relayed(self, peer_id: str) -> bool:
        session = self.session(peer_id)
        return session is not None and session.is_relayed

    def is_quiet(self, peer_id: str) -> bool:
        """Whether we have no stream open with a peer."""
        session = self.session(peer_id)
        return session is None or all(stream.closed_at for stream in session.streams.values())

    def handle(self, protocol: str, handler: StreamHandler, *, lasting: bool = False) -> None:
        async def capped(raw: Any) -> None:
            # Whatever is raised here stays on this stream, and the stream ends: see `contain_handlers`.
            peer_id = str(raw.muxed_conn.peer_id)
            stream = self._stream(raw.muxed_stream, peer_id, protocol, lasting=lasting)
            self.tally.streams[protocol, IN] += 1
            name = (peer_id, protocol)
            self._inbound[name] = self._inbound.get(name, 0) + 1
            try:
                if self._inbound[name] > STREAMS_PER_PEER_MAX:
                    await stream.reset()
                else:
                    await handler(stream)
            finally:
                self._inbound[name] -= 1
                if not self._inbound[name]:
                    del self._inbound[name]

        self._host.set_stream_handler(TProtocol(protocol), capped)

    def watch(self, notice: Notice) -> None:
        self.watch_connections(lambda connection: notice(str(connection.muxed_conn.peer_id)))

    def watch_connections(self, notice: Callable[[Any], None]) -> None:
        """Have `notice` called with the library's connections as they come up, inbound and outbound."""
        self._network.register_notifee(_Watcher(notice))

    def relayed_connections(self, peer_id: str) -> list[Any]:
        """The library's connections with a peer that go through relays."""
        found = self._network.get_connections(_parse_peer(peer_id))
        return [connection for connection in found if connection.muxed_conn.is_relayed]

    async def dial(self, address: str, *, timeout_seconds: float) -> str:
        """See `swarm.Swarm`. Raises UsageError for what is no address of a peer, UnavailableError with the reason."""
        return await self._dial(address, timeout_seconds, is_relay=False)

    async def dial_relay(self, address: str, *, timeout_seconds: float) -> str:
        """See `swarm.Swarm`. Raises the same."""
        return await self._dial(address, timeout_seconds, is_relay=True)

    async def _dial(self, address: str, timeout_seconds: float, *, is_relay: bool) -> str:
        transport, peer, relay = libp2p_addresses.parse_dial(address)
        peer_id = str(peer)
        turn = (peer_id, relay is None)
        if peer_id == self.peer_id:
            raise UsageError(f"that is our own address: {address}", hint="dial another peer")
        try:
            with trio.fail_after(timeout_seconds):
                async with self._dialling.setdefault(turn, trio.Lock()):
                    session = self._session(peer)
                    if relay is not None and session is None:
                        await self._circuits.dial(relay, peer, timeout_seconds)
                    elif relay is None and (session is None or session.is_relayed):
                        # Not `host.connect`: it would try whatever addresses it has heard of for this peer, wait
                        # 250 ms after each, and refuse to try again for a minute after a failure.
                        if is_relay:
                            await dial_from_listening(self._network, transport, peer, timeout_seconds)
                        else:
                            await self._network.dial_addr(transport, peer)
        except trio.TooSlowError:
            raise UnavailableError(f"cannot reach {address}: timed out after {timeout_seconds:g} s") from None
        except UnavailableError as error:
            raise UnavailableError(f"cannot reach {address}: {error}") from None
        except Exception as error:
            raise UnavailableError(f"cannot reach {address}: {reason_of(error)}") from None
        finally:
            lock = self._dialling.get(turn)
            if lock is not None and not lock.locked():
                del self._dialling[turn]
        return peer_id

    async def open_stream(
        self, peer_id: str, protocol: str, *, timeout_seconds: float, lasting: bool = False
    ) -> Libp2pStream:
        """See `swarm.Swarm`. One round trip. Cancelled, it leaves nothing open."""
        session = self.session(peer_id)
        if session is None and (way_back := self._circuits.way_back(peer_id)) is not None:
            await self.dial(way_back, timeout_seconds=timeout_seconds)
            session = self.session(peer_id)
        if session is None:
            raise UnavailableError(f"peer {peer_id} is not connected")
        stream: MuxStream | None = None
        is_agreed = False
        try:
            stream = await session.open_stream()
            await self._host.multiselect_client.select_one_of(
                [TProtocol(protocol)], MultiselectCommunicator(stream), timeout_seconds
            )
            is_agreed = True
        except Exception as error:
            known = self._circuits.why_ended(peer_id) if session.is_relayed else None
            raise known or UnavailableError(f"no stream with peer {peer_id}: {error}") from None
        finally:
            if stream is not None and not is_agreed:
                stream.abandon()
        self.tally.streams[protocol, OUT] += 1
        return self._stream(stream, peer_id, protocol, lasting=lasting)

    def _stream(self, stream: MuxStream, peer_id: str, protocol: str, *, lasting: bool) -> Libp2pStream:
        why_ended = self._circuits.why_ended
        return Libp2pStream(self.tally, stream, peer_id, protocol, lasting=lasting, why_ended=why_ended)

    async def disconnect(self, peer_id: str, *, for_cause: bool = False) -> None:
        self._circuits.forget(peer_id)
        connections = self._network.get_connections(_parse_peer(peer_id))
        for connection in connections:
            connection.muxed_conn.is_blamed |= for_cause
        await self._end(connections)

    async def leave(self) -> None:
        """Close all connections and listeners, quickly."""
        await self._end(self._network.get_connections())
        with _shielded(CLOSE_TIMEOUT_SECONDS):
            await self._host.close()

    async def _end(self, connections: Sequence[Any]) -> None:
        with _shielded(2 * CLOSE_TIMEOUT_SECONDS):  # each close has its own deadline
            async with trio.open_nursery() as nursery:
                for connection in connections:
                    nursery.start_soon(connection.close)


class _Watcher:
    """Tells of connections. The other things that the library tells of are nobody's concern here."""

    def __init__(self, notice: Callable[[Any], None]) -> None:
        self._notice = notice

    async def connected(self, network: Any, conn: Any) -> None:
        self._notice(conn)

    async def _disregard(self, network: Any, what: Any) -> None:
        pass

    disconnected = opened_stream = closed_stream = listen = listen_close = _disregard


@asynccontextmanager
async def open_swarm(
    key_seed: bytes, listen: Sequence[str], transport: ITransport | None = None
) -> AsyncIterator[Libp2pSwarm]:
    """Join the network with an Ed25519 key, given by its 32-byte seed.

    listen     multiaddrs to listen on, TCP or WebSocket; none: only dial
    transport  carries all connections in place of those two; it is told to listen on what may not be this machine's

    Raises UsageError for an address that cannot be listened on. What the body raises comes through as it is, not
    wrapped in a group.
    """
    libp2p_guards.install()
    announce: Announce = libp2p_addresses.concrete if transport is None else list
    addresses = libp2p_addresses.parse_listen(listen) if transport is None else list(map(Multiaddr, listen))
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        host = _make_host(key_seed, announce, transport)
        libp2p_guards.guard(host, nursery)
        async with host.run(addresses):
            swarm = Libp2pSwarm(host, addresses, announce, nursery)
            Upgrader(swarm, host.get_network(), nursery).start()
            try:
                _check_listening(host, addresses)
                yield swarm
            except Exception as error:
                failure = error
            finally:
                await swarm.leave()
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


def _shielded(seconds: float) -> trio.CancelScope:
    return trio.CancelScope(shield=True, deadline=trio.current_time() + seconds)


def _make_host(
    key_seed: bytes, announce: Announce = libp2p_addresses.concrete, transport: ITransport | None = None
) -> Any:
    key_pair = create_new_key_pair(key_seed)
    host: Any = new_host(
        key_pair=key_pair,
        # Both always: by default it also offers plaintext, and a muxer that one bad byte crashes.
        sec_opt={TProtocol(NOISE_ID): NoiseTransport(key_pair, noise_privkey=new_noise_key().private_key)},
        muxer_opt={TProtocol(_YAMUX_ID): Session},
        # No addresses here: for TCP and WebSocket on one port it would bring a listener of its own, past the guards.
        transports=None if transport is None else [transport],
        enable_websocket=True,
        connection_config=ConnectionConfig(min_connections=0),  # else so many fewer may come in
        addrs_factory=announce,
        disable_identify_address_discovery=True,  # what others say they see is no address to announce
    )
    host.get_network().retry_config = RetryConfig(max_retries=0)  # who dials decides whether to try again
    return host


def _check_listening(host: Any, addresses: Sequence[Multiaddr]) -> None:
    """The library goes on without a listener that it could not start."""
    for address in addresses:
        if str(address) not in host.get_network().listeners:
            raise UsageError(f"cannot listen on {address}", hint="is the address one of this machine's?")


def _parse_peer(peer_id: str) -> ID:
    try:
        return ID.from_string(peer_id)
    except Exception:
        raise UsageError(f"not a peer id: {peer_id[:100]!r}", hint="they look like 12D3KooW...") from None
