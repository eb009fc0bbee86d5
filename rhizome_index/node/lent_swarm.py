"""The swarm of a running node, as another process of the same home uses it.

Promises what `swarm` says, over the node's connections (see `lender`): nothing is
dialled twice, and nothing of libp2p is imported here. A node that stops in the middle
is like a network that fails: peers are gone, with an error that says why.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import trio

from rhizome_index.errors import IntegrityError, RhizomeError, UnavailableError
from rhizome_index.index.address import Address
from rhizome_index.limits import CLOSE_TIMEOUT_SECONDS, CONTROL_TIMEOUT_SECONDS
from rhizome_index.node.call import Call, ask, is_texts, read_progress, tell_changed
from rhizome_index.node.cost import Cost
from rhizome_index.node.swarm import Notice, StreamHandler
from rhizome_index.node.sync import Progress
from rhizome_index.node.tally import OUT, Tally
from rhizome_index.wire import control
from rhizome_index.wire import message as m

_READ_BYTES = 262_144


class LentStream:
    """A stream that a running node has opened for us."""

    def __init__(self, peer_id: str, protocol: str, call: Call, tally: Tally) -> None:
        self._peer_id = peer_id
        self._protocol = protocol
        self._stream = call.connection.stream
        self._received = call.connection.take_rest()
        self._tally = tally

    @property
    def peer_id(self) -> str:
        return self._peer_id

    async def send(self, data: bytes) -> None:
        """See `swarm.Stream`. Cancelled when a part has gone, it resets the stream."""
        try:
            await self._stream.send_all(b"".join(control.encode_bytes(data)))
            self._tally.note_sent(self._peer_id, self._protocol, len(data))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise self._gone() from None
        except trio.Cancelled:
            self._stream.socket.close()
            raise

    async def receive(self) -> bytes:
        """See `swarm.Stream`."""
        if self._received:
            await trio.lowlevel.checkpoint()
            data, self._received = self._received, b""
        else:
            try:
                data = await self._stream.receive_some(_READ_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                raise self._gone() from None
        self._tally.note_received(self._peer_id, self._protocol, len(data))
        return data

    def _gone(self) -> UnavailableError:
        return UnavailableError(f"peer {self._peer_id} is gone")

    async def close(self) -> None:
        # Who is in the middle of a send, or does not get through any more, leaves without a word.
        with (
            trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_TIMEOUT_SECONDS),
            suppress(trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError),
        ):
            await self._stream.send_all(control.encode_close())
        self._stream.socket.close()

    async def reset(self) -> None:
        await trio.lowlevel.cancel_shielded_checkpoint()
        self._stream.socket.close()


class LentSwarm:
    """See `swarm.Swarm`. Nobody is answered here: that is what the node does."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._us = ""
        self._addresses: tuple[str, ...] = ()
        self._peers: dict[str, float | None] = {}
        self._look = 0
        self._reached: dict[str, int] = {}  # peers dialled for us, and the look at which they were there
        self.tally = Tally()

    @property
    def peer_id(self) -> str:
        return self._us

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where the node listens."""
        return self._addresses

    @property
    def connected_peers(self) -> tuple[str, ...]:
        return tuple(self._peers)

    def take_news(self, fields: Any) -> None:
        """Take what the node says of its peers. Raises IntegrityError."""
        us, addresses, peers, look = m.read_fields(
            fields, us=m.is_text, addresses=is_texts, peers=_is_peers, look=m.is_natural
        )
        self._us, self._addresses, self._look = us, tuple(addresses), look
        self._reached = {peer: seen for peer, seen in self._reached.items() if seen > look}
        self._peers = dict.fromkeys(self._reached) | dict(peers)

    def lose(self) -> None:
        """The node is gone."""
        self._peers, self._reached = {}, {}

    def latency_seconds(self, peer_id: str) -> float | None:
        return self._peers.get(peer_id)

    def handle(self, protocol: str, handler: StreamHandler, *, lasting: bool = False) -> None:
        raise AssertionError("a lent swarm answers nobody")

    def watch(self, notice: Notice) -> None:
        raise AssertionError("the node watches for itself")

    def listen_through(self, relay: str, addresses: Sequence[str]) -> None:
        raise AssertionError("the node listens for itself")

    def is_relayed(self, peer_id: str) -> bool:
        return False  # the node does not say; who waits long for a peer asks another

    async def dial(self, address: str, *, timeout_seconds: float) -> str:
        """See `swarm.Swarm`. Raises UsageError for what is no address of a peer."""
        request = control.Dial(address, _milliseconds(timeout_seconds))
        call, end = await ask(self._path, request, timeout_seconds + CONTROL_TIMEOUT_SECONDS)
        call.hang_up()
        peer, look = m.read_fields(end.fields, peer=m.is_text, look=m.is_natural)
        if look > self._look:  # else there are newer news
            self._reached[peer] = look
            self._peers.setdefault(peer, None)
        return str(peer)

    async def dial_relay(self, address: str, *, timeout_seconds: float) -> str:
        return await self.dial(address, timeout_seconds=timeout_seconds)

    async def open_stream(
        self, peer_id: str, protocol: str, *, timeout_seconds: float, lasting: bool = False
    ) -> LentStream:
        """See `swarm.Swarm`."""
        assert not lasting, "what lasts is the node's"
        request = control.Borrow(peer_id, protocol, _milliseconds(timeout_seconds))
        call, _ = await ask(self._path, request, timeout_seconds + CONTROL_TIMEOUT_SECONDS)
        self.tally.streams[protocol, OUT] += 1
        return LentStream(peer_id, protocol, call, self.tally)

    async def bring(self, address: Address, take: Callable[[Progress, Cost], None]) -> None:
        """Have the node bring what is followed of a dataset up to date; how far it is, and its cost, is told meanwhile.

        It goes on with that though we leave. Raises UsageError if it is not followed, UnavailableError, IntegrityError.
        """
        call = await Call.make(self._path, control.Bring(str(address)))
        try:
            while isinstance(news := await call.hear(), control.News):
                take(*read_progress(news.fields))
        finally:
            call.hang_up()

    async def tell_changed(self) -> None:
        """See `tell_changed`."""
        await tell_changed(self._path)

    async def disconnect(self, peer_id: str, *, for_cause: bool = False) -> None:
        self._peers.pop(peer_id, None)
        self._reached.pop(peer_id, None)
        with trio.CancelScope(shield=True), suppress(RhizomeError):
            call, _ = await ask(self._path, control.Disconnect(peer_id), 3 * CLOSE_TIMEOUT_SECONDS)
            call.hang_up()


@asynccontextmanager
async def borrow_swarm(path: Path, peer_id: str) -> AsyncIterator[LentSwarm | None]:
    """The swarm of a peer's running node, whose socket is at a path; None if there is none, or none that lends."""
    swarm = LentSwarm(path)
    call = None
    with suppress(UnavailableError, IntegrityError, trio.TooSlowError):
        with trio.fail_after(CONTROL_TIMEOUT_SECONDS):
            call = await Call.make(path, control.WatchPeers())
            swarm.take_news((await call.hear()).fields)
    try:
        if call is None or swarm.peer_id != peer_id:
            yield None
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_watch, call, swarm)
            yield swarm
            nursery.cancel_scope.cancel()
    finally:
        if call is not None:
            call.hang_up()


async def _watch(call: Call, swarm: LentSwarm) -> None:
    with suppress(UnavailableError, IntegrityError):
        while True:
            swarm.take_news((await call.hear()).fields)
    swarm.lose()


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _is_peers(value: Any) -> bool:
    return type(value) is list and all(
        type(item) is list and len(item) == 2 and m.is_text(item[0]) and type(item[1]) in (float, type(None))
        for item in value
    )
