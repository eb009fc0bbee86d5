"""Peers that lie: they change, swap, forge or contradict what they were asked for. See `byzantine`."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import trio

from rhizome_index.api import DEFAULT_DATASET
from rhizome_index.blocks import cbor
from rhizome_index.errors import RhizomeError
from rhizome_index.index.address import Address, public_key_of
from rhizome_index.index.head import Identity, open_head, sign_head
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.publish import Publisher
from rhizome_index.node.register import Register
from rhizome_index.node.serve import Server
from rhizome_index.node.swarm import Stream, StreamHandler, Swarm
from rhizome_index.simulation.byzantine import Message, Spoiler
from rhizome_index.simulation.cluster import COLLECTION, DECLARATION, Changes, Cluster, Member
from rhizome_index.wire import ask, heads, sync

T = TypeVar("T")


class Liar(Spoiler):
    """Changes, drops, swaps and adds what it is asked for, in `rate` of all messages."""

    def __init__(self, chance: random.Random, rate: float = 0.3) -> None:
        super().__init__(chance)
        self.rate = rate

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


class Swapper(Spoiler):
    """Answers what it is asked of some datasets from other ones, in half of all answers under the head that was asked
    for: all of it is honest, only not about that."""

    def __init__(self, chance: random.Random, others: Mapping[Address, Address]) -> None:
        super().__init__(chance)
        self._others = {str(one): str(other) for one, other in others.items()}
        self._envelopes: dict[str, bytes] = {}
        self._asked: dict[int, str] = {}

    def twist(self, protocol: str, request: Message) -> Message:
        number, fields = request
        asked = fields.get("dataset")
        if protocol not in (ask.PROTOCOL, sync.PROTOCOL) or asked not in self._others:
            return request
        self._asked[number] = asked
        self.lies += 1
        return [number, {**fields, "dataset": self._others[asked], "manifest": None}]

    async def spoil(self, protocol: str, message: Message) -> list[Message]:
        number, kind, content = message[0], message[1], message[-1]
        if kind != "open" or "head" not in content:
            if protocol == heads.PROTOCOL and kind == "open":
                self._envelopes |= {entry[0]: entry[1][0] for entry in content["datasets"] if entry[1]}
            return [message]
        envelope = self._envelopes.get(self._asked.pop(number, ""))
        if envelope is None or self.chance.random() < 0.5:
            return [message]
        return [[number, kind, {**content, "head": envelope}]]


class Forger(Spoiler):
    """Signs heads in the names of others, newer than any there is."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__(chance)
        self._identity = Identity(chance.randbytes(32))

    async def spoil(self, protocol: str, message: Message) -> list[Message]:
        number, kind, content = message[0], message[1], message[-1]
        if kind == "open" and protocol == heads.PROTOCOL:
            entries = [[entry[0], list(map(self._forge, entry[1])), entry[2]] for entry in content["datasets"]]
            return [[number, kind, {"datasets": entries}]]
        if kind == "open" and "head" in content:
            return [[number, kind, {**content, "head": self._forge(content["head"])}]]
        return [message]

    def _forge(self, envelope: bytes) -> bytes:
        self.lies += 1
        head = open_head(envelope)
        self._identity.public_key = public_key_of(head.address.publisher)
        return sign_head(self._identity, head.address.name, head.sequence + 1000, head.manifest, head.time_ms).envelope


class Equivocator(Spoiler):
    """A publisher that tells every second peer another story, under the same sequence: see `split`."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__(chance)
        self._others: dict[str, StreamHandler] = {}
        self._answering: dict[trio.CancelScope, None] = {}  # in the order of their beginning
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
            with trio.CancelScope() as scope:
                self._answering[scope] = None
                try:
                    await chosen(stream)
                finally:
                    del self._answering[scope]
            if scope.cancelled_caught:
                await stream.reset()

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
        Server(store, Register(store), collected, member.identity).start()
        self._store = store
        self._others = collected.handlers
        for scope in self._answering:  # streams stay open for long: on new ones everybody is told his story
            scope.cancel()
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
