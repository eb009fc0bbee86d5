"""From records to index entries.

An index is a list of paths. Each record gives one entry for each distinct
element of the one path that may hold a list, otherwise one entry. Entry key:
the values at the paths, then the primary key, which runs in the direction of
the last path; so an index read backwards is exactly the opposite order. Entry
value: the record's digest, and behind it what the index includes, if anything.

An empty list gives no entry: nothing equals any of its elements. Neither does a
record that does not meet the index's condition.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

from rhizome_index.blocks import cbor
from rhizome_index.blocks.cid import DIGEST_BYTES
from rhizome_index.errors import RecordError
from rhizome_index.index.condition import EVERYTHING, compile_filter
from rhizome_index.index.keys import INVERT, component_end, encode_component
from rhizome_index.index.record import Record, parse_path, projector, values_at
from rhizome_index.index.schema import Definition
from rhizome_index.limits import INDEX_ELEMENTS_MAX, INLINE_VALUE_BYTES_MAX, KEY_BYTES_MAX

# Keys; the position of the path that holds a list, or -1; and what their values have behind the digest.
Entries = tuple[Sequence[bytes], int, bytes]
EntryMaker = Callable[[Record, bytes], list[Entries]]


def entry_maker(indexes: Sequence[tuple[str, Definition]]) -> EntryMaker:
    """A function from a record and its encoded primary key to its entries in each of these indexes.

    indexes  names and definitions

    It raises RecordError for a record that one of them cannot hold. A path that several indexes
    share is looked up and encoded once: this runs for every record that is written.
    """
    columns = list(dict.fromkeys(path for _, definition in indexes for path in definition.paths))
    lookups = [(parse_path(path.path), path.descending) for path in columns]
    wanted = []
    for name, definition in indexes:
        places = [columns.index(path) for path in definition.paths]
        tail = len(columns) + definition.paths[-1].descending  # where the primary key stands among the parts
        wanted.append((name, places, itemgetter(*places, tail)))
    special = {place: _special(definition) for place, (_, definition) in enumerate(indexes) if _is_special(definition)}

    def entries(record: Record, primary: bytes) -> list[Entries]:
        parts = [_components(record, path, descending) for path, descending in lookups]
        lists = [place for place, part in enumerate(parts) if type(part) is set]
        parts += (primary, primary.translate(INVERT))
        try:
            if not special:
                return [
                    _assemble(name, pick(parts), [at for at in lists if at in places]) for name, places, pick in wanted
                ]
            made = []
            for place, (name, places, pick) in enumerate(wanted):
                if place in special and not special[place][0](record):
                    made.append(_NOTHING)
                    continue
                found = _assemble(name, pick(parts), [at for at in lists if at in places])
                if place in special:
                    found = (*found[:2], _fitting(name, special[place][1](record)))
                made.append(found)
            return made
        except _Refused as refused:
            raise RecordError(str(refused), primary, hint="change the record, or leave that index out") from None

    return entries


def split_key(definition: Definition, key: bytes) -> tuple[bytes, bytes]:
    """What stands in an entry's key before the primary key, and that one, encoded. Raises IntegrityError."""
    at = 0
    for _ in definition.paths:
        at = component_end(key, at)
    return key[:at], key[at:].translate(INVERT) if definition.paths[-1].descending else key[at:]


class _Refused(Exception):
    """Why an index cannot hold a record."""


_Special = tuple[Callable[[Record], bool], Callable[[Record], bytes]]
_NOTHING: Entries = ((), -1, b"")


def _is_special(definition: Definition) -> bool:
    return definition.where != EVERYTHING or bool(definition.include)


def _special(definition: Definition) -> _Special:
    """Whether an index lists a record, and what its entries include of it."""
    meets = compile_filter(definition.where)
    if not definition.include:
        return meets, lambda record: b""
    project = projector(tuple(map(parse_path, definition.include)))
    return meets, lambda record: cbor.encode(project(record))


def _fitting(name: str, included: bytes) -> bytes:
    if DIGEST_BYTES + len(included) > INLINE_VALUE_BYTES_MAX:
        most = INLINE_VALUE_BYTES_MAX - DIGEST_BYTES
        raise _Refused(f"{len(included):,} bytes to include in the index {name!r}; at most {most:,} fit")
    return included


def _components(record: Record, path: tuple[str, ...], descending: bool) -> bytes | set[bytes]:
    """What stands at a path, as one component of a key, or the distinct ones of a list."""
    if len(path) == 1:
        value = record.get(path[0])
        if type(value) is not list:
            return encode_component(value, descending=descending)
        return {encode_component(item, descending=descending) for item in value}
    values, is_list = values_at(record, path)
    parts = {encode_component(item, descending=descending) for item in values}
    return parts if is_list else parts.pop()


def _assemble(name: str, parts: tuple[Any, ...], lists: Sequence[int]) -> Entries:
    """The entry keys of one index."""
    if not lists:
        keys, list_at = [b"".join(parts)], -1
    elif len(lists) > 1:
        raise _Refused(f"two lists in one record for the index {name!r}; an index takes one")
    else:
        list_at = next(place for place, part in enumerate(parts) if type(part) is set)
        elements = parts[list_at]
        if len(elements) > INDEX_ELEMENTS_MAX:
            raise _Refused(f"{len(elements):,} elements for the index {name!r}; at most {INDEX_ELEMENTS_MAX:,} fit")
        before, behind = b"".join(parts[:list_at]), b"".join(parts[list_at + 1 :])
        keys = [before + element + behind for element in elements]
    if keys and max(map(len, keys)) > KEY_BYTES_MAX:
        raise _Refused(f"a value too long for the index {name!r}: an entry's key has at most {KEY_BYTES_MAX} bytes")
    return keys, list_at, b""
