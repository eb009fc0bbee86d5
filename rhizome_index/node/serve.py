"""Answer what other peers ask: heads, asks and wants, from the local store.

Requests on one stream are answered at the same time, frame by frame in turn, so
that a small answer does not wait behind a large one. Frames are made as they are
sent: what one peer can make us hold is a few frames. A peer that breaks a
protocol loses its connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import trio

from rhizome_index.blocks.cid import Cid
from rhizome_index.errors import IntegrityError, RhizomeError, UnavailableError
from rhizome_index.index.address import Address
from rhizome_index.index.head import Head
from rhizome_index.index.manifest import Manifest, decode_manifest
from rhizome_index.limits import (
    ANSWERS_AT_ONCE_MAX,
    FRAME_BYTES_MAX,
    HEADS_DATASETS_MAX,
    PROVIDERS_MAX,
    REQUESTS_IN_FLIGHT_MAX,
)
from rhizome_index.node.disk import DiskStore, describe_missing
from rhizome_index.node.local import LocalSource
from rhizome_index.node.register import Register
from rhizome_index.node.swarm import Stream, Swarm
from rhizome_index.query.choose import choose
from rhizome_index.query.combine import Choice
from rhizome_index.query.expr import Query
from rhizome_index.tree.cursor import get
from rhizome_index.tree.node import Tree
from rhizome_index.wire import ask, heads, sync, want
from rhizome_index.wire import message as m
from rhizome_index.wire.frame import FrameReader

Answering = Callable[[m.Request], Iterator[bytes]]


class LocalAnswerer(LocalSource):
    """An `ask.Answerer` over the store."""

    def snapshot(self, address: Address, manifest: Cid | None) -> tuple[Head, bytes, Manifest]:
        head = self.store.current_head(address) if manifest is None else self.store.head_of(address, manifest)
        if head is None:
            raise UnavailableError(f"no such head of {address} here")
        data = self.store.get(head.manifest)
        if data is None:
            raise UnavailableError(describe_missing(head.manifest))
        return head, data, decode_manifest(data)

    def choose(self, query: Query, manifest: Manifest, *, allow_scan: bool) -> Choice:
        collection = manifest.collection(query.collection)
        return self.run(choose(query, collection, allow_scan=allow_scan)).candidate


class Server:
    """Serves the store's datasets on a swarm."""

    def __init__(self, store: DiskStore, register: Register, swarm: Swarm) -> None:
        self._store = store
        self._register = register
        self._swarm = swarm
        self._answerer = LocalAnswerer(store)
        self._slots = trio.CapacityLimiter(ANSWERS_AT_ONCE_MAX)
        self.requests = 0

    def start(self) -> None:
        """Begin to answer."""
        for protocol, answering in (
            (ask.PROTOCOL, self._answer_ask),
            (want.PROTOCOL, self._answer_want),
            (heads.PROTOCOL, self._answer_heads),
            (sync.PROTOCOL, self._answer_sync),
        ):
            self._swarm.handle(protocol, _Conversation(self, answering).run)

    @property
    def slots(self) -> trio.CapacityLimiter:
        return self._slots

    async def refuse(self, peer_id: str) -> None:
        """A peer has broken a protocol."""
        await self._swarm.disconnect(peer_id)

    def _answer_ask(self, request: m.Request) -> Iterator[bytes]:
        return ask.answer(request.number, ask.Ask.read(request.fields), self._answerer)

    def _answer_want(self, request: m.Request) -> Iterator[bytes]:
        return want.answer(request.number, want.Want.read(request.fields), self._get_wanted)

    def _answer_sync(self, request: m.Request) -> Iterator[bytes]:
        return sync.answer(request.number, sync.Sync.read(request.fields), self._answerer)

    def _get_wanted(self, wanted: want.Want, name: bytes) -> bytes | None:
        if wanted.root is None:
            return self._store.get(name)
        held = self._store.chunk(wanted.root)
        if held is None:
            return None
        try:
            value = self._answerer.run(get(Tree(wanted.root, held[1].count), name))
        except UnavailableError:
            return None
        if value is not None and len(value) == 36 and type(value) is not bytes:
            return self._store.get(bytes(value))
        return value

    def _answer_heads(self, request: m.Request) -> Iterator[bytes]:
        addresses = heads.read_request(request.fields)
        return heads.answer(request.number, self._known_heads(addresses))

    def _known_heads(self, addresses: tuple[Address, ...]) -> Iterator[heads.DatasetHeads]:
        if not addresses:
            for head in self._store.current_heads()[:HEADS_DATASETS_MAX]:
                yield heads.DatasetHeads(head.address, (head,), self._providers(head.address))
        for address in addresses:
            contradiction = self._store.equivocation(address)
            newest = self._store.newest_head(address)
            known: tuple[Head, ...] = contradiction or ((newest,) if newest else ())
            yield heads.DatasetHeads(address, known, self._providers(address))

    def _providers(self, address: Address) -> tuple[str, ...]:
        """Full addresses of who serves a dataset: ourselves if we do, and others that we have heard of."""
        own = self._swarm.addresses[:2] if self._serves(address) else ()
        others = (self._register.addresses_of(peer) for peer in self._register.providers(address))
        texts = (*own, *(found[0] for found in others if found))
        return tuple(text for text in texts if len(text) <= heads.ADDRESS_BYTES_MAX)[:PROVIDERS_MAX]

    def _serves(self, address: Address) -> bool:
        return address.publisher == self._swarm.peer_id or self._store.held_head(address) is not None


class _Conversation:
    """One protocol's side of a stream."""

    def __init__(self, server: Server, answering: Answering) -> None:
        self._server = server
        self._answering = answering

    async def run(self, stream: Stream) -> None:
        """Answer every request on a stream until its peer has finished."""
        frames = FrameReader()
        sending = trio.Lock()
        in_flight: set[int] = set()
        try:
            async with trio.open_nursery() as nursery:
                while data := await stream.receive():
                    for body in frames.feed(data):
                        request = m.decode_request(body)
                        if request.number in in_flight:
                            raise IntegrityError("a number that is in use")
                        if len(in_flight) >= REQUESTS_IN_FLIGHT_MAX:
                            async with sending:
                                await stream.send(m.encode_failure(request.number, m.BUSY, "too many requests at once"))
                            continue
                        answer = self._answering(request)
                        in_flight.add(request.number)
                        self._server.requests += 1
                        nursery.start_soon(self._send, stream, sending, answer, request.number, in_flight)
        except* IntegrityError:
            await self._server.refuse(stream.peer_id)
        except* UnavailableError:
            pass  # the peer is gone

    async def _send(
        self, stream: Stream, sending: trio.Lock, answer: Iterator[bytes], number: int, in_flight: set[int]
    ) -> None:
        async with self._server.slots:
            waiting = bytearray()
            try:
                for frame in answer:
                    if waiting and len(waiting) + len(frame) > FRAME_BYTES_MAX:
                        async with sending:
                            await stream.send(bytes(waiting))
                        waiting.clear()
                    waiting += frame
                    await trio.lowlevel.checkpoint()
            except RhizomeError as error:
                # Our own store or planner failed, not the peer's request, which was read before.
                waiting += m.encode_failure(number, m.MISSING, str(error))
            in_flight.discard(number)
            async with sending:
                await stream.send(bytes(waiting))
