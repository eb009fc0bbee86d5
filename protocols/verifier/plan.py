"""query/1, the second half: the walk that a plan is, cursors, and the checks of the vectors."""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, NamedTuple, TypeAlias

from .conditions import meets_condition
from .dag import Cid, Value, as_bool, as_bytes, as_link, as_list, decode, encode
from .errors import Mismatch, Refused
from .groups import walk_groups
from .harness import NOTE, Case, Groups, Vectors, each, expect, expect_values, given, none
from .keys import Range, component, component_end, inverted, read_key
from .manifest import Collection, Dataset, index_entries, load_dataset
from .query import (
    Access,
    Candidate,
    Plan,
    Query,
    Several,
    candidates,
    collection_of,
    find_candidate,
    read_plan,
    read_query,
    sort_key,
)
from .records import Record, primary_key, projection, read_record, values_at
from .several import BATCH, Found, Part, Place, range_behind, walk_several
from .tree import Lacking, Source, Store, Tree, walk_count, walk_entries

# --- The walk of a plan ------------------------------------------------------------------------------------


class Row(NamedTuple):
    """A record that was found (or what an index includes of it), its primary key, and where its entry stands."""

    entry: bytes
    record: Record
    key: bytes


Keyed: TypeAlias = tuple[bytes, Record]


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
        self.counted: int | None = None  # of a count that needs no records: of a range, or of several access paths
        self.groups: dict[bytes, int] = {}
        self._left = left if candidate.ordered and query.wanted == "select" else None
        self._seen: set[bytes] = set()
        self._parts = [Part(path, self._tree(path.access)) for path in candidate.paths]
        self._over_indexes = bool(candidate.paths[0].access.index)

    def _tree(self, access: Access) -> Tree:
        return self.collection.indexes[access.index].tree if access.index else self.collection.primary

    def run(self, source: Source) -> None:
        """Walk to the end, unless the source raises something."""
        if self.candidate.grouped:
            self._run_groups(source)
            return
        if self.query.count and not self.candidate.repeats and not self.candidate.residual:
            if isinstance(self.candidate.plan, Access):
                self.counted = walk_count(source, self._parts[0].tree, self.candidate.plan.range)
                return
            self.counted = 0
        if self._left != 0:
            self._run_entries(source)

    def _run_groups(self, source: Source) -> None:
        part = self._parts[0]
        wanted = range_behind(part.path.access.range, self.position, False)
        for position, counts in walk_groups(source, part.tree, wanted, len(part.path.beginning)):
            for one, count in counts.items():
                own = inverted(one) if one[0] & 0x80 else one
                self.groups[own] = self.groups.get(own, 0) + count
            self.position = position or self.position

    def _run_entries(self, source: Source) -> None:
        for found in self._found(source):
            at = 0
            while at < len(found):
                batch = found[at : at + self._batch_size()]
                at += len(batch)
                if self.counted is None:
                    self._take_batch(source, batch)
                else:
                    self.counted += len(batch)
                    self.position = batch[-1].position
                if self._left == 0:
                    return

    def _found(self, source: Source) -> Iterator[Sequence[Found]]:
        """The entries behind the position, as they come: leaf by leaf, or of several access paths in batches."""
        plan, reverse = self.candidate.plan, self.candidate.reverse
        if isinstance(plan, Several):
            yield from walk_several(source, plan.kind, self._parts, self.position, reverse)
            return
        path, tree = self._parts[0]
        wanted = range_behind(plan.range, self.position, reverse)
        for entries in walk_entries(source, tree, wanted, reverse):
            yield [Found(entry.key, [Place(path, entry)], entry) for entry in entries]

    def _batch_size(self) -> int:
        return BATCH if self._left is None or self.candidate.residual else min(BATCH, self._left)

    def _take_batch(self, source: Source, batch: Sequence[Found]) -> None:
        records: list[Keyed] = []
        try:
            for found in batch:
                records.append(self._included(found) if self.candidate.covered else self._record(source, found))
        except Lacking:
            # An answer that ends within a batch has cut it, before the first entry whose record has not come.
            self._take(batch[: len(records)], records)
            raise
        self._take(batch, records)

    def _take(self, batch: Sequence[Found], records: Sequence[Keyed]) -> None:
        for found, (own, record) in zip(batch, records, strict=True):
            if not all(meets_condition(record, one) for one in self.candidate.residual):
                continue
            if self.candidate.repeats:
                if own in self._seen:
                    continue
                self._seen.add(own)
            self.rows.append(Row(found.position, record, own))
            if self._left is not None:
                self._left -= 1
                if self._left == 0:
                    self.position = found.position
                    return
        if batch:
            self.position = batch[-1].position

    def _record(self, source: Source, found: Found) -> Keyed:
        """The record that an entry names, checked, and its primary key."""
        content = found.named_by.content
        if not self._over_indexes:
            record = read_record(source.need([content.digest])[0] if isinstance(content, Cid) else content)
            own = primary_key(record, self.collection.key)
            if own != found.named_by.key:
                raise Refused("a record under another primary key than its own")
            return own, record
        digest = _digest_of(found)
        record = read_record(source.need([digest])[0])
        for path, entry in found.places:
            index = self.collection.indexes[path.access.index]
            # That the entry's key ends with the record's primary key is a part of this.
            if entry not in index_entries(record, self.collection.key, index):
                raise Refused("an index's entry that its record does not give")
        return primary_key(record, self.collection.key), record

    def _included(self, found: Found) -> Keyed:
        """What stands for the record of an entry, and the primary key at the end of the entry's key."""
        _digest_of(found)
        path, entry = found.places[0]
        index = self.collection.indexes[path.access.index]
        record = read_record(as_bytes(entry.content, "entry", 32)[32:])
        if projection(record, index.include) != record:
            raise Refused("an index that includes what it does not say")
        key = entry.key
        for _ in index.paths:
            key = key[component_end(key, 0) :]
        return inverted(key) if index.paths[-1].descending else key, record

    def count(self) -> int:
        """What the answer to a count is."""
        return len(self.rows) if self.counted is None else self.counted

    def grouped_values(self) -> list[Value]:
        """What the answer to a grouped query is."""
        found = dict(self.groups)
        for row in self.rows:
            for own in {component(value) for value in values_at(row.record, self.query.paths[0]).values}:
                found[own] = found.get(own, 0) + 1
        by_count = self.query.wanted == "count by"
        ordered = sorted(found.items(), key=lambda pair: (-pair[1] if by_count else 0, pair[0]))
        values = [(_given(own), count) for own, count in ordered[: self.query.limit]]
        return [{"value": value, "count": count} if by_count else {"value": value} for value, count in values]

    def answer(self) -> list[Row]:
        """The rows of an answer that is complete: those of a candidate that is not ordered are sorted now."""
        if self.candidate.ordered:
            return self.rows
        return sorted(self.rows, key=self.sort_key)[: self.query.limit]

    def sort_key(self, row: Row) -> bytes:
        """By what a row is sorted."""
        return sort_key(row.record, self.query.terms(self.collection))


def _digest_of(found: Found) -> bytes:
    """The digest with which the values of an entry begin, wherever it stands."""
    contents = [place.entry.content for place in found.places]
    if any(isinstance(content, Cid) for content in contents):
        raise Refused("a link in an index")
    digests = {as_bytes(content, "entry", 32)[:32] for content in contents}  # type: ignore[arg-type]
    if len(digests) != 1:
        raise Refused("entries of one record that name different ones")
    return digests.pop()


def _given(own: bytes) -> Value:
    """A component's value, as an integer where it is a whole number that one can hold."""
    ((value, _),) = read_key(own)
    if isinstance(value, float) and value == int(value) and -(2**63) <= value < 2**63:
        return int(value)
    return value


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
        plan = Access(item.text("index"), Range(item.hex("low"), item.hex_or_null("high")), item.flag("reverse"))
        expect("plan", candidate.plan, plan)
        expect(f"{plan}: ordered", candidate.ordered, item.flag("ordered"))
        expect(f"{plan}: repeats", candidate.repeats, item.flag("repeats"))
        expect(f"{plan}: covered", candidate.covered, item.flag("covered"))
        expect(f"{plan}: grouped", candidate.grouped, item.flag("grouped"))
        expect(f"{plan}: residual", len(candidate.residual), item.integer("residual"))
    met = _met(dataset, query, collection)
    values: list[Value] = [values_at(record, collection.key).values[0] for record in met]
    expect_values("records that meet the condition", values, case.value("met"))
    for candidate in found:
        _check_finds(dataset, query, collection, candidate, met)
        if not query.count:
            expect_values(
                f"{candidate.plan}: answer", _answer(dataset, query, collection, candidate), case.value("answer")
            )
    expect("whether there is an answer", query.count, case.part("answer").is_null())


def _answer(dataset: Dataset, query: Query, collection: Collection, candidate: Candidate) -> Value:
    """The rows of a whole answer."""
    walk = Walk(query, collection, candidate, None, query.limit)
    walk.run(Store(dataset.store))
    if query.grouped:
        return walk.grouped_values()
    return [projection(row.record, query.paths) if query.paths else row.record for row in walk.answer()]


def _met(dataset: Dataset, query: Query, collection: Collection) -> list[Record]:
    """The records that meet a query's condition, by their primary keys."""
    collection = collection_of(query, dataset.manifest)
    condition = query.settled(collection).condition
    met = [record for record in dataset.records if meets_condition(record, condition)]
    return sorted(met, key=lambda record: primary_key(record, collection.key))


def _check_finds(
    dataset: Dataset, query: Query, collection: Collection, candidate: Candidate, met: Sequence[Record]
) -> None:
    """Whatever the plan, what its walk finds are the records that meet the condition; in order, if it says so."""
    walk = Walk(query, collection, candidate, None, None)
    walk.run(Store(dataset.store))
    if candidate.grouped:
        return
    if query.grouped and candidate.repeats:  # who has an empty list is in no group
        met = [record for record in met if values_at(record, query.paths[0]).values]
    expect(f"{candidate.plan}: count", walk.count(), len(met))
    if walk.counted is None:
        keys = sorted(primary_key(record, collection.key) for record in met)
        expect(f"{candidate.plan}: rows", sorted(row.key for row in walk.rows), keys)
    if candidate.ordered and not candidate.covered:
        keys = [walk.sort_key(row) for row in walk.rows]
        expect(f"{candidate.plan}: rows in order", sorted(keys), keys)


@cache
def _shown_query(vectors: Vectors, position: int) -> Query:
    cases = list(vectors.group("query", "queries").items())
    if not 0 <= position < len(cases):
        raise Mismatch(f"no query {position}")
    return _read_shown_query(cases[position], "query")


def _check_walk(vectors: Vectors, case: Case) -> None:
    _check_shown_walk(load_dataset(vectors), _shown_query(vectors, case.integer("query")), case)


def _check_shown_walk(dataset: Dataset, query: Query, case: Case) -> None:
    collection = collection_of(query, dataset.manifest)
    candidate = find_candidate(query, dataset.manifest, read_plan(case.value("plan")))
    walk = Walk(query, collection, candidate, case.hex_or_null("after"), case.integer_or_null("left"))
    source = Store(dataset.store)
    walk.run(source)
    expect("blocks", [digest[:4] for digest in source.digests], case.hexes("blocks"))
    expect("rows", [row.key for row in walk.rows], case.hexes("rows"))
    if candidate.grouped:
        shown = {one.as_hex(): count.as_integer() for one, count in map(Case.items, case.items("groups"))}
        expect("groups", walk.groups, shown)
    else:
        expect("groups", None, case.part("groups").json)
    # Shown of a count that needs no records only: that of another count is the number of its rows.
    expect("counted", walk.counted, case.integer_or_null("counted"))
    expect("position", walk.position, case.hex_or_null("position"))


def _check_combined(vectors: Vectors, case: Case) -> None:
    dataset = load_dataset(vectors)
    query = _read_shown_query(case, "query")
    value = case.value("plan")
    plan = read_plan(value)
    expect_values("plan", plan.to_value(), value)
    candidate = find_candidate(query, dataset.manifest, plan)
    expect("ordered", candidate.ordered, case.flag("ordered"))
    expect("reverse", candidate.reverse, case.flag("reverse"))
    expect("repeats", candidate.repeats, False)
    expect("covered", candidate.covered, case.flag("covered"))
    expect("residual", len(candidate.residual), case.integer("residual"))
    collection = collection_of(query, dataset.manifest)
    _check_finds(dataset, query, collection, candidate, _met(dataset, query, collection))
    _check_resumed(dataset, query, collection, candidate)
    walks = list(case.items("walks"))
    expect("whether there are walks", bool(walks), True)
    for walk in walks:
        expect_values("plan of the walk", walk.value("plan"), value)
        _check_shown_walk(dataset, query, walk)


def _check_resumed(dataset: Dataset, query: Query, collection: Collection, candidate: Candidate) -> None:
    """A walk resumed behind a position that another one has reached finds the rest."""
    found = Walk(query, collection, candidate, None, None)
    found.run(Store(dataset.store))
    positions = [row.entry for row in found.rows]
    for at, position in enumerate(positions):
        later = Walk(query, collection, candidate, position, None)
        later.run(Store(dataset.store))
        expect(f"rows behind {position.hex()}", [row.entry for row in later.rows], positions[at + 1 :])
        if candidate.ordered and query.wanted == "select":
            until = Walk(query, collection, candidate, None, at + 1)
            until.run(Store(dataset.store))
            expect(f"rows up to {position.hex()}", [row.entry for row in until.rows], positions[: at + 1])
            expect("where they end", until.position, position)


def _check_not_plan(vectors: Vectors, case: Case) -> None:
    with given("the query"):
        query = _read_shown_query(case, "query")
        manifest = load_dataset(vectors).manifest
        collection_of(query, manifest)
        value = case.value("plan")
    find_candidate(query, manifest, read_plan(value))


def _check_cursor(vectors: Vectors, case: Case) -> None:
    dataset = load_dataset(vectors)
    query = _read_shown_query(case, "query")
    collection = collection_of(query, dataset.manifest)
    candidate = find_candidate(query, dataset.manifest, read_plan(case.value("plan")))
    walk = Walk(query, collection, candidate, None, query.limit)
    walk.run(Store(dataset.store))
    rows = walk.answer()
    expect("last row", rows[-1].key, case.hex("last"))
    cursor = cursor_behind(walk, rows[-1], dataset.cid)
    text = case.text("cursor")
    expect("cursor", str(cursor), text)
    expect("cursor that was read", read_cursor(text), cursor)
    _check_next_page(dataset, walk, cursor)


def _check_next_page(dataset: Dataset, walk: Walk, cursor: Cursor) -> None:
    """The page behind the cursor goes on where the page before it ends."""
    pages = [*walk.answer(), *_next_page(dataset, walk, cursor)]
    met = _met(dataset, walk.query, walk.collection)
    met.sort(key=lambda record: walk.sort_key(Row(b"", record, b"")))
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
    "combined": each(_check_combined),
    "not_plans": none(_check_not_plan),
    "cursors": each(_check_cursor),
}
