"""What differs between two trees of one rule, reading only the nodes that they do not share.

Level by level: of two levels, the nodes that occur in both are dropped, the
others are replaced by their children. What is left in the end are the leaves
that hold every difference. Of a range, only its own nodes are looked at.
`first_difference` goes down one way only, to where the trees begin to differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from rhizome_index.tree.cursor import EVERYTHING, Span
from rhizome_index.tree.node import Node, Ref, Tree, Value
from rhizome_index.tree.walk import Walk, load, load_many, load_root

Difference = tuple[bytes, Value | None, Value | None]  # key, value in the old tree, value in the new tree

_Entry = tuple[bytes, Value]

_LEAVES_AT_ONCE = 128


class Diff:
    """The differences between two trees within a range, in the order of their keys, a bounded part at a time."""

    def __init__(self, old: Tree, new: Tree, span: Span = EVERYTHING) -> None:
        self._trees = (old, new)
        self._span = span
        self._leaves: Iterator[tuple[bytes, int, Ref | Node]] | None = None
        self._waiting: tuple[bytes, int, Ref | Node] | None = None
        self._held: tuple[dict[bytes, Value], dict[bytes, Value]] = ({}, {})

    def next_differences(self) -> Walk[list[Difference] | None]:
        """More differences, or None at the end."""
        if self._leaves is None:
            self._leaves = iter((yield from self._find_leaves()))
            self._waiting = next(self._leaves, None)
        while self._waiting is not None or any(self._held):
            batch = [self._waiting] if self._waiting else []
            batch += islice(self._leaves, _LEAVES_AT_ONCE - 1) if batch else ()
            self._waiting = next(self._leaves, None) if batch else None
            refs = [leaf for _, _, leaf in batch if isinstance(leaf, Ref)]
            loaded = iter((yield from load_many(refs)))
            for _, side, leaf in batch:
                node = next(loaded) if isinstance(leaf, Ref) else leaf
                low, high = self._span.within(node.keys)
                self._held[side].update(zip(node.keys[low:high], node.values[low:high], strict=True))
            if found := self._release(self._waiting[0] if self._waiting else None):
                return found
        return None

    def _release(self, before: bytes | None) -> list[Difference]:
        """The differences below a key, up to which everything is held."""
        old, new = self._held
        keys = sorted(key for key in old.keys() | new.keys() if before is None or key < before)
        found = []
        for key in keys:
            was, becomes = old.pop(key, None), new.pop(key, None)
            if was != becomes or type(was) is not type(becomes):
                found.append((key, was, becomes))
        return found

    def _find_leaves(self) -> Walk[list[tuple[bytes, int, Ref | Node]]]:
        old, new = self._trees
        if old.root == new.root or self._span.is_empty:
            return []
        sides: list[list[Ref | Node]] = [[(yield from load_root(old))], [(yield from load_root(new))]]
        level = max(_level(side[0]) for side in sides if isinstance(side[0], Node))
        while level > 0:
            for side in sides:
                nodes = yield from _loaded(item for item in side if _level(item) == level)
                if nodes:
                    side[:] = [
                        node.child(place) for node in nodes for place in range(*self._span.among_children(node.keys))
                    ]
            shared = {ref.cid for ref in sides[0] if isinstance(ref, Ref)}
            shared &= {ref.cid for ref in sides[1] if isinstance(ref, Ref)}
            for side in sides:
                side[:] = [item for item in side if not (isinstance(item, Ref) and item.cid in shared)]
            level -= 1
        leaves = [(_first_key(item), number, item) for number, side in enumerate(sides) for item in side]
        return sorted(leaves, key=lambda leaf: leaf[:2])


def _loaded(items: Iterable[Ref | Node]) -> Walk[list[Node]]:
    refs_or_nodes = list(items)
    loaded = iter((yield from load_many([item for item in refs_or_nodes if isinstance(item, Ref)])))
    return [next(loaded) if isinstance(item, Ref) else item for item in refs_or_nodes]


def _level(item: Ref | Node) -> int:
    return item.level


def _first_key(item: Ref | Node) -> bytes:
    if isinstance(item, Ref):
        return item.key
    return item.keys[0] if item.keys else b""


def first_difference(old: Tree, new: Tree) -> Walk[Difference | None]:
    """The difference with the least key, or None; reads the way there, and what else the trees do not share before it.

    An IntegrityError of the new tree says by its key where it is broken.
    """
    if old.root == new.root:
        return None
    fronts = []
    for tree in (old, new):
        front = _Front()
        front.push((yield from load_root(tree)))
        fronts.append(front)
    one, other = fronts
    while True:
        here, there = one.next, other.next
        if isinstance(here, Ref) and isinstance(there, Ref) and here.cid == there.cid:
            one.drop()
            other.drop()
        elif isinstance(here, Ref) and not (isinstance(there, Ref) and there.level > here.level):
            one.push((yield from load(one.drop())))
        elif isinstance(there, Ref):
            other.push((yield from load(other.drop())))
        elif here is None and there is None:
            return None
        else:
            assert not isinstance(here, Ref)
            if here != there or here is None or there is None or type(here[1]) is not type(there[1]):
                return _as_difference(here, there)
            one.drop()
            other.drop()


def _as_difference(old: _Entry | None, new: _Entry | None) -> Difference:
    """The difference that begins with these entries."""
    key = min(entry[0] for entry in (old, new) if entry is not None)
    was, becomes = (entry[1] if entry is not None and entry[0] == key else None for entry in (old, new))
    return key, was, becomes


class _Front:
    """What is left to compare of a tree: entries of the leaf that is being read, then references."""

    def __init__(self) -> None:
        self._waiting: list[Any] = []

    @property
    def next(self) -> Ref | _Entry | None:
        return self._waiting[-1] if self._waiting else None

    def drop(self) -> Any:
        return self._waiting.pop()

    def push(self, node: Node) -> None:
        if node.level:
            self._waiting += [node.child(place) for place in reversed(range(len(node.keys)))]
        else:
            self._waiting += reversed(list(zip(node.keys, node.values, strict=True)))
