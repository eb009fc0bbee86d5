"""What py-libp2p 0.8.1 needs to be told before peers can rely on it.

Each guard names the behaviour it guards against; a regression test fails without
it. They reach into the library, which is why its version is pinned. When an
upgrade makes a guard needless, its test says so: then it goes. Streams and
frames have a module of their own, `libp2p_yamux`.

`install` holds for the process; the rest is for one host.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import trio
from libp2p.abc import IMultiselectCommunicator
from libp2p.custom_types import TProtocol
from libp2p.io.trio import TrioTCPStream
from libp2p.network import swarm as network_swarm
from libp2p.network.connection import swarm_connection
from libp2p.network.exceptions import SwarmException
from libp2p.protocol_muxer import multiselect_client
from libp2p.protocol_muxer.exceptions import MultiselectClientError
from libp2p.stream_muxer import muxer_multistream
from libp2p.transport.tcp import tcp
from libp2p.transport.websocket import listener as websocket_listener
from libp2p.transport.websocket.connection import P2PWebSocketConnection
from libp2p.transport.websocket.transport import WebsocketTransport
from libp2p.utils import encode_delim
from trio_websocket import WebSocketConnection

from rhizome_index.limits import CLOSE_TIMEOUT_SECONDS, HANDSHAKES_MAX, IDENTIFY_DELAY_SECONDS
from rhizome_index.node import libp2p_arrivals
from rhizome_index.node.libp2p_yamux import Session

_TCP_READ_BYTES = 128 * 1024  # one system call for as much as a window's half


class BufferedTcpStream(TrioTCPStream):
    """A TCP stream whose `read(n)` gives n bytes, or what is left before the end.

    The library reads lengths byte by byte, a system call each, and gives a message up after 100 partial reads:
    a noise message over a path of small packets arrives in more.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        super().__init__(stream)
        self._held = b""
        self._is_ended = False

    async def holds(self, n: int) -> bool:
        """Wait until n bytes can be read, which stay unread: False if it ends before."""
        while not self._is_ended and len(self._held) < n:
            more = await super().read(_TCP_READ_BYTES)
            self._held += more
            self._is_ended = not more
        return len(self._held) >= n

    async def read(self, n: int | None = None) -> bytes:
        await self.holds(1 if n is None else n)
        n = len(self._held) if n is None else n
        data, self._held = self._held[:n], self._held[n:]
        return data


class EagerClient(multiselect_client.MultiselectClient):
    """Names the one protocol it wants along with its greeting: one round trip instead of two."""

    async def select_one_of(
        self,
        protocols: Sequence[TProtocol],
        communicator: IMultiselectCommunicator,
        negotiate_timeout: int = multiselect_client.DEFAULT_NEGOTIATE_TIMEOUT,
    ) -> TProtocol:
        if len(protocols) != 1:
            return await super().select_one_of(protocols, communicator, negotiate_timeout)
        greeting, wanted = multiselect_client.MULTISELECT_PROTOCOL_ID, str(protocols[0])
        try:
            with trio.fail_after(negotiate_timeout):
                writer: Any = communicator
                await writer.read_writer.write(encode_delim(greeting.encode()) + encode_delim(wanted.encode()))
                if await communicator.read() != greeting:
                    raise MultiselectClientError("does not speak multistream")
                if await communicator.read() != wanted:
                    raise MultiselectClientError(f"does not speak {wanted}")
        except MultiselectClientError:
            raise
        except trio.TooSlowError:
            raise MultiselectClientError("the peer does not answer") from None
        except Exception as error:  # io errors, bytes that are no text
            raise MultiselectClientError(f"no agreement on {wanted}: {error}") from error
        return protocols[0]


def install() -> None:
    """Put the guards of the whole library in place. Calling it again changes nothing."""
    # The negotiator ignores the muxer class it is given and takes this name instead.
    vars(muxer_multistream)["Yamux"] = Session
    # It waits this long after a success too, so that each connection would take 250 ms.
    network_swarm._HAPPY_EYEBALLS_DELAY = 0.0
    vars(tcp)["TrioTCPStream"] = BufferedTcpStream
    # It waits 10 s for a silent client on TCP and 60 s on WebSocket, for any number of them.
    vars(tcp)["TCPListener"] = libp2p_arrivals.BoundedTcpListener
    vars(websocket_listener)["serve_websocket"] = libp2p_arrivals.serve_websocket
    vars(swarm_connection.SwarmConn)["close"]  # fails here, not silently, if the name goes
    swarm_connection.SwarmConn.close = close_connection  # type: ignore[method-assign]
    WebSocketConnection._reader_task = read_websocket  # type: ignore[method-assign]
    WebsocketTransport._track_connection = forget_websocket  # type: ignore[method-assign]
    P2PWebSocketConnection.close = close_websocket  # type: ignore[method-assign]
    # It logs connections on the root logger, which installs a handler there if nobody has.
    vars(swarm_connection)["logging"] = logging.getLogger("libp2p.network.connection.swarm_connection")
    if "LIBP2P_DEBUG" not in os.environ:  # the library's own switch
        logging.getLogger("libp2p").setLevel(logging.CRITICAL + 1)


async def close_connection(self: swarm_connection.SwarmConn) -> None:
    """Stands in for SwarmConn.close, which sleeps 0.1 s: closing ten connections would take a second."""
    if self.event_closed.is_set():
        return
    self.event_closed.set()
    if not getattr(self, "_shared_muxed_conn", False):
        await self.muxed_conn.close()
    self.swarm.remove_conn(self)
    await self.swarm.notify_disconnected(self)


_read_websocket = WebSocketConnection._reader_task


async def read_websocket(self: WebSocketConnection) -> None:
    """Stands in for WebSocketConnection._reader_task, which runs in the host's own nursery.

    What it raises at bytes that are no answer to a handshake would bring the whole host down; and when it merely
    ends, whoever dials would wait until the time is up.
    """
    with suppress(Exception):
        await _read_websocket(self)
    await self._close_stream()
    self._open_handshake.set()  # the dialler finds it closed


async def forget_websocket(self: WebsocketTransport, conn: P2PWebSocketConnection) -> None:
    """Stands in for WebsocketTransport._track_connection, which counts dials and never takes one off the count.

    After 1,000 of them it would dial no more, and it would hold on to all that have ended. The swarm knows its
    connections, and how many there may be.
    """


_close_websocket = P2PWebSocketConnection.close


async def close_websocket(self: P2PWebSocketConnection) -> None:
    """Stands in for P2PWebSocketConnection.close, which waits for the other side to close, for as long as it likes.

    A dial that has failed would take all of its time to say so.
    """
    with trio.move_on_after(CLOSE_TIMEOUT_SECONDS):
        await _close_websocket(self)


def guard(host: Any, nursery: trio.Nursery) -> None:
    """Put the guards of one host in place, before it runs. Its late tasks live in `nursery`."""
    network = host.get_network()
    hold_inbound(network)
    contain_handlers(network)
    postpone_identify(host, nursery)
    negotiate_eagerly(host)
    stay_put(network)
    # The library's own accounting refuses honest peers that come back quickly. Ours is in the session and the swarm.
    network.set_resource_manager(None)


def hold_inbound(network: Any) -> None:
    """Make an inbound connection hold its slot until it closes.

    The library takes a slot for each inbound connection and gives it back at shutdown only, so that a listener
    is deaf after 250 of them. Its handler waits for the shutdown after a good upgrade, and gives the slot back
    at once after a failed one. So the upgrade takes as long as the connection, and then fails.

    An upgrade that goes on takes a slot too. There are more of them, so that those take none from good connections,
    whose number the library checks by itself.
    """
    upgrade = network.upgrade_inbound_raw_conn
    network._inbound_limiter.total_tokens += HANDSHAKES_MAX

    async def upgrade_and_hold(raw_conn: Any, address: Any) -> Any:
        muxed = await upgrade(raw_conn, address)
        libp2p_arrivals.finish_handshake()
        await muxed.event_closed.wait()
        if muxed.is_blamed:
            libp2p_arrivals.blame()
        raise SwarmException("closed")

    network.upgrade_inbound_raw_conn = upgrade_and_hold


def contain_handlers(network: Any) -> None:
    """Keep what goes wrong on an inbound stream on that stream, and end the stream when its handler returns.

    Any exception out of a handler, or out of the negotiation before it, would bring the whole host down; a
    handler that returns without closing would leave the stream open on both sides for good.
    """
    handle = network.common_stream_handler

    async def contained(stream: Any) -> None:
        try:
            await handle(stream)
        except* Exception:
            stream.muxed_stream.abandon()
        finally:
            stream.muxed_stream.disregard()
            await stream.muxed_stream.close()

    network.set_stream_handler(contained)


def postpone_identify(host: Any, nursery: trio.Nursery) -> None:
    """Identify peers a while after connecting, in tasks that end with the host.

    The library does it at once, both ways, just when the first question is on its way, and in system tasks that
    outlive the host.
    """
    waiting: set[Any] = set()

    async def identify(peer_id: Any, reason: str) -> None:
        try:
            await trio.sleep(IDENTIFY_DELAY_SECONDS)
            await host._identify_peer(peer_id, reason=reason)
        except Exception:
            pass  # what it tells is a courtesy
        finally:
            waiting.discard(peer_id)

    def schedule(peer_id: Any, *, reason: str) -> None:
        if peer_id not in waiting and not host._has_cached_protocols(peer_id):
            waiting.add(peer_id)
            nursery.start_soon(identify, peer_id, reason)

    host._schedule_identify = schedule


def negotiate_eagerly(host: Any) -> None:
    """Use EagerClient wherever this host asks for a protocol."""
    client = host.multiselect_client = EagerClient()
    upgrader = host.get_network().upgrader
    upgrader.security_multistream._selector.multiselect_client = client
    upgrader.muxer_multistream._selector.multiselect_client = client


def stay_put(network: Any) -> None:
    """Dial nobody unasked: the library dials whatever it has heard of while below 150 connections."""

    async def do_nothing() -> None:
        return

    network.auto_connector.maybe_connect = do_nothing
