"""Apply a sorted batch of edits to a tree, reading and writing only what they touch.

Level by level from the leaves. An edit can change cuts no further away than MAX
in weight (see `boundary`). So each group of edits gets a window that begins and
ends at cuts with more than MAX of untouched weight on both sides of them; there
the level is cut anew, and the references that changed are the next level's
edits. Most edits need no such window: one that adds weight inside of a node, with no
gap lower than the node's own cuts, changes nothing outside of it; and one that takes
weight away does not either, if with what stands beside the node enough is left. The
result is the tree that one `build` of the final entries gives.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise
from operator import lt

from rhizome_index.blocks.cid import Cid, cid_of
from rhizome_index.errors import IntegrityError
from rhizome_index.limits import INLINE_VALUE_BYTES_MAX, KEY_BYTES_MAX
from rhizome_index.tree.boundary import Priority, Rule, find_cuts
from rhizome_index.tree.build import LevelBuilder, Sink
from rhizome_index.tree.levels import Levels, Place, weights_of
from rhizome_index.tree.node import (
    EMPTY_CHUNK,
    EMPTY_TREE,
    Node,
    Ref,
    Tree,
    Value,
    encode_inner,
    encode_leaf,
    inner_weight,
    leaf_weight,
)
from rhizome_index.tree.walk import Walk, load_root

Edit = tuple[bytes, Value | None]  # None deletes; deleting what is not there does nothing

# What stands at a key of a level: an entry's value, or (child's CID, entries below it).
_Item = Value | tuple[Cid, int]
_Change = tuple[bytes, _Item | None]


def edit(tree: Tree, rule: Rule, edits: Sequence[Edit], sink: Sink) -> Walk[Tree]:
    """The tree with these edits applied. Their keys must strictly increase. Raises IntegrityError."""
    keys = [key for key, _ in edits]
    if not all(map(lt, keys, keys[1:])):
        raise ValueError("edits must be sorted by key, each key once")
    for key, value in edits:
        if len(key) > KEY_BYTES_MAX or (value is not None and len(value) > INLINE_VALUE_BYTES_MAX):
            raise ValueError("a key or a value is too long for a tree")
    if not edits:
        return tree
    root = yield from load_root(tree)
    editor = _Editor(tree, root, rule, sink)
    yield from editor.load_towards(keys)
    changes: list[_Change] = list(edits)
    for level in range(root.level + 1):
        changes = yield from editor.edit_level(level, changes)
        if not changes:
            return tree
    return (yield from editor.close(changes))


class _Editor:
    def __init__(self, tree: Tree, root: Node, rule: Rule, sink: Sink) -> None:
        self._nodes: dict[Cid, Node] = {}
        self._levels = Levels(tree, root, self._nodes)
        self._rule = rule
        self._sink = sink

    def load_towards(self, keys: list[bytes]) -> Walk[None]:
        """Read what the edits will touch in any case, all at once."""
        yield from self._levels.load_towards(keys)

    # --- one level ---

    def edit_level(self, level: int, changes: list[_Change]) -> Walk[list[_Change]]:
        """Apply changes to a level and return what changed on the level above."""
        keys = [key for key, _ in changes]
        above: dict[bytes, _Item | None] = {}
        at = 0
        while at < len(changes):
            place = yield from self._levels.towards(level, keys[at])
            end_key = place.end_key()
            end = len(keys) if end_key is None else bisect_left(keys, end_key)
            if not any(_moves_cuts(place.node, key, item) for key, item in changes[at:end]):
                self._rewrite([place], changes[at:end], above, recut=False, after=None)
                at = end
                continue
            after = None if end_key is None else self._rule.priorities(level, [end_key])[0]
            if (yield from self._keeps_its_bounds(place, after, keys, changes, at, end)):
                self._rewrite([place], changes[at:end], above, recut=True, after=after)
                at = end
                continue
            window, behind = yield from self._window(place, keys, changes)
            start = bisect_left(keys, window[0].node.keys[0]) if window[0].has_left else 0
            end = len(keys) if behind is None else bisect_left(keys, behind)
            if end <= at:
                raise IntegrityError("a tree whose nodes overlap", cid=place.cid, key=keys[at])
            after = None if behind is None else self._rule.priorities(level, [behind])[0]
            self._rewrite(window, changes[start:end], above, recut=True, after=after)
            at = end
        return sorted(above.items())

    def _keeps_its_bounds(
        self, place: Place, after: Priority | None, keys: list[bytes], changes: list[_Change], at: int, end: int
    ) -> Walk[bool]:
        """Whether a node's own cuts stand whatever these changes do inside of it, so that it can be cut by itself.

        Gaps inside a node are higher than its cuts, or they would be cuts. So while no new one is lower, the runs
        around its cuts contain all of it: if it gets no lighter, they do not. If both cuts stand, no cut outside
        has changed: whose run contains the node contains that of one of them.
        """
        node = place.node
        if not node.keys or keys[at] < node.keys[0]:
            return False
        new: list[bytes] = []
        gained = 0
        for key, item in changes[at:end]:
            position = bisect_left(node.keys, key)
            is_there = position < len(node.keys) and node.keys[position] == key
            if is_there and item is None and position == 0:
                return False
            if is_there:
                gained -= _weight(node, position, position + 1)
            elif item is not None:
                new.append(key)
            if item is not None:
                gained += inner_weight(key) if node.level else leaf_weight(key, item)  # type: ignore[arg-type]
        before = self._rule.priorities(node.level, node.keys[:1])[0] if place.has_left else None
        if new:
            lowest = min(self._rule.priorities(node.level, new))
            if (before is not None and lowest <= before) or (after is not None and lowest <= after):
                return False
        if gained >= 0 or before is after is None:
            return True
        step = -1 if after is None or (before is not None and before > after) else +1
        return (yield from self._outweighs(place, _weight(node) + gained, step, keys, changes))

    def _outweighs(self, place: Place, weight: int, step: int, keys: list[bytes], changes: list[_Change]) -> Walk[bool]:
        """Whether a node of this weight and untouched ones beside it weigh more than MAX, in one run around the cut
        between them, which is the higher one of the node: then its lower one has a run that contains this one."""
        level = place.node.level
        cut = place.node.keys[0] if step < 0 else place.end_key()
        assert cut is not None
        (bound,) = self._rule.priorities(level, [cut])
        while weight <= self._rule.max_weight:
            following = yield from self._levels.neighbour(place, step)
            if following is None or _touched(following, keys, changes)[0] is not None:
                return False
            weight += _weight(following.node)
            beyond = following.node.keys[0] if step < 0 else following.end_key()
            if weight <= self._rule.max_weight and (
                beyond is None or self._rule.priorities(level, [beyond])[0] <= bound
            ):
                return False
            place = following
        return True

    def _window(
        self, place: Place, keys: list[bytes], changes: list[_Change]
    ) -> Walk[tuple[list[Place], bytes | None]]:
        """The nodes to cut anew, and the key of the standing cut behind them (None: the level ends)."""
        max_weight = self._rule.max_weight
        first, last = _touched(place, keys, changes)
        assert first is not None and last is not None
        window = [place]
        untouched = _weight(place.node, 0, bisect_left(place.node.keys, first))
        while untouched <= max_weight:
            previous = yield from self._levels.neighbour(window[0], -1)
            if previous is None:
                break
            window.insert(0, previous)
            untouched += _weight(previous.node)
        # Behind: `size` nodes up to the first cut with more than MAX since the last edit, then MAX more.
        untouched = _weight(place.node, bisect_right(place.node.keys, last), None)
        size, untouched_at_size = (len(window), untouched) if untouched > max_weight else (0, 0)
        while not size or untouched - untouched_at_size <= max_weight:
            following = yield from self._levels.neighbour(window[-1], +1)
            if following is None:
                return window, None
            window.append(following)
            touched_first, touched_last = _touched(following, keys, changes)
            if touched_first is None or touched_last is None:
                untouched += _weight(following.node)
                if not size and untouched > max_weight:
                    size, untouched_at_size = len(window), untouched
                continue
            before = untouched + _weight(following.node, 0, bisect_left(following.node.keys, touched_first))
            if size and before - untouched_at_size > max_weight:
                break
            untouched = _weight(following.node, bisect_right(following.node.keys, touched_last), None)
            size, untouched_at_size = (len(window), untouched) if untouched > max_weight else (0, 0)
        return window[:size], window[size].node.keys[0] if size < len(window) else window[size - 1].end_key()

    def _rewrite(
        self,
        window: list[Place],
        changes: list[_Change],
        above: dict[bytes, _Item | None],
        *,
        recut: bool,
        after: bytes | None,
    ) -> None:
        """Apply changes to the items of some nodes, cut them anew if need be, and note the references that differ."""
        level = window[0].node.level
        keys, items = _merge(window, changes)
        old = {}
        for place in window:
            if place.node.keys:
                old[place.node.keys[0]] = place
                above[place.node.keys[0]] = None
        bounds = [0, len(keys)]
        if recut and keys:
            if level:
                weights = [inner_weight(key) for key in keys]
            else:
                weights = [leaf_weight(key, item) for key, item in zip(keys, items, strict=True)]  # type: ignore[arg-type]
            cuts = find_cuts(
                self._rule.priorities(level, keys),
                weights,
                self._rule.max_weight,
                before=window[0].has_left,
                after=after,
            )
            bounds = [0, *cuts.positions, len(keys)]
        for start, end in pairwise(bounds):
            if start == end:
                continue
            kept = old.get(keys[start])
            if kept is not None and kept.node.keys == keys[start:end] and _items(kept.node) == items[start:end]:
                above.pop(keys[start], None)
            else:
                above[keys[start]] = self._write(level, keys[start:end], items[start:end])

    def _write(self, level: int, keys: list[bytes], items: list[_Item]) -> tuple[Cid, int]:
        if level:
            cids = [item[0] for item in items]
            counts = [item[1] for item in items]
            node = Node(level, keys, cids, counts)  # type: ignore[arg-type]
            data = encode_inner(level, keys, cids, counts)  # type: ignore[arg-type]
        else:
            node = Node(0, keys, items, ())  # type: ignore[arg-type]
            data = encode_leaf(keys, items)  # type: ignore[arg-type]
        cid = cid_of(data)
        self._sink(cid, data)
        if level:
            self._nodes[cid] = node
        return cid, node.count

    # --- the top ---

    def close(self, changes: list[_Change]) -> Walk[Tree]:
        """The tree above the old root's level, given what became of the old root."""
        level = self._levels.root.level
        items = [(key, item) for key, item in changes if item is not None]
        if not items:
            self._sink(EMPTY_TREE.root, EMPTY_CHUNK)
            return EMPTY_TREE
        if len(items) > 1:
            builder = LevelBuilder(self._rule, level + 1, self._sink)
            cids, counts = zip(*(item for _, item in items), strict=True)
            builder.extend([key for key, _ in items], cids, counts)
            return builder.finish()
        key, (cid, count) = items[0]
        while level:
            node = yield from self._levels.load(Ref(cid, level, key, count))  # type: ignore[arg-type]
            if len(node.keys) > 1:
                break
            cid, level = node.values[0], level - 1
        return Tree(cid, count)  # type: ignore[arg-type]


def _moves_cuts(node: Node, key: bytes, item: _Item | None) -> bool:
    """Whether a change adds or removes an item of this node, or changes its weight."""
    position = bisect_left(node.keys, key)
    present = position < len(node.keys) and node.keys[position] == key
    if item is None or not present:
        return present or item is not None
    return not node.level and len(node.values[position]) != len(item)


def _touched(place: Place, keys: list[bytes], changes: list[_Change]) -> tuple[bytes | None, bytes | None]:
    """The first and the last key of the changes in this node that move cuts."""
    start = bisect_left(keys, place.node.keys[0]) if place.has_left else 0
    end_key = place.end_key()
    end = len(keys) if end_key is None else bisect_left(keys, end_key)
    touched = [key for key, item in changes[start:end] if _moves_cuts(place.node, key, item)]
    return (touched[0], touched[-1]) if touched else (None, None)


def _weight(node: Node, start: int = 0, end: int | None = None) -> int:
    return sum(weights_of(node)[start:end])


def _items(node: Node) -> list[_Item]:
    if node.level:
        return list(zip(node.values, node.counts, strict=True))
    return list(node.values)


def _merge(window: list[Place], changes: list[_Change]) -> tuple[list[bytes], list[_Item]]:
    """The items of some adjacent nodes with changes applied."""
    old_keys: list[bytes] = []
    old_items: list[_Item] = []
    for place in window:
        old_keys += place.node.keys
        old_items += _items(place.node)
    keys: list[bytes] = []
    items: list[_Item] = []
    at = 0
    for key, item in changes:
        upto = bisect_left(old_keys, key, at)
        keys += old_keys[at:upto]
        items += old_items[at:upto]
        at = upto + 1 if upto < len(old_keys) and old_keys[upto] == key else upto
        if item is not None:
            keys.append(key)
            items.append(item)
    return keys + old_keys[at:], items + old_items[at:]
