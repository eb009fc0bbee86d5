"""Trees under attack: keys chosen so that gaps have the priorities an attacker wants, edited anywhere."""

from __future__ import annotations

import random
from collections import Counter
from functools import lru_cache
from hashlib import sha256

import pytest
from hypothesis import strategies as st

from rhizome_index.blocks.store import MemoryStore
from rhizome_index.tree.boundary import Rule
from rhizome_index.tree.build import build
from rhizome_index.tree.cursor import Cursor
from rhizome_index.tree.diff import Diff
from rhizome_index.tree.edit import edit
from rhizome_index.tree.node import Node, Tree, decode_node, inner_weight, leaf_weight
from tests.driving import MemorySource, gather
from tests.properties.effort import quickly, thoroughly

RULE = Rule(b"attacked")
CHUNKS_A_LEVEL_MAX = 4
COUNT = 5000
PATTERNS = ["high", "low", "rising", "falling", "mountains", "one low in the middle"]


def wanted_share(pattern: str, number: int) -> float:
    """Where in the range of priorities the gap before a key shall lie."""
    share = number / COUNT
    waves = abs((number % 700) / 350 - 1)
    return {
        "high": 1.0,
        "low": 0.0,
        "rising": share,
        "falling": 1 - share,
        "mountains": waves,
        "one low in the middle": 0.0 if number == COUNT // 2 else 1.0,
    }[pattern]


@lru_cache
def attacked(pattern: str) -> tuple[MemorySource, Tree, dict[bytes, bytes]]:
    """A tree of 5,000 keys, each the one of sixteen whose priority comes closest to what the attacker wants."""
    content = {}
    for number in range(COUNT):
        wanted = wanted_share(pattern, number) * 2**64
        options = [b"%06d-%x" % (number, attempt) for attempt in range(16)]
        priorities = [int.from_bytes(priority, "big") for priority in RULE.priorities(0, options)]
        key = min(zip(priorities, options, strict=True), key=lambda option: abs(option[0] - wanted))[1]
        content[key] = sha256(key).digest()
    source = MemorySource(MemoryStore())
    return source, build(RULE, sorted(content.items()), source.store.blocks.__setitem__), content


def written_by(source: MemorySource, tree: Tree, edits: dict[bytes, bytes | None]) -> tuple[Tree, Counter[int]]:
    """The tree edited, and how many chunks of each level that wrote."""
    result, nodes = edited_nodes(source, tree, edits)
    return result, Counter(node.level for node in nodes)


def edited_nodes(source: MemorySource, tree: Tree, edits: dict[bytes, bytes | None]) -> tuple[Tree, list[Node]]:
    """The tree edited, and the nodes that this wrote."""
    blocks: dict[bytes, bytes] = {}
    result = source.run(edit(tree, RULE, sorted(edits.items()), blocks.__setitem__))
    source.store.put_many(blocks.items())
    return result, list(map(decode_node, blocks.values()))


def weights_written(nodes: list[Node]) -> Counter[int]:
    """The weight of nodes, level by level."""
    found: Counter[int] = Counter()
    for node in nodes:
        weigh = (lambda key, _: inner_weight(key)) if node.level else leaf_weight
        found[node.level] += sum(map(weigh, node.keys, node.values))
    return found


def some_edit(random_: random.Random, keys: list[bytes], place: int) -> dict[bytes, bytes | None]:
    return random_.choice(
        [
            {keys[place]: None},
            {keys[place]: random_.randbytes(random_.choice([0, 32, 33, 2048]))},
            {keys[place] + b"-" + random_.randbytes(4): random_.randbytes(random_.choice([0, 32, 2048]))},
        ]
    )


def check_edits(pattern: str, seed: int) -> None:
    source, tree, content = attacked(pattern)
    random_ = random.Random(seed)
    keys = list(content)
    place = random_.choice([0, 0, 1, len(keys) - 1, random_.randrange(len(keys))])
    edits = some_edit(random_, keys, place)
    edited, nodes = edited_nodes(source, tree, edits)
    back, nodes_back = edited_nodes(source, edited, {key: content.get(key) for key in edits})
    assert back == tree
    for written in (nodes, nodes_back):
        # What is cut anew lies within MAX of the edit, and each end of it within a node. So it is a few nodes,
        # or more that are as small as an attacker has made them: never more than this in weight.
        assert max(weights_written(written).values(), default=0) <= 4 * RULE.max_weight + 3000, edits


def check_edits_at_the_head(pattern: str, seed: int) -> None:
    source, tree, content = attacked(pattern)
    edits = some_edit(random.Random(seed), list(content), 0)
    edited, written = written_by(source, tree, edits)
    back, written_back = written_by(source, edited, {key: content.get(key) for key in edits})
    assert back == tree
    assert max(written.values(), default=0) <= CHUNKS_A_LEVEL_MAX, edits
    assert max(written_back.values(), default=0) <= CHUNKS_A_LEVEL_MAX, edits


@pytest.mark.parametrize("pattern", PATTERNS)
def test_an_edit_at_the_head_of_ground_keys_rewrites_few_chunks(pattern: str) -> None:
    source, tree, content = attacked(pattern)
    first = next(iter(content))
    edits: list[dict[bytes, bytes | None]] = [{b"": b""}, {b"0": b"x" * 2048}, {first: None}, {first: b""}]
    for change in edits:
        edited, written = written_by(source, tree, change)
        assert edited != tree and 1 <= max(written.values()) <= CHUNKS_A_LEVEL_MAX, (change, written)


def check_histories(seed: int, size: int, key_bytes: int) -> None:
    """Edits in any order and batching are one build; the diff says what changed; backwards is forwards reversed."""
    random_ = random.Random(seed)
    rule = Rule(random_.randbytes(4), random_.choice([4096, 8192, 32768]))
    source = MemorySource(MemoryStore())
    keep = source.store.blocks.__setitem__
    content = {random_.randbytes(key_bytes): random_.randbytes(random_.choice([0, 32, 900])) for _ in range(size)}
    tree = build(rule, sorted(content.items()), keep)
    for batch in (1, 1, 9, size + 3):
        before, old = dict(content), tree
        edits: dict[bytes, bytes | None] = {random_.randbytes(key_bytes): b"new" for _ in range(batch // 2 + 1)}
        edits |= {
            key: random_.choice([None, None, b"", b"x" * 2048])
            for key in random_.sample(list(content), min(batch, len(content)))
        }
        content = {key: value for key, value in {**content, **edits}.items() if value is not None}
        tree = source.run(edit(tree, rule, sorted(edits.items()), keep))
        assert tree == build(rule, sorted(content.items()), keep)
        found = source.run(gather(Diff(old, tree)))
        both = sorted(before.keys() | content.keys())
        assert found == [
            (key, before.get(key), content.get(key)) for key in both if before.get(key) != content.get(key)
        ]
        assert source.run(edit(old, rule, [(key, now) for key, _, now in found], keep)) == tree
        assert source.run(edit(tree, rule, [(key, was) for key, was, _ in found], keep)) == old
    forwards = source.run(gather(Cursor(tree)))
    assert forwards == sorted(content.items())
    assert source.run(gather(Cursor(tree, reverse=True))) == forwards[::-1]


HISTORIES = (st.integers(0, 2**32), st.sampled_from([0, 1, 40, 300]), st.sampled_from([1, 2, 3, 30, 1024]))
MANY_HISTORIES = (st.integers(0, 2**32), st.sampled_from([0, 1, 40, 300, 3000]), HISTORIES[2])
test_histories = quickly(check_histories, *HISTORIES)


def test_long_keys_under_the_least_weight_make_a_high_tree() -> None:
    """Found by generation: nodes of two children on average, so that 3,000 entries need more than 12 levels."""
    check_histories(446601078, 3000, 1024)


test_many_histories = thoroughly(check_histories, *MANY_HISTORIES, cases=2000)
test_edits_at_the_head_rewrite_few_chunks = quickly(
    check_edits_at_the_head, st.sampled_from(PATTERNS), st.integers(0, 2**32)
)
test_many_edits_at_the_head_rewrite_few_chunks = thoroughly(
    check_edits_at_the_head, st.sampled_from(PATTERNS), st.integers(0, 2**32), cases=5000
)
test_edits_anywhere_rewrite_few_chunks = quickly(check_edits, st.sampled_from(PATTERNS), st.integers(0, 2**32))
test_many_edits_rewrite_few_chunks = thoroughly(
    check_edits, st.sampled_from(PATTERNS), st.integers(0, 2**32), cases=5000
)
