"""Peers that do not play by the rules: strategies that stand between an honest node and the network.

The node behind is the real one, so that a lie differs from the truth in one place
only. What a strategy alters is what its node sends in answer to others, message by
message; some do things of their own beside it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import trio

from rhizome_index.api import DEFAULT_DATASET
from rhizome_index.blocks import cbor
from rhizome_index.errors import RhizomeError, UnavailableError
from rhizome_index.index.address import Address
from rhizome_index.limits import IDLE_TIMEOUT_SECONDS, IN_FLIGHT_BYTES_MAX, PROOF_BYTES_MAX
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.publish import Publisher
from rhizome_index.node.register import Register
from rhizome_index.node.serve import Server
from rhizome_index.node.swarm import Stream, StreamHandler, Swarm
from rhizome_index.query.parse import parse
from rhizome_index.simulation.cluster import COLLECTION, DECLARATION, Changes, Cluster, Member, Strategy
from rhizome_index.wire import ask, heads, sync, want
from rhizome_index.wire.frame import FrameReader, encode_frame

T = TypeVar("T")

Message = list[Any]  # [number, kind, content...], see wire.message
SERVED = (ask.PROTOCOL, want.PROTOCOL, heads.PROTOCOL, sync.PROTOCOL)


class Spoiler(Strategy):
    """A strategy that alters answers. This one alters nothing."""

    is_honest = False

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance

    def swarm(self, member: Member, swarm: Swarm) -> Swarm:
        return _SpoiledSwarm(swarm, self)

    def handler(self, protocol: str, handler: StreamHandler) -> StreamHandler | None:
        """What answers streams in the node's place; None: a protocol is not spoken."""

        async def spoiled(stream: Stream) -> None:
            await handler(_SpoiledStream(stream, protocol, self))

        return spoiled

    def may_open(self, protocol: str) -> bool:
        """Whether the node may ask others under a protocol."""
        return True

    async def spoil(self, protocol: str, message: Message) -> list[Message]:
        """What to send in place of a message; nothing, to keep silent."""
        return [message]


class Liar(Spoiler):
    """Changes, drops, swaps and adds what it is asked for, in `rate` of all messages."""

    def __init__(self, chance: random.Random, rate: float = 0.3) -> None:
        super().__init__(chance)
        self.rate = rate
        self.lies = 0

    async def spoil(self, protocol: str, message: Message) -> list[Message]:
        if self.chance.random() >= self.rate:
            return [message]
        self.lies += 1
        number, kind, content = message[0], message[1], message[-1]
        if kind == "blocks":
            return [[number, kind, self._spoil_blocks(content)]]
        if kind == "open" and protocol == heads.PROTOCOL:
            return [[number, kind, {"datasets": [self._spoil_heads(entry) for entry in content["datasets"]]}]]
        if kind == "open":
            return [[number, kind, self._spoil_fields(content)]]
        if kind == "end":
            return [[number, kind, {**content, "complete": not content.get("complete", True)}]]
        return [message, message]

    def _spoil_blocks(self, blocks: list[Any]) -> list[Any]:
        place = int(self.chance.random() * len(blocks))
        block = blocks[place]
        if block is None:
            return [*blocks, b"more"]
        changed = bytearray(block or b"\0")
        changed[int(self.chance.random() * len(changed))] ^= 1 << int(self.chance.random() * 8)
        before, after = blocks[:place], blocks[place + 1 :]
        return self._one_of(
            lambda: [*before, bytes(changed), *after],
            lambda: [*before, block[: len(block) // 2], *after],
            lambda: [*before, *after] or [b""],
            lambda: [*before, block, block, *after],
            lambda: blocks[::-1],
            lambda: [*before, None, *after],
            lambda: [*before, _other_record(block), *after],
        )

    def _spoil_heads(self, entry: list[Any]) -> list[Any]:
        address, envelopes, providers = entry
        nowhere = [f"nonsense/p2p/{address[8:60]}", "/ip4/10.255.255.1/tcp/1/p2p/12D3KooWNobody", "", "/p2p/"]
        return self._one_of(
            lambda: [address, [_flip(envelope) for envelope in envelopes], providers],
            lambda: [address, [], providers],
            lambda: [address, envelopes, nowhere],
            lambda: [address, [*envelopes, *envelopes][:2], providers],
            lambda: [address, "none", providers],
        )

    def _spoil_fields(self, fields: dict[str, Any]) -> dict[str, Any]:
        name = list(fields)[int(self.chance.random() * len(fields))]
        value = fields[name]
        return self._one_of(
            lambda: {**fields, name: _flip(value) if type(value) is bytes else None},
            lambda: {key: item for key, item in fields.items() if key != name},
            lambda: {**fields, "more": 1},
        )

    def _one_of(self, *ways: Callable[[], T]) -> T:
        return ways[int(self.chance.random() * len(ways))]()


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


class Equivocator(Spoiler):
    """A publisher that tells every second peer another story, under the same sequence: see `split`."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__(chance)
        self._others: dict[str, StreamHandler] = {}
        self._store: DiskStore | None = None

    async def run(self, member: Member) -> None:
        try:
            await trio.sleep_forever()
        finally:
            if self._store is not None:
                self._store.close()

    def handler(self, protocol: str, handler: StreamHandler) -> StreamHandler:
        async def answer(stream: Stream) -> None:
            chosen = self._others.get(protocol, handler) if self.tells_other(stream.peer_id) else handler
            await chosen(stream)

        return answer

    def tells_other(self, peer_id: str) -> bool:
        """Whether a peer is told the other story."""
        return peer_id.encode()[-1] % 2 == 1

    def split(self, cluster: Cluster, member: Member, one: Changes, other: Changes) -> None:
        """From now on there are two stories, with the same sequences."""
        peer = member.running.peer
        store = DiskStore(Path(member.folder) / "other.sqlite", make=True, vfs=cluster.vfs)
        store.put_many(peer.store.all_blocks())
        before = peer.store.newest_head(member.dataset)
        assert before is not None
        store.put_head(before)
        assert peer.membership is not None
        collected: Any = _Collected(peer.membership.swarm)
        Server(store, Register(store), collected).start()
        self._store = store
        self._others = collected.handlers
        cluster.publish(member, one)
        publisher = Publisher(store, member.identity, cluster.world.clock)
        puts = [dict(record) for record in other.values() if record is not None]
        head, _ = publisher.put_many(DEFAULT_DATASET, COLLECTION, puts, DECLARATION)
        cluster.note_published(member, head, other, before)


class _Collected:
    """A swarm whose handlers are only taken down."""

    def __init__(self, swarm: Swarm) -> None:
        self.handlers: dict[str, StreamHandler] = {}
        self._swarm = swarm

    def handle(self, protocol: str, handler: StreamHandler, *, lasting: bool = False) -> None:
        self.handlers[protocol] = handler

    def __getattr__(self, name: str) -> Any:
        return getattr(self._swarm, name)


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

    async def send(self, data: bytes) -> None:
        for message in list(_messages(self._frames, data)):
            for changed in await self._strategy.spoil(self._protocol, message):
                await self._stream.send(encode_frame(cbor.encode(changed)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _messages(frames: FrameReader, data: bytes) -> Iterator[Message]:
    for body in frames.feed(data):
        yield cbor.decode(body)


def _flip(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1]) if data else b"\0"


def _other_record(block: bytes) -> bytes:
    """The best of lies: changes that are well-formed in every way, but not those that were made."""
    try:
        value = cbor.decode(block)
    except RhizomeError:
        return block + b"\0"
    if type(value) is list and len(value) == 2 and type(value[1]) is list and value[1]:
        return cbor.encode([value[0], value[1][1:] or value[1][:1] * 2])
    return cbor.encode([value])
