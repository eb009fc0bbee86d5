"""From entries to rows: the records that entries name, with everything checked.

An entry is believed only together with its record: the record must have the
entry's digest and give that very entry, and so it meets the conditions that the
entry's range stands for. An index that lists anything else contradicts its own
publisher.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache
from typing import Any, NamedTuple

from rhizome_index.blocks import cbor
from rhizome_index.blocks.cid import DIGEST_BYTES, digest_of
from rhizome_index.errors import IntegrityError, UsageError
from rhizome_index.index.entries import entry_maker
from rhizome_index.index.keys import INVERT, component_end
from rhizome_index.index.record import Record, decode_record, parse_path
from rhizome_index.index.schema import Collection, SortPath, primary_key
from rhizome_index.index.write import Need, NeedRecords
from rhizome_index.limits import RECORDS_REMEMBERED_MAX
from rhizome_index.query.plan import PRIMARY, Candidate
from rhizome_index.tree.node import Value


class Row(NamedTuple):
    """One result. `position` is the key of the entry that gave it, `key` the encoded primary key."""

    position: bytes
    key: bytes
    record: Record


Reading = Generator[Need, Any, list[Row]]
Reader = Callable[[Sequence[bytes], Sequence[Value]], Reading]


def reader(collection: Collection, candidate: Candidate) -> Reader:
    """A reader of entries (keys and values) of the tree that a candidate reads. It raises IntegrityError."""
    if candidate.access.index == PRIMARY:
        return _primary_reader(collection)
    return index_reader(collection, candidate.access.index)


def _primary_reader(collection: Collection) -> Reader:
    given = _given_by(collection.key, None)

    def read(keys: Sequence[bytes], values: Sequence[Value]) -> Reading:
        linked = [place for place, value in enumerate(values) if type(value) is cbor.Link]
        data = list(values)
        if linked:
            digests = tuple(digest_of(values[place]) for place in linked)
            found = yield NeedRecords(collection.primary, tuple(keys[place] for place in linked), digests)
            for place, item in zip(linked, found, strict=True):
                data[place] = item
        rows = []
        for key, item in zip(keys, data, strict=True):
            if given(item)[0] != key:
                raise IntegrityError("a record that stands at another primary key than its own")
            rows.append(Row(key, key, cbor.decode_own(item)))
        return rows

    return read


def index_reader(collection: Collection, name: str) -> Reader:
    """A reader of an index's entries. It raises IntegrityError."""
    paths = collection.indexes[name].paths
    given = _given_by(collection.key, (name, paths))
    descending = paths[-1].descending

    def read(keys: Sequence[bytes], values: Sequence[Value]) -> Reading:
        if set(map(len, values)) != {DIGEST_BYTES} or cbor.Link in set(map(type, values)):
            raise IntegrityError(f"the index {name!r} has an entry without a record's digest")
        primary_keys = [key.translate(INVERT) if descending else key for key in _tails(keys, len(paths))]
        found = yield NeedRecords(collection.primary, tuple(primary_keys), tuple(values))
        rows = []
        for position, key, data in zip(keys, primary_keys, found, strict=True):
            own_key, entries = given(data)
            if own_key != key or position not in entries:
                raise IntegrityError(f"the index {name!r} has an entry that its record does not give")
            rows.append(Row(position, key, cbor.decode_own(data)))
        return rows

    return read


def _tails(keys: Sequence[bytes], components: int) -> list[bytes]:
    """What follows the first components of each key. Neighbours mostly share the first of all."""
    tails = []
    first = b""
    for key in keys:
        if not first or not key.startswith(first):
            first = key[: component_end(key, 0)]
        at = len(first)
        for _ in range(components - 1):
            at = component_end(key, at)
        tails.append(key[at:])
    return tails


@lru_cache(maxsize=16)
def _given_by(
    key: str, index: tuple[str, tuple[SortPath, ...]] | None
) -> Callable[[bytes], tuple[bytes, AbstractSet[bytes]]]:
    """A function from a record's bytes to its primary key and its entries in an index, if there is one.

    It checks the record in every way there is, and raises IntegrityError. What it found is
    remembered, as equal bytes always give the same: popular records are read again and again.
    """
    path = parse_path(key)
    maker = entry_maker([index] if index else [])

    @lru_cache(maxsize=RECORDS_REMEMBERED_MAX)
    def given(data: bytes) -> tuple[bytes, AbstractSet[bytes]]:
        record = decode_record(data)
        try:
            own_key = primary_key(record, path)
            made = maker(record, own_key)
        except UsageError as error:
            raise IntegrityError(f"a record that this index or collection cannot hold: {error}") from None
        return own_key, frozenset(made[0][0] if made else ())

    return given
