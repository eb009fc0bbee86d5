"""What a publisher declares: names, sort orders, collections and their indexes; and what a primary key is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pyrsistent import PMap

from rhizome_index.errors import UsageError
from rhizome_index.index.condition import EVERYTHING, Expr, check_expr, paths_of
from rhizome_index.index.keys import encode_component
from rhizome_index.index.record import TIME, WORDS, Path, Record, parse_path, values_at
from rhizome_index.index.slips import did_you_mean
from rhizome_index.limits import INDEX_PATHS_MAX, KEY_BYTES_MAX, NAME_BYTES_MAX
from rhizome_index.tree.node import EMPTY_TREE, Tree

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
class Definition:
    """What an index holds: a pure function of its collection's records.

    paths    what it sorts by; the primary key follows by itself
    where    it lists only the records that meet this
    include  paths at which its entries have a copy of what stands there
    unique   no two records have the same values at all of its paths; where one is null, they may
    """

    paths: tuple[SortPath, ...]
    where: Expr = EVERYTHING
    include: tuple[str, ...] = ()
    unique: bool = False

    def __post_init__(self) -> None:
        names = [path.path for path in self.paths]
        if not 1 <= len(names) <= INDEX_PATHS_MAX or len(set(names)) != len(names):
            raise UsageError(f"an index has 1 to {INDEX_PATHS_MAX} different paths")
        if len(self.include) > INDEX_PATHS_MAX or len(set(self.include)) != len(self.include):
            raise UsageError(f"an index includes at most {INDEX_PATHS_MAX} different paths")
        for name in names:
            parse_path(name)
        if any(parse_path(path)[-1] is WORDS for path in self.include):
            raise UsageError("words are not included in an index", hint="include the path itself")
        check_expr(self.where)
        if TIME in paths_of(self.where):
            raise UsageError("an index does not know of its collection's time", hint="name the path")

    @classmethod
    def over(cls, *paths: str) -> Definition:
        """An index over these sort paths, and nothing more to it."""
        return cls(tuple(map(SortPath.parse, paths)))


@dataclass(frozen=True, slots=True)
class Index:
    """A secondary index.

    tree   the entries
    lists  for each path, how many records hold a list there: where that is not 0, one record may
           have several entries, and the index does not give the order by that path
    """

    name: str
    definition: Definition
    tree: Tree
    lists: tuple[int, ...]

    @classmethod
    def empty(cls, name: str, definition: Definition) -> Index:
        """One with nothing in it yet."""
        return cls(name, definition, EMPTY_TREE, (0,) * len(definition.paths))

    @property
    def paths(self) -> tuple[SortPath, ...]:
        return self.definition.paths


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

    def index(self, name: str) -> Index:
        """An index by name. Raises UsageError, and says which ones there are."""
        found = self.indexes.get(name)
        if found is None:
            known = ", ".join(sorted(self.indexes)) or "none"
            hint = did_you_mean(name, self.indexes, f"there are: {known}")
            raise UsageError(f"no index called {name!r} in {self.name!r}", hint=hint)
        return found

    def declared_paths(self, only: str | None = None) -> tuple[str, ...]:
        """The paths that an index speaks of; or, without a name, its key, its time, its order and all its indexes."""
        paths: list[str] = []
        if only is None:
            paths += [self.key, *filter(None, [self.time]), *(path.path for path in self.order)]
        for index in map(self.index, sorted(self.indexes) if only is None else [only]):
            paths += [path.path for path in index.paths]
            paths += [*sorted(paths_of(index.definition.where)), *index.definition.include]
        return tuple(dict.fromkeys(paths))


def check_order(paths: Sequence[SortPath]) -> tuple[SortPath, ...]:
    """Return the paths of a collection's order if they make one; raise UsageError otherwise."""
    if len(paths) > INDEX_PATHS_MAX or len({path.path for path in paths}) != len(paths):
        raise UsageError(f"an order has at most {INDEX_PATHS_MAX} different paths")
    return tuple(paths)


def primary_key(record: Record, path: Path) -> bytes:
    """The primary key of a record, encoded. Raises UsageError where it has none that can be one."""
    values, is_list = values_at(record, path)
    if is_list or type(values[0]) not in (str, int, float, bytes):
        name = ".".join(path)
        raise UsageError(
            f"no primary key: {name!r} must be text, a number or bytes" if name else "not a primary key",
            hint="which field is the key is said where a collection is made: rhizome import --key FIELD",
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
