"""The Python interface: open a node, write collections, ask queries.

    async with open_node("~/.rhizome") as node:
        posts = node.collection("posts")
        await posts.create(time="created", order=["-created"], indexes={"by_tag": "tags,-created"})
        await posts.put({"id": "p1", "tags": ["cats"], "created": 1})
        async for post in posts.find({"tags": "cats"}).sort("-created").limit(32):
            print(post["id"])
        page = await posts.find({"tags": "cats"}).limit(32).page()
        print(page.rows, page.proof, page.cursor, page.cost)

A node works offline until it is given addresses to listen on or peers to ask.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import trio
from pyrsistent import PMap, pmap

from rhizome_index.errors import UnavailableError, UsageError, first_of
from rhizome_index.index.address import Address
from rhizome_index.index.head import Head
from rhizome_index.index.record import Record
from rhizome_index.index.schema import SortPath, parse_index
from rhizome_index.limits import DIAL_TIMEOUT_SECONDS
from rhizome_index.node.cost import Cost
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.home import Home
from rhizome_index.node.link import Links
from rhizome_index.node.publish import Declaration, Publisher
from rhizome_index.node.resolve import Resolution, Resolver
from rhizome_index.node.serve import Server
from rhizome_index.node.swarm import Swarm
from rhizome_index.query.answer import Cursor
from rhizome_index.query.expr import DECLARED, NEWEST, OLDEST, Expr, Query
from rhizome_index.query.mongo import from_mongo
from rhizome_index.query.parse import parse

DEFAULT_DATASET = "main"
PROVEN = "L1"  # complete and right for that head's index


@asynccontextmanager
async def open_node(
    home: str | Path | Home,
    *,
    listen: Sequence[str] = (),
    peers: Sequence[str] = (),
    clock: Callable[[], float] = time.time,
) -> AsyncIterator[Node]:
    """Open the node of a home directory, which is made if it is missing.

    listen  multiaddrs to serve on; the swarm is joined only if there are some, or some peers
    peers   full multiaddrs of peers to connect to; those that cannot be reached are left out

    Raises UsageError for an address that is none, StoreError for a home that cannot be used.
    """
    place = home if isinstance(home, Home) else Home.at(home)
    place.create()
    try:
        async with _open(place, listen, peers, clock) as node:
            yield node
    except BaseExceptionGroup as group:  # nurseries wrap what passes through them
        raise first_of(group) from None


@asynccontextmanager
async def _open(
    place: Home, listen: Sequence[str], peers: Sequence[str], clock: Callable[[], float]
) -> AsyncIterator[Node]:
    async with AsyncExitStack() as stack:
        store = stack.enter_context(place.open_store())
        if not listen and not peers:
            yield Node(place, store, clock, None, None)
            return
        from rhizome_index.node.libp2p_swarm import open_swarm

        started = time.perf_counter()
        swarm = await stack.enter_async_context(open_swarm(place.identity.seed, listen))
        nursery = await stack.enter_async_context(trio.open_nursery())
        stack.callback(nursery.cancel_scope.cancel)
        node = Node(place, store, clock, swarm, Links(swarm, nursery))
        if listen:
            Server(store, swarm).start()
        await node.connect(peers)
        node.connect_seconds = time.perf_counter() - started
        yield node


class Node:
    """A peer: its home, its store and its place in a swarm, if it has joined one.

    catalog          newest head of each dataset known here; a snapshot that is replaced, never changed
    unreachable      addresses that could not be dialled, with the reason
    connect_seconds  what joining the swarm and dialling took
    """

    def __init__(
        self, home: Home, store: DiskStore, clock: Callable[[], float], swarm: Swarm | None, links: Links | None
    ) -> None:
        self.home = home
        self.store = store
        self.clock = clock
        self.swarm = swarm
        self.connect_seconds = 0.0
        self.unreachable: PMap[str, str] = pmap()
        self.publisher = Publisher(store, home.identity, clock)
        self.resolver = Resolver(store, clock, links)
        self._peers: list[str] = []

    @property
    def peer_id(self) -> str:
        return self.home.identity.peer_id

    @property
    def addresses(self) -> tuple[str, ...]:
        """Full addresses this node listens on."""
        return self.swarm.addresses if self.swarm else ()

    @property
    def peers(self) -> tuple[str, ...]:
        """Peers that queries are sent to, in order."""
        return tuple(self._peers)

    @property
    def catalog(self) -> PMap[Address, Head]:
        return pmap({head.address: head for head in self.store.newest_heads()})

    async def connect(self, addresses: Iterable[str]) -> None:
        """Connect to peers, all at the same time. Those that cannot be reached are noted in `unreachable`."""

        async def dial(place: int, address: str) -> None:
            assert self.swarm is not None
            try:
                found[place] = await self.swarm.dial(address, timeout_seconds=DIAL_TIMEOUT_SECONDS)
            except UnavailableError as error:
                self.unreachable = self.unreachable.set(address, str(error))

        found: dict[int, str] = {}
        async with trio.open_nursery() as nursery:
            for place, address in enumerate(addresses):
                nursery.start_soon(dial, place, address)
        self._peers += [found[place] for place in sorted(found) if found[place] not in self._peers]

    def collection(self, name: str, dataset: str = DEFAULT_DATASET) -> Collection:
        """A collection of this node's own."""
        return Collection(self, self.publisher.address(dataset), name)

    def remote_collection(self, name: str, address: str | Address) -> Collection:
        """A collection of anybody's dataset, to ask."""
        return Collection(self, address if isinstance(address, Address) else Address.parse(address), name)

    def query(
        self,
        query: str | Query,
        address: Address | None = None,
        *,
        after: str | None = None,
        scan: bool = False,
        proof: bool = False,
    ) -> Results:
        """Ask a query, in the text language or as a Query, of a dataset (by default this node's own)."""
        if isinstance(query, str):
            query, text_after = parse(query)
            after = after or text_after
        place = address or self.publisher.address(DEFAULT_DATASET)
        cursor = Cursor.parse(after, query) if after else None
        return Results(self, place, query, cursor, scan=scan, proof=proof)


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
        """Declare the collection. Raises UsageError if it is there and declared otherwise."""
        paths = dict(parse_index(f"{name}={text}") for name, text in (indexes or {}).items())
        declaration = Declaration(key, time, tuple(SortPath.parse(text) for text in order), paths)
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
        with self.node.store.transaction():
            if batch.deletes:
                publisher.delete_many(self.address.name, self.name, batch.deletes)
            if batch.puts:
                publisher.put_many(self.address.name, self.name, batch.puts)

    async def create_index(self, name: str, *paths: str) -> None:
        """Add an index over what is there, e.g. `create_index("by_tag", "tags", "-created")`."""
        parsed = [SortPath.parse(path) for path in paths]
        self._publisher().add_index(self.address.name, self.name, name, parsed)

    async def drop_index(self, name: str) -> None:
        self._publisher().drop_index(self.address.name, self.name, name)

    def find(self, filter_: Mapping[str, Any] | None = None) -> Find:
        """Ask for records that meet a filter in MongoDB's shape."""
        return Find(self, from_mongo(filter_ or {}))

    async def count(self, filter_: Mapping[str, Any] | None = None) -> int:
        """How many records meet a filter."""
        query = Query(self.name, from_mongo(filter_ or {}), count=True)
        return (await Results(self.node, self.address, query, None).page()).count

    def _publisher(self) -> Publisher:
        if self.address.publisher != self.node.peer_id:
            raise UsageError(f"{self.address} belongs to somebody else", hint="publish a dataset of your own")
        return self.node.publisher


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

    def results(self) -> Results:
        query = Query(self.collection.name, self.where, self.order, self.size)
        return self.collection.node.query(query, self.collection.address, after=self.cursor, scan=self.may_scan)

    def __aiter__(self) -> AsyncIterator[Record]:
        return self.results().__aiter__()

    async def page(self) -> Page:
        return await self.results().page()


@dataclass(frozen=True, slots=True)
class Page:
    """A whole answer.

    rows      records, in order
    count     how many there are, for a count
    proof     how much is proven: "L1", complete and right for that head's index
    cursor    to go on behind the last row, or None
    head      the head it is an answer for
    """

    rows: list[Record]
    count: int
    proof: str
    cursor: str | None
    head: Head
    cost: Cost


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
    ) -> None:
        self.node = node
        self.address = address
        self.resolution = Resolution(query, Cost(), proof=[] if proof else None, after=after)
        self._scan = scan

    async def __aiter__(self) -> AsyncIterator[Record]:
        started = time.perf_counter()
        own = self.address.publisher == self.node.peer_id
        cost = self.resolution.cost
        cost.connect_seconds = self.node.connect_seconds
        batches = self.node.resolver.resolve(
            self.address,
            self.resolution,
            () if own else self.node.peers,
            local=own or not self.node.peers,
            allow_scan=self._scan,
        )
        async for rows in batches:
            cost.seconds = time.perf_counter() - started
            for row in rows:
                yield row.record
        cost.seconds = time.perf_counter() - started

    async def page(self) -> Page:
        """The whole answer at once."""
        rows = [record async for record in self]
        answer, opening = self.resolution.answer, self.resolution.opening
        assert answer is not None and opening is not None
        cursor = self.resolution.cursor()
        return Page(
            rows,
            answer.count if answer.query.count else len(rows),
            PROVEN,
            None if cursor is None else str(cursor),
            opening.head,
            self.resolution.cost,
        )
