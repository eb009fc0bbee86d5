"""Build a tree from sorted entries, as a stream: memory stays bounded whatever the number of entries.

Chunks go to a `Sink` as they are finished, children before parents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from operator import add, lt

from rhizome_index.blocks.cid import Cid, cid_of
from rhizome_index.errors import UsageError
from rhizome_index.limits import INLINE_VALUE_BYTES_MAX, KEY_BYTES_MAX, TREE_HEIGHT_MAX
from rhizome_index.tree.boundary import Rule, find_cuts
from rhizome_index.tree.node import EMPTY_CHUNK, EMPTY_TREE, Tree, Value, encode_inner, encode_leaf
from rhizome_index.tree.walk import PAUSE, Walk

Sink = Callable[[Cid, bytes], None]

_BATCH = 4096  # items cut at once: the tail that is cut again is small beside it


def build(rule: Rule, entries: Iterable[tuple[bytes, Value]], sink: Sink) -> Tree:
    """The tree of these entries, whose keys must strictly increase. Raises ValueError if they do not."""
    walk = building(rule, entries, sink)
    try:
        while True:
            next(walk)
    except StopIteration as stop:
        tree: Tree = stop.value
        return tree


def building(rule: Rule, entries: Iterable[tuple[bytes, Value]], sink: Sink) -> Walk[Tree]:
    """The same as a walk that needs nothing, but pauses now and then."""
    leaves = LevelBuilder(rule, 0, sink)
    stream = iter(entries)
    while batch := list(islice(stream, _BATCH)):
        keys, values = zip(*batch, strict=True)
        leaves.extend(keys, values, ())
        yield PAUSE
    return leaves.finish()


class LevelBuilder:
    """One level under construction, which feeds the level above it."""

    def __init__(self, rule: Rule, level: int, sink: Sink) -> None:
        if level >= TREE_HEIGHT_MAX:
            raise UsageError(f"a tree of more than {TREE_HEIGHT_MAX} levels", hint="use shorter keys")
        self._rule = rule
        self._level = level
        self._sink = sink
        self._keys: list[bytes] = []
        self._values: list[Value] = []
        self._counts: list[int] = []
        self._began_at_cut = False
        self._chunks = 0
        self._only = EMPTY_TREE
        self._above: LevelBuilder | None = None
        self._pending_above: tuple[list[bytes], list[Cid], list[int]] = ([], [], [])

    def extend(self, keys: Sequence[bytes], values: Sequence[Value], counts: Sequence[int]) -> None:
        """Add items behind those already here: entries (a leaf level, no counts), or references."""
        if not keys:
            return
        if not all(map(lt, keys, keys[1:])) or (self._keys and self._keys[-1] >= keys[0]):
            raise ValueError("keys must strictly increase")
        if max(map(len, keys)) > KEY_BYTES_MAX or max(map(len, values)) > INLINE_VALUE_BYTES_MAX:
            raise ValueError("a key or a value is too long for a tree")
        self._keys += keys
        self._values += values
        self._counts += counts
        if len(self._keys) >= _BATCH:
            self._cut(at_end=False)

    def finish(self) -> Tree:
        """Cut what is left, here and above, and return the tree."""
        if self._keys:
            self._cut(at_end=True)
        if self._chunks == 0:
            self._sink(EMPTY_TREE.root, EMPTY_CHUNK)
            return EMPTY_TREE
        if self._chunks == 1:
            return self._only
        self._hand_up()
        assert self._above is not None
        return self._above.finish()

    def _cut(self, *, at_end: bool) -> None:
        keys, values, level = self._keys, self._values, self._level
        priorities = self._rule.priorities(level, keys)
        if level:
            weights = [len(key) + 48 for key in keys]
        else:
            weights = [size + 16 for size in map(add, map(len, keys), map(len, values))]
        cuts = find_cuts(priorities, weights, self._rule.max_weight, before=self._began_at_cut, at_end=at_end)
        start = 0
        for cut in cuts.positions:
            if cut > cuts.undecided_from:
                break
            self._emit(start, cut)
            start = cut
        if at_end:
            self._emit(start, len(keys))
            start = len(keys)
        if start:
            del keys[:start], values[:start], self._counts[:start]
            self._began_at_cut = True
        if len(self._pending_above[0]) >= _BATCH:
            self._hand_up()

    def _emit(self, start: int, end: int) -> None:
        keys, values = self._keys[start:end], self._values[start:end]
        if self._level:
            counts = self._counts[start:end]
            count = sum(counts)
            data = encode_inner(self._level, keys, values, counts)
        else:
            count = len(keys)
            data = encode_leaf(keys, values)
        cid = cid_of(data)
        self._sink(cid, data)
        self._chunks += 1
        self._only = Tree(cid, count)
        above_keys, above_cids, above_counts = self._pending_above
        above_keys.append(keys[0])
        above_cids.append(cid)
        above_counts.append(count)

    def _hand_up(self) -> None:
        if self._above is None:
            self._above = LevelBuilder(self._rule, self._level + 1, self._sink)
        pending, self._pending_above = self._pending_above, ([], [], [])
        self._above.extend(*pending)
