"""What a collection speaks of: paths that occur in its records, and values that stand at a path.

Little is read: a few leaves. So what is found is there, and not all that is there is found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rhizome_index.errors import UsageError
from rhizome_index.index.condition import EVERYTHING
from rhizome_index.index.keys import decode_key, interval
from rhizome_index.index.record import Record, decode_record, parse_path
from rhizome_index.index.schema import Collection, Index, SortPath
from rhizome_index.limits import PATHS_SEEN_MAX, VALUES_LEAVES_MAX, VALUES_SEEN_MAX
from rhizome_index.query.groups import walk_groups
from rhizome_index.tree.cursor import Span
from rhizome_index.tree.node import Node, Tree
from rhizome_index.tree.walk import NeedNodes, Walk, load_many, load_root

_LOOKED_AT = (0.0, 0.5, 1.0)  # of each node on the way down: the first leaf, one in the middle, the last


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found in some records of a collection.

    records  those looked at
    paths    that occur in them, the most frequent first
    all      whether those were all the records there are
    """

    records: tuple[Record, ...]
    paths: tuple[str, ...]
    all: bool


def look(collection: Collection) -> Walk[Seen]:
    """Look at some records: those that stand in three leaves themselves. Raises IntegrityError."""
    leaves = yield from _some_leaves(collection.primary)
    records = [decode_record(value) for leaf in leaves for value in leaf.values if type(value) is bytes]
    counts: Counter[str] = Counter()
    for record in records:
        counts.update(set(_paths_in(record, "")))
    paths = sorted(counts, key=lambda path: (-counts[path], path))[:PATHS_SEEN_MAX]
    return Seen(tuple(records), tuple(paths), len(records) == collection.primary.count)


def _some_leaves(tree: Tree) -> Walk[list[Node]]:
    if not tree.count:
        return []
    root = yield from load_root(tree)
    level = [root] * len(_LOOKED_AT)
    while level[0].level:
        refs = [node.child(round(part * (len(node.keys) - 1))) for node, part in zip(level, _LOOKED_AT, strict=True)]
        distinct = list(dict.fromkeys(refs))
        nodes = dict(zip(distinct, (yield from load_many(distinct)), strict=True))
        level = [nodes[ref] for ref in refs]
    return list({node.keys[0]: node for node in level}.values())


def _paths_in(value: Any, before: str) -> Iterator[str]:
    """The paths in a part of a record at which anything but null stands, and that a query can name."""
    if type(value) is list:
        for item in value:
            if type(item) is dict:
                yield from _paths_in(item, before)
        return
    for name, item in value.items():
        path = before + name
        if item is None or "." in name or not _is_path(path):
            continue
        if type(item) is not dict:
            yield path
        if type(item) in (dict, list):
            yield from _paths_in(item, f"{path}.")


def _is_path(text: str) -> bool:
    try:
        parse_path(text)
    except UsageError:
        return False
    return "`" not in text


# --- values ---


def tree_over(collection: Collection, path: str) -> tuple[Tree, SortPath, bool] | None:
    """A tree that sorts by a path first, how, and whether it has only a part of the records: an index, or the primary.

    One of all records, where there is one.
    """
    if path == collection.key:
        return collection.primary, SortPath(path), False
    found = [index for _, index in sorted(collection.indexes.items()) if index.paths[0].path == path]
    if not found:
        return None
    index = min(found, key=_is_partial)
    return index.tree, index.paths[0], _is_partial(index)


def _is_partial(index: Index) -> bool:
    """Whether there may be records of which it says nothing: those of other conditions, or with an empty list."""
    return index.definition.where != EVERYTHING or any(index.lists[1:])


def values_of(collection: Collection, path: str, prefix: str | None = None) -> Walk[list[Any]]:
    """Some values that stand at a path, in order: of any type, or texts that start with a prefix.

    None where no tree has them together.
    """
    found = tree_over(collection, path)
    if found is None:
        return []
    tree, by, _ = found
    span = Span() if prefix is None else Span(*interval("starts with", prefix).bounds(b"", descending=by.descending))
    walk = walk_groups(tree, span, 0)
    parts: dict[bytes, None] = {}
    reply: Any = None
    leaves = 0
    while len(parts) < VALUES_SEEN_MAX and leaves < VALUES_LEAVES_MAX:
        try:
            step = walk.send(reply)
        except StopIteration as stop:
            parts |= dict.fromkeys(part for part, _ in stop.value)
            break
        if isinstance(step, NeedNodes):
            reply = yield step
        else:
            reply = None
            leaves += 1
            parts |= dict.fromkeys(part for part, _ in step[2])
    return [decode_key(part)[0] for part in list(parts)[:VALUES_SEEN_MAX]]
