"""The Python interface: open a node, write collections, ask queries.

    async with open_node("~/.rhizome") as node:
        posts = node.collection("posts")
        await posts.create(time="created", order=["-created"], indexes={"by_tag": "tags,-created"})
        await posts.put({"id": "p1", "tags": ["cats"], "created": 1})
        async for post in posts.find({"tags": "cats"}).sort("-created").limit(32):
            print(post["id"])
        page = await posts.find({"tags": "cats"}).limit(32).page()
        print(page.rows, page.proof, page.cursor, page.cost)
        async for turn in posts.find({"tags": "cats"}).sort("-created").limit(32).watch():
            print(turn.head.sequence, turn.changes)

A node works offline until it is given addresses to listen on or peers to ask.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from socket import socket
from typing import Any

import trio
from pyrsistent import PMap

from rhizome_index.errors import StoreError, UnavailableError, UsageError, first_of
from rhizome_index.index.address import Address
from rhizome_index.index.condition import Expr
from rhizome_index.index.freshness import ANY_AGE, Freshness
from rhizome_index.index.head import Head
from rhizome_index.index.manifest import Manifest
from rhizome_index.index.record import Record
from rhizome_index.index.schema import Definition, SortPath
from rhizome_index.limits import HEADS_ASKED, ROWS_HINTED_BY
from rhizome_index.node.attested import Attestations, Attested
from rhizome_index.node.audit import Audited, Auditor
from rhizome_index.node.cache import Cache
from rhizome_index.node.carry import Carried
from rhizome_index.node.collect import make_room
from rhizome_index.node.cost import Cost
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.feed import FeedResolver
from rhizome_index.node.fetch import Fetcher
from rhizome_index.node.hinting import hints_for
from rhizome_index.node.home import Home
from rhizome_index.node.lender import Lender
from rhizome_index.node.lent_swarm import borrow_swarm
from rhizome_index.node.live import LiveResolver, OnProblem, Turn
from rhizome_index.node.measure import bytes_held
from rhizome_index.node.part import find_index
from rhizome_index.node.peer import Peer
from rhizome_index.node.pins import Pins, bring, find_head
from rhizome_index.node.publish import Declaration, Publisher
from rhizome_index.node.register import Policy
from rhizome_index.node.resolution import Resolution
from rhizome_index.node.resolve import FindPeers
from rhizome_index.node.room import Room
from rhizome_index.node.swarm import Swarm
from rhizome_index.node.sync import Progress
from rhizome_index.node.unix_socket import listening
from rhizome_index.node.weigh import Location
from rhizome_index.query.answer import Cursor
from rhizome_index.query.explain import Explained
from rhizome_index.query.expr import COUNT, DECLARED, NEWEST, OLDEST, Query
from rhizome_index.query.mongo import from_mongo
from rhizome_index.query.parse import parse, parse_index
from rhizome_index.trust.ladder import ANYTHING, Bound, Requirement, Standing, derivation_of

DEFAULT_DATASET = "main"


@asynccontextmanager
async def open_node(
    home: str | Path | Home,
    *,
    listen: Sequence[str] = (),
    peers: Sequence[str] = (),
    join: bool = False,
    as_relay: bool = False,
    relays: Sequence[str] = (),
    mdns: bool | None = None,
    clock: Callable[[], float] = time.time,
    passphrase: str | None = None,
) -> AsyncIterator[Node]:
    """Open the node of a home directory, which is made if it is missing.

    listen      multiaddrs to serve on
    peers       full multiaddrs of peers to connect to; those that cannot be reached are left out
    join        join the swarm even where there are neither: peers met before are remembered
    as_relay    let peers that nobody can dial be reached through this node; only together with `listen`
    relays      full multiaddrs of relays through which to be reached; only together with `listen`
    mdns        find peers on the local network, and be found; None: unless it listens on loopback alone
    passphrase  of a home whose private key is sealed: needed to publish and to listen, not to ask

    Who only asks does so over the connections of a node that runs from this home in another process, if there is one.

    Raises UsageError for an address that is none, a wrong passphrase, and for an address to listen on where a node of
    this home runs already;
    StoreError for a home that cannot be used.
    """
    place = home if isinstance(home, Home) else Home.at(home)
    if passphrase is not None:
        place.ask = partial(str, passphrase)
    if as_relay and not listen:
        raise UsageError("a relay has to be reached itself", hint="name an address to listen on")
    if relays and not listen:
        raise UsageError("who only asks need not be reached through a relay", hint="name an address to listen on")
    place.create()
    try:
        async with _open(place, listen, peers, join or bool(listen) or bool(peers), clock, mdns) as node:
            if as_relay:
                node.peer.relay()
            if relays:
                await node.peer.reserve(relays)
            yield node
    except BaseExceptionGroup as group:  # nurseries wrap what passes through them
        raise first_of(group) from None


@asynccontextmanager
async def _open(
    place: Home,
    listen: Sequence[str],
    peers: Sequence[str],
    join: bool,
    clock: Callable[[], float],
    mdns: bool | None,
) -> AsyncIterator[Node]:
    async with AsyncExitStack() as stack:
        store = stack.enter_context(place.open_store())
        node = Node(Peer(store, place, clock, random.SystemRandom()))
        if join:
            swarm = await stack.enter_async_context(_join(place, listen))
            started = trio.current_time()
            meeting = stack.enter_context(_meeting(place)) if listen else None
            nursery = await stack.enter_async_context(trio.open_nursery())
            stack.callback(nursery.cancel_scope.cancel)
            node.peer.join(swarm, nursery)
            if listen:
                node.peer.serve()
                nursery.start_soon(node.peer.stay)
            if listen and mdns is not False:
                nursery.start_soon(partial(node.peer.meet_neighbours, on_loopback=bool(mdns)))
            if meeting is not None:
                nursery.start_soon(Lender(node.peer).serve, meeting)
            await node.peer.connect(peers)
            node.connect_seconds = trio.current_time() - started
        yield node
        if not listen:
            _make_room(place, store, clock)


def _make_room(place: Home, store: DiskStore, clock: Callable[[], float]) -> None:
    """Whoever does not stay makes room for what he leaves, if that takes no time; a running node does it by itself."""
    with suppress(StoreError, UsageError):
        Cache(store).note_uses()
        if Room(store).should_collect():
            with place.claim():
                make_room(store, place.peer_id, clock)


@asynccontextmanager
async def _join(place: Home, listen: Sequence[str]) -> AsyncIterator[Swarm]:
    """A place in the swarm: lent by the running node, unless we are to be that ourselves, or of our own."""
    async with AsyncExitStack() as stack:
        swarm: Swarm | None = None
        if listen:
            stack.enter_context(place.claim())
        else:
            swarm = await stack.enter_async_context(borrow_swarm(place.socket_path, place.peer_id))
        if swarm is None:
            from rhizome_index.node.libp2p_swarm import open_swarm

            # Who only asks needs no name: rather than a sealed key, one made for the occasion.
            seed = place.identity.seed if listen or not place.is_sealed else os.urandom(32)
            swarm = await stack.enter_async_context(open_swarm(seed, listen))
        yield swarm


@contextmanager
def _meeting(place: Home) -> Iterator[socket | None]:
    """Where other processes of this home meet its node; None if there can be no such place."""
    with ExitStack() as stack:
        found = None
        with suppress(UnavailableError):  # in a home that cannot be written, say
            found = stack.enter_context(listening(place.socket_path))
        yield found


def _address(address: Address | str) -> Address:
    return address if isinstance(address, Address) else Address.parse(address)


def _required(require: str | Requirement) -> Requirement:
    return require if isinstance(require, Requirement) else Requirement.parse(require)


class Node:
    """A node, to ask and to write to.

    peer             what it is made of
    connect_seconds  what dialling the peers that were named took
    """

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.connect_seconds = 0.0

    @property
    def peer_id(self) -> str:
        return self.peer.keys.peer_id

    @property
    def is_lent(self) -> bool:
        """Whether its place in the swarm is lent by a node that runs in another process."""
        return self.peer.running is not None

    @property
    def addresses(self) -> tuple[str, ...]:
        """Full addresses this node listens on."""
        return self.peer.membership.swarm.addresses if self.peer.membership else ()

    @property
    def peers(self) -> tuple[str, ...]:
        """Peers that were named, and reached."""
        return self.peer.named

    @property
    def unreachable(self) -> PMap[str, str]:
        """Addresses that were named and could not be reached, with the reason."""
        return self.peer.unreachable

    @property
    def catalog(self) -> PMap[Address, Head]:
        """The head to answer from of each dataset known here: a snapshot that is replaced, never changed."""
        return self.peer.catalog

    def follow(self, address: Address | str, policy: Policy | None = None) -> None:
        """Follow a dataset from now on: all of it, unless a policy says otherwise."""
        place = _address(address)
        self.peer.follow(place, policy or Policy())

    def unfollow(self, address: Address | str) -> bool:
        """Follow it no longer; whether it was followed."""
        return self.peer.unfollow(_address(address))

    async def sync(self, address: Address | str) -> Head:
        """Bring what is followed of a dataset up to date now; the head that is held then.

        Raises UsageError if it is not followed, UnavailableError, IntegrityError.
        """
        place = _address(address)
        return await self.peer.sync(place)

    def collection(self, name: str, dataset: str = DEFAULT_DATASET) -> Collection:
        """A collection of this node's own."""
        return Collection(self, self.peer.publisher.address(dataset), name)

    def remote_collection(self, name: str, address: str | Address) -> Collection:
        """A collection of anybody's dataset, to ask."""
        return Collection(self, _address(address), name)

    def query(
        self,
        query: str | Query,
        address: Address | None = None,
        *,
        after: str | None = None,
        scan: bool = False,
        proof: bool = False,
        fresh: Freshness = ANY_AGE,
        require: str | Requirement = ANYTHING,
    ) -> Results:
        """Ask a query, in the text language or as a Query, of a dataset (by default this node's own).

        fresh    what is insisted on of the head that is answered from
        require  what has to be proven, such as "L3": of less, UnprovenError is raised before the first row
        """
        query, text_after = self._read(query)
        after = after or text_after
        place = address or self.peer.publisher.address(DEFAULT_DATASET)
        cursor = Cursor.parse(after, query) if after else None
        return Results(self, place, query, cursor, scan=scan, proof=proof, fresh=fresh, required=_required(require))

    def feed(self, query: str | Query, addresses: Sequence[Address | str], *, scan: bool = False) -> FeedResults:
        """Ask a query of many datasets: one order over all of them."""
        query, after = self._read(query)
        if after is not None:
            raise UsageError("a feed has no cursor", hint="ask for more rows at once")
        places = [_address(place) for place in addresses]
        return FeedResults(self, query, places, scan=scan)

    def watch(
        self,
        query: str | Query,
        address: Address | None = None,
        *,
        scan: bool = False,
        fresh: Freshness = ANY_AGE,
        require: str | Requirement = ANYTHING,
    ) -> Watch:
        """Keep a query open: its rows, and what changes of them from head to head."""
        query, after = self._read(query)
        if after is not None:
            raise UsageError("a query that is watched has no cursor", hint="leave out: after")
        place = address or self.peer.publisher.address(DEFAULT_DATASET)
        return Watch(self, place, query, scan=scan, fresh=fresh, required=_required(require))

    def _read(self, query: str | Query) -> tuple[Query, str | None]:
        """A query, and the cursor that its text names."""
        return parse(query, int(self.peer.clock() * 1000)) if isinstance(query, str) else (query, None)

    def followed(self) -> list[Address]:
        """The datasets that are followed."""
        return [follow.address for follow in self.peer.register.follows()]

    async def pin(self, address: Address | str, head: str | None = None) -> Pinned:
        """Keep a dataset whole as of a head, whatever newer ones come; what is missing is fetched from peers.

        head  its sequence, or the CID of its manifest; by default the newest

        Raises UnavailableError for what nobody has, or where there is no room; UsageError, IntegrityError.
        """
        place, cost, store = _address(address), Cost(), self.peer.store
        find_peers, _ = self.ways_to(place)
        peers = list(await find_peers(place)) if find_peers is not None else []
        if head is None:
            found = await self.peer.resolver.heads.newest(place, peers[:HEADS_ASKED], cost)
        else:
            found = find_head(store, place, head)
        links = self.peer.membership.links if self.peer.membership else None
        is_new = await bring(store, found, Fetcher(links, peers, cost) if links is not None and peers else None)
        return Pinned(found, bytes_held(store, found, Policy()), is_new, cost)

    def unpin(self, address: Address | str, manifest: bytes | None = None) -> int:
        """Pin heads of a dataset no longer: those with a manifest, or all; how many there were."""
        return Pins(self.peer.store).remove(_address(address), manifest)

    async def explain(
        self, query: str | Query, address: Address | None = None, *, scan: bool = False
    ) -> tuple[list[Explained], list[Location]]:
        """Every way to answer a query, what each would read, and why it lost; and where to answer the best from.

        The chosen ones first. No locations where nothing was chosen.
        """
        query, _ = self._read(query)
        place = address or self.peer.publisher.address(DEFAULT_DATASET)
        find_peers, _ = self.ways_to(place)
        return await self.peer.resolver.explain(place, query, find_peers, allow_scan=scan)

    async def manifest(self, address: Address | str) -> Manifest:
        """What a dataset has: that of the head that is answered from, or the newest that peers know.

        Raises UnavailableError.
        """
        place, cost = _address(address), Cost()
        resolver, store = self.peer.resolver, self.peer.store
        find_peers, _ = self.ways_to(place)
        peers = list(await find_peers(place)) if find_peers is not None else []
        head = store.current_head(place) or await resolver.heads.newest(place, peers[:HEADS_ASKED], cost)
        _, manifest = await resolver.gatherer(peers, cost).manifest(head.manifest)
        resolver.heads.keep(head)
        return manifest

    async def audit(
        self,
        address: Address | str,
        collection: str,
        index: str,
        *,
        confidence: float = 0.99,
        bad_fraction: float = 0.01,
        progress: Progress | None = None,
    ) -> Audited:
        """Audit an index of a dataset: samples that nobody can foresee, over what is here and what peers have.

        progress  is kept up to date meanwhile

        Raises IntegrityError if something is wrong, the proof of which is kept; UnavailableError, UsageError.
        """
        place = _address(address)
        find_peers, _ = self.ways_to(place)
        peers, cost = list(await find_peers(place)) if find_peers is not None else [], Cost()
        started = trio.current_time()
        head = await self.peer.resolver.heads.newest(place, peers[:HEADS_ASKED], cost)
        links = self.peer.membership.links if self.peer.membership else None
        auditor = Auditor(self.peer.store, self.peer.chance, links, progress or Progress())
        audited = await auditor.audit(head, collection, index, Bound(bad_fraction, confidence), peers, cost)
        cost.seconds = trio.current_time() - started
        return audited

    async def attested(self, address: Address | str, collection: str, index: str) -> Attested:
        """Ask peers whether they made an index of the newest head themselves, and what came out.

        Their words are kept, and count in what is proven of answers. Raises UnavailableError, UsageError, and
        IntegrityError where a peer proves that the head is wrong.
        """
        place = _address(address)
        find_peers, _ = self.ways_to(place)
        peers, cost, resolver = (
            list(await find_peers(place)) if find_peers is not None else [],
            Cost(),
            self.peer.resolver,
        )
        started = trio.current_time()
        head = await resolver.heads.newest(place, peers[:HEADS_ASKED], cost)
        _, manifest = await resolver.gatherer(peers, cost).manifest(head.manifest)
        found, _ = find_index(manifest, collection, index)
        await resolver.proven.gather_attestations(head, manifest.rule, found, cost)
        cost.seconds = trio.current_time() - started
        derivation = derivation_of(manifest.rule, found, index)
        words = tuple(Attestations(self.peer.store).about(derivation.given))
        standing = resolver.proven.ladder.standing(derivation)
        return Attested(head, collection, index, derivation, words, standing, cost)

    async def carry(self, address: Address | str, collection: str, index: str) -> Carried:
        """Verify an index of the newest head by what has changed since one of which at least L3 is proven.

        Raises UsageError if there is none; IntegrityError if it does not follow, the proof of which is kept;
        UnavailableError.
        """
        place = _address(address)
        peers, cost = list(await self.peer.providers(place)), Cost()
        started = trio.current_time()
        newest = await self.peer.resolver.heads.newest(place, peers[:HEADS_ASKED], cost)
        carried = await self.peer.joined().carrier.carry(newest, collection, index, peers, cost)
        cost.seconds = trio.current_time() - started
        return carried

    def ways_to(self, address: Address) -> tuple[FindPeers | None, bool]:
        """How to answer from a dataset: whom to ask, if anybody, and whether the store comes first."""
        own = address.publisher == self.peer_id
        find_peers = None if own or self.peer.membership is None else self.peer.providers
        return find_peers, own or not self.peer.named or self.peer.resolver.holds(address)


@dataclass(frozen=True, slots=True)
class Pinned:
    """A snapshot that stays.

    bytes   of all its blocks
    is_new  it was not pinned before
    """

    head: Head
    bytes: int
    is_new: bool
    cost: Cost


class Collection:
    """A collection: of this node's own to write to, or of anybody's to ask."""

    def __init__(self, node: Node, address: Address, name: str) -> None:
        self.node = node
        self.address = address
        self.name = name

    async def create(
        self,
        *,
        key: str = "id",
        time: str | None = None,
        order: Sequence[str] = (),
        indexes: Mapping[str, str] | None = None,
    ) -> None:
        """Declare the collection, with indexes such as `{"by_tag": "tags,-created where likes > 5"}`.

        Raises UsageError if it is there and declared otherwise.
        """
        defined = dict(parse_index(f"{name}={text}") for name, text in (indexes or {}).items())
        declaration = Declaration(key, time, tuple(SortPath.parse(text) for text in order), defined)
        self._publisher().put_many(self.address.name, self.name, [], declaration)

    async def put(self, record: Record) -> Head:
        """Put one record. It is durable when this returns."""
        return await self.put_many([record])

    async def put_many(self, records: Iterable[Record]) -> Head:
        """Put records under one head: all of them or none."""
        return self._publisher().put_many(self.address.name, self.name, records)[0]

    async def delete(self, *keys: Any) -> int:
        """Delete records by primary key; returns how many were there."""
        return self._publisher().delete_many(self.address.name, self.name, keys)[1]

    async def get(self, key: Any) -> Record | None:
        """A record of this node's own, by primary key."""
        return self._publisher().get(self.address.name, self.name, key)

    @contextmanager
    def batch(self) -> Iterator[Batch]:
        """Gather puts and deletes; on leaving they become one head. Nothing happens if the block raises."""
        batch = Batch()
        yield batch
        publisher = self._publisher()
        with self.node.peer.store.transaction():
            if batch.deletes:
                publisher.delete_many(self.address.name, self.name, batch.deletes)
            if batch.puts:
                publisher.put_many(self.address.name, self.name, batch.puts)

    async def create_index(
        self,
        name: str,
        *paths: str,
        where: Mapping[str, Any] | None = None,
        include: Sequence[str] = (),
        unique: bool = False,
    ) -> None:
        """Add an index over what is there, e.g. `create_index("by_tag", "tags", "-created")`.

        where    list only the records that meet a filter in MongoDB's shape
        include  paths that its entries have a copy of, so that queries for nothing else need no records
        unique   refuse two records with the same values
        """
        sort_paths = tuple(SortPath.parse(path) for path in paths)
        definition = Definition(sort_paths, from_mongo(where or {}), tuple(include), unique)
        self._publisher().add_index(self.address.name, self.name, name, definition)

    async def drop_index(self, name: str) -> None:
        self._publisher().drop_index(self.address.name, self.name, name)

    def find(self, filter_: Mapping[str, Any] | None = None) -> Find:
        """Ask for records that meet a filter in MongoDB's shape."""
        return Find(self, from_mongo(filter_ or {}))

    async def count(self, filter_: Mapping[str, Any] | None = None) -> int:
        """How many records meet a filter."""
        query = Query(self.name, from_mongo(filter_ or {}), kind=COUNT)
        return (await Results(self.node, self.address, query, None).page()).count

    def _publisher(self) -> Publisher:
        if self.address.publisher != self.node.peer_id:
            raise UsageError(f"{self.address} belongs to somebody else", hint="publish a dataset of your own")
        return self.node.peer.publisher


class Batch:
    """Puts and deletes to come."""

    def __init__(self) -> None:
        self.puts: list[Record] = []
        self.deletes: list[Any] = []

    def put(self, record: Record) -> None:
        self.puts.append(record)

    def delete(self, key: Any) -> None:
        self.deletes.append(key)


@dataclass(frozen=True)
class Find:
    """A query in the making. Each method gives a new one."""

    collection: Collection
    where: Expr
    order: str | tuple[SortPath, ...] = DECLARED
    size: int | None = None
    cursor: str | None = None
    may_scan: bool = False
    required: Requirement = ANYTHING

    def sort(self, *paths: str) -> Find:
        """Order by paths, e.g. "-created"; or by "newest" or "oldest"."""
        if paths in ((NEWEST,), (OLDEST,)):
            return replace(self, order=paths[0])
        return replace(self, order=tuple(SortPath.parse(path) for path in paths))

    def limit(self, rows: int) -> Find:
        return replace(self, size=rows)

    def after(self, cursor: str) -> Find:
        """Go on behind a page's cursor."""
        return replace(self, cursor=cursor)

    def scan(self) -> Find:
        """Allow reading everything where no index answers."""
        return replace(self, may_scan=True)

    def require(self, level: str) -> Find:
        """Insist on so much being proven, such as "L3"."""
        return replace(self, required=Requirement.parse(level))

    def results(self) -> Results:
        query = Query(self.collection.name, self.where, self.order, self.size)
        place, node = self.collection.address, self.collection.node
        return node.query(query, place, after=self.cursor, scan=self.may_scan, require=self.required)

    def __aiter__(self) -> AsyncIterator[Record]:
        return self.results().__aiter__()

    async def page(self) -> Page:
        return await self.results().page()

    def watch(self) -> Watch:
        """Keep it open: an async iterator of turns."""
        if self.cursor is not None:
            raise UsageError("a query that is watched has no cursor", hint="leave out: after")
        query = Query(self.collection.name, self.where, self.order, self.size)
        return self.collection.node.watch(query, self.collection.address, scan=self.may_scan, require=self.required)


@dataclass(frozen=True, slots=True)
class Page:
    """A whole answer.

    rows      records, in order
    count     how many there are, for a count
    proof     how much is proven: "L1" to "L5"
    standing  the same, with what it means in words
    cursor    to go on behind the last row, or None
    head      the head it is an answer for
    hints     what may have been meant, where it has nothing
    """

    rows: list[Record]
    count: int
    proof: str
    standing: Standing
    cursor: str | None
    head: Head
    cost: Cost
    hints: tuple[str, ...] = ()


class Results:
    """One query being answered: iterate it for rows, or await `page()`."""

    def __init__(
        self,
        node: Node,
        address: Address,
        query: Query,
        after: Cursor | None,
        *,
        scan: bool = False,
        proof: bool = False,
        fresh: Freshness = ANY_AGE,
        required: Requirement = ANYTHING,
    ) -> None:
        self.node = node
        self.address = address
        self.resolution = Resolution(
            query, Cost(), proof=[] if proof else None, after=after, freshness=fresh, required=required
        )
        self._scan = scan
        self._first: list[Record] = []

    async def __aiter__(self) -> AsyncIterator[Record]:
        started = trio.current_time()
        cost = self.resolution.cost
        cost.connect_seconds = self.node.connect_seconds
        find_peers, local = self.node.ways_to(self.address)
        resolver = self.node.peer.resolver
        batches = resolver.resolve(self.address, self.resolution, find_peers, local=local, allow_scan=self._scan)
        async for rows in batches:
            cost.seconds = trio.current_time() - started
            self._first += [row.record for row in rows[: ROWS_HINTED_BY - len(self._first)]]
            for row in rows:
                yield row.record
        cost.seconds = trio.current_time() - started

    def standing(self) -> Standing:
        """What is proven of the answer, so far."""
        return self.node.peer.resolver.proven.standing(self.resolution)

    async def hints(self, *, ask: bool = False) -> list[str]:
        """What may have been meant, where an answer has nothing, or nothing at a path that the query names.

        ask  peers too, for the few blocks that it takes; otherwise only what is here is looked at
        """
        resolution = self.resolution
        answer = resolution.answer
        if resolution.after is not None or (answer is not None and answer.query.kind == COUNT and answer.count):
            return []
        find_peers, _ = self.node.ways_to(self.address)
        resolver = self.node.peer.resolver
        return await hints_for(resolver, self.address, resolution, self._first, find_peers if ask else None)

    async def page(self) -> Page:
        """The whole answer at once."""
        rows = [record async for record in self]
        answer, opening = self.resolution.answer, self.resolution.opening
        assert answer is not None and opening is not None
        cursor, standing = self.resolution.cursor(), self.standing()
        return Page(
            rows,
            answer.count if answer.query.kind == COUNT else len(rows),
            str(standing),
            standing,
            None if cursor is None else str(cursor),
            opening.head,
            self.resolution.cost,
            tuple(await self.hints()),
        )


class FeedResults:
    """One query over many datasets being answered: iterate it for (address, record)."""

    def __init__(
        self,
        node: Node,
        query: Query,
        addresses: Sequence[Address],
        *,
        scan: bool = False,
        fresh: Freshness = ANY_AGE,
        required: Requirement = ANYTHING,
    ) -> None:
        self.node = node
        self.query = query
        places = list(dict.fromkeys(addresses))
        self.feed = FeedResolver(node.peer.resolver, node.peer.feeds, query, places, fresh, required)
        self._scan = scan

    async def __aiter__(self) -> AsyncIterator[tuple[Address, Record]]:
        started = trio.current_time()
        peer, cost = self.node.peer, self.feed.cost
        cost.connect_seconds = self.node.connect_seconds
        find_peers = None if peer.membership is None else peer.providers
        async for rows in self.feed.resolve(find_peers, local=not peer.named, allow_scan=self._scan):
            cost.seconds = trio.current_time() - started
            for address, row in rows:
                yield address, row.record
        cost.seconds = trio.current_time() - started


class Watch:
    """A query that is kept open: iterate it for turns, the first of them the answer, the others as heads come.

    It can be left at any time, and iterated on later.
    """

    def __init__(
        self,
        node: Node,
        address: Address,
        query: Query,
        *,
        scan: bool = False,
        fresh: Freshness = ANY_AGE,
        on_problem: OnProblem | None = None,
        required: Requirement = ANYTHING,
    ) -> None:
        """`on_problem` is told why a newer head cannot be taken up, once; it is tried again."""
        self.node = node
        self.address = address
        self.query = query
        self._live = LiveResolver(node.peer.resolver, address, query, fresh, on_problem, required)
        self._scan = scan

    @property
    def problem(self) -> UnavailableError | None:
        """Why the newest head could not be taken up, if so: it is tried again."""
        return self._live.problem

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> Turn:
        find_peers, local = self.node.ways_to(self.address)
        return await self._live.next_turn(find_peers, local=local, allow_scan=self._scan)
