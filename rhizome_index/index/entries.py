"""From records to index entries.

An index is a list of paths. Each record gives one entry for each distinct
element of the one path that may hold a list, otherwise one entry. Entry key:
the values at the paths, then the primary key, which runs in the direction of
the last path; so an index read backwards is exactly the opposite order. Entry
value: the record's digest.

An empty list gives no entry: nothing equals any of its elements.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

from rhizome_index.errors import RecordError
from rhizome_index.index.keys import INVERT, encode_component
from rhizome_index.index.record import Record, parse_path, values_at
from rhizome_index.index.schema import SortPath
from rhizome_index.limits import INDEX_ELEMENTS_MAX, KEY_BYTES_MAX

Entries = tuple[Sequence[bytes], int]  # keys, and the position of the path that holds a list, or -1
EntryMaker = Callable[[Record, bytes], list[Entries]]


def entry_maker(indexes: Sequence[tuple[str, Sequence[SortPath]]]) -> EntryMaker:
    """A function from a record and its encoded primary key to its entries in each of these indexes.

    indexes  names and paths

    It raises RecordError for a record that one of them cannot hold. A path that several indexes
    share is looked up and encoded once: this runs for every record that is written.
    """
    columns = list(dict.fromkeys(path for _, paths in indexes for path in paths))
    lookups = [(parse_path(path.path), path.descending) for path in columns]
    wanted = []
    for name, paths in indexes:
        places = [columns.index(path) for path in paths]
        tail = len(columns) + paths[-1].descending  # where the primary key stands among the parts
        wanted.append((name, places, itemgetter(*places, tail)))

    def entries(record: Record, primary: bytes) -> list[Entries]:
        parts = [_components(record, path, descending) for path, descending in lookups]
        lists = [place for place, part in enumerate(parts) if type(part) is set]
        parts += (primary, primary.translate(INVERT))
        try:
            return [_assemble(name, pick(parts), [at for at in lists if at in places]) for name, places, pick in wanted]
        except _Refused as refused:
            raise RecordError(str(refused), primary, hint="change the record, or leave that index out") from None

    return entries


class _Refused(Exception):
    """Why an index cannot hold a record."""


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
    return keys, list_at
