"""Peers that do not play by the rules: strategies that stand between an honest node and the network.

The node behind is the real one, so that what is wrong differs from what is right in
one place only. What a strategy alters is what its node sends in answer to others,
message by message; some do things of their own beside it. Those that lie are in
`lies.py`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, TypeVar

import trio

from rhizome_index.blocks import cbor
from rhizome_index.errors import RhizomeError, UnavailableError
from rhizome_index.index.address import Address
from rhizome_index.limits import IDLE_TIMEOUT_SECONDS, IN_FLIGHT_BYTES_MAX, PROOF_BYTES_MAX
from rhizome_index.node.swarm import Stream, StreamHandler, Swarm
from rhizome_index.query.parse import parse
from rhizome_index.simulation.cluster import COLLECTION, Member, Strategy
from rhizome_index.wire import ask, heads, sync, trust, want
from rhizome_index.wire.frame import FrameReader, encode_frame

T = TypeVar("T")

Message = list[Any]  # [number, kind, content...], see wire.message
SERVED = (ask.PROTOCOL, want.PROTOCOL, heads.PROTOCOL, sync.PROTOCOL, trust.PROTOCOL)


class Spoiler(Strategy):
    """A strategy that alters answers, not gossip. This one alters nothing. `lies` counts what was altered."""

    is_honest = False

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.lies = 0

    def swarm(self, member: Member, swarm: Swarm) -> Swarm:
        return _SpoiledSwarm(swarm, self)

    def handler(self, protocol: str, handler: StreamHandler) -> StreamHandler | None:
        """What answers streams in the node's place; None: a protocol is not spoken."""
        if protocol not in SERVED:
            return handler

        async def spoiled(stream: Stream) -> None:
            await handler(_SpoiledStream(stream, protocol, self))

        return spoiled

    def may_open(self, protocol: str) -> bool:
        """Whether the node may ask others under a protocol."""
        return True

    async def spoil(self, protocol: str, message: Message) -> list[Message]:
        """What to send in place of a message; nothing, to keep silent."""
        return [message]

    def twist(self, protocol: str, request: Message) -> Message:
        """What to answer in place of a request."""
        return request


class Withholder(Spoiler):
    """Knows of everything and gives nothing: asked for more than heads, it keeps silent."""

    async def spoil(self, protocol: str, message: Message) -> list[Message]:
        return [message] if protocol == heads.PROTOCOL else []


class Stale(Spoiler):
    """Serves what it had at some time, and learns nothing after."""

    is_stale = False

    def may_open(self, protocol: str) -> bool:
        return not self.is_stale


class Slow(Spoiler):
    """Answers, but takes its time for every message."""

    def __init__(self, chance: random.Random, seconds: float = 5.0) -> None:
        super().__init__(chance)
        self.seconds = seconds

    async def spoil(self, protocol: str, message: Message) -> list[Message]:
        await trio.sleep(self.seconds)
        return [message]


class Sybil(Spoiler):
    """One of a crowd who name each other as providers of everything, and have nothing."""

    def __init__(self, chance: random.Random, crowd: list[Member]) -> None:
        super().__init__(chance)
        self.crowd = crowd

    async def spoil(self, protocol: str, message: Message) -> list[Message]:
        number, kind, content = message[0], message[1], message[-1]
        if protocol != heads.PROTOCOL:
            return []
        if kind != "open":
            return [message]
        start = int(self.chance.random() * len(self.crowd))
        named = [member.host.address for member in (*self.crowd[start:], *self.crowd[:start])][:16]
        return [[number, kind, {"datasets": [[entry[0], entry[1], named] for entry in content["datasets"]]}]]


class Flooder(Spoiler):
    """Opens stream after stream to those it names, asks for everything and never reads, or sends what means nothing."""

    def __init__(self, chance: random.Random, address: Address, pause_seconds: float = 0.5) -> None:
        super().__init__(chance)
        self.address = address
        self.pause_seconds = pause_seconds
        self.streams = 0

    async def run(self, member: Member) -> None:
        membership = member.running.peer.membership
        assert membership is not None
        async with trio.open_nursery() as nursery:
            while True:
                await trio.sleep(self.pause_seconds)
                for text in member.named:
                    with suppress(RhizomeError):
                        peer = await membership.swarm.dial(text, timeout_seconds=10)
                        protocol = SERVED[int(self.chance.random() * len(SERVED))]
                        stream = await membership.swarm.open_stream(peer, protocol, timeout_seconds=10)
                        self.streams += 1
                        nursery.start_soon(self._flood, protocol, stream)

    async def _flood(self, protocol: str, stream: Stream) -> None:
        query, _ = parse(f"all {COLLECTION} where likes >= 0")
        fields: dict[str, Any] = {
            ask.PROTOCOL: ask.Ask(self.address, query, scan=True).fields(),
            heads.PROTOCOL: {"datasets": []},
            sync.PROTOCOL: sync.Sync(self.address).fields(),
        }.get(protocol, {"nothing": 0})
        with suppress(RhizomeError):
            for number in range(IN_FLIGHT_BYTES_MAX // PROOF_BYTES_MAX):
                await stream.send(encode_frame(cbor.encode([number, fields])))
            await trio.sleep(IDLE_TIMEOUT_SECONDS)


class Partial(Spoiler):
    """An honest peer of another version: it answers under some protocols only."""

    is_honest = True

    def __init__(self, chance: random.Random, spoken: tuple[str, ...] = (heads.PROTOCOL, want.PROTOCOL)) -> None:
        super().__init__(chance)
        self.spoken = spoken

    def handler(self, protocol: str, handler: StreamHandler) -> StreamHandler | None:
        return handler if protocol in self.spoken else None


class _SpoiledSwarm:
    """The network, with answers spoiled."""

    def __init__(self, swarm: Swarm, strategy: Spoiler) -> None:
        self._swarm = swarm
        self._strategy = strategy

    def handle(self, protocol: str, handler: StreamHandler, *, lasting: bool = False) -> None:
        answering = self._strategy.handler(protocol, handler)
        if answering is not None:
            self._swarm.handle(protocol, answering, lasting=lasting)

    async def open_stream(
        self, peer_id: str, protocol: str, *, timeout_seconds: float, lasting: bool = False
    ) -> Stream:
        if not self._strategy.may_open(protocol):
            await trio.lowlevel.checkpoint()
            raise UnavailableError("it does not want to know")
        return await self._swarm.open_stream(peer_id, protocol, timeout_seconds=timeout_seconds, lasting=lasting)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._swarm, name)


class _SpoiledStream:
    """A stream on which answers are spoiled."""

    def __init__(self, stream: Stream, protocol: str, strategy: Spoiler) -> None:
        self._stream = stream
        self._protocol = protocol
        self._strategy = strategy
        self._frames = FrameReader()
        self._requests = FrameReader()

    async def receive(self) -> bytes:
        while data := await self._stream.receive():
            twisted = [self._strategy.twist(self._protocol, request) for request in _messages(self._requests, data)]
            if twisted:
                return b"".join(encode_frame(cbor.encode(request)) for request in twisted)
        return b""

    async def send(self, data: bytes) -> None:
        for message in list(_messages(self._frames, data)):
            for changed in await self._strategy.spoil(self._protocol, message):
                await self._stream.send(encode_frame(cbor.encode(changed)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _messages(frames: FrameReader, data: bytes) -> Iterator[Message]:
    for body in frames.feed(data):
        yield cbor.decode(body)
