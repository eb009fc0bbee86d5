"""query/1, the second half: the walk that a plan is, cursors, and the checks of the vectors."""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, NamedTuple

from .dag import Cid, Value, as_bool, as_bytes, as_link, as_list, decode, encode
from .errors import Mismatch, Refused
from .harness import NOTE, Case, Groups, Vectors, each, expect, expect_values, given, none
from .keys import Range
from .manifest import Collection, Dataset, Index, Record, index_keys, load_dataset, primary_key, read_record
from .query import (
    Candidate,
    Plan,
    Query,
    candidates,
    collection_of,
    find_candidate,
    meets_condition,
    primary_value,
    read_plan,
    read_query,
    sort_key,
)
from .tree import Entry, Source, Store, Tree, walk_count, walk_entries

BATCH: Final = 64

# --- The walk of a plan ------------------------------------------------------------------------------------


class Row(NamedTuple):
    """A record that was found, and the key of the entry by which it was."""

    entry: bytes
    record: Record


class Walk:
    """The walk of a plan. What it has found stays, if its source ends it early."""

    def __init__(
        self, query: Query, collection: Collection, candidate: Candidate, after: bytes | None, left: int | None
    ) -> None:
        self.query = query
        self.collection = collection
        self.candidate = candidate
        self.position = after
        self.rows: list[Row] = []
        self.counted: int | None = None  # what "the count of a range" gave, if that was the walk
        self._left = left if candidate.ordered and not query.count else None
        self._seen: set[bytes] = set()
        self._index = collection.indexes.get(candidate.plan.index)

    @property
    def tree(self) -> Tree:
        """The tree that is read."""
        return self._index.tree if self._index else self.collection.primary

    def run(self, source: Source) -> None:
        """Walk to the end, unless the source raises something."""
        if self.query.count and not self.candidate.repeats and not self.candidate.residual:
            self.counted = walk_count(source, self.tree, self.candidate.plan.range)
        elif self._left != 0:
            self._run_entries(source)

    def _run_entries(self, source: Source) -> None:
        for entries in walk_entries(source, self.tree, self._range_left(), self.candidate.plan.reverse):
            at = 0
            while at < len(entries):
                batch = entries[at : at + self._batch_size()]
                at += len(batch)
                self._take_batch(source, batch)
                if self._left == 0:
                    return

    def _range_left(self) -> Range:
        """The plan's range behind the position: of the keys that are greater, or backwards of those that are less."""
        wanted = self.candidate.plan.range
        if self.position is None:
            return wanted
        if not self.candidate.plan.reverse:
            return Range(max(wanted.low, self.position + b"\x00"), wanted.high)
        return Range(wanted.low, self.position if wanted.high is None else min(wanted.high, self.position))

    def _batch_size(self) -> int:
        return BATCH if self._left is None or self.candidate.residual else min(BATCH, self._left)

    def _take_batch(self, source: Source, batch: Sequence[Entry]) -> None:
        records = self._over_index(source, batch, self._index) if self._index else self._over_primary(source, batch)
        for entry, record in zip(batch, records, strict=True):
            if not all(meets_condition(record, one) for one in self.candidate.residual):
                continue
            if self.candidate.repeats:
                own = primary_key(record, self.collection.key)
                if own in self._seen:
                    continue
                self._seen.add(own)
            self.rows.append(Row(entry.key, record))
            if self._left is not None:
                self._left -= 1
                if self._left == 0:
                    self.position = entry.key
                    return
        self.position = batch[-1].key

    def _over_index(self, source: Source, batch: Sequence[Entry], index: Index) -> list[Record]:
        digests = [as_bytes(_no_link(entry), "digest of a record", 32, 32) for entry in batch]
        records = [read_record(data) for data in source.need(digests)]
        for entry, record in zip(batch, records, strict=True):
            # That the entry's key ends with the record's primary key is a part of this.
            if entry.key not in index_keys(record, self.collection.key, index.paths):
                raise Refused("an index's entry that its record does not give")
        return records

    def _over_primary(self, source: Source, batch: Sequence[Entry]) -> list[Record]:
        linked = iter(source.need([entry.content.digest for entry in batch if isinstance(entry.content, Cid)]))
        records: list[Record] = []
        for entry in batch:
            record = read_record(next(linked) if isinstance(entry.content, Cid) else entry.content)
            if primary_key(record, self.collection.key) != entry.key:
                raise Refused("a record under another primary key than its own")
            records.append(record)
        return records

    def count(self) -> int:
        """What the answer to a count is."""
        return len(self.rows) if self.counted is None else self.counted

    def answer(self) -> list[Row]:
        """The rows of an answer that is complete: those of a candidate that is not ordered are sorted now."""
        if self.candidate.ordered:
            return self.rows
        return sorted(self.rows, key=self.sort_key)[: self.query.limit]

    def sort_key(self, row: Row) -> bytes:
        """By what a row is sorted."""
        return sort_key(row.record, self.query.terms(self.collection))


def _no_link(entry: Entry) -> bytes:
    if isinstance(entry.content, Cid):
        raise Refused("a link in an index")
    return entry.content


# --- Cursors -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cursor:
    """Where the rows of an answer end."""

    query: bytes
    manifest: Cid
    plan: Plan
    ordered: bool
    position: bytes

    def __str__(self) -> str:
        value = [self.query, self.manifest, self.plan.to_value(), self.ordered, self.position]
        return base64.urlsafe_b64encode(encode(value)).decode("ascii").rstrip("=")


def read_cursor(text: str) -> Cursor:
    """The cursor that a text is."""
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError as error:
        raise Refused("a cursor that is not base64url") from error
    query, manifest, plan, ordered, position = as_list(decode(data), "cursor", 5, 5)
    cursor = Cursor(
        as_bytes(query, "query", 16, 16),
        as_link(manifest, "manifest"),
        read_plan(plan),
        as_bool(ordered, "ordered"),
        as_bytes(position, "position"),
    )
    if str(cursor) != text:
        raise Refused("a cursor that is written otherwise")
    return cursor


def cursor_behind(walk: Walk, row: Row, manifest: Cid) -> Cursor:
    """The cursor of an answer whose last row this is."""
    position = row.entry if walk.candidate.ordered else walk.sort_key(row)
    return Cursor(walk.query.digest[:16], manifest, walk.candidate.plan, walk.candidate.ordered, position)


# --- Vectors -----------------------------------------------------------------------------------------------


def _read_shown_query(case: Case, name: str) -> Query:
    value = case.value(name)
    query = read_query(encode(value))
    expect_values("query", query.to_value(), value)
    return query


def _check_query(_: Vectors, case: Case) -> None:
    expect("digest", _read_shown_query(case, "query").digest, case.hex("digest"))


def _check_not_query(_: Vectors, case: Case) -> None:
    read_query(case.hex("data"))


def _check_plans(vectors: Vectors, case: Case) -> None:
    dataset = load_dataset(vectors)
    query = _read_shown_query(case, "query")
    collection = collection_of(query, dataset.manifest)
    found = candidates(query, dataset.manifest)
    shown = list(case.items("candidates"))
    expect("candidates", len(found), len(shown))
    for candidate, item in zip(found, shown, strict=True):
        plan = Plan(item.text("index"), Range(item.hex("low"), item.hex_or_null("high")), item.flag("reverse"))
        expect("plan", candidate.plan, plan)
        expect(f"{plan}: ordered", candidate.ordered, item.flag("ordered"))
        expect(f"{plan}: repeats", candidate.repeats, item.flag("repeats"))
        expect(f"{plan}: residual", len(candidate.residual), item.integer("residual"))
    met = _met(dataset, query, collection)
    values: list[Value] = [primary_value(record, collection) for record in met]
    expect_values("records that meet the condition", values, case.value("met"))
    for candidate in found:
        _check_finds(dataset, query, collection, candidate, met)


def _met(dataset: Dataset, query: Query, collection: Collection) -> list[Record]:
    """The records that meet a query's condition, by their primary keys."""
    met = [record for record in dataset.records if meets_condition(record, query.condition)]
    return sorted(met, key=lambda record: primary_key(record, collection.key))


def _check_finds(
    dataset: Dataset, query: Query, collection: Collection, candidate: Candidate, met: Sequence[Record]
) -> None:
    """Whatever the plan, what its walk finds are the records that meet the condition; in order, if it says so."""
    walk = Walk(query, collection, candidate, None, None)
    walk.run(Store(dataset.store))
    expect(f"{candidate.plan}: count", walk.count(), len(met))
    if walk.counted is None:
        found = [encode(row.record) for row in walk.rows]
        expect(f"{candidate.plan}: rows", sorted(found), sorted(encode(record) for record in met))
    if candidate.ordered:
        keys = [walk.sort_key(row) for row in walk.rows]
        expect(f"{candidate.plan}: rows in order", sorted(keys), keys)


@cache
def _shown_query(vectors: Vectors, position: int) -> Query:
    cases = list(vectors.group("query", "queries").items())
    if not 0 <= position < len(cases):
        raise Mismatch(f"no query {position}")
    return _read_shown_query(cases[position], "query")


def _check_walk(vectors: Vectors, case: Case) -> None:
    dataset = load_dataset(vectors)
    query = _shown_query(vectors, case.integer("query"))
    collection = collection_of(query, dataset.manifest)
    candidate = find_candidate(query, dataset.manifest, read_plan(case.value("plan")))
    walk = Walk(query, collection, candidate, case.hex_or_null("after"), case.integer_or_null("left"))
    source = Store(dataset.store)
    walk.run(source)
    expect("blocks", [digest[:4] for digest in source.digests], case.hexes("blocks"))
    rows: list[Value] = [primary_value(row.record, collection) for row in walk.rows]
    expect_values("rows", rows, case.value("rows"))
    # Shown of a walk that is "the count of a range" only: that of another count is the number of its rows.
    expect("counted", walk.counted, case.integer_or_null("counted"))
    expect("position", walk.position, case.hex_or_null("position"))


def _check_cursor(vectors: Vectors, case: Case) -> None:
    dataset = load_dataset(vectors)
    query = _read_shown_query(case, "query")
    collection = collection_of(query, dataset.manifest)
    candidate = find_candidate(query, dataset.manifest, read_plan(case.value("plan")))
    walk = Walk(query, collection, candidate, None, query.limit)
    walk.run(Store(dataset.store))
    rows = walk.answer()
    expect_values("last row", primary_value(rows[-1].record, collection), case.value("last"))
    cursor = cursor_behind(walk, rows[-1], dataset.cid)
    text = case.text("cursor")
    expect("cursor", str(cursor), text)
    expect("cursor that was read", read_cursor(text), cursor)
    _check_next_page(dataset, walk, cursor)


def _check_next_page(dataset: Dataset, walk: Walk, cursor: Cursor) -> None:
    """The page behind the cursor goes on where the page before it ends."""
    pages = [*walk.answer(), *_next_page(dataset, walk, cursor)]
    met = _met(dataset, walk.query, walk.collection)
    met.sort(key=lambda record: walk.sort_key(Row(b"", record)))
    expect("two pages", [row.record for row in pages], met[: len(pages)])
    expect("length of two pages", len(pages), min(len(met), 2 * (walk.query.limit or len(met))))


def _next_page(dataset: Dataset, walk: Walk, cursor: Cursor) -> Iterator[Row]:
    with given("the next page"):
        after = cursor.position if cursor.ordered else None
        later = Walk(walk.query, walk.collection, walk.candidate, after, walk.query.limit)
        later.run(Store(dataset.store))
    rows = later.rows
    if not cursor.ordered:
        rows = sorted((row for row in rows if later.sort_key(row) > cursor.position), key=later.sort_key)
    yield from rows[: walk.query.limit]


GROUPS: Final[Groups] = {
    "dataset": NOTE,
    "queries": each(_check_query),
    "not_queries": none(_check_not_query),
    "plans": each(_check_plans),
    "blocks": NOTE,
    "walks": each(_check_walk),
    "cursors": each(_check_cursor),
}
