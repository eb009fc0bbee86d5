"""Connections that others open: how many may be unfinished, how long, and how many one machine may have.

Promises: a client that connects and says nothing, or too little, holds a file
descriptor for a few seconds, and keeps nobody out for longer than a moment: where
there are as many handshakes as there may be, who comes later and has said something
waits, and the one that has kept us waiting the longest makes room. So a crowd that
comes at once gets in one after another, and nobody loses a handshake because we are
slow. What goes wrong with one connection stays with it, and machines whose
connections went wrong come in at a pace (`Suspects`), so that they delay nobody else.

It does not know Noise or Yamux: whoever serves a connection says when its
handshake is over.
"""

from __future__ import annotations

import math
import select
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv6Address, IPv6Network, ip_address
from itertools import takewhile
from typing import Any, Literal

import trio
from libp2p.transport.tcp.tcp import TCPListener
from trio_websocket import WebSocketServer

from rhizome_index.limits import (
    CONNECTIONS_PER_ADDRESS_MAX,
    HANDSHAKE_SILENCE_SECONDS,
    HANDSHAKE_TIMEOUT_SECONDS,
    HANDSHAKES_MAX,
    HANDSHAKES_PER_ADDRESS_MAX,
    SUSPECT_HANDSHAKES_WAITING,
)
from rhizome_index.node.suspects import PAUSE_SECONDS, Suspects

Stage = Literal["waiting", "shaking", "finished"]  # for its turn; hands; for good


@dataclass(eq=False, slots=True)
class Arrival:
    """One inbound connection.

    origin      stands for the machine that it comes from
    has_unread  whether something has come from it that we have not got round to
    make_room   is called when its handshake is over
    is_suspect  whether it comes from where things went wrong
    heard_at    when we last heard of it
    is_blamed   whether it has to end for what is done on it
    """

    origin: str
    has_unread: Callable[[], bool]
    make_room: Callable[[], None]
    is_suspect: bool
    heard_at: float = 0.0
    is_blamed: bool = False
    stage: Stage = "waiting"
    turn: trio.Event = field(default_factory=trio.Event)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    def is_at(self, stage: Stage) -> bool:
        return self.stage == stage and not self.scope.cancel_called

    def enter(self, stage: Stage) -> None:
        """A handshake has its time, and so has who waits for its turn; a finished connection may last."""
        self.stage = stage
        self.heard_at = trio.current_time()
        self.scope.deadline = math.inf if stage == "finished" else self.heard_at + HANDSHAKE_TIMEOUT_SECONDS

    def finish(self) -> None:
        """The handshake is over: the connection may last."""
        self.enter("finished")
        self.make_room()

    def is_silent(self) -> bool:
        """Whether it is us who have been waiting, for long."""
        return trio.current_time() >= self.heard_at + HANDSHAKE_SILENCE_SECONDS and not self.has_unread()


class Arrivals:
    """Inbound connections, the oldest first."""

    def __init__(self) -> None:
        self._present: list[Arrival] = []
        self._suspects = Suspects()

    async def serve(
        self, host: str, serve: Callable[[], Awaitable[None]], has_unread: Callable[[], bool] = lambda: False
    ) -> None:
        """Serve a connection from an IP address to its end, unless there is no place or it stays unfinished."""
        await self.serve_from(_origin(host), serve, has_unread)

    async def serve_from(
        self, origin: str, serve: Callable[[], Awaitable[None]], has_unread: Callable[[], bool]
    ) -> None:
        """The same for whatever else stands for where connections come from: a relay, say."""
        here = [arrival for arrival in self._present if arrival.origin == origin]
        waiting = [arrival for arrival in here if arrival.is_at("waiting")]
        if sum(arrival.stage != "waiting" for arrival in here) >= CONNECTIONS_PER_ADDRESS_MAX:
            return
        is_suspect = self._suspects.is_one(origin, trio.current_time())
        if is_suspect and len(waiting) >= SUSPECT_HANDSHAKES_WAITING and not _send_away(waiting):
            return
        self._bound_waiting()
        arrival = Arrival(origin, has_unread, self._hand_out, is_suspect)
        arrival.enter("waiting")
        self._present.append(arrival)
        token = _CURRENT.set(arrival)
        try:
            with arrival.scope:
                await self._wait_turn(arrival)
                await serve()
        except* Exception:
            pass  # it would end the listener
        finally:
            _CURRENT.reset(token)
            self._present.remove(arrival)
            if arrival.stage == "shaking" or arrival.is_blamed:
                self._suspects.note(origin, trio.current_time())
            self._hand_out()

    async def _wait_turn(self, arrival: Arrival) -> None:
        self._hand_out()
        while not arrival.turn.is_set():
            now = trio.current_time()
            look_at = now + HANDSHAKE_SILENCE_SECONDS
            if arrival.is_suspect:
                ahead = takewhile(lambda other: other is not arrival, self._all_at("waiting"))
                turn_at = self._suspects.next_turn + PAUSE_SECONDS * sum(other.is_suspect for other in ahead)
                look_at = min(look_at, turn_at if turn_at > now else now + PAUSE_SECONDS)
            with trio.move_on_at(look_at):
                await arrival.turn.wait()
            self._hand_out()

    def _hand_out(self) -> None:
        """Let those begin, in their order, for whom there is room, be it that of who has long been silent."""
        now = trio.current_time()
        waiting = self._all_at("waiting")
        shaking = self._all_at("shaking") if waiting else []
        numbers = Counter(arrival.origin for arrival in shaking)
        silent: list[Arrival] | None = None
        for arrival in waiting:
            if arrival.is_suspect and (now < self._suspects.next_turn or not arrival.has_unread()):
                continue
            is_one_too_many = numbers[arrival.origin] >= HANDSHAKES_PER_ADDRESS_MAX
            if is_one_too_many or numbers.total() >= HANDSHAKES_MAX:
                if not arrival.has_unread():
                    continue
                if silent is None:
                    silent = sorted(filter(Arrival.is_silent, shaking), key=lambda one: one.heard_at)
                possible = [one for one in silent if one.origin == arrival.origin or not is_one_too_many]
                if not possible:
                    continue
                leaving = max(possible, key=lambda one: numbers[one.origin])
                silent.remove(leaving)
                numbers[leaving.origin] -= 1
                leaving.scope.cancel()
            numbers[arrival.origin] += 1
            if arrival.is_suspect:
                self._suspects.begin(now)
            arrival.enter("shaking")
            arrival.turn.set()

    def _bound_waiting(self) -> None:
        """Where too many wait for their turn one goes: who has said nothing, of the machine with most of them."""
        waiting = self._all_at("waiting")
        if len(waiting) >= HANDSHAKES_MAX:
            numbers = Counter(arrival.origin for arrival in waiting)
            min(waiting, key=lambda arrival: (arrival.has_unread(), -numbers[arrival.origin])).scope.cancel()

    def _all_at(self, stage: Stage) -> list[Arrival]:
        return [arrival for arrival in self._present if arrival.is_at(stage)]


def _send_away(waiting: Sequence[Arrival]) -> bool:
    """Whether one of those who wait has said nothing, and goes: the first."""
    for arrival in waiting:
        if not arrival.has_unread():
            arrival.scope.cancel()
            return True
    return False


_ARRIVALS: trio.lowlevel.RunVar[Arrivals] = trio.lowlevel.RunVar("arrivals")
_CURRENT: ContextVar[Arrival | None] = ContextVar("arrival", default=None)


def arrivals() -> Arrivals:
    """Those of all listeners, since file descriptors belong to the process."""
    try:
        return _ARRIVALS.get()
    except LookupError:
        found = Arrivals()
        _ARRIVALS.set(found)
        return found


def finish_handshake() -> None:
    """The connection that this task serves has been agreed upon."""
    arrival = _CURRENT.get()
    if arrival is not None:
        arrival.finish()


def blame() -> None:
    """The connection that this task serves ends for what its peer did."""
    arrival = _CURRENT.get()
    if arrival is not None:
        arrival.is_blamed = True


def _origin(host: str) -> str:
    """What stands for a machine: its IPv4 address, or the 64 bits of an IPv6 address that it cannot choose."""
    address = ip_address(host.partition("%")[0])
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or IPv6Network((int(address) >> 64 << 64, 64)))
    return str(address)


async def _serve(stream: trio.SocketStream, serve: Callable[[], Awaitable[None]]) -> None:
    """Serve a connection that is on this stream."""
    try:
        host = str(stream.socket.getpeername()[0])
    except OSError:  # it has gone already
        return
    receive, ready = stream.receive_some, select.poll()
    ready.register(stream.socket.fileno(), select.POLLIN)

    async def receive_some(max_bytes: int | None = None) -> bytes:
        data = await receive(max_bytes)
        if (arrival := _CURRENT.get()) is not None:
            arrival.heard_at = trio.current_time()
        return bytes(data)

    vars(stream)["receive_some"] = receive_some
    await arrivals().serve(host, serve, lambda: bool(ready.poll(0)))


class BoundedTcpListener(TCPListener):
    """The library's listener, behind `arrivals`."""

    def __init__(self, handler_function: Callable[[Any], Awaitable[None]]) -> None:
        async def serve(stream: Any) -> None:
            await _serve(stream.stream, partial(handler_function, stream))

        super().__init__(serve)


class BoundedWebSocketServer(WebSocketServer):
    """The library's server, behind `arrivals`: its own handshake is the first part of ours."""

    async def _handle_connection(self, stream: Any) -> None:
        await _serve(stream, partial(super()._handle_connection, stream))


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
