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
from rhizome_index.index.record import Record, decode_record, parse_path, projector
from rhizome_index.index.schema import Collection, Definition, Index, primary_key
from rhizome_index.index.write import Need, NeedRecords
from rhizome_index.limits import RECORDS_REMEMBERED_MAX
from rhizome_index.query.combine import Choice
from rhizome_index.query.plan import PRIMARY
from rhizome_index.query.streams import Hit


class Row(NamedTuple):
    """One result. `position` is the key of the entry that gave it, `key` the encoded primary key."""

    position: bytes
    key: bytes
    record: Record


Reading = Generator[Need, Any, list[Row]]
Reader = Callable[[Sequence[Hit]], Reading]


def reader(collection: Collection, candidate: Choice) -> Reader:
    """A reader of the entries that a candidate's stream gives. It raises IntegrityError.

    It gives a row for each entry, or only for the first of them if it gets no more records.
    """
    names = [part.access.index for part in candidate.parts]
    return _covered_reader(collection, *names) if candidate.covered else full_reader(collection, *names)


def full_reader(collection: Collection, *names: str) -> Reader:
    """A reader of whole records, of entries of these indexes, one for each arm, or of the primary."""
    return _primary_reader(collection) if names[0] == PRIMARY else index_reader(collection, *names)


def _primary_reader(collection: Collection) -> Reader:
    given = _given_by(collection.key, None)

    def read(found: Sequence[Hit]) -> Reading:
        keys = [next(key for key in item.keys if key is not None) for item in found]
        data = [next(value for value in item.values if value is not None) for item in found]
        linked = [place for place, value in enumerate(data) if type(value) is cbor.Link]
        if linked:
            digests = tuple(digest_of(data[place]) for place in linked)
            records = yield NeedRecords(collection.primary, tuple(keys[place] for place in linked), digests)
            for place, item in zip(linked, records, strict=False):
                data[place] = item
            if len(records) < len(linked):
                keys, data = keys[: linked[len(records)]], data[: linked[len(records)]]
        rows = []
        for entry, key, item in zip(found, keys, data, strict=False):
            if given(item)[0] != key:
                raise IntegrityError("a record that stands at another primary key than its own")
            rows.append(Row(entry.position, key, cbor.decode_own(item)))
        return rows

    return read


def index_reader(collection: Collection, *names: str) -> Reader:
    """A reader of entries of these indexes, one for each arm. It raises IntegrityError."""
    indexes = [collection.indexes[name] for name in names]
    given = [_given_by(collection.key, (index.name, index.definition)) for index in indexes]

    def read(found: Sequence[Hit]) -> Reading:
        primary_keys = _primary_keys(found, indexes)
        records = yield NeedRecords(collection.primary, tuple(primary_keys), _digests(found, names))
        rows = []
        for entry, key, data in zip(found, primary_keys, records, strict=False):
            for place, at in enumerate(entry.keys):
                if at is None:
                    continue
                own_key, entries, included = given[place](data)
                if own_key != key or at not in entries or (entry.values[place] or b"")[DIGEST_BYTES:] != included:
                    raise IntegrityError(f"the index {names[place]!r} has an entry that its record does not give")
            rows.append(Row(entry.position, key, cbor.decode_own(data)))
        return rows

    return read


def _covered_reader(collection: Collection, *names: str) -> Reader:
    """A reader of what entries include: no records are needed, and none is given back."""
    indexes = [collection.indexes[name] for name in names]
    project = [projector(tuple(map(parse_path, index.definition.include))) for index in indexes]

    def read(found: Sequence[Hit]) -> Reading:
        yield from ()
        rows = []
        for entry, key in zip(found, _primary_keys(found, indexes), strict=True):
            place, value = next((place, value) for place, value in enumerate(entry.values) if value is not None)
            _digest(entry, names)
            included = decode_record(value[DIGEST_BYTES:])
            if project[place](included) != included:
                raise IntegrityError(f"the index {names[place]!r} includes what it does not say")
            rows.append(Row(entry.position, key, included))
        return rows

    return read


def _digests(found: Sequence[Hit], names: Sequence[str]) -> tuple[bytes, ...]:
    """The digests of the records of entries."""
    if len(names) == 1:
        values = tuple(item.values[0] for item in found)
        if set(map(type, values)) == {bytes} and set(map(len, values)) == {DIGEST_BYTES}:  # type: ignore[arg-type]
            return values  # type: ignore[return-value]
    return tuple(_digest(item, names) for item in found)


def _digest(entry: Hit, names: Sequence[str]) -> bytes:
    """The record's digest, with which the values of an entry begin in every index."""
    held = [value for value in entry.values if value is not None]
    digests = {value if type(value) is cbor.Link else value[:DIGEST_BYTES] for value in held}
    if len(digests) != 1 or [(type(item), len(item)) for item in digests] != [(bytes, DIGEST_BYTES)]:
        raise IntegrityError(f"the index {' or '.join(map(repr, names))} has an entry without its record's digest")
    return digests.pop()


def records_of(collection: Collection, name: str, found: Sequence[Hit]) -> NeedRecords:
    """The records that entries of one index name. Raises IntegrityError for entries that name none."""
    keys = _primary_keys(found, [collection.indexes[name]])
    return NeedRecords(collection.primary, tuple(keys), _digests(found, [name]))


def primary_keys(collection: Collection, name: str, found: Sequence[Hit]) -> list[bytes]:
    """The encoded primary keys of entries of one index, or of the primary."""
    if name == PRIMARY:
        return [item.keys[0] or b"" for item in found]
    return _primary_keys(found, [collection.indexes[name]])


def _primary_keys(found: Sequence[Hit], indexes: Sequence[Index]) -> list[bytes]:
    """The encoded primary keys at the ends of entry keys."""
    if len(indexes) == 1:
        tails = _tails([item.keys[0] or b"" for item in found], len(indexes[0].paths))
        return [tail.translate(INVERT) for tail in tails] if indexes[0].paths[-1].descending else tails
    keys = []
    for item in found:
        place, key = next((place, key) for place, key in enumerate(item.keys) if key is not None)
        (tail,) = _tails([key], len(indexes[place].paths))
        keys.append(tail.translate(INVERT) if indexes[place].paths[-1].descending else tail)
    return keys


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
    key: str, index: tuple[str, Definition] | None
) -> Callable[[bytes], tuple[bytes, AbstractSet[bytes], bytes]]:
    """A function from a record's bytes to its primary key and its entries in an index, if there is one.

    The entries as their keys, and what their values include.

    It checks the record in every way there is, and raises IntegrityError. What it found is
    remembered, as equal bytes always give the same: popular records are read again and again.
    """
    path = parse_path(key)
    maker = entry_maker([index] if index else [])

    @lru_cache(maxsize=RECORDS_REMEMBERED_MAX)
    def given(data: bytes) -> tuple[bytes, AbstractSet[bytes], bytes]:
        record = decode_record(data)
        try:
            own_key = primary_key(record, path)
            made = maker(record, own_key)
        except UsageError as error:
            raise IntegrityError(f"a record that this index or collection cannot hold: {error}") from None
        return own_key, frozenset(made[0][0] if made else ()), made[0][2] if made else b""

    return given
