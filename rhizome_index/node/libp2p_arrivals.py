"""Connections that others open: how many may be unfinished, how long, and how many one machine may have.

Promises: a client that connects and says nothing, or too little, holds a file
descriptor for a few seconds, and never keeps another one out: where there are too
many handshakes, the oldest one of whoever has most of them makes room. What goes
wrong with one connection stays with it.

It does not know Noise or Yamux: whoever serves a connection says when its
handshake is over.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Any

import trio
from libp2p.transport.tcp.tcp import TCPListener
from trio_websocket import WebSocketServer

from rhizome_index.limits import (
    CONNECTIONS_PER_ADDRESS_MAX,
    HANDSHAKE_TIMEOUT_SECONDS,
    HANDSHAKES_MAX,
    HANDSHAKES_PER_ADDRESS_MAX,
)


@dataclass(eq=False, slots=True)
class Arrival:
    """One inbound connection. `origin` stands for the machine that it comes from."""

    origin: str
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    is_finished: bool = False

    @property
    def is_waiting(self) -> bool:
        """Whether its handshake is under way."""
        return not self.is_finished and not self.scope.cancel_called

    def finish(self) -> None:
        """The handshake is over: the connection may last."""
        self.is_finished = True
        self.scope.deadline = math.inf


class Arrivals:
    """Inbound connections, the oldest first. File descriptors belong to the process, and so does the one below."""

    def __init__(self) -> None:
        self._present: list[Arrival] = []

    async def serve(self, host: str, serve: Callable[[], Awaitable[None]]) -> None:
        """Serve a connection from an IP address to its end, unless there is no place or it stays unfinished."""
        origin = _origin(host)
        if sum(arrival.origin == origin for arrival in self._present) >= CONNECTIONS_PER_ADDRESS_MAX:
            return
        self._make_room(origin)
        arrival = Arrival(origin)
        arrival.scope.deadline = trio.current_time() + HANDSHAKE_TIMEOUT_SECONDS
        self._present.append(arrival)
        token = _CURRENT.set(arrival)
        try:
            with arrival.scope:
                await serve()
        except* Exception:
            pass  # it would end the listener
        finally:
            _CURRENT.reset(token)
            self._present.remove(arrival)

    def _make_room(self, origin: str) -> None:
        unfinished = [arrival for arrival in self._present if arrival.is_waiting]
        numbers = Counter(arrival.origin for arrival in unfinished)
        if numbers[origin] < HANDSHAKES_PER_ADDRESS_MAX:
            if len(unfinished) < HANDSHAKES_MAX:
                return
            ((origin, _),) = numbers.most_common(1)
        next(arrival for arrival in unfinished if arrival.origin == origin).scope.cancel()


ARRIVALS = Arrivals()
_CURRENT: ContextVar[Arrival | None] = ContextVar("arrival", default=None)


def finish_handshake() -> None:
    """The connection that this task serves has been agreed upon."""
    arrival = _CURRENT.get()
    if arrival is not None:
        arrival.finish()


def _origin(host: str) -> str:
    """What stands for a machine: its IPv4 address, or the 64 bits of an IPv6 address that it cannot choose."""
    address = ip_address(host.partition("%")[0])
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or IPv6Network((int(address) >> 64 << 64, 64)))
    return str(address)


def _host(stream: trio.SocketStream) -> str:
    try:
        return str(stream.socket.getpeername()[0])
    except OSError:  # it has gone already
        return "0.0.0.0"


class BoundedTcpListener(TCPListener):
    """The library's listener, behind `ARRIVALS`."""

    def __init__(self, handler_function: Callable[[Any], Awaitable[None]]) -> None:
        async def serve(stream: Any) -> None:
            await ARRIVALS.serve(_host(stream.stream), partial(handler_function, stream))

        super().__init__(serve)


class BoundedWebSocketServer(WebSocketServer):
    """The library's server, behind `ARRIVALS`: its own handshake is the first part of ours."""

    async def _handle_connection(self, stream: Any) -> None:
        await ARRIVALS.serve(_host(stream), partial(super()._handle_connection, stream))


async def serve_websocket(
    handler: Callable[[Any], Awaitable[None]],
    host: str,
    port: int,
    ssl_context: None,
    *,
    task_status: Any,
) -> None:
    """Stands in for trio_websocket's function of this name."""
    listeners = await trio.open_tcp_listeners(port, host=host)
    server = BoundedWebSocketServer(handler, listeners)
    await server.run(task_status=task_status)
