"""The rules of one node, all kept, are the gap rule: no node is flawed exactly if a build gives the same tree."""

from __future__ import annotations

import random
from itertools import pairwise

from hypothesis import strategies as st

from rhizome_index.blocks.cid import cid_of
from rhizome_index.blocks.store import MemoryStore
from rhizome_index.tree.boundary import Rule
from rhizome_index.tree.build import build
from rhizome_index.tree.node import Node, Tree, encode_inner, encode_leaf
from rhizome_index.trust.cuts import first_flaw, flaw_towards
from tests.driving import MemorySource
from tests.properties.effort import quickly, thoroughly

RULE = Rule(b"cuts", 4096)
SEEDS = st.integers(0, 2**32)


def some_entries(random_: random.Random) -> list[tuple[bytes, bytes]]:
    size = random_.choice([0, 1, 2, 3, 20, 200])
    length = random_.choice([1, 8, 100])
    keys = sorted({random_.randbytes(length) for _ in range(size)})
    return [(key, random_.randbytes(random_.choice([0, 32, 32, 400, 1500]))) for key in keys]


def cut_otherwise(random_: random.Random, source: MemorySource, entries: list[tuple[bytes, bytes]]) -> Tree:
    """A tree of well-formed nodes that are cut at the right places but for a few, or anywhere."""
    nodes = [Node(0, [key for key, _ in entries], [value for _, value in entries], ())]
    wrong = random_.choice([0, 1, 1, 2])
    while True:
        (level,) = {node.level for node in nodes}
        items = [item for node in nodes for item in zip(node.keys, node.values, node.counts or node.keys, strict=True)]
        cuts = right_cuts(source, level, items)
        if random_.random() < 0.5 and len(items) > 1 and wrong:
            wrong -= 1
            cuts ^= {random_.randrange(1, len(items))}
        bounds = [0, *sorted(cuts), len(items)]
        made = []
        for start, end in pairwise(bounds):
            keys, values, counts = ([item[part] for item in items[start:end]] for part in range(3))
            data = encode_inner(level, keys, values, counts) if level else encode_leaf(keys, values)
            source.store.blocks[cid_of(data)] = data
            made.append((keys[0] if keys else b"", cid_of(data), sum(counts) if level else len(keys)))
        if len(made) == 1:
            return Tree(made[0][1], made[0][2])
        keys, values, counts = map(list, zip(*made, strict=True))
        nodes = [Node(level + 1, keys, values, counts)]


def right_cuts(source: MemorySource, level: int, items: list[tuple[bytes, bytes, int]]) -> set[int]:
    """By the rule as it is said: while a run is too heavy, cut it at its lowest gap."""
    priorities = RULE.priorities(level, [key for key, _, _ in items])
    weights = [len(key) + (48 if level else len(value) + 16) for key, value, _ in items]
    found: set[int] = set()
    runs = [(0, len(items))]
    while runs:
        start, end = runs.pop()
        if end - start > 1 and sum(weights[start:end]) > RULE.max_weight:
            cut = min(range(start + 1, end), key=lambda at: (priorities[at], at))
            found.add(cut)
            runs += [(start, cut), (cut, end)]
    return found


def check_cuts(seed: int) -> None:
    random_ = random.Random(seed)
    source = MemorySource(MemoryStore())
    entries = some_entries(random_)
    tree = cut_otherwise(random_, source, entries)
    flaw = source.run(first_flaw(RULE, tree))
    assert (flaw is None) == (tree == build(RULE, entries, lambda cid, data: None))
    if flaw is not None:
        level, key = flaw
        assert source.run(flaw_towards(RULE, tree, level, key))


test_flawless_trees_are_those_that_a_build_gives = quickly(check_cuts, SEEDS)
test_many_flawless_trees_are_those_that_a_build_gives = thoroughly(check_cuts, SEEDS)


def test_above_the_root_nothing_is_wrong() -> None:
    source = MemorySource(MemoryStore())
    tree = build(RULE, [(b"a", b"b")], source.store.blocks.__setitem__)
    assert source.run(flaw_towards(RULE, tree, 1, b"a")) == ""
