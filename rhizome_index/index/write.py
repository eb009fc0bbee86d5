"""Apply puts and deletes to a collection and all its indexes; add an index to what is there.

All of it is walks over the old trees that hand new blocks to a sink. Work is
sorted first and then done in the order of keys, so that each tree is passed over
once however many records there are. Sorting is injected: in memory here, over
the disk where there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import islice
from operator import itemgetter
from typing import Any, Protocol, TypeVar

from rhizome_index.blocks import cbor
from rhizome_index.blocks.cid import cid_of, digest_of
from rhizome_index.errors import UsageError
from rhizome_index.index.record import Record, decode_record
from rhizome_index.index.schema import Collection, EntryMaker, Index, SortPath, check_name, check_paths, entry_maker
from rhizome_index.limits import INDEXES_MAX, INLINE_VALUE_BYTES_MAX
from rhizome_index.tree.boundary import Rule
from rhizome_index.tree.build import Sink, build
from rhizome_index.tree.cursor import Cursor, get_many
from rhizome_index.tree.edit import edit
from rhizome_index.tree.node import Tree, Value
from rhizome_index.tree.walk import NeedNodes

T = TypeVar("T")

_BATCH = 8192  # changes applied at once: enough to share windows, little enough to bound memory


@dataclass(frozen=True, slots=True)
class NeedRecords:
    """The bytes of these records, please, in this order.

    Each is named by its digest. `keys` and `primary` say where it can be found too: at these primary
    keys of that tree. What is sent back has been checked against the digests.
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
    makers = [entry_maker(index.name, index.paths, collection.key) for index in _indexes(collection)]
    sorters = [new_sorter() for _ in makers]
    lists = [list(index.lists) for index in _indexes(collection)]
    if collection.primary.count:
        primary = yield from _edit_primary(rule, collection.primary, changes, sink, makers, sorters, lists)
    else:
        entries = _primary_entries(changes, sink, makers, sorters, lists)
        primary = build(rule, entries, sink)
    indexes = collection.indexes
    for index, sorter, counts in zip(_indexes(collection), sorters, lists, strict=True):
        if index.tree.count:
            tree = yield from _edit_index(rule, index.tree, sorter, sink)
        else:
            tree = build(rule, ((key, value) for key, value in _last_of_each(sorter.sorted()) if value), sink)
        indexes = indexes.set(index.name, replace(index, tree=tree, lists=tuple(counts)))
    return replace(collection, primary=primary, indexes=indexes)


def add_index(
    rule: Rule,
    collection: Collection,
    name: str,
    paths: Sequence[SortPath],
    sink: Sink,
    new_sorter: Callable[[], Sorter] = MemorySorter,
) -> RecordWalk[Collection]:
    """The collection with one more index, filled from the records that are there. Raises UsageError."""
    check_name(name, "an index")
    check_paths(paths)
    if name in collection.indexes:
        raise UsageError(f"the collection {collection.name!r} has an index {name!r} already", hint="drop it first")
    if len(collection.indexes) >= INDEXES_MAX:
        raise UsageError(f"a collection has at most {INDEXES_MAX} indexes")
    tree, lists = yield from derive_index(rule, collection, name, paths, sink, new_sorter)
    return replace(collection, indexes=collection.indexes.set(name, Index(name, tuple(paths), tree, lists)))


def derive_index(
    rule: Rule,
    collection: Collection,
    name: str,
    paths: Sequence[SortPath],
    sink: Sink,
    new_sorter: Callable[[], Sorter] = MemorySorter,
) -> RecordWalk[tuple[Tree, tuple[int, ...]]]:
    """An index's tree and counts of lists, from the primary alone: the pure function that makes roots decidable."""
    maker = entry_maker(name, paths, collection.key)
    sorter = new_sorter()
    lists = [0] * len(paths)
    cursor = Cursor(collection.primary)
    while (found := (yield from cursor.next_entries())) is not None:
        keys, values = found
        for data in (yield from _record_bytes(collection.primary, keys, values)):
            _note_entries(decode_record(data), sha256(data).digest(), maker, sorter, lists, +1)
    return build(rule, sorter.sorted(), sink), tuple(lists)


def _indexes(collection: Collection) -> list[Index]:
    return [collection.indexes[name] for name in sorted(collection.indexes)]


def _primary_entries(
    changes: Iterable[Change],
    sink: Sink,
    makers: Sequence[EntryMaker],
    sorters: Sequence[Sorter],
    lists: Sequence[list[int]],
) -> Iterator[tuple[bytes, Value]]:
    """The entries of a new primary tree, noting index entries on the way."""
    for key, data in changes:
        if data is None:
            continue
        _note_record(data, makers, sorters, lists, +1)
        yield key, _as_value(data, sink)


def _edit_primary(
    rule: Rule,
    tree: Tree,
    changes: Iterable[Change],
    sink: Sink,
    makers: Sequence[EntryMaker],
    sorters: Sequence[Sorter],
    lists: Sequence[list[int]],
) -> RecordWalk[Tree]:
    stream = iter(changes)
    start = tree
    while batch := list(islice(stream, _BATCH)):
        keys = [key for key, _ in batch]
        # Keys only rise, so what stands at them has not been touched by earlier batches.
        values = yield from get_many(start, keys)
        held = [(key, value) for key, value in zip(keys, values, strict=True) if value is not None]
        old = yield from _record_bytes(start, [key for key, _ in held], [value for _, value in held])
        for data in old:
            _note_record(data, makers, sorters, lists, -1)
        for _, new in batch:
            if new is not None:
                _note_record(new, makers, sorters, lists, +1)
        edits = [(key, None if new is None else _as_value(new, sink)) for key, new in batch]
        tree = yield from edit(tree, rule, edits, sink)
    return tree


def _edit_index(rule: Rule, tree: Tree, sorter: Sorter, sink: Sink) -> RecordWalk[Tree]:
    stream = _last_of_each(sorter.sorted())
    while batch := list(islice(stream, _BATCH)):
        tree = yield from edit(tree, rule, [(key, value or None) for key, value in batch], sink)
    return tree


def _record_bytes(primary: Tree, keys: Sequence[bytes], values: Sequence[Value]) -> RecordWalk[list[bytes]]:
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


def _note_record(
    data: bytes, makers: Sequence[EntryMaker], sorters: Sequence[Sorter], lists: Sequence[list[int]], sign: int
) -> None:
    if not makers:
        return
    record = decode_record(data)
    digest = sha256(data).digest()
    for maker, sorter, counts in zip(makers, sorters, lists, strict=True):
        _note_entries(record, digest, maker, sorter, counts, sign)


def _note_entries(
    record: Record, digest: bytes, maker: EntryMaker, sorter: Sorter, lists: list[int], sign: int
) -> None:
    keys, list_at = maker(record)
    if list_at >= 0:
        lists[list_at] += sign
    value = digest if sign > 0 else _DELETE
    sorter.add_many([(key, value) for key in keys])


def _last_of_each(pairs: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """Of pairs with equal keys, which stand together, the last: what was put outlasts what was deleted before it."""
    held: tuple[bytes, bytes] | None = None
    for pair in pairs:
        if held is not None and pair[0] != held[0]:
            yield held
        held = pair
    if held is not None:
        yield held
