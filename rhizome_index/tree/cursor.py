"""Reading a tree: a key, many keys, a range in either direction, a count, a rank, the k-th entry, or many.

Ranges are half open: from `low` up to but not including `high`; None is no
bound. Counts stand in inner nodes, so that counting reads two paths at most.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from rhizome_index.tree.levels import ways_down
from rhizome_index.tree.node import Node, Ref, Tree, Value
from rhizome_index.tree.walk import Walk, load, load_many, load_root


@dataclass(frozen=True, slots=True)
class Span:
    """A range of keys. `high` None: to the end."""

    low: bytes = b""
    high: bytes | None = None

    @property
    def is_empty(self) -> bool:
        return self.high is not None and self.low >= self.high

    def within(self, keys: Sequence[bytes]) -> tuple[int, int]:
        """Where this range begins and ends among sorted keys."""
        low = bisect_left(keys, self.low) if self.low else 0
        return low, len(keys) if self.high is None else max(low, bisect_left(keys, self.high))

    def among_children(self, keys: Sequence[bytes]) -> tuple[int, int]:
        """Which children may hold keys of this range, given their first keys."""
        first = max(0, bisect_right(keys, self.low) - 1) if self.low else 0
        return first, len(keys) if self.high is None else max(first, bisect_left(keys, self.high))


EVERYTHING = Span()


def get(tree: Tree, key: bytes) -> Walk[Value | None]:
    """The value of a key, or None."""
    return (yield from get_many(tree, [key]))[0]


def get_many(tree: Tree, keys: Sequence[bytes]) -> Walk[list[Value | None]]:
    """The values of sorted keys, level by level: one need a level however many keys there are."""
    found: list[Value | None] = [None] * len(keys)
    if not keys:
        return found
    node = yield from load_root(tree)
    level: list[tuple[Node, int, int]] = [(node, 0, len(keys))]
    while level and level[0][0].level:
        ways = [way for node, start, end in level for way in ways_down(node, keys, start, end)]
        nodes = yield from load_many([ref for ref, _, _ in ways])
        level = [(node, start, end) for node, (_, start, end) in zip(nodes, ways, strict=True)]
    for node, start, end in level:
        for at in range(start, end):
            place = bisect_left(node.keys, keys[at])
            if place < len(node.keys) and node.keys[place] == keys[at]:
                found[at] = node.values[place]
    return found


Entries = tuple[Sequence[bytes], Sequence[Value]]


class Cursor:
    """A range of a tree, read leaf by leaf in either direction.

    `next_entries` gives the range's part of the next leaf as (keys, values), in the
    cursor's direction, and None at the end. Nothing is read before it is called.
    """

    def __init__(self, tree: Tree, span: Span = EVERYTHING, *, reverse: bool = False) -> None:
        self._tree = tree
        self._span = span
        self._reverse = reverse
        self._stack: list[tuple[Node, range]] | None = None

    def next_entries(self) -> Walk[Entries | None]:
        if self._stack is None:
            if self._span.is_empty or not self._tree.count:
                self._stack = []
                return None
            root = yield from load_root(self._tree)
            self._stack = []
            if not root.level:
                return self._part(root)
            self._push(root)
        while self._stack:
            node, places = self._stack[-1]
            if not places:
                self._stack.pop()
                continue
            place = places[0]
            self._stack[-1] = (node, places[1:])
            child = yield from load(node.child(place))
            if child.level:
                self._push(child)
            elif part := self._part(child):
                return part
        return None

    def _push(self, node: Node) -> None:
        places = range(*self._span.among_children(node.keys))
        self._stack.append((node, places[::-1] if self._reverse else places))  # type: ignore[union-attr]

    def _part(self, leaf: Node) -> Entries | None:
        start, end = self._span.within(leaf.keys)
        if start == end:
            return None
        keys, values = leaf.keys[start:end], leaf.values[start:end]
        return (keys[::-1], values[::-1]) if self._reverse else (keys, values)


def count(tree: Tree, span: Span = EVERYTHING) -> Walk[int]:
    """How many entries a range holds."""
    if span.is_empty or not tree.count:
        return 0
    if span == EVERYTHING:
        return tree.count
    level = [(yield from load_root(tree))]
    total = 0
    while level:
        refs: list[Ref] = []
        for node in level:
            if not node.level:
                start, end = span.within(node.keys)
                total += end - start
                continue
            first, end = span.among_children(node.keys)
            for place in range(first, end):
                behind = node.keys[place + 1] if place + 1 < len(node.keys) else None
                if node.keys[place] >= span.low and (span.high is None or (behind is not None and behind <= span.high)):
                    total += node.counts[place]
                else:  # sticks out of the range, or may: at most two of a level
                    refs.append(node.child(place))
        level = list((yield from load_many(refs)))
    return total


def rank(tree: Tree, key: bytes) -> Walk[int]:
    """How many entries come before `key`, whether it is there or not."""
    return (yield from count(tree, Span(b"", key))) if key else 0


def select(tree: Tree, position: int) -> Walk[tuple[bytes, Value]]:
    """The entry at a position, counted from 0. Raises IndexError outside of the tree."""
    return (yield from select_many(tree, [position]))[0]


def select_many(tree: Tree, positions: Sequence[int]) -> Walk[list[tuple[bytes, Value]]]:
    """The entries at sorted positions, level by level: one need a level however many they are."""
    if not positions:
        return []
    if positions[0] < 0 or positions[-1] >= tree.count:
        raise IndexError(positions[-1] if positions[0] >= 0 else positions[0])
    node = yield from load_root(tree)
    level: list[tuple[Node, int, int, int]] = [(node, 0, 0, len(positions))]  # a node, where it begins, which positions
    while level[0][0].level:
        refs: list[Ref] = []
        ranges: list[tuple[int, int, int]] = []
        for node, begins, start, end in level:
            ends = list(accumulate(node.counts, initial=begins))
            at = start
            while at < end:
                child = bisect_right(ends, positions[at]) - 1
                stop = bisect_left(positions, ends[child + 1], at, end)
                refs.append(node.child(child))
                ranges.append((ends[child], at, stop))
                at = stop
        nodes = yield from load_many(refs)
        level = [(node, *range_) for node, range_ in zip(nodes, ranges, strict=True)]
    found = []
    for node, begins, start, end in level:
        for position in positions[start:end]:
            found.append((node.keys[position - begins], node.values[position - begins]))
    return found
