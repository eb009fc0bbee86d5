"""Connections between two peers behind routers: both dial at once, from the ports that others have seen them use.

A router lets in what answers. So when each side sends the first packet of a connection
from the port that its router has given an address, to the address that the other's has,
both packets are let in as answers to one another, and one connection comes of the two dials
(TCP's simultaneous open). For all that is spoken on it, one side has to be the client: the
one that reached the other through the relay.

A dial may as well meet a listener, or come from a port that the other does not
expect: then the connection is an ordinary one, and the dialler its client. Whoever is
not the client of a simultaneous one waits for a client's first words for a moment,
and if there are none it is the client after all.

Rules: addresses are hearsay. As many as are given are dialled, each for a few
seconds and a few times; of those only TCP, and none of our own machine unless we
are heard there alone. It does not know who says them, nor when to dial.

Source: https://github.com/libp2p/specs/blob/master/relay/DCUtR.md
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from typing import Any, NamedTuple

import trio
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from rhizome_index.limits import (
    UPGRADE_AGAIN_SECONDS,
    UPGRADE_DIAL_SECONDS,
    UPGRADE_STAGGER_SECONDS,
    UPGRADE_TURN_SECONDS,
)
from rhizome_index.node.libp2p_circuits import Circuit
from rhizome_index.node.libp2p_guards import BufferedTcpStream
from rhizome_index.node.libp2p_reasons import reason_of
from rhizome_index.node.libp2p_yamux import Session
from rhizome_index.wire.multiaddr import tcp_place

Place = tuple[str, int]  # an IP address and a port

_GREETING_BYTES = 20  # multistream's, which a server may send unasked; a client says more
_TAKEN = (errno.EADDRNOTAVAIL, errno.EADDRINUSE)  # there is such a connection, or was, or the port is not to be shared


class Opened(NamedTuple):
    """What has come of an address: a connection, on which we are the client or not, or why there is none."""

    address: str
    raw: RawConnection | None = None
    reason: str = ""


def relay_of(session: Session) -> str | None:
    """The relay through which a connection goes, if it goes through one."""
    below = _below(session)
    return below.relay if isinstance(below, Circuit) else None


def own_end(session: Session) -> Place | None:
    """Our end of a TCP connection, from which others can be dialled as well from now on; None if it is no such one."""
    below = _below(session)
    if not isinstance(below, BufferedTcpStream):
        return None
    try:
        _share(below.stream.socket)
        host, port, *_ = below.stream.socket.getsockname()
    except OSError:  # it has gone already
        return None
    return str(host), int(port)


def _below(session: Session) -> Any:
    """What carries a connection's Noise: the library does not say otherwise."""
    try:
        return session.secured_conn.conn.read_writer.read_write_closer.stream
    except AttributeError:  # not the library's own transports
        return None


def _share(sock: Any) -> None:
    for option in (socket.SO_REUSEADDR, getattr(socket, "SO_REUSEPORT", socket.SO_REUSEADDR)):
        sock.setsockopt(socket.SOL_SOCKET, option, 1)


def can_open(address: str, source: Place) -> bool:
    """Whether an address can be dialled from this end of ours."""
    place = tcp_place(address)
    if place is None:
        return False
    ours, theirs = ip_address(source[0].partition("%")[0]), ip_address(place[0])
    is_for_one = not (theirs.is_multicast or theirs.is_unspecified or theirs.is_link_local)
    return theirs.version == ours.version and is_for_one and theirs.is_loopback == ours.is_loopback


async def dial_from_listening(network: Any, address: Multiaddr, peer: ID, timeout_seconds: float) -> None:
    """Dial from the port that we listen on, so that our router gives both one address; else from any.

    Raises what the library raises.
    """
    source = _listening(network, str(address))
    if source is not None:
        # Perhaps there was such a connection a moment ago: the system, or the other side, may know it still.
        with suppress(Exception), trio.move_on_after(timeout_seconds / 2):
            await network.dial_addr(address, peer, source)
            return
    await network.dial_addr(address, peer)


def _listening(network: Any, target: str) -> Place | None:
    """Where to dial an address from, if we listen for TCP connections of its kind."""
    if "/ws" in target:
        return None
    is_ip6 = target.startswith(("/ip6/", "/dns6/"))
    for listener in network.listeners.values():
        with suppress(OSError):
            for bound in listener.get_addrs():
                place = tcp_place(str(bound))
                if place is not None and (ip_address(place[0]).version == 6) == is_ip6:
                    return "::" if is_ip6 else "0.0.0.0", place[1]
    return None


async def open_all(
    addresses: Sequence[str], source: Place, found: trio.MemorySendChannel[Opened], *, as_client: bool
) -> None:
    """Dial all these addresses from an end of ours, each a moment after the one before it.

    What comes of each is sent as soon as it is known; there must be room for all. Cancelled, it leaves nothing open
    but what it has sent.
    """
    async with found, trio.open_nursery() as nursery:
        for number, address in enumerate(addresses):
            nursery.start_soon(_open, address, source, as_client, number * UPGRADE_STAGGER_SECONDS, found)


async def _open(
    address: str, source: Place, as_client: bool, after_seconds: float, found: trio.MemorySendChannel[Opened]
) -> None:
    await trio.sleep(after_seconds)
    place = tcp_place(address)
    assert place is not None, "asked of `can_open` before"
    reason, pause = "timed out", UPGRADE_AGAIN_SECONDS
    with trio.move_on_after(UPGRADE_DIAL_SECONDS):
        while True:
            try:
                stream = BufferedTcpStream(await _connect(place, source))
            except OSError as error:  # the other side's router may refuse us until its own dial has passed it
                reason = reason_of(error)
                await trio.sleep(pause)
                pause *= 2
                continue
            try:
                is_client = as_client or not await _hears_client(stream)
            except BaseException as error:
                await stream.close()
                if not isinstance(error, Exception):
                    raise
                reason = reason_of(error)
                break
            found.send_nowait(Opened(address, RawConnection(stream, is_client)))
            return
    found.send_nowait(Opened(address, reason=reason))


async def _connect(place: Place, source: Place) -> trio.SocketStream:
    try:
        return await _connect_from(source, place)
    except OSError as error:
        if error.errno not in _TAKEN:
            raise
    return await _connect_from(None, place)


async def _connect_from(source: Place | None, place: Place) -> trio.SocketStream:
    sock = trio.socket.socket(socket.AF_INET6 if ":" in place[0] else socket.AF_INET)
    try:
        if source is not None:
            _share(sock)
            await sock.bind(source)
        await sock.connect(place)
    except BaseException:
        sock.close()
        raise
    return trio.SocketStream(sock)


async def _hears_client(stream: BufferedTcpStream) -> bool:
    """Whether the other side begins, as a client does, before it has been silent for long."""
    is_heard = False
    with trio.move_on_after(UPGRADE_TURN_SECONDS) as silence:
        is_heard = await stream.holds(_GREETING_BYTES + 1)
    if not is_heard and not silence.cancelled_caught:
        raise ConnectionResetError("reset by peer")
    return is_heard


async def take(network: Any, opened: Opened, peer: ID) -> None:
    """Make a connection with a peer of one that has been opened. Raises what the library raises."""
    raw = opened.raw
    assert raw is not None, "there is none"
    # The class's own way in: that of the object holds a place among those that others open for as long as it lasts.
    serve = partial(type(network).upgrade_inbound_raw_conn, network)
    try:
        with trio.fail_after(UPGRADE_DIAL_SECONDS):
            if raw.is_initiator:
                await network.upgrade_outbound_raw_conn(raw, peer)
            else:
                muxed = await serve(raw, Multiaddr(opened.address))
                if muxed.peer_id != peer:
                    await muxed.close()
                    raise ConnectionError("mismatch")
    except BaseException:
        await raw.close()
        raise
