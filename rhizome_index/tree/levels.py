"""Moving along the levels of a tree: to the node on the way to a key, and from there to its neighbours."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rhizome_index.blocks.cid import Cid
from rhizome_index.tree.node import Node, Ref, Tree, inner_weight, leaf_weight
from rhizome_index.tree.walk import Walk, load, load_many

_LOADED_AT_ONCE = 512  # nodes: some 2 MiB of chunks


@dataclass(frozen=True, slots=True)
class Place:
    """A node of one level, with the way to it: (ancestor, which child) from the root down."""

    node: Node
    cid: Cid
    path: tuple[tuple[Node, int], ...]

    @property
    def has_left(self) -> bool:
        """Whether a node of its level stands before it."""
        return any(position for _, position in self.path)

    def end_key(self) -> bytes | None:
        """The first key behind this node on its level, or None at the level's end."""
        for ancestor, position in reversed(self.path):
            if position + 1 < len(ancestor.keys):
                return ancestor.keys[position + 1]
        return None


class Levels:
    """The levels of a tree, whose root has been read.

    nodes  those that have been read, or are known, and are not read again; None: remember nothing
    """

    def __init__(self, tree: Tree, root: Node, nodes: dict[Cid, Node] | None) -> None:
        self.root = root
        self.nodes = nodes
        self._tree = tree

    def load(self, ref: Ref) -> Walk[Node]:
        """The node of a reference."""
        if self.nodes is None:
            return (yield from load(ref))
        node = self.nodes.get(ref.cid)
        if node is None:
            node = yield from load(ref)
            self.nodes[ref.cid] = node
        return node

    def load_towards(self, keys: Sequence[bytes]) -> Walk[None]:
        """Read the nodes of all levels on the ways to sorted keys, which `towards` has at hand then.

        That is a need a level for many of them, where one after the other would take a round trip each.
        """
        assert self.nodes is not None
        level = [(self.root, 0, len(keys))]
        while level and level[0][0].level:
            ways = [way for node, start, end in level for way in ways_down(node, keys, start, end)]
            for at in range(0, len(ways), _LOADED_AT_ONCE):
                refs = [ref for ref, _, _ in ways[at : at + _LOADED_AT_ONCE] if ref.cid not in self.nodes]
                for ref, node in zip(refs, (yield from load_many(refs)), strict=True):
                    self.nodes[ref.cid] = node
            level = [(self.nodes[ref.cid], start, end) for ref, start, end in ways]

    def towards(self, level: int, key: bytes) -> Walk[Place]:
        """The node of a level on the way to a key."""
        return (yield from self._descend((), level, key, last=False))

    def neighbour(self, place: Place, step: int) -> Walk[Place | None]:
        """The node behind (+1) or before (-1) another one of its level, or None at the level's end."""
        for depth in range(len(place.path) - 1, -1, -1):
            ancestor, position = place.path[depth]
            if 0 <= position + step < len(ancestor.keys):
                path = (*place.path[:depth], (ancestor, position + step))
                return (yield from self._descend(path, place.node.level, None, last=step < 0))
        return None

    def _descend(self, path: tuple[tuple[Node, int], ...], level: int, key: bytes | None, last: bool) -> Walk[Place]:
        """Go down to `level`: towards `key`, or along the first or the last children."""
        node, cid = self.root, self._tree.root
        if path:
            parent, position = path[-1]
            ref = parent.child(position)
            node, cid = (yield from self.load(ref)), ref.cid
        while node.level > level:
            if key is not None:
                position = max(0, bisect_right(node.keys, key) - 1)
            else:
                position = len(node.keys) - 1 if last else 0
            path = (*path, (node, position))
            ref = node.child(position)
            node, cid = (yield from self.load(ref)), ref.cid
        return Place(node, cid, path)


def ways_down(node: Node, keys: Sequence[bytes], start: int, end: int) -> Iterator[tuple[Ref, int, int]]:
    """The children of an inner node on the ways to some of the keys, which are sorted, and to which of them."""
    while start < end:
        child = max(0, bisect_right(node.keys, keys[start]) - 1)
        is_last = child + 1 == len(node.keys)
        stop = end if is_last else bisect_left(keys, node.keys[child + 1], start, end)
        yield node.child(child), start, stop
        start = stop


def weights_of(node: Node) -> list[int]:
    """The weight of each item of a node."""
    if node.level:
        return list(map(inner_weight, node.keys))
    return list(map(leaf_weight, node.keys, node.values))
