"""Answer what other peers ask, from the local store.

Requests on one stream are answered at the same time, frame by frame in turn, so
that a small answer does not wait behind a large one. Frames are made as they are
sent: what one peer can make us hold is a few frames. No peer has more than its
share of the answers under way, and who does not read loses his. Answering pauses
where others may have their turn: at each frame, and at the empty ones that a long
search without finds gives instead. Between two frames of one peer every other peer
has one, however many answers they wait for. A peer that breaks a protocol loses its
connection.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from functools import partial
from weakref import WeakValueDictionary

import trio

from rhizome_index.blocks.cid import Cid
from rhizome_index.errors import IntegrityError, RhizomeError, UnavailableError, UsageError
from rhizome_index.index.address import Address
from rhizome_index.index.head import Head, Keys
from rhizome_index.index.manifest import Manifest, decode_manifest
from rhizome_index.index.schema import Collection
from rhizome_index.limits import (
    ADDRESS_BYTES_MAX,
    ANSWER_BYTES_PER_SECOND_MIN,
    ANSWERS_AT_ONCE_MAX,
    ANSWERS_PER_PEER_MAX,
    ASK_TIMEOUT_SECONDS,
    FRAME_BYTES_MAX,
    HEADS_DATASETS_MAX,
    IN_FLIGHT_BYTES_MAX,
    PLANS_REMEMBERED_MAX,
    PROVIDERS_MAX,
    PROVIDERS_WANTED,
)
from rhizome_index.node.disk import DiskStore, describe_missing
from rhizome_index.node.events import DEBUG, INFO, note
from rhizome_index.node.frauds import Frauds
from rhizome_index.node.ladder import Ladder
from rhizome_index.node.local import LocalSource
from rhizome_index.node.places import Place, Places
from rhizome_index.node.register import Register
from rhizome_index.node.swarm import Stream, Swarm
from rhizome_index.node.tally import DONE, GONE, MALFORMED
from rhizome_index.node.uses import Kind
from rhizome_index.query.choose import choose
from rhizome_index.query.combine import Choice
from rhizome_index.query.expr import Query
from rhizome_index.tree.cursor import get
from rhizome_index.tree.node import Tree
from rhizome_index.trust.attest import Attestation, attest
from rhizome_index.trust.ladder import MADE, derivations_of
from rhizome_index.wire import ask, heads, sync, trust, want
from rhizome_index.wire import message as m
from rhizome_index.wire.frame import FrameReader
from rhizome_index.wire.multiaddr import some_of

Answering = Callable[[m.Request], Iterator[bytes]]


Plans = dict[tuple[Query, Collection, bool], Choice]  # what was chosen: it follows from the query and the trees


class LocalAnswerer(LocalSource):
    """An `ask.Answerer` over the store.

    plans   remembers choices, for queries that come again
    leases  keep what answers are given from, where they take longer than a moment
    """

    def __init__(self, store: DiskStore, plans: Plans, leases: ExitStack | None = None) -> None:
        super().__init__(store)
        self._plans = plans
        self._leases = leases

    def snapshot(self, address: Address, manifest: Cid | None) -> tuple[Head, bytes, Manifest]:
        head = self.newest(address) if manifest is None else self.store.head_of(address, manifest)
        if head is None:
            raise UnavailableError(
                f"no such head of {address} here",
                hint="name a dataset, and a peer that has it: --from, --peer; or publish one: rhizome import",
            )
        if self._leases is not None:
            self._leases.enter_context(self.store.uses.leasing(head.manifest, Kind.ANSWERED))
        data = self.store.get(head.manifest)
        if data is None:
            raise UnavailableError(describe_missing(head.manifest))
        return head, data, decode_manifest(data)

    def newest(self, address: Address) -> Head | None:
        """The head that is answered from unless another is asked for."""
        return self.store.current_head(address)

    def choose(self, query: Query, manifest: Manifest, *, allow_scan: bool) -> Choice:
        asked = (query, manifest.collection(query.collection), allow_scan)
        chosen = self._plans.get(asked)
        if chosen is None:
            chosen = self.run(choose(query, asked[1], allow_scan=allow_scan)).candidate
            if len(self._plans) >= PLANS_REMEMBERED_MAX:
                self._plans.clear()
            self._plans[asked] = chosen
        return chosen


class _Serving(LocalAnswerer):
    """For others, who are served best from what is all here."""

    def newest(self, address: Address) -> Head | None:
        return self.store.served_head(address)


class _Share:
    """What one peer may have.

    answers  under way at once
    turn     to make the next frame of one of them
    """

    def __init__(self) -> None:
        self.answers = trio.Semaphore(ANSWERS_PER_PEER_MAX)
        self.turn = trio.Lock()


class Server:
    """Serves the store's datasets on a swarm.

    places    of answers under way
    requests  how many have been read
    tally     where answers are counted
    on_read   told of each peer that blocks or changes were given to
    """

    def __init__(
        self,
        store: DiskStore,
        register: Register,
        swarm: Swarm,
        keys: Keys,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._keys = keys
        self._ladder = Ladder(store)
        self._register = register
        self._swarm = swarm
        self._chance = chance
        self.tally = swarm.tally
        self._plans: Plans = {}
        self._answerer = _Serving(store, self._plans)
        self._frauds = Frauds(store)
        self._shares: WeakValueDictionary[str, _Share] = WeakValueDictionary()
        self.places = Places(ANSWERS_AT_ONCE_MAX)
        self.requests = 0
        self.on_read: Callable[[str], None] = lambda peer: None

    @property
    def answering(self) -> Mapping[str, Answering]:
        """What answers requests, by protocol: the frames of an answer. Raises IntegrityError for what is no request."""
        return {
            ask.PROTOCOL: self._answer_ask,
            want.PROTOCOL: self._answer_want,
            heads.PROTOCOL: self._answer_heads,
            sync.PROTOCOL: self._answer_sync,
            trust.PROTOCOL: self._answer_trust,
        }

    def start(self) -> None:
        """Begin to answer."""
        for protocol, answering in self.answering.items():
            self._swarm.handle(protocol, partial(self._converse, protocol, answering))

    async def _converse(self, protocol: str, answering: Answering, stream: Stream) -> None:
        await _Conversation(self, protocol, answering, stream).run()

    def share_of(self, peer_id: str) -> _Share:
        """What one peer has on all its streams, for as long as somebody holds it."""
        return self._shares.setdefault(peer_id, _Share())

    async def refuse(self, peer_id: str) -> None:
        """A peer has broken a protocol."""
        note(INFO, "peer_dropped", peer=peer_id, reason="its request breaks the protocol")
        await self._swarm.disconnect(peer_id, for_cause=True)

    def _answer_ask(self, request: m.Request) -> Iterator[bytes]:
        return self._lease(partial(ask.answer, request.number, ask.Ask.read(request.fields)))

    def _answer_want(self, request: m.Request) -> Iterator[bytes]:
        return want.answer(request.number, want.Want.read(request.fields), self._get_wanted)

    def _answer_sync(self, request: m.Request) -> Iterator[bytes]:
        return self._lease(partial(sync.answer, request.number, sync.Sync.read(request.fields)))

    def _lease(self, answer: Callable[[LocalAnswerer], Iterator[bytes]]) -> Iterator[bytes]:
        """An answer from a head that stays here until it is given."""
        with ExitStack() as leases:
            yield from answer(_Serving(self._store, self._plans, leases))

    def _answer_trust(self, request: m.Request) -> Iterator[bytes]:
        about = trust.About.read(request.fields)
        return trust.answer(request.number, self._frauds.of(about.manifest), self._attestations(about))

    def _attestations(self, about: trust.About) -> Iterator[Attestation]:
        """Our word for the indexes of a collection that were made here."""
        with suppress(UnavailableError, UsageError, IntegrityError):  # not here, or the key is sealed
            manifest = self._answerer.manifest(about.manifest)
            collection = manifest.collections.get(about.collection or "")
            for derivation in derivations_of(manifest.rule, collection).values() if collection is not None else ():
                if self._ladder.standing(derivation).level == MADE:
                    yield attest(self._keys.key(self._swarm.peer_id), derivation)

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
            newest = self._store.believed_head(address)
            known: tuple[Head, ...] = contradiction or ((newest,) if newest else ())
            yield heads.DatasetHeads(address, known, self._providers(address))

    def _providers(self, address: Address) -> tuple[str, ...]:
        """Full addresses of who serves a dataset: ourselves if we do, and others that we have heard of."""
        own = some_of(self._swarm.addresses) if self._serves(address) else ()
        # Those who are here now, in any order: else the same would be told to everybody. Others may be gone for long.
        here = self._register.providers(address, among=self._swarm.connected_peers)
        here.sort(key=lambda peer: self._chance())
        room = max(0, PROVIDERS_WANTED - len(here))
        known = self._register.providers(address, most=room + len(here)) if room else []
        gone = [peer for peer in known if peer not in here][:room]
        others = self._register.newest_addresses([*here, *gone][: 2 * PROVIDERS_MAX])
        return tuple(text for text in (*own, *others) if len(text) <= ADDRESS_BYTES_MAX)[:PROVIDERS_MAX]

    def _serves(self, address: Address) -> bool:
        return address.publisher == self._swarm.peer_id or self._store.held_head(address) is not None


class _Conversation:
    """One stream, and the answers under way on it."""

    def __init__(self, server: Server, protocol: str, answering: Answering, stream: Stream) -> None:
        self._server = server
        self._protocol = protocol
        self._answering = answering
        self._stream = stream
        self._share = server.share_of(stream.peer_id)
        self._sending = trio.Lock()
        self._in_flight: dict[int, int] = {}  # what each counts

    async def run(self) -> None:
        """Answer every request until the peer has finished."""
        frames = FrameReader()
        try:
            async with trio.open_nursery() as nursery:
                while data := await self._stream.receive():
                    for body in frames.feed(data):
                        await self._take(m.decode_request(body), nursery)
        except* IntegrityError:
            self._note(MALFORMED)
            await self._server.refuse(self._stream.peer_id)
        except* UnavailableError:
            pass  # the peer is gone, or does not read

    async def _take(self, request: m.Request, nursery: trio.Nursery) -> None:
        if request.number in self._in_flight:
            raise IntegrityError("a number that is in use")
        weight = m.weight(request.fields)
        if sum(self._in_flight.values()) + weight > IN_FLIGHT_BYTES_MAX:
            self._note(m.BUSY)
            await self._send(m.encode_failure(request.number, m.BUSY, "too many requests at once"))
            return
        answer = self._answering(request)
        self._in_flight[request.number] = weight
        self._server.requests += 1
        asked_at = trio.current_time()
        await self._share.answers.acquire()
        nursery.start_soon(self._answer, request.number, answer, asked_at)

    async def _answer(self, number: int, answer: Iterator[bytes], asked_at: float) -> None:
        tally, how = self._server.tally, GONE
        try:
            place = await self._server.places.take(self._stream.peer_id)
            begun_at = trio.current_time()
            tally.waits.note(begun_at - asked_at)
            if place is None:
                self._in_flight.pop(number, None)
                how = m.BUSY
                await self._send(m.encode_failure(number, m.BUSY, "too many answers are under way"))
                return
            try:
                how = await self._send_answer(number, answer, place)
                if how == DONE and self._protocol in (want.PROTOCOL, sync.PROTOCOL):
                    self._server.on_read(self._stream.peer_id)
            finally:
                tally.answering.note(trio.current_time() - begun_at)
                self._server.places.leave(place)
        finally:
            self._note(how)
            self._share.answers.release()

    def _note(self, how: str) -> None:
        self._server.tally.note_answer(self._stream.peer_id, self._protocol, how)
        note(DEBUG, "answered", peer=self._stream.peer_id, protocol=self._protocol, outcome=how)

    async def _send_answer(self, number: int, answer: Iterator[bytes], place: Place) -> str:
        """Send an answer, in time that its reader earns by reading; how it ended. Raises UnavailableError."""
        place.scope.deadline = trio.current_time() + ASK_TIMEOUT_SECONDS
        with place.scope as scope:
            waiting = last = b""
            frames = _contained(number, answer)
            while (frame := await self._make_next(frames)) is not None:
                last = frame or last
                if waiting and len(waiting) + len(frame) > FRAME_BYTES_MAX:
                    with place.held_up():
                        await self._send(waiting)
                    scope.deadline += len(waiting) / ANSWER_BYTES_PER_SECOND_MIN
                    waiting = b""
                waiting += frame
            self._in_flight.pop(number, None)  # free for the peer as soon as it has the end
            with place.held_up():
                await self._send(waiting)
        if scope.cancelled_caught:
            raise UnavailableError(f"peer {self._stream.peer_id} takes an answer too slowly")
        return m.outcome(last) or DONE

    async def _make_next(self, frames: Iterator[bytes]) -> bytes | None:
        """The next frame, or None at the end; not before everybody else has had a turn."""
        async with self._share.turn:
            return next(frames, None)

    async def _send(self, data: bytes) -> None:
        async with self._sending:
            await self._stream.send(data)


def _contained(number: int, answer: Iterator[bytes]) -> Iterator[bytes]:
    """An answer, with an end where our own store or planner fails: it is not the request, which was read before."""
    try:
        yield from answer
    except RhizomeError as error:
        yield m.encode_failure(number, m.MISSING, str(error))
