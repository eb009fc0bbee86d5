"""Whether a node is one that the gap rule makes, told from the node and what stands around it.

A tree is canonical exactly if of each of its nodes all of this holds:

1. its keys lie before the next node's;
2. it weighs at most MAX, or has a single item;
3. the gaps inside it are higher than its own two cuts;
4. the cut before it is one: the longest run around it, inside which no other gap is
   lower, weighs more than MAX.

By 4 every cut there is belongs there. By 2 and 3 none is missing: the run of a gap
inside a node ends at the node's own cuts or before, so it weighs at most MAX.
"""

from __future__ import annotations

from rhizome_index.tree.boundary import Priority, Rule
from rhizome_index.tree.levels import Levels, Place, weights_of
from rhizome_index.tree.node import Node, Ref, Tree
from rhizome_index.tree.walk import Walk, load_root


def flaw_towards(rule: Rule, tree: Tree, level: int, key: bytes) -> Walk[str]:
    """What is wrong with the node of a level on the way to a key; empty if nothing is."""
    root = yield from load_root(tree)
    if level > root.level:
        return ""
    levels = Levels(tree, root, None)
    return (yield from _flaw_at(rule, levels, (yield from levels.towards(level, key))))


def first_flaw(rule: Rule, tree: Tree) -> Walk[tuple[int, bytes] | None]:
    """The level and the first key of a flawed node; None, having read the whole tree, if it has none.

    The uppermost levels come first, so that the key leads to the node; and so does the one of an IntegrityError.
    """
    root = yield from load_root(tree)
    levels = Levels(tree, root, None)
    for level in reversed(range(root.level + 1)):
        place: Place | None = yield from levels.towards(level, b"")
        while place is not None:
            if (yield from _flaw_at(rule, levels, place)):
                return level, place.node.keys[0]
            place = yield from levels.neighbour(place, +1)
    return None


def first_flaw_beside(rule: Rule, tree: Tree, sound: Tree) -> Walk[tuple[int, bytes] | None]:
    """The same of a tree that has the entries of one without flaws, reading only what the two do not share.

    Levels that are alike below give the same items to the next one. So where the lowest level differs, nodes of
    the sound tree keep all the rules there, and one that does not is none of those.
    """
    levels = Levels(tree, (yield from load_root(tree)), None)
    others = Levels(sound, (yield from load_root(sound)), {})
    keys = [levels.root.keys[0]] if tree.root != sound.root and levels.root.keys else []
    for level in reversed(range(levels.root.level + 1)):
        below: list[bytes] = []
        for key in keys:
            place = yield from levels.towards(level, key)
            if (yield from _flaw_at(rule, levels, place)):
                return level, place.node.keys[0]
            if level:
                there = yield from _children(others, level, place)
                mine = map(place.node.child, range(len(place.node.keys)))
                below += [child.key for child in mine if child not in there]
        keys = below
    return None


def _children(levels: Levels, level: int, place: Place) -> Walk[set[Ref]]:
    """The nodes one level down which a tree has between the first key of another's node and its end."""
    if level > levels.root.level:
        return set()
    end_key = place.end_key()
    found: set[Ref] = set()
    here: Place | None = yield from levels.towards(level, place.node.keys[0])
    while here is not None and (end_key is None or here.node.keys[0] < end_key):
        found.update(map(here.node.child, range(len(here.node.keys))))
        here = yield from levels.neighbour(here, +1)
    return found


def flaw_of(rule: Rule, node: Node, *, has_left: bool, end_key: bytes | None) -> str:
    """What rules 1 to 3 find wrong with a node, given the first key of the next one on its level."""
    if end_key is not None and node.keys and node.keys[-1] >= end_key:
        return "a node that overlaps the next one"
    if len(node.keys) < 2:
        return ""
    if sum(weights_of(node)) > rule.max_weight:
        return "a node that is too heavy"
    first, *inside = rule.priorities(node.level, node.keys)
    lowest = min(inside)
    # Of equal priorities the earlier is the lower.
    if (has_left and lowest < first) or (end_key is not None and lowest <= _priority(rule, node.level, end_key)):
        return "a node that is not cut where it must be"
    return ""


def _flaw_at(rule: Rule, levels: Levels, place: Place) -> Walk[str]:
    flaw = flaw_of(rule, place.node, has_left=place.has_left, end_key=place.end_key())
    if flaw or not place.has_left:
        return flaw
    gap = _priority(rule, place.node.level, place.node.keys[0])
    weight = yield from _weigh_forwards(rule, levels, place, gap)
    weight = yield from _weigh_backwards(rule, levels, place, gap, weight)
    return "" if weight > rule.max_weight else "a cut that should not be"


def _weigh_forwards(rule: Rule, levels: Levels, place: Place, gap: Priority) -> Walk[int]:
    """The weight of the run behind a node's first gap, as far as it matters."""
    weight = 0
    while True:
        for item, priority in _items(rule, place.node):
            if priority < gap:
                return weight
            weight += item
            if weight > rule.max_weight:
                return weight
        end_key = place.end_key()
        if end_key is None or _priority(rule, place.node.level, end_key) < gap:
            return weight
        following = yield from levels.neighbour(place, +1)
        assert following is not None
        place = following


def _weigh_backwards(rule: Rule, levels: Levels, place: Place, gap: Priority, weight: int) -> Walk[int]:
    """The weight so far and that of the run before a node's first gap, as far as it matters."""
    while weight <= rule.max_weight and (previous := (yield from levels.neighbour(place, -1))) is not None:
        for item, priority in reversed(_items(rule, previous.node)):
            weight += item
            if weight > rule.max_weight or priority <= gap:
                return weight
        place = previous
    return weight


def _items(rule: Rule, node: Node) -> list[tuple[int, Priority]]:
    """The items of a node: each one's weight, and the priority of the gap before it."""
    return list(zip(weights_of(node), rule.priorities(node.level, node.keys), strict=True))


def _priority(rule: Rule, level: int, key: bytes) -> Priority:
    return rule.priorities(level, [key])[0]
