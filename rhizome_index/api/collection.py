"""Collections: written record by record, and asked like a MongoDB one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rhizome_index.api.results import Page, Results, Watch
from rhizome_index.errors import UsageError
from rhizome_index.index.address import Address
from rhizome_index.index.condition import Expr
from rhizome_index.index.head import Head
from rhizome_index.index.record import Record
from rhizome_index.index.schema import Definition, SortPath
from rhizome_index.node.publish import Declaration, Publisher
from rhizome_index.query.expr import COUNT, DECLARED, NEWEST, OLDEST, Query
from rhizome_index.query.mongo import from_mongo
from rhizome_index.query.parse import parse_index
from rhizome_index.trust.ladder import ANYTHING, Requirement

if TYPE_CHECKING:
    from rhizome_index.api.node import Node


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
