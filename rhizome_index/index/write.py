"""Apply puts and deletes to a collection and all its indexes; add an index to what is there.

All of it is walks over the old trees that hand new blocks to a sink. Work is
sorted first and then done in the order of keys, so that each tree is passed over
once however many records there are. Sorting is injected: in memory here, over
the disk where there is one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import islice
from operator import itemgetter, lt
from typing import Any, Protocol, TypeVar

from pyrsistent import pmap

from rhizome_index.blocks import cbor
from rhizome_index.blocks.cid import Cid, cid_of, digest_of
from rhizome_index.errors import IntegrityError, RecordError, UsageError
from rhizome_index.index.entries import entry_maker
from rhizome_index.index.keys import INVERT, NULL, component_end, decode_key, successor
from rhizome_index.index.record import Path, Record, decode_record, parse_path
from rhizome_index.index.schema import Collection, Definition, Index, check_name, primary_key
from rhizome_index.limits import INDEXES_MAX, INLINE_VALUE_BYTES_MAX
from rhizome_index.tree.boundary import Rule
from rhizome_index.tree.build import LevelBuilder, Sink, building
from rhizome_index.tree.cursor import Cursor, Span, count, get_many
from rhizome_index.tree.edit import edit
from rhizome_index.tree.node import Tree, Value
from rhizome_index.tree.walk import NeedNodes, Walk

T = TypeVar("T")

_LEAVES_BATCH = 1024  # entries read at once: enough to share the costs of a batch
_BATCH = 8192  # changes applied at once: enough to share windows, little enough to bound memory


@dataclass(frozen=True, slots=True)
class NeedRecords:
    """The bytes of these records, please, in this order.

    Each is named by its digest. `keys` and `primary` say where it can be found too: at these primary
    keys of that tree. What is sent back has been checked against the digests. Whoever reads a proof that goes on
    elsewhere sends back only the first of them, and the walk ends with what it can make of those.
    """

    primary: Tree
    keys: tuple[bytes, ...]
    digests: tuple[bytes, ...]


Need = NeedNodes | NeedRecords
RecordWalk = Generator[Need, Sequence[Any], T]

Change = tuple[bytes, bytes | None]  # primary key, record bytes (None deletes)


class Sorter(Protocol):
    """Takes pairs in any order and gives them back by key; of equal keys, in the order they came."""

    def add_many(self, pairs: Iterable[tuple[bytes, bytes]]) -> None: ...

    def sorted(self) -> Iterator[tuple[bytes, bytes]]: ...


class MemorySorter:
    """A sorter for what fits in memory."""

    def __init__(self) -> None:
        self._pairs: list[tuple[bytes, bytes]] = []

    def add_many(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        self._pairs.extend(pairs)

    def sorted(self) -> Iterator[tuple[bytes, bytes]]:
        self._pairs.sort(key=itemgetter(0))
        return iter(self._pairs)


_DELETE = b""  # as an entry's value in a sorter: no digest is empty


def apply_changes(
    rule: Rule,
    collection: Collection,
    changes: Iterable[Change],
    sink: Sink,
    new_sorter: Callable[[], Sorter] = MemorySorter,
) -> RecordWalk[Collection]:
    """The collection with changes applied. They are sorted by primary key, each key once; records are checked."""
    deriving = _Deriving(_indexes(collection), new_sorter)
    is_new = not collection.primary.count
    if is_new:
        primary = yield from building(rule, _primary_entries(changes, sink, deriving), sink)
    else:
        primary = yield from _edit_primary(rule, collection.primary, changes, sink, deriving)
    indexes = collection.indexes
    for item in deriving.indexes:
        if is_new:
            tree = yield from building(rule, _only_once(item.index, item.entries()), sink)
        else:
            tree = yield from _edit_index(rule, item.index, item.entries(), sink)
        indexes = indexes.set(item.index.name, item.with_tree(tree))
    return replace(collection, primary=primary, indexes=indexes)


def add_index(
    rule: Rule,
    collection: Collection,
    name: str,
    definition: Definition,
    sink: Sink,
    new_sorter: Callable[[], Sorter] = MemorySorter,
) -> RecordWalk[Collection]:
    """The collection with one more index, filled from the records that are there. Raises UsageError."""
    check_name(name, "an index")
    if name in collection.indexes:
        raise UsageError(f"the collection {collection.name!r} has an index {name!r} already", hint="drop it first")
    if len(collection.indexes) >= INDEXES_MAX:
        raise UsageError(f"a collection has at most {INDEXES_MAX} indexes", hint="drop one that is not used")
    (index,) = yield from _derive(rule, collection, [Index.empty(name, definition)], sink, new_sorter)
    return replace(collection, indexes=collection.indexes.set(name, index))


def rebuild(
    rule: Rule, collection: Collection, sink: Sink, new_sorter: Callable[[], Sorter] = MemorySorter
) -> RecordWalk[Collection]:
    """The collection made anew from the entries of its primary: the same one, if its publisher was honest.

    This is the pure function that makes an index root decidable. The sink is given the indexes' blocks
    only: the primary's are there. Raises RecordError for a record that an index cannot hold, IntegrityError for
    what is no record that may stand there.
    """
    primary = LevelBuilder(rule, 0, _discard)
    empty = [Index.empty(index.name, index.definition) for index in _indexes(collection)]
    derived = yield from _derive(rule, collection, empty, sink, new_sorter, primary)
    indexes = pmap({index.name: index for index in derived})
    return replace(collection, primary=primary.finish(), indexes=indexes)


def _discard(cid: Cid, data: bytes) -> None:
    """A sink for blocks that are there already."""


def _derive(
    rule: Rule,
    collection: Collection,
    empty: Sequence[Index],
    sink: Sink,
    new_sorter: Callable[[], Sorter],
    primary: LevelBuilder | None = None,
) -> RecordWalk[list[Index]]:
    """Indexes filled from the primary's records, each checked; its entries go to a builder on the way, if any."""
    deriving = _Deriving(empty, new_sorter)
    path = parse_path(collection.key)
    cursor = Cursor(collection.primary)
    last: bytes | None = None
    while True:
        keys, values = yield from _next_batch(cursor)
        if not keys:
            break
        if primary is not None:
            _check_order(last, keys)
            last = keys[-1]
            primary.extend(keys, values, ())
        blocks = yield from record_bytes(collection.primary, keys, values)
        records = [_decode_at(*item, path) for item in zip(keys, values, blocks, strict=True)]
        deriving.note_records(keys, blocks, records, +1)
    found = []
    for item in deriving.indexes:
        found.append(item.with_tree((yield from building(rule, _only_once(item.index, item.entries()), sink))))
    return found


def _check_order(last: bytes | None, keys: Sequence[bytes]) -> None:
    """Raise IntegrityError unless keys increase, from one node of a tree to the next too."""
    if (last is not None and last >= keys[0]) or not all(map(lt, keys, keys[1:])):
        raise IntegrityError("a tree whose nodes overlap")


def _decode_at(key: bytes, value: Value, data: bytes, path: Path) -> Record:
    """The record that stands at a primary key. Raises IntegrityError, with that key, for one that must not."""
    try:
        record = decode_record(data)
        own_key = primary_key(record, path)
    except (IntegrityError, UsageError) as error:
        raise IntegrityError(f"a record that must not stand there: {error}", key=key) from None
    if own_key != key:
        raise IntegrityError("a record that stands at another primary key than its own", key=key)
    if type(value) is cbor.Link and len(data) <= INLINE_VALUE_BYTES_MAX:
        raise IntegrityError("a link to a record that must stand in the tree itself", key=key)
    return record


def _next_batch(cursor: Cursor) -> Walk[tuple[list[bytes], list[Value]]]:
    """The entries of some leaves; none at the end."""
    keys: list[bytes] = []
    values: list[Value] = []
    while len(keys) < _LEAVES_BATCH and (found := (yield from cursor.next_entries())) is not None:
        keys += found[0]
        values += found[1]
    return keys, values


class _Deriving:
    """The entries of indexes, gathered while records pass by."""

    def __init__(self, indexes: Sequence[Index], new_sorter: Callable[[], Sorter]) -> None:
        self._maker = entry_maker([(index.name, index.definition) for index in indexes])
        self.indexes = [_Gathered(index, new_sorter()) for index in indexes]

    def note_many(self, keys: Sequence[bytes], blocks: Sequence[bytes], sign: int) -> None:
        """Records come (+1) or go (-1). Their bytes have been checked before."""
        if self.indexes:
            self.note_records(keys, blocks, list(map(cbor.decode_own, blocks)), sign)

    def note_records(
        self, keys: Sequence[bytes], blocks: Sequence[bytes], records: Sequence[Record], sign: int
    ) -> None:
        """The same for records that have been decoded already."""
        maker, indexes = self._maker, self.indexes
        for key, data, record in zip(keys, blocks, records, strict=True):
            value = sha256(data).digest() if sign > 0 else _DELETE
            for index, (entries, list_at, included) in zip(indexes, maker(record, key), strict=True):
                if list_at >= 0:
                    index.lists[list_at] += sign
                own = value + included if included and sign > 0 else value
                index.waiting += [(entry, own) for entry in entries]
        for index in indexes:
            index.hand_over()


class _Gathered:
    """What has been gathered for one index.

    lists    for each path, how many records hold a list there
    waiting  entries on their way to the sorter
    """

    def __init__(self, index: Index, sorter: Sorter) -> None:
        self.index = index
        self.lists = list(index.lists)
        self.waiting: list[tuple[bytes, bytes]] = []
        self._sorter = sorter

    def hand_over(self) -> None:
        self._sorter.add_many(self.waiting)
        self.waiting.clear()

    def entries(self) -> Iterator[tuple[bytes, bytes]]:
        """Everything noted, by key."""
        return self._sorter.sorted()

    def with_tree(self, tree: Tree) -> Index:
        return replace(self.index, tree=tree, lists=tuple(self.lists))


def _indexes(collection: Collection) -> list[Index]:
    return [collection.indexes[name] for name in sorted(collection.indexes)]


def _primary_entries(changes: Iterable[Change], sink: Sink, deriving: _Deriving) -> Iterator[tuple[bytes, Value]]:
    """The entries of a new primary tree, noting index entries on the way."""
    stream = iter(changes)
    while batch := list(islice(stream, _BATCH)):
        puts = [(key, data) for key, data in batch if data is not None]
        deriving.note_many([key for key, _ in puts], [data for _, data in puts], +1)
        for key, data in puts:
            yield key, data if len(data) <= INLINE_VALUE_BYTES_MAX else _as_value(data, sink)


def _edit_primary(
    rule: Rule,
    tree: Tree,
    changes: Iterable[Change],
    sink: Sink,
    deriving: _Deriving,
) -> RecordWalk[Tree]:
    stream = iter(changes)
    start = tree
    while batch := list(islice(stream, _BATCH)):
        keys = [key for key, _ in batch]
        # Keys only rise, so what stands at them has not been touched by earlier batches.
        values = yield from get_many(start, keys)
        held = [(key, value) for key, value in zip(keys, values, strict=True) if value is not None]
        old = yield from record_bytes(start, [key for key, _ in held], [value for _, value in held])
        deriving.note_many([key for key, _ in held], old, -1)
        puts = [(key, new) for key, new in batch if new is not None]
        deriving.note_many([key for key, _ in puts], [new for _, new in puts], +1)
        edits = [(key, None if new is None else _as_value(new, sink)) for key, new in batch]
        tree = yield from edit(tree, rule, edits, sink)
    return tree


def _edit_index(rule: Rule, index: Index, entries: Iterable[tuple[bytes, bytes]], sink: Sink) -> RecordWalk[Tree]:
    stream = last_of_each(entries)
    tree = index.tree
    put: list[bytes] = []
    while batch := list(islice(stream, _BATCH)):
        tree = yield from edit(tree, rule, [(key, value or None) for key, value in batch], sink)
        if index.definition.unique:
            put += [key for key, value in batch if value]
            yield from _check_unique(index, tree, put[:-1])
            put = put[-1:]  # what stood beside the last one may be deleted by the next batch
    yield from _check_unique(index, tree, put)
    return tree


def _check_unique(index: Index, tree: Tree, keys: Iterable[bytes]) -> Walk[None]:
    """Raise RecordError if anything else in a unique index has the values of one of these keys."""
    for key in keys:
        values = unique_values(index, key)
        if values is not None and (yield from count(tree, Span(values, successor(values)))) > 1:
            raise _twice(index, key, values)


def _only_once(index: Index, entries: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """Sorted entries as they are. Raises RecordError where a unique index would have two of the same values."""
    if not index.definition.unique:
        yield from entries
        return
    last: bytes | None = None
    for key, value in entries:
        values = unique_values(index, key)
        if values is not None and values == last:
            raise _twice(index, key, values)
        last = values
        yield key, value


def unique_values(index: Index, key: bytes) -> bytes | None:
    """What stands in an entry's key before the primary key, in a unique index once; None if null is among it."""
    at = 0
    for _ in index.paths:
        if key[at] in _NULLS:
            return None
        at = component_end(key, at)
    return key[:at]


_NULLS = bytes([NULL, 255 - NULL])


def _twice(index: Index, key: bytes, values: bytes) -> RecordError:
    primary = key[len(values) :]
    shown = ", ".join(json.dumps(value, ensure_ascii=False, default=repr) for value in decode_key(values))
    return RecordError(
        f"the index {index.name!r} is unique, and two records have {shown} there",
        primary.translate(INVERT) if index.paths[-1].descending else primary,
        hint="change one of them, or leave that index out",
    )


def record_bytes(primary: Tree, keys: Sequence[bytes], values: Sequence[Value]) -> RecordWalk[list[bytes]]:
    """The bytes of records, given the primary's entries: most stand in them, the large ones are needed."""
    linked = [place for place, value in enumerate(values) if type(value) is cbor.Link]
    if not linked:
        return list(values)
    digests = tuple(digest_of(values[place]) for place in linked)
    found = yield NeedRecords(primary, tuple(keys[place] for place in linked), digests)
    data = list(values)
    for place, item in zip(linked, found, strict=True):
        data[place] = item
    return data


def _as_value(data: bytes, sink: Sink) -> Value:
    """A record as the value of its primary key: inline, or a link to a block of its own."""
    if len(data) <= INLINE_VALUE_BYTES_MAX:
        return data
    cid = cid_of(data)
    sink(cid, data)
    return cbor.Link(cid)


def last_of_each(pairs: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """Of pairs with equal keys, which stand together, the last: what was put outlasts what was deleted before it."""
    held: tuple[bytes, bytes] | None = None
    for pair in pairs:
        if held is not None and pair[0] != held[0]:
            yield held
        held = pair
    if held is not None:
        yield held
