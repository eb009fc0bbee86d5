"""Jumping through a tree: the first entry at or behind a key, or the last one before it.

For walks that skip most of what lies between: intersections, distinct values. The
nodes on the way to where the last jump ended are kept, so that a short jump reads
little or nothing.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from rhizome_index.tree.node import Node, Ref, Tree, Value
from rhizome_index.tree.walk import Walk, load, load_root

Entry = tuple[bytes, Value]


class Seeker:
    """Jumps in one tree."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._path: list[Node] = []  # from the root down, where the last jump ended

    def at_or_behind(self, key: bytes) -> Walk[Entry | None]:
        """The first entry whose key is at least `key`, or None."""
        if not self._tree.count:
            return None
        node = yield from self._root()
        next_key: bytes | None = None  # the first key behind the leaf
        depth = 1
        while node.level:
            place = max(0, bisect_right(node.keys, key) - 1)
            if place + 1 < len(node.keys):
                next_key = node.keys[place + 1]
            node = yield from self._child(depth, node.child(place))
            depth += 1
        place = bisect_left(node.keys, key)
        if place < len(node.keys):
            return node.keys[place], node.values[place]
        return None if next_key is None else (yield from self.at_or_behind(next_key))

    def before(self, key: bytes | None) -> Walk[Entry | None]:
        """The last entry whose key is less than `key` (None: the last of all), or None."""
        if not self._tree.count:
            return None
        node = yield from self._root()
        depth = 1
        while node.level:
            place = len(node.keys) if key is None else bisect_left(node.keys, key)
            node = yield from self._child(depth, node.child(max(0, place - 1)))
            depth += 1
        place = len(node.keys) if key is None else bisect_left(node.keys, key)
        return (node.keys[place - 1], node.values[place - 1]) if place else None

    def _root(self) -> Walk[Node]:
        if not self._path:
            self._path = [(yield from load_root(self._tree))]
        return self._path[0]

    def _child(self, depth: int, ref: Ref) -> Walk[Node]:
        """A node on the way down; on one level of a tree its first key tells which."""
        if depth < len(self._path) and self._path[depth].keys[0] == ref.key:
            return self._path[depth]
        node = yield from load(ref)
        self._path[depth:] = [node]
        return node
