"""Streams and a swarm in memory, for tests in virtual time: a window, a write deadline, lines that may be slow."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import trio

from rhizome_index.errors import UnavailableError
from rhizome_index.limits import STREAM_WINDOW_BYTES, WRITE_TIMEOUT_SECONDS
from rhizome_index.node.swarm import Notice, StreamHandler
from rhizome_index.node.tally import Tally

PIECE_BYTES = 4096


class _Pipe:
    """One direction."""

    def __init__(self, bytes_per_second: float) -> None:
        self.bytes_per_second = bytes_per_second
        self.sender, self.receiver = trio.open_memory_channel[bytes](STREAM_WINDOW_BYTES // PIECE_BYTES)
        self.is_reset = False


class MemoryStream:
    """One end of a stream. What it sends takes its time, and waits while the other end does not read."""

    def __init__(self, peer_id: str, outgoing: _Pipe, incoming: _Pipe) -> None:
        self.peer_id = peer_id
        self._outgoing = outgoing
        self._incoming = incoming

    @property
    def is_reset(self) -> bool:
        return self._outgoing.is_reset

    async def send(self, data: bytes) -> None:
        pieces = [data[start : start + PIECE_BYTES] for start in range(0, len(data), PIECE_BYTES)]
        sent = 0
        try:
            for piece in pieces:
                with trio.fail_after(WRITE_TIMEOUT_SECONDS):
                    await self._outgoing.sender.send(piece)
                sent += 1
                await trio.sleep(len(piece) / self._outgoing.bytes_per_second)
        except trio.TooSlowError:
            self.abandon()
            raise UnavailableError(f"peer {self.peer_id} does not read") from None
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise UnavailableError(f"peer {self.peer_id} is gone") from None
        except trio.Cancelled:
            if sent:
                self.abandon()
            raise

    async def receive(self) -> bytes:
        try:
            return await self._incoming.receiver.receive()
        except trio.EndOfChannel:
            if not self._incoming.is_reset:
                return b""
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        raise UnavailableError(f"peer {self.peer_id} is gone")

    async def close(self) -> None:
        await trio.lowlevel.cancel_shielded_checkpoint()
        self._outgoing.sender.close()
        self._incoming.receiver.close()

    async def reset(self) -> None:
        await trio.lowlevel.cancel_shielded_checkpoint()
        self.abandon()

    def abandon(self) -> None:
        for pipe in (self._outgoing, self._incoming):
            pipe.is_reset = True
            pipe.sender.close()
            pipe.receiver.close()


def stream_pair(one: str, other: str, *, bytes_per_second: float = math.inf) -> tuple[MemoryStream, MemoryStream]:
    """The ends of a stream between two peers; what the second end sends comes at this rate."""
    there, back = _Pipe(math.inf), _Pipe(bytes_per_second)
    return MemoryStream(other, there, back), MemoryStream(one, back, there)


class MemorySwarm:
    """A `swarm.Swarm` whose only other peers are functions: each answers the streams that are opened with it.

    opened        how many streams have been opened with each peer
    disconnected  peers that were dropped
    through       relays, and where they say that they can be reached
    """

    peer_id = "us"
    addresses = ()
    connected_peers: tuple[str, ...] = ()

    def __init__(self, nursery: trio.Nursery, answering: StreamHandler | None = None) -> None:
        self._nursery = nursery
        self._answering = answering
        self.bytes_per_second = math.inf
        self.handlers: dict[str, StreamHandler] = {}
        self.notices: list[Notice] = []
        self.streams: dict[str, list[MemoryStream]] = defaultdict(list)
        self.disconnected: list[str] = []
        self.blamed: list[str] = []
        self.through: dict[str, tuple[str, ...]] = {}
        self.tally = Tally()

    def handle(self, protocol: str, handler: StreamHandler, *, lasting: bool = False) -> None:
        self.handlers[protocol] = handler

    def watch(self, notice: Notice) -> None:
        self.notices.append(notice)

    def listen_through(self, relay: str, addresses: Sequence[str]) -> None:
        self.through.pop(relay, None)
        if addresses:
            self.through[relay] = tuple(addresses)

    def is_relayed(self, peer_id: str) -> bool:
        return False

    async def dial(self, address: str, *, timeout_seconds: float) -> str:
        raise UnavailableError("nobody can be dialled here")

    async def dial_relay(self, address: str, *, timeout_seconds: float) -> str:
        return await self.dial(address, timeout_seconds=timeout_seconds)

    async def open_stream(
        self, peer_id: str, protocol: str, *, timeout_seconds: float, lasting: bool = False
    ) -> MemoryStream:
        await trio.lowlevel.checkpoint()
        if self._answering is None or peer_id in self.disconnected:
            raise UnavailableError(f"peer {peer_id} is not connected")
        ours, theirs = stream_pair(self.peer_id, peer_id, bytes_per_second=self.bytes_per_second)
        self.streams[peer_id].append(ours)
        self._start(self._answering, theirs)
        return ours

    def accept(self, peer_id: str, protocol: str) -> MemoryStream:
        """A stream that a peer opens with us: its end."""
        theirs, ours = stream_pair(peer_id, self.peer_id, bytes_per_second=self.bytes_per_second)
        self.streams[peer_id].append(ours)
        self._start(self.handlers[protocol], ours)
        return theirs

    def _start(self, handler: Callable[[MemoryStream], Awaitable[None]], stream: MemoryStream) -> None:
        async def run() -> None:
            with suppress(UnavailableError):
                await handler(stream)
            await stream.close()

        self._nursery.start_soon(run)

    async def disconnect(self, peer_id: str, *, for_cause: bool = False) -> None:
        await trio.lowlevel.checkpoint()
        self.disconnected.append(peer_id)
        self.blamed += [peer_id] if for_cause else []
        for stream in self.streams[peer_id]:
            stream.abandon()

    def latency_seconds(self, peer_id: str) -> float | None:
        return None
