"""A feed: one query over many datasets, answered in one order.

Each dataset has its own answer, of which no more is read than the merge needs: first the first row
of each, then all that may be wanted of those whose first row is given. So of a thousand datasets, of
which the newest 32 rows are wanted, at most 32 are asked a second time, and none a third time.

Rows of several datasets are compared by their sort keys. Of equal ones that of the dataset with the
lesser address comes first.

Where everything is at hand, and each dataset has an index that gives the order, one walk merges their
entries, and reads the records of those that come first only: `walk_feed`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush

from rhizome_index.errors import UsageError
from rhizome_index.index.address import Address
from rhizome_index.index.keys import INVERT
from rhizome_index.index.record import parse_path, projector
from rhizome_index.index.schema import Collection, SortPath
from rhizome_index.index.write import RecordWalk
from rhizome_index.query.combine import Choice
from rhizome_index.query.execute import sort_key
from rhizome_index.query.expr import ROWS, Query
from rhizome_index.query.plan import PRIMARY, Candidate, sort_terms
from rhizome_index.query.rows import Row, reader
from rhizome_index.query.streams import Hit, Stream
from rhizome_index.tree.boundary import Rule


@dataclass(frozen=True, slots=True)
class FeedPart:
    """One dataset's part of a feed: how it is read."""

    address: Address
    rule: Rule
    collection: Collection
    candidate: Choice


def can_walk(parts: Iterable[FeedPart]) -> bool:
    """Whether the entries of these can be merged: they come in order, and their keys compare as rows do."""
    kinds = set()
    for part in parts:
        candidate = part.candidate
        if not isinstance(candidate, Candidate) or candidate.residual or candidate.repeats or not candidate.ordered:
            return False
        kinds.add((candidate.tail, candidate.access.reverse, candidate.fixed_paths, candidate.access.index == PRIMARY))
    return len(kinds) <= 1


def walk_feed(query: Query, parts: Sequence[FeedPart]) -> RecordWalk[tuple[list[tuple[Address, Row]], int]]:
    """The rows of such a feed, and how many entries were looked at."""
    heads: list[tuple[bytes, str, int]] = []
    read: list[tuple[Stream, Sequence[Hit], int]] = []
    entries = 0
    for part in parts:
        stream = part.candidate.stream(None)
        hits = (yield from stream.next_entries()) or ()
        if hits:
            heads.append((_merge_key(part, hits[0]), str(part.address), len(read)))
        read.append((stream, hits, 0))
    heapify(heads)
    first: list[tuple[int, Hit]] = []
    while heads and (query.limit is None or len(first) < query.limit):
        _, name, number = heappop(heads)
        stream, hits, place = read[number]
        first.append((number, hits[place]))
        entries += 1
        place += 1
        if place == len(hits):
            hits, place = (yield from stream.next_entries()) or (), 0
        read[number] = stream, hits, place
        if hits:
            heappush(heads, (_merge_key(parts[number], hits[place]), name, number))
    rows: list[tuple[Address, Row] | None] = [None] * len(first)
    by_part: dict[int, list[int]] = {}
    for at, (number, _) in enumerate(first):
        by_part.setdefault(number, []).append(at)
    for number, places in by_part.items():
        part = parts[number]
        found = yield from reader(part.collection, part.candidate)([first[at][1] for at in places])
        for at, row in zip(places, found, strict=True):
            rows[at] = part.address, row
    return [row for row in rows if row is not None], entries


def _merge_key(part: FeedPart, hit: Hit) -> bytes:
    """What stands in an entry's key behind the fixed beginning, so that the first one is the least."""
    (only,) = part.candidate.parts
    tail = hit.position[len(only.fixed) :]
    return tail.translate(INVERT) if only.access.reverse else tail


@dataclass(slots=True)
class _Part:
    """The rows that are known of one dataset; `place` is where the next one stands, `is_all` if none come behind."""

    address: Address
    rows: Sequence[Row]
    place: int
    is_all: bool


class Feed:
    """The merge of the rows of some datasets.

    query  what is asked of each: for whole records, of which `projected` then gives what was selected
    """

    def __init__(self, query: Query, addresses: Sequence[Address]) -> None:
        """Raises UsageError for a query that cannot be asked of many datasets at once."""
        if query.kind != ROWS:
            raise UsageError(f"{query.kind!r} is asked of one dataset at a time", hint="name one: --from ADDRESS")
        self.query = replace(query, paths=())
        self._first = self.query if query.limit is None else replace(self.query, limit=1)
        self._project = projector(tuple(map(parse_path, query.paths))) if query.paths else None
        self._terms: tuple[Address, tuple[SortPath, ...]] | None = None
        self._given = 0
        self._waiting = dict.fromkeys(sorted(addresses, key=str), 0)  # whose next row is not known; rows given of it
        self._asked: set[Address] = set()
        self._next: list[tuple[bytes, str, _Part]] = []  # of the others, by the sort keys of their next rows

    @property
    def is_over(self) -> bool:
        """Whether all rows have been given."""
        return self._given == self.query.limit or (not self._waiting and not self._next)

    def wanting(self) -> list[tuple[Address, Query]]:
        """What to ask of which datasets before any further row can be given."""
        if self.is_over:
            return []
        if self._asked:
            self._wait_for_more()
        return [(address, self.query if address in self._asked else self._first) for address in self._waiting]

    def _wait_for_more(self) -> None:
        """More will be wanted of those whose first row may be given: better ask all of them together."""
        left = None if self.query.limit is None else self.query.limit - self._given
        for item in sorted(self._next)[:left]:
            if not item[2].is_all:
                self._next.remove(item)
                self._waiting[item[2].address] = item[2].place
        heapify(self._next)

    def note(self, address: Address, query: Query, collection: Collection, rows: Sequence[Row]) -> None:
        """A dataset's whole answer to what was wanted of it.

        Raises UsageError if it has another order than the datasets before it.
        """
        terms = sort_terms(query, collection)
        if self._terms is None:
            self._terms = address, terms
        elif self._terms[1] != terms:
            raise UsageError(
                f"{self._terms[0]} and {address} order {query.collection!r} by different paths",
                hint="say which order is meant: order by PATH",
            )
        place = self._waiting.pop(address)
        self._asked.add(address)
        if place < len(rows):
            key = sort_key(query, collection)
            keyed = [row._replace(position=key(row)) for row in rows]
            self._push(_Part(address, keyed, place, query == self.query or len(rows) < (query.limit or 0)))

    def leave_out(self, address: Address) -> None:
        """A dataset that gives no rows."""
        del self._waiting[address]

    def rows(self) -> Iterator[tuple[Address, Row]]:
        """The rows that are known to be next, each with the dataset that has it."""
        while self._next and not self._waiting and not self.is_over:
            _, _, part = heappop(self._next)
            row = part.rows[part.place]
            part.place += 1
            if part.place < len(part.rows):
                self._push(part)
            elif not part.is_all:
                self._waiting[part.address] = part.place
            self._given += 1
            yield part.address, row

    def projected(self, row: Row) -> Row:
        """What the query selects of a row, which has a whole record."""
        return row if self._project is None else row._replace(record=self._project(row.record))

    def _push(self, part: _Part) -> None:
        heappush(self._next, (part.rows[part.place].position, str(part.address), part))
