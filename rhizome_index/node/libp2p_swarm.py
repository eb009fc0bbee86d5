"""The real network: py-libp2p over TCP and WebSocket, with Noise and Yamux.

Promises what `swarm` says, whatever the library raises: its errors are
translated at this door, its handlers cannot bring the host down, and every
exchange has a deadline. Importing this module imports libp2p, which takes half a
second: only commands that need a network do.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as new_noise_key
from libp2p.custom_types import TProtocol
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE_ID
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX_ID
from multiaddr import Multiaddr

from rhizome_index.errors import UnavailableError, UsageError
from rhizome_index.limits import (
    CLOSE_TIMEOUT_SECONDS,
    PROBE_TIMEOUT_SECONDS,
    STREAMS_PER_PEER_MAX,
    WRITE_TIMEOUT_SECONDS,
)
from rhizome_index.node import libp2p_guards
from rhizome_index.node.swarm import StreamHandler

_PIECE_BYTES = 65_524  # one yamux frame
_READ_BYTES = 262_144

# What the library may raise for a peer that is gone: nearly anything, down to attribute errors.
_LIBRARY_ERRORS = (Exception,)


class Libp2pStream:
    """A stream of the real network."""

    def __init__(self, swarm: Libp2pSwarm, stream: Any, peer_id: str) -> None:
        self._swarm = swarm
        self._stream = stream
        self._peer_id = peer_id
        self._closed = False

    @property
    def peer_id(self) -> str:
        return self._peer_id

    async def send(self, data: bytes) -> None:
        for start in range(0, len(data), _PIECE_BYTES):
            try:
                with trio.fail_after(WRITE_TIMEOUT_SECONDS):
                    await self._stream.write(data[start : start + _PIECE_BYTES])
            except trio.TooSlowError:
                await self.reset()
                raise UnavailableError(f"peer {self._peer_id} does not read") from None
            except _LIBRARY_ERRORS as error:
                raise UnavailableError(f"peer {self._peer_id} is gone ({type(error).__name__})") from None

    async def receive(self) -> bytes:
        try:
            data: bytes = await self._stream.read(_READ_BYTES)
        except StreamEOF:
            return b""
        except _LIBRARY_ERRORS as error:
            raise UnavailableError(f"peer {self._peer_id} is gone ({type(error).__name__})") from None
        self._swarm.note_received(self._peer_id, len(data))
        return data

    async def close(self) -> None:
        await self._end(self._stream.close)

    async def reset(self) -> None:
        await self._end(self._stream.reset)

    async def _end(self, end: Any) -> None:
        if self._closed:
            return
        self._closed = True
        deadline = trio.current_time() + CLOSE_TIMEOUT_SECONDS
        with trio.CancelScope(shield=True, deadline=deadline), suppress(*_LIBRARY_ERRORS):  # it may be gone already
            await end()


class Libp2pSwarm:
    """One peer's place in the real network. Made by `open_swarm`."""

    def __init__(self, host: Any) -> None:
        self._host = host
        self._received: dict[str, int] = {}
        self._inbound: dict[tuple[str, str], int] = {}

    @property
    def peer_id(self) -> str:
        return str(self._host.get_id())

    @property
    def addresses(self) -> tuple[str, ...]:
        found: list[str] = []
        for address in self._host.get_addrs():
            text = str(address)
            if "/p2p/" not in text:
                text += f"/p2p/{self.peer_id}"
            found += _concrete(text)
        return tuple(dict.fromkeys(found))

    @property
    def connected_peers(self) -> tuple[str, ...]:
        return tuple(str(peer) for peer in self._host.get_connected_peers())

    def bytes_received(self, peer_id: str) -> int:
        return self._received.get(peer_id, 0)

    def note_received(self, peer_id: str, count: int) -> None:
        """Count bytes that a stream has delivered."""
        self._received[peer_id] = self._received.get(peer_id, 0) + count

    def handle(self, protocol: str, handler: StreamHandler) -> None:
        async def guarded(raw: Any) -> None:
            peer_id = str(raw.muxed_conn.peer_id)
            stream = Libp2pStream(self, raw, peer_id)
            name = (peer_id, protocol)
            self._inbound[name] = self._inbound.get(name, 0) + 1
            try:
                if self._inbound[name] > STREAMS_PER_PEER_MAX:
                    await stream.reset()
                    return
                await handler(stream)
            except* _LIBRARY_ERRORS:
                # An exception out of a handler would bring the whole host down.
                await stream.reset()
            finally:
                self._inbound[name] -= 1
                if not self._inbound[name]:
                    del self._inbound[name]
                await stream.close()

        self._host.set_stream_handler(TProtocol(protocol), guarded)

    async def dial(self, address: str, *, timeout_seconds: float) -> str:
        try:
            info = info_from_p2p_addr(Multiaddr(address))
        except _LIBRARY_ERRORS:
            raise UsageError(
                f"not a peer's address: {address[:200]!r}",
                hint="they look like /ip4/127.0.0.1/tcp/4711/p2p/12D3KooW...",
            ) from None
        peer_id = str(info.peer_id)
        if peer_id in self.connected_peers:
            return peer_id
        # A failed dial would otherwise block this peer for a minute.
        self._host.get_network().unblock_peer(info.peer_id)
        try:
            with trio.fail_after(timeout_seconds):
                await self._host.connect(info)
        except trio.TooSlowError:
            raise UnavailableError(f"no answer from {address} within {timeout_seconds:g} s") from None
        except _LIBRARY_ERRORS:
            raise UnavailableError(f"cannot connect to {address}: {await _reason(address)}") from None
        return peer_id

    async def open_stream(self, peer_id: str, protocol: str, *, timeout_seconds: float) -> Libp2pStream:
        try:
            with trio.fail_after(timeout_seconds):
                raw = await self._host.new_stream(ID.from_string(peer_id), [TProtocol(protocol)])
        except trio.TooSlowError:
            await self.disconnect(peer_id)
            raise UnavailableError(f"peer {peer_id} does not open a stream") from None
        except _LIBRARY_ERRORS as error:
            raise UnavailableError(f"peer {peer_id} does not speak {protocol} ({type(error).__name__})") from None
        return Libp2pStream(self, raw, peer_id)

    async def disconnect(self, peer_id: str) -> None:
        deadline = trio.current_time() + CLOSE_TIMEOUT_SECONDS
        with trio.CancelScope(shield=True, deadline=deadline), suppress(*_LIBRARY_ERRORS):  # it may be gone already
            await self._host.disconnect(ID.from_string(peer_id))


@asynccontextmanager
async def open_swarm(key_seed: bytes, listen: Sequence[str]) -> AsyncIterator[Libp2pSwarm]:
    """Join the network with an Ed25519 key, given by its 32-byte seed.

    listen  multiaddrs to listen on, TCP or WebSocket; none: only dial

    Raises UsageError for an address that cannot be listened on.
    """
    libp2p_guards.install()
    addresses = [_listenable(text) for text in listen]
    key_pair = create_new_key_pair(key_seed)
    host: Any = new_host(
        key_pair=key_pair,
        sec_opt={TProtocol(NOISE_ID): NoiseTransport(key_pair, noise_privkey=new_noise_key().private_key)},
        muxer_opt={TProtocol(YAMUX_ID): libp2p_guards.GuardedYamux},
        listen_addrs=addresses or None,
        enable_websocket=True,
    )
    libp2p_guards.hold_inbound(host.get_network())
    async with host.run(addresses):
        bound = [str(address) for address in host.get_addrs()]
        for address in addresses:
            kind = "/ws" in str(address)
            if not any(("/ws" in text) == kind for text in bound):
                raise UsageError(f"cannot listen on {address}", hint="is the address one of this machine's?")
        swarm = Libp2pSwarm(host)
        yield swarm


def _listenable(text: str) -> Multiaddr:
    """A multiaddr to listen on whose port is free. Raises UsageError."""
    hint = "write /ip4/127.0.0.1/tcp/0 or /ip4/0.0.0.0/tcp/4711/ws"
    try:
        address = Multiaddr(text)
        names = [protocol.name for protocol in address.protocols()]
        port = int(str(address.value_for_protocol("tcp")))
        host = str(address.value_for_protocol("ip4" if "ip4" in names else "ip6"))
    except _LIBRARY_ERRORS:
        raise UsageError(f"cannot listen on {text[:200]!r}: not a TCP or WebSocket multiaddr", hint=hint) from None
    if names not in (["ip4", "tcp"], ["ip6", "tcp"], ["ip4", "tcp", "ws"], ["ip6", "tcp", "ws"]):
        raise UsageError(f"cannot listen on {text}: only TCP and WebSocket", hint=hint)
    family = socket.AF_INET6 if "ip6" in names else socket.AF_INET
    # The library shares ports silently (SO_REUSEPORT) and fails silently, so we look first.
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
        except OSError as error:
            used = f"port {port} is already in use" if error.errno == 98 else str(error.strerror)
            raise UsageError(f"cannot listen on {text}: {used}", hint="choose another address") from None
    return address


def _concrete(text: str) -> list[str]:
    """An address with wildcards replaced by this machine's addresses."""
    if not text.startswith(("/ip4/0.0.0.0/", "/ip6/::/")):
        return [text]
    import ifaddr

    is_ip4 = text.startswith("/ip4/")
    found = []
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            if ip.is_IPv4 and is_ip4:
                found.append(text.replace("0.0.0.0", str(ip.ip), 1))
            elif ip.is_IPv6 and not is_ip4 and not ip.ip[2]:
                found.append(text.replace("/::/", f"/{ip.ip[0]}/", 1))
    return found


async def _reason(address: str) -> str:
    """Why nobody could be reached there: the library keeps it to itself, so we look."""
    parsed = Multiaddr(address)
    names = [protocol.name for protocol in parsed.protocols()]
    try:
        host = str(parsed.value_for_protocol(names[0]))
        with trio.fail_after(PROBE_TIMEOUT_SECONDS):
            stream = await trio.open_tcp_stream(host, int(str(parsed.value_for_protocol("tcp"))))
            await stream.aclose()
    except trio.TooSlowError:
        return "timed out"
    except OSError as error:
        inner = error.__cause__ if isinstance(error.__cause__, BaseExceptionGroup) else None
        refused = inner is not None and inner.subgroup(ConnectionRefusedError) is not None
        return "connection refused" if refused or isinstance(error, ConnectionRefusedError) else "unreachable"
    except _LIBRARY_ERRORS:
        return "not a TCP or WebSocket address"
    return "something answers there, but not this peer over libp2p"
