"""Execute a candidate: a walk that yields what it needs and the rows it finds.

The same walk runs over a local store, on a peer that answers, and over the
proof that the peer sends; it knows of none of them. It reads entries in order
and asks for records a batch at a time, so that it can be driven block by block.
What it finds comes with a position: a walk begun behind that position finds the
rest.

An entry is believed only together with its record: the record must have the
entry's digest, belong at the entry's key, and meet the query's conditions. An
index that says otherwise contradicts its own publisher.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from typing import Any

from rhizome_index.blocks import cbor
from rhizome_index.blocks.cid import DIGEST_BYTES, digest_of
from rhizome_index.errors import IntegrityError, UsageError
from rhizome_index.index.entries import EntryMaker, entry_maker
from rhizome_index.index.keys import INVERT, component_end, encode_component
from rhizome_index.index.record import Path, Record, decode_record, parse_path, values_at
from rhizome_index.index.schema import Collection, primary_key
from rhizome_index.index.write import Need, NeedRecords
from rhizome_index.limits import ROWS_BATCH
from rhizome_index.query.expr import Query, compile_filter
from rhizome_index.query.plan import PRIMARY, Access, Candidate, sort_terms
from rhizome_index.tree.cursor import Cursor, Span, count
from rhizome_index.tree.node import Value


@dataclass(frozen=True, slots=True)
class Row:
    """One result. `position` is the key of the entry that gave it, `key` the encoded primary key."""

    position: bytes
    key: bytes
    record: Record


@dataclass(frozen=True, slots=True)
class Found:
    """What a walk has found since it last said so: maybe nothing, but always how far it has come."""

    rows: Sequence[Row]
    entries: int
    position: bytes


@dataclass(frozen=True, slots=True)
class Counted:
    """The result of a count that needed no entries."""

    count: int


Scan = Generator[Need | Found, Any, "Counted | None"]


def scan(query: Query, collection: Collection, candidate: Candidate, after: bytes | None, limit: int | None) -> Scan:
    """Walk a candidate's range, behind the position `after` if there is one, up to `limit` rows.

    The limit counts only where rows come in the query's order. Rows of a candidate that `repeats`
    may repeat records of earlier walks, never of the same one.
    """
    if query.count and candidate.counts_alone:
        return Counted((yield from count(candidate.tree, candidate.access.span)))
    if not candidate.ordered or query.count:
        limit = None
    if limit == 0:
        return None
    filter_ = compile_filter(query.where)
    cursor = Cursor(candidate.tree, _behind(candidate.access, after), reverse=candidate.access.reverse)
    read = _read_primary if candidate.access.index == PRIMARY else _entry_reader(collection, candidate)
    seen: set[bytes] = set()
    left = limit
    while (found := (yield from cursor.next_entries())) is not None:
        keys, values = found
        at = 0
        while at < len(keys):
            size = ROWS_BATCH if left is None or candidate.residual else min(left, ROWS_BATCH)
            part = slice(at, at + size)
            at += size
            records = yield from read(collection, keys[part], values[part])
            rows = []
            for position, key, record in records:
                if filter_(record):
                    if candidate.repeats and key in seen:
                        continue
                    seen.add(key) if candidate.repeats else None
                    rows.append(Row(position, key, record))
                elif not candidate.residual:
                    raise IntegrityError(f"the index {candidate.access.index!r} lists a record that does not belong")
            if left is not None:
                rows = rows[:left]
                left -= len(rows)
            yield Found(rows, len(records), rows[-1].position if left == 0 else records[-1][0])
            if left == 0:
                return None
    return None


Read = list[tuple[bytes, bytes, Record]]  # position, primary key, record
Reader = Callable[[Collection, Sequence[bytes], Sequence[Value]], Generator[Need, Any, Read]]


def _read_primary(collection: Collection, keys: Sequence[bytes], values: Sequence[Value]) -> Generator[Need, Any, Read]:
    """Records from the primary's own entries; large ones are linked from there."""
    linked = [place for place, value in enumerate(values) if type(value) is cbor.Link]
    data = list(values)
    if linked:
        digests = tuple(digest_of(values[place]) for place in linked)
        found = yield NeedRecords(collection.primary, tuple(keys[place] for place in linked), digests)
        for place, item in zip(linked, found, strict=True):
            data[place] = item
    path = parse_path(collection.key)
    read = []
    for key, item in zip(keys, data, strict=True):
        record = decode_record(item)
        _check_key(path, key, record)
        read.append((key, key, record))
    return read


def _entry_reader(collection: Collection, candidate: Candidate) -> Reader:
    """A reader of an index's entries and the records they name."""
    index = collection.indexes[candidate.access.index]
    maker = entry_maker([(index.name, index.paths)])
    path = parse_path(collection.key)
    descending = index.paths[-1].descending
    before_key = candidate.parts - 1

    def read(collection: Collection, keys: Sequence[bytes], values: Sequence[Value]) -> Generator[Need, Any, Read]:
        for value in values:
            if len(value) != DIGEST_BYTES or type(value) is cbor.Link:
                raise IntegrityError(f"the index {index.name!r} has an entry without a record's digest")
        primary_keys = []
        for key in keys:
            at = 0
            for _ in range(before_key):
                at = component_end(key, at)
            tail = key[at:]
            primary_keys.append(tail.translate(INVERT) if descending else tail)
        found = yield NeedRecords(collection.primary, tuple(primary_keys), tuple(values))
        read = []
        for position, key, data in zip(keys, primary_keys, found, strict=True):
            record = decode_record(data)
            _check_key(path, key, record)
            _check_entry(maker, index.name, position, key, record)
            read.append((position, key, record))
        return read

    return read


def _check_key(path: Path, key: bytes, record: Record) -> None:
    """Raise IntegrityError unless the record has this primary key."""
    try:
        own_key = primary_key(record, path)
    except UsageError as error:
        raise IntegrityError(f"a record that has {error}") from None
    if own_key != key:
        raise IntegrityError("a record that stands at another primary key than its own")


def _check_entry(maker: EntryMaker, name: str, position: bytes, key: bytes, record: Record) -> None:
    """Raise IntegrityError unless the record gives this entry."""
    try:
        ((given, _),) = maker(record, key)
    except UsageError as error:
        raise IntegrityError(f"the index {name!r} lists a record that it cannot hold: {error}") from None
    if position not in given:
        raise IntegrityError(f"the index {name!r} has an entry that its record does not give")


def _behind(access: Access, after: bytes | None) -> Span:
    if after is None:
        return access.span
    if access.reverse:
        return Span(access.low, after if access.high is None else min(access.high, after))
    return Span(max(access.low, after + b"\0"), access.high)


def sort_key(query: Query, collection: Collection) -> Callable[[Row], bytes]:
    """The bytes by which rows sort in the query's order."""
    terms = [(parse_path(term.path), term.descending) for term in sort_terms(query, collection)]

    def key(row: Row) -> bytes:
        parts = []
        for path, descending in terms:
            values, _ = values_at(row.record, path)
            components = [encode_component(value) for value in values] or [encode_component(None)]
            part = max(components) if descending else min(components)
            parts.append(part.translate(INVERT) if descending else part)
        return b"".join(parts)

    return key


def smallest(rows: Sequence[Row], key: Callable[[Row], bytes], limit: int | None) -> list[Row]:
    """The first rows in an order."""
    return sorted(rows, key=key) if limit is None else nsmallest(limit, rows, key=key)
