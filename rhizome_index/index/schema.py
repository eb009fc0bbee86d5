"""What a publisher declares: names, sort orders, collections and their indexes; and what a primary key is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pyrsistent import PMap

from rhizome_index.errors import UsageError
from rhizome_index.index.keys import encode_component
from rhizome_index.index.record import Path, Record, parse_path, values_at
from rhizome_index.limits import INDEX_PATHS_MAX, KEY_BYTES_MAX, NAME_BYTES_MAX
from rhizome_index.tree.node import Tree

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")


def check_name(name: str, what: str) -> str:
    """Return `name` if datasets, collections and indexes may be called so; raise UsageError otherwise."""
    if not _NAME.fullmatch(name) or len(name) > NAME_BYTES_MAX:
        raise UsageError(
            f"not a name for {what}: {name!r}",
            hint=f"names are lower-case letters, digits, '_', '-' and '.', at most {NAME_BYTES_MAX}",
        )
    return name


@dataclass(frozen=True, slots=True)
class SortPath:
    """A path and the direction in which it sorts. As text: `created`, or `-created` for descending."""

    path: str
    descending: bool = False

    @classmethod
    def parse(cls, text: str) -> SortPath:
        """From its text. Raises UsageError."""
        path = text.removeprefix("-")
        parse_path(path)
        return cls(path, text.startswith("-"))

    def __str__(self) -> str:
        return f"-{self.path}" if self.descending else self.path

    def flipped(self) -> SortPath:
        return SortPath(self.path, not self.descending)


@dataclass(frozen=True, slots=True)
class Index:
    """A secondary index.

    paths  what it sorts by; the primary key follows by itself
    tree   the entries
    lists  for each path, how many records hold a list there: where that is not 0, one record may
           have several entries, and the index does not give the order by that path
    """

    name: str
    paths: tuple[SortPath, ...]
    tree: Tree
    lists: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Collection:
    """A table of records.

    key      path of the primary key
    time     path that `newest` and `oldest` follow, if any
    order    what `first` follows; empty: the primary key
    primary  tree from primary keys to records: inline, or as links where they are large
    """

    name: str
    key: str
    time: str | None
    order: tuple[SortPath, ...]
    primary: Tree
    indexes: PMap[str, Index]


def parse_index(text: str) -> tuple[str, tuple[SortPath, ...]]:
    """The name and paths of `by_tag=tags,-created`. Raises UsageError."""
    name, equals, paths = text.partition("=")
    if not equals or not paths:
        raise UsageError(f"not an index: {text!r}", hint="write NAME=PATH,PATH... as in by_tag=tags,-created")
    return check_name(name, "an index"), check_paths([SortPath.parse(path.strip()) for path in paths.split(",")])


def check_paths(paths: Sequence[SortPath]) -> tuple[SortPath, ...]:
    """Return the paths of an index if they make one; raise UsageError otherwise."""
    names = [path.path for path in paths]
    if not 1 <= len(paths) <= INDEX_PATHS_MAX or len(set(names)) != len(names):
        raise UsageError(f"an index has 1 to {INDEX_PATHS_MAX} different paths")
    return tuple(paths)


def primary_key(record: Record, path: Path) -> bytes:
    """The primary key of a record, encoded. Raises UsageError where it has none that can be one."""
    values, is_list = values_at(record, path)
    if is_list or type(values[0]) not in (str, int, float, bytes):
        name = ".".join(path)
        raise UsageError(
            f"no primary key: {name!r} must be text, a number or bytes" if name else "not a primary key",
            hint="another field can be the key: --key",
        )
    try:
        key = encode_component(values[0])
    except ValueError as error:
        raise UsageError(f"not a primary key: {error}") from None
    if len(key) > KEY_BYTES_MAX:
        raise UsageError(f"a primary key of {len(key)} bytes; at most {KEY_BYTES_MAX} fit")
    return key


def encode_primary_key(collection: Collection, key: Any) -> bytes:
    """The encoded form of a primary key given by itself. Raises UsageError for what cannot be one."""
    return primary_key({collection.key: key}, (collection.key,))
