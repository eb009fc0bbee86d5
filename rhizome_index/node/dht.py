"""Provider records: tell those who are near a dataset's key that we serve it, and find out there who does.

Who listens keeps records for others and is asked; who only dials just asks. Everything
heard is a hint. A peer that others name is dialled for one question and let go again,
unless it turns out to serve what is wanted: the table costs no connections.

`wire/kademlia.py` says whom to ask, `wire/provided.py` keeps the records.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial

import base58
import trio

from rhizome_index.errors import IntegrityError, StoreError, UnavailableError, UsageError
from rhizome_index.index.address import Address
from rhizome_index.limits import (
    IDENTIFY_DELAY_SECONDS,
    KAD_ANNOUNCE_SECONDS,
    KAD_ANNOUNCED_MAX,
    KAD_ANSWER_SECONDS,
    KAD_AT_ONCE,
    KAD_GREET_SECONDS,
    KAD_LINGER_SECONDS,
    KAD_LOOK_SECONDS,
    KAD_LOOKUP_SECONDS,
    KAD_PAUSE_SECONDS,
    KAD_REQUESTS_AT_ONCE,
    KAD_REQUESTS_PER_SECOND,
)
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.later import Later
from rhizome_index.node.link import Links
from rhizome_index.node.register import Register
from rhizome_index.node.swarm import Stream, Swarm
from rhizome_index.wire.allowance import Allowance
from rhizome_index.wire.counted import make_room
from rhizome_index.wire.frame import FrameReader, encode_frame
from rhizome_index.wire.kad import (
    ADD_PROVIDER,
    FIND_NODE,
    GET_PROVIDERS,
    PROTOCOL,
    Contact,
    Message,
    key_of,
    read_answer,
    read_request,
)
from rhizome_index.wire.kademlia import CLOSEST, NEIGHBOURS, Lookup, Table, place_of, place_of_peer
from rhizome_index.wire.provided import Provided

Take = Callable[[Sequence[str]], None]


class Dht:
    """One peer's part in it. What outlives a question goes on in `nursery`."""

    def __init__(
        self,
        store: DiskStore,
        register: Register,
        swarm: Swarm,
        links: Links,
        nursery: trio.Nursery,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._register = register
        self._swarm = swarm
        self._links = links
        self._nursery = nursery
        self._later = Later(nursery)
        self._clock = clock
        self._own_key = base58.b58decode(swarm.peer_id)
        self.table = Table(swarm.peer_id)
        self.provided = Provided()
        self._served: dict[bytes, Address] = {}
        self._told: dict[bytes, set[str]] = {}
        self._due: dict[bytes, float] = {}
        self._brief: dict[str, int] = {}  # peers dialled for a question, and how many questions there are
        self._greeting: set[str] = set()
        self._allowances: dict[str, Allowance] = {}
        self._placed_at: dict[str, float] = {}  # when each peer was last known to be where it says
        self._found_itself = False
        self._stir = trio.Event()
        self._looked_at = 0.0
        self._has_met = False
        self._rest = trio.CancelScope()  # until the next look

    def start(self) -> None:
        """Begin to answer."""
        if self._swarm.addresses:
            self._swarm.handle(PROTOCOL, self._answer_all)
        self._swarm.watch(lambda peer: self._greet_soon(peer, IDENTIFY_DELAY_SECONDS))

    async def run(self) -> None:
        """Announce what is served here, until cancelled."""
        for peer in self._swarm.connected_peers:
            self._greet_soon(peer, 0.0)
        while True:
            self._stir = trio.Event()
            self._looked_at = trio.current_time()
            is_over = self._has_met = False
            with suppress(StoreError):  # the next look may work
                is_over = await self._announce()
            self.provided.expire(trio.current_time())
            is_over = is_over and not self._has_met
            later = min(self._due.values(), default=math.inf) if is_over else self._looked_at + KAD_LOOK_SECONDS
            with trio.move_on_at(later) as self._rest:
                await trio.sleep(KAD_PAUSE_SECONDS)
                await self._stir.wait()

    def stir(self, addresses: Iterable[Address] | None = None) -> None:
        """Look at once: these datasets have new heads, or anything may have changed.

        New heads of what is announced already change nothing.
        """
        if addresses is None or any(key_of(address) not in self._served for address in addresses):
            self._stir.set()

    # --- finding ---

    async def find(self, address: Address, take: Take) -> None:
        """Look for providers of a dataset; `take` is told their full addresses as they are heard of."""
        key = key_of(address)

        def heard(answer: Message) -> None:
            found = [contact for contact in answer.providers if contact.peer_id != self._swarm.peer_id]
            for contact in found:
                self.keep(contact.peer_id)
            if texts := [text for contact in found for text in contact.addresses]:
                take(texts)

        await self._look_up(self._request(GET_PROVIDERS, key), place_of(key), heard)

    async def _look_up(
        self, request: Message, place: int, heard: Callable[[Message], None] | None = None, enough: int = CLOSEST
    ) -> list[Contact]:
        """Ask nearer and nearer peers, until so many of the nearest have answered; those nearest that have."""
        connected = [Contact(peer) for peer in self._swarm.connected_peers[:CLOSEST]]
        lookup = Lookup(place, [*self.table.closest(place), *connected], self._swarm.peer_id, enough)
        asking, moved = 0, trio.Event()

        async def ask_on() -> None:
            nonlocal asking, moved
            while True:
                contact = lookup.next()
                if contact is None and not asking:
                    return
                if contact is None:
                    await moved.wait()
                    continue
                asking += 1
                try:
                    answer = await self._ask(contact, request)
                    lookup.take(contact.peer_id, answer.closer)
                    if heard is not None:
                        heard(answer)
                except UnavailableError:
                    lookup.fail(contact.peer_id)
                finally:
                    asking -= 1
                    moved.set()
                    moved = trio.Event()

        with trio.move_on_after(KAD_LOOKUP_SECONDS):
            async with trio.open_nursery() as nursery:
                for _ in range(KAD_AT_ONCE):
                    nursery.start_soon(ask_on)
        return lookup.nearest()

    async def _ask(self, contact: Contact, request: Message) -> Message:
        """Ask one peer. Raises UnavailableError, also if what it answers is none: it is then left."""
        peer = contact.peer_id
        try:
            with trio.fail_after(KAD_ANSWER_SECONDS):
                async with self._stream(contact) as stream:
                    await stream.send(encode_frame(request.encode()))
                    answer = read_answer(await _receive(stream), request)
        except IntegrityError:
            await self._links.drop(peer)
            self.table.drop(peer)
            raise UnavailableError(f"peer {peer} answers nonsense") from None
        except (UnavailableError, UsageError, trio.TooSlowError):
            self.table.drop(peer)
            raise UnavailableError(f"peer {peer} does not answer") from None
        self._note(contact)
        return answer

    def _request(self, kind: int, key: bytes) -> Message:
        """A request that says where we are, if we take part: then nobody has to ask us that."""
        return Message(kind, key, closer=(self._us(),) if self._swarm.addresses else ())

    def _note(self, contact: Contact) -> bool:
        """A peer has answered, or asks; whether it is in the table from now on. One that is new may have to be told."""
        is_new = contact.peer_id not in self.table
        is_there = self.table.note(contact)
        if is_there and is_new:
            self._has_met = True
            self._rest.deadline = min(self._rest.deadline, self._looked_at + KAD_LOOK_SECONDS)
        return is_there

    # --- connections ---

    @asynccontextmanager
    async def _stream(self, contact: Contact) -> AsyncIterator[Stream]:
        """A stream with a peer, which is dialled if need be, and let go a little later if nobody else wants it."""
        peer = contact.peer_id
        if peer not in self._swarm.connected_peers:
            await self._dial(contact)
            self._brief.setdefault(peer, 0)
        if peer in self._brief:
            self._brief[peer] += 1
        try:
            stream = await self._swarm.open_stream(peer, PROTOCOL, timeout_seconds=KAD_ANSWER_SECONDS)
            try:
                yield stream
            finally:
                with trio.CancelScope(shield=True):
                    await stream.close()
        finally:
            if peer in self._brief:
                self._brief[peer] -= 1
                self._later.after(KAD_LINGER_SECONDS, partial(self._let_go, peer))

    async def _dial(self, contact: Contact) -> None:
        """Raises UnavailableError, UsageError: others say what they like."""
        problem: UnavailableError | UsageError = UnavailableError(f"nobody says where {contact.peer_id} is")
        for text in contact.addresses:
            try:
                await self._swarm.dial(text, timeout_seconds=KAD_ANSWER_SECONDS)
                self._note_place_known(contact.peer_id)
                return
            except (UnavailableError, UsageError) as error:
                problem = error
        raise problem

    def _let_go(self, peer: str) -> None:
        if self._brief.get(peer) == 0:
            del self._brief[peer]
            self._nursery.start_soon(self._swarm.disconnect, peer)

    def keep(self, peer: str) -> None:
        """A connection is of use beyond a question."""
        self._brief.pop(peer, None)

    # --- announcing ---

    async def _announce(self) -> bool:
        """Tell those who should know of what we serve and have not been told; whether nobody had to be."""
        served = self._serves() if self._swarm.addresses else {}
        self._served = served
        for key in [key for key in self._told if key not in served]:
            del self._told[key]
            self._due.pop(key, None)
        if len(self.table) and not self._found_itself:
            self._found_itself = True
            await self._find_place()
        is_over = True
        for key in served:
            if await self._announce_one(key):
                is_over = False
                await trio.sleep(KAD_PAUSE_SECONDS)
        return is_over

    def _serves(self) -> dict[bytes, Address]:
        """What is published here, and what is held of others."""
        served = self._register.served(self._swarm.peer_id)
        return {key_of(address): address for address in served[:KAD_ANNOUNCED_MAX]}

    async def _find_place(self) -> None:
        """Get to know who is near us."""
        request = self._request(FIND_NODE, self._own_key)
        await self._look_up(request, place_of_peer(self._swarm.peer_id), enough=NEIGHBOURS)

    async def _announce_one(self, key: bytes) -> bool:
        """Whether there was anybody to tell."""
        place, now = place_of(key), trio.current_time()
        nearest = self.table.closest(place)
        if nearest and self._due.get(key, now) <= now:
            nearest = await self._look_up(self._request(FIND_NODE, key), place)
            self._due[key], self._told[key] = now + KAD_ANNOUNCE_SECONDS, set()
        told = self._told.setdefault(key, set())
        waiting = [contact for contact in nearest if contact.peer_id not in told]
        limiter = trio.CapacityLimiter(KAD_AT_ONCE)
        request = Message(ADD_PROVIDER, key, providers=(self._us(),))

        async def tell(contact: Contact) -> None:
            async with limiter:
                with suppress(UnavailableError, UsageError, trio.TooSlowError), trio.fail_after(KAD_ANSWER_SECONDS):
                    async with self._stream(contact) as stream:
                        await stream.send(encode_frame(request.encode()))
                        told.add(contact.peer_id)
                        return
                self.table.drop(contact.peer_id)

        async with trio.open_nursery() as nursery:
            for contact in waiting:
                nursery.start_soon(tell, contact)
        return bool(waiting)

    def _us(self) -> Contact:
        """Where we are: loopback last, for it is of use on this machine alone."""
        ours = sorted(self._swarm.addresses, key=lambda text: text.startswith(("/ip4/127.", "/ip6/::1/")))
        return Contact.at(self._swarm.peer_id, ours)

    # --- others ---

    def _greet_soon(self, peer: str, delay_seconds: float) -> None:
        """A peer has connected, or asks: where is it, and does it take part? One that we may forget again is let be."""
        if self._knows_place(peer):
            return
        if peer not in self._greeting and self.table.has_room(peer):
            self._greeting.add(peer)
            turns = 1 if self._swarm.peer_id < peer else 2  # one of two asks, and so says where it is itself
            self._later.after(turns * delay_seconds, partial(self._start_greeting, peer))

    def _start_greeting(self, peer: str) -> None:
        if peer in self._swarm.connected_peers and not self._knows_place(peer):
            self._nursery.start_soon(self._greet, peer)
        else:
            self._greeting.discard(peer)

    def _knows_place(self, peer: str) -> bool:
        """Whether a peer takes part and has lately been where it says."""
        at = self._placed_at.get(peer, -math.inf)
        return peer in self.table and at + KAD_GREET_SECONDS > trio.current_time()

    def _note_place_known(self, peer: str) -> None:
        make_room(self._placed_at)
        self._placed_at[peer] = trio.current_time()

    async def _greet(self, peer: str) -> None:
        try:
            request = self._request(FIND_NODE, base58.b58decode(peer))
            with suppress(UnavailableError):
                answer = await self._ask(Contact(peer), request)
                self._meet(next((contact for contact in answer.closer if contact.peer_id == peer), Contact(peer)))
        finally:
            self._greeting.discard(peer)

    def _meet(self, contact: Contact) -> None:
        is_new = contact.peer_id not in self.table
        if not self._note(contact):
            return
        self._note_place_known(contact.peer_id)
        if not is_new:
            return
        for told in self._told.values():
            told.discard(contact.peer_id)  # it may have started anew, and forgotten
        self._register.note_hearsay(contact.addresses[0], contact.peer_id)

    async def _answer_all(self, stream: Stream) -> None:
        """Answer what a peer asks on one stream, no faster than it may ask."""
        peer = stream.peer_id
        frames, allowance = FrameReader(), self._allowance(peer)
        try:
            while data := await stream.receive():
                for body in frames.feed(data):
                    if wait := allowance.owe(1, trio.current_time()):
                        await trio.sleep(wait)
                    request = read_request(body)
                    self._hear_of(peer, request)
                    answer = self._answer(peer, request)
                    if answer is not None:
                        await stream.send(encode_frame(answer.encode()))
        except IntegrityError:
            await self._links.drop(peer)
        except UnavailableError:
            pass  # it has gone

    def _hear_of(self, peer: str, request: Message) -> None:
        """A peer asks, and says where it is or has to be asked."""
        if peer in self.table:
            return
        itself = next((one for one in (*request.closer, *request.providers) if one.peer_id == peer), None)
        if itself is not None and itself.addresses:
            self._meet(itself)
        else:
            self._greet_soon(peer, 0.0)

    def _allowance(self, peer: str) -> Allowance:
        if peer not in self._allowances:
            make_room(self._allowances)
            self._allowances[peer] = Allowance(KAD_REQUESTS_PER_SECOND, KAD_REQUESTS_AT_ONCE)
        return self._allowances[peer]

    def _answer(self, peer: str, request: Message) -> Message | None:
        """The answer to a request, if one is due."""
        if request.kind == ADD_PROVIDER:
            for contact in request.providers:
                if contact.peer_id == peer and contact.addresses:
                    self._take_record(request.key, contact)
            return None
        if request.kind == GET_PROVIDERS:
            own = (self._us(),) if request.key in self._served else ()
            providers = (*own, *self.provided.providers(request.key, trio.current_time()))
            return Message(request.kind, request.key, self._closer(peer, place_of(request.key)), providers)
        own = (self._us(),) if request.key == self._own_key else ()
        return Message(request.kind, request.key, (*own, *self._closer(peer, place_of(request.key))))

    def _closer(self, peer: str, place: int) -> tuple[Contact, ...]:
        return tuple(contact for contact in self.table.closest(place, CLOSEST + 1) if contact.peer_id != peer)

    def _take_record(self, key: bytes, contact: Contact) -> None:
        self.provided.add(key, contact, trio.current_time())
        address = self._served.get(key)
        if address is not None:  # so that we can send others there, who ask for heads
            with self._register.together():
                self._register.note_provider(address, contact.peer_id, self._clock())
                self._register.note_hearsay(contact.addresses[0], contact.peer_id)


async def _receive(stream: Stream) -> bytes:
    """The one frame that comes. Raises IntegrityError, UnavailableError."""
    frames = FrameReader()
    while data := await stream.receive():
        for body in frames.feed(data):
            return body
    raise UnavailableError(f"peer {stream.peer_id} does not answer")
