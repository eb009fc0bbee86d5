"""A running node lends its swarm to other processes of the same home.

Each connection on the home's socket is one request (see `wire.control`): who is
connected, dial, disconnect, or a stream, whose bytes are then passed on both ways. So
another process asks peers with its own code over its own view of the store, and the
node's connections, which are there already. Whoever leaves takes with him what he was
lent. What is followed the node itself brings, and tells who has asked for it how far
it is: nothing comes twice. And it says how it is doing, and frees blocks when it is
asked to. It does not know what is said on a stream.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

import trio

from rhizome_index.errors import IntegrityError, RhizomeError, UnavailableError, first_of
from rhizome_index.index.address import Address
from rhizome_index.limits import (
    CONTROL_CONNECTIONS_MAX,
    CONTROL_TIMEOUT_SECONDS,
    PEERS_WATCH_SECONDS,
    PROGRESS_SECONDS,
)
from rhizome_index.node.call import progress_fields
from rhizome_index.node.events import DEBUG, note
from rhizome_index.node.follow import FollowState
from rhizome_index.node.framed import Framed
from rhizome_index.node.peer import Peer
from rhizome_index.node.register import Follow
from rhizome_index.node.status import status_of
from rhizome_index.node.swarm import Stream
from rhizome_index.node.unix_socket import is_own
from rhizome_index.wire import control


class Lender:
    """Lends the swarm of one peer. `connections` says how many there are from other processes."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._swarm = peer.joined().swarm
        self._looks = 0
        self._started_at = trio.current_time()
        self.connections = 0

    async def serve(self, listener: socket.socket) -> None:
        """Serve whoever connects until cancelled."""
        listener.setblocking(False)
        await trio.serve_listeners(self._meet, [trio.SocketListener(trio.socket.from_stdlib_socket(listener))])

    async def _meet(self, stream: trio.SocketStream) -> None:
        """Serve one connection. Whoever leaves in the middle of it costs nobody else anything."""
        self.connections += 1
        try:
            async with stream:
                with suppress(trio.BrokenResourceError):
                    if is_own(stream.socket):
                        await self._serve(Framed(stream))
        finally:
            self.connections -= 1

    async def _serve(self, guest: Framed) -> None:
        try:
            if self.connections > CONTROL_CONNECTIONS_MAX:
                raise UnavailableError("too many processes talk to the running node")
            request = await _receive_request(guest)
            if isinstance(request, control.Borrow):
                await self._lend(guest, request)
            else:
                await self._answer(guest, request)
        except RhizomeError as error:
            await guest.stream.send_all(control.encode_error(error))

    async def _answer(self, guest: Framed, request: control.Request) -> None:
        """Answer, unless the guest leaves meanwhile."""
        found: dict[str, Any] | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_leave_with, guest, nursery.cancel_scope)
                found = await self._do(guest, request)
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise first_of(group) from None
        if found is not None:
            await guest.stream.send_all(control.encode_end(found))

    async def _do(self, guest: Framed, request: control.Request) -> dict[str, Any]:
        match request:
            case control.WatchPeers():
                await self._tell_peers(guest)
            case control.Dial(address, timeout_ms):
                peer = await self._swarm.dial(address, timeout_seconds=timeout_ms / 1000)
                return {"peer": peer, "look": self._look()}
            case control.Disconnect(peer_id):
                await self._swarm.disconnect(peer_id)
            case control.Bring(address):
                await self._bring(guest, self._peer.followed(Address.parse(address)))
            case control.Look():
                self._peer.look()
            case control.Status():
                return status_of(self._peer, self._started_at).fields()
            case control.Collect(is_trial):
                return await self._collect(guest, is_trial=is_trial)
        return {}

    def _look(self) -> int:
        """The number of a look at who is connected: what is seen under a higher one is newer."""
        self._looks += 1
        return self._looks

    async def _tell_peers(self, guest: Framed) -> None:
        swarm, told = self._swarm, None
        while True:
            peers = [[peer, swarm.latency_seconds(peer)] for peer in swarm.connected_peers]
            if peers != told:
                told = peers
                fields = {"us": swarm.peer_id, "addresses": list(swarm.addresses), "peers": peers, "look": self._look()}
                await guest.stream.send_all(control.encode_news(fields))
            await trio.sleep(PEERS_WATCH_SECONDS)

    async def _bring(self, guest: Framed, follow: Follow) -> None:
        follower = self._peer.joined().follower
        before = replace(follower.state(follow).cost)
        told: Any = None

        async def tell(state: FollowState) -> None:
            nonlocal told
            news = progress_fields(state.progress, state.cost, before)
            if news != told:
                told = news
                await guest.stream.send_all(control.encode_news(news))

        await follower.wait_brought(follow, tell)

    async def _collect(self, guest: Framed, *, is_trial: bool) -> dict[str, Any]:
        collector = self._peer.joined().collector
        found: dict[str, Any] = {}

        async def tell() -> None:
            while True:
                if (progress := collector.progress) is not None:
                    await guest.stream.send_all(control.encode_news(asdict(progress)))
                await trio.sleep(PROGRESS_SECONDS)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell)
            found = asdict(await collector.collect(is_trial=is_trial))
            nursery.cancel_scope.cancel()
        return found

    async def _lend(self, guest: Framed, request: control.Borrow) -> None:
        """Open a stream and go between its ends. Neither is read faster than the other takes it."""
        wait = request.timeout_ms / 1000
        note(DEBUG, "lent", peer=request.peer_id, protocol=request.protocol)
        lent = await self._swarm.open_stream(request.peer_id, request.protocol, timeout_seconds=wait)
        is_closed = False
        try:
            await guest.stream.send_all(control.encode_end({}))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_give_bytes, lent, guest)
                is_closed = await _take_bytes(lent, guest)
                nursery.cancel_scope.cancel()
        except* (UnavailableError, IntegrityError, trio.BrokenResourceError):
            pass  # the peer is gone, or the guest
        finally:
            with trio.CancelScope(shield=True):
                await (lent.close() if is_closed else lent.reset())


async def _receive_request(guest: Framed) -> control.Request:
    """Raises IntegrityError for what is no request, UnavailableError if none comes in time."""
    body = None
    with trio.move_on_after(CONTROL_TIMEOUT_SECONDS):
        body = await guest.receive_frame()
    if body is None:
        raise UnavailableError("no request came")
    return control.decode_request(body)


async def _leave_with(guest: Framed, scope: trio.CancelScope) -> None:
    """Cancel a scope when the guest leaves, or says more than his request."""
    if not guest.take_rest():
        with suppress(trio.BrokenResourceError):
            await guest.stream.receive_some(1)
    scope.cancel()


async def _give_bytes(lent: Stream, guest: Framed) -> None:
    """What a stream's peer sends, to its end."""
    with suppress(UnavailableError):
        while data := await lent.receive():
            await guest.stream.send_all(data)
    await guest.stream.send_eof()


async def _take_bytes(lent: Stream, guest: Framed) -> bool:
    """What a guest has for a stream's peer; whether he closes the stream in the end rather than just leaves."""
    while (body := await guest.receive_frame()) is not None:
        data = control.decode_bytes(body)
        if data is None:
            return True
        await lent.send(data)
    return False
