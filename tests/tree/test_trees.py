"""Trees: however they came about they are the same, and every way of reading them agrees with a dict."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import suppress
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhizome_index.blocks.cid import cid_of, format_cid
from rhizome_index.blocks.store import MemoryStore
from rhizome_index.errors import IntegrityError
from rhizome_index.query.proof import record
from rhizome_index.tree import cursor
from rhizome_index.tree.boundary import Rule
from rhizome_index.tree.build import build
from rhizome_index.tree.diff import Diff, first_difference
from rhizome_index.tree.edit import edit
from rhizome_index.tree.levels import Levels, Place
from rhizome_index.tree.node import Tree, decode_node, encode_inner
from rhizome_index.tree.walk import Walk, load_root, together
from tests.driving import MemorySource, gather

RULE = Rule(b"salt", 4096)
Content = dict[bytes, bytes]


def some_content(random_: random.Random, size: int) -> Content:
    length = random_.choice([1, 2, 3, 8, 100])
    return {
        random_.randbytes(length): random_.randbytes(random_.choice([0, 10, 32, 32, 32, 1500])) for _ in range(size)
    }


def built(source: MemorySource, content: Content, rule: Rule = RULE) -> Tree:
    return build(rule, sorted(content.items()), source.store.blocks.__setitem__)


def edited(source: MemorySource, tree: Tree, edits: dict[bytes, bytes | None], rule: Rule = RULE) -> Tree:
    result: Tree = source.run(edit(tree, rule, sorted(edits.items()), source.store.blocks.__setitem__))
    return result


def some_edits(random_: random.Random, content: Content, size: int) -> dict[bytes, bytes | None]:
    edits: dict[bytes, bytes | None] = {}
    there = sorted(content)
    for _ in range(size):
        if there and random_.random() < 0.6:
            edits[random_.choice(there)] = None if random_.random() < 0.6 else random_.randbytes(32)
        else:
            edits[random_.randbytes(random_.choice([1, 3, 200]))] = random_.randbytes(40)
    return edits


def apply(content: Content, edits: dict[bytes, bytes | None]) -> None:
    for key, value in edits.items():
        if value is None:
            content.pop(key, None)
        else:
            content[key] = value


@given(st.integers(0, 2**32), st.sampled_from([0, 1, 5, 50, 300, 1000]))
def test_any_order_and_batching_of_edits_gives_the_root_of_one_build(seed: int, size: int) -> None:
    random_ = random.Random(seed)
    source = MemorySource(MemoryStore())
    content = some_content(random_, size)
    tree = built(source, content)
    for _ in range(4):
        edits = some_edits(random_, content, random_.choice([1, 1, 2, 10, 400]))
        tree = edited(source, tree, edits)
        apply(content, edits)
        assert tree == built(source, content)
    assert edited(source, tree, dict.fromkeys(content)).count == 0


@given(st.integers(0, 2**32), st.sampled_from([0, 1, 30, 1000]))
def test_reading_agrees_with_a_dict(seed: int, size: int) -> None:
    random_ = random.Random(seed)
    source = MemorySource(MemoryStore())
    content = some_content(random_, size)
    tree = built(source, content)
    keys = sorted(content)
    for _ in range(5):
        low = random_.choice([*keys, b"", random_.randbytes(2)])
        high = random_.choice([*keys, None, random_.randbytes(2)])
        span = cursor.Span(low, high)
        wanted = [(key, content[key]) for key in keys if key >= low and (high is None or key < high)]
        assert source.run(gather(cursor.Cursor(tree, span))) == wanted
        assert source.run(gather(cursor.Cursor(tree, span, reverse=True))) == wanted[::-1]
        assert source.run(cursor.count(tree, span)) == len(wanted)
    asked = sorted({random_.choice([*keys, b"x"]) for _ in range(9)})
    assert source.run(cursor.get_many(tree, asked)) == [content.get(key) for key in asked]
    for place in random_.sample(range(len(keys)), min(5, len(keys))):
        assert source.run(cursor.select(tree, place)) == (keys[place], content[keys[place]])
        assert source.run(cursor.rank(tree, keys[place])) == place
    places = sorted(random_.randrange(len(keys)) for _ in range(20 if keys else 0))
    both = together([cursor.select_many(tree, places), cursor.get_many(tree, asked), cursor.count(tree)])
    assert source.run(both) == [
        [(keys[place], content[keys[place]]) for place in places],
        [content.get(key) for key in asked],
        len(keys),
    ]
    for wrong in ([len(keys)], [-1]):
        with pytest.raises(IndexError):
            source.run(cursor.select_many(tree, wrong))


@given(st.integers(0, 2**32), st.sampled_from([0, 1, 1000, 5000]), st.sampled_from([0, 1, 40, 900]))
def test_a_diff_applied_to_the_old_tree_gives_the_new_one(seed: int, size: int, changes: int) -> None:
    random_ = random.Random(seed)
    source = MemorySource(MemoryStore())
    content = some_content(random_, size)
    old = built(source, content)
    before = dict(content)
    apply(content, some_edits(random_, content, changes))
    new = built(source, content)
    found = source.run(gather(Diff(old, new)))
    both = sorted(before.keys() | content.keys())
    assert found == [(key, before.get(key), content.get(key)) for key in both if before.get(key) != content.get(key)]
    assert edited(source, old, {key: becomes for key, _, becomes in found}) == new
    low, high = sorted([*random_.sample(both, 2), b"", b"~"])[1:3] if len(both) > 1 else (b"", b"~")
    for span in (cursor.Span(low, high), cursor.Span(low), cursor.Span(b"", low), cursor.Span(high, low)):
        within = [item for item in found if span.within([item[0]]) == (0, 1)]
        assert source.run(gather(Diff(old, new, span))) == within
    assert source.run(first_difference(old, new)) == (found[0] if found else None)


def test_the_first_difference_is_found_by_the_way_there_alone() -> None:
    """Each tree is some 500 chunks; what the two share is not read."""
    source = MemorySource(MemoryStore())
    content = {sha256(b"%d" % number).digest(): bytes(40) for number in range(20_000)}
    old = built(source, content)
    key = sorted(content)[12_345]
    new = edited(source, old, {key: None})
    steps = list(record(first_difference(old, new), source))
    assert steps[-1] == (key, content[key], None) and 4 < len(steps) - 1 < 20


def test_walks_together_need_as_often_as_the_longest_alone() -> None:
    source = MemorySource(MemoryStore())
    keys = [b"%06d" % number for number in range(20_000)]
    tree = built(source, dict.fromkeys(keys, b""))

    def needs(walk: Any) -> int:
        made = 0
        with suppress(StopIteration):
            need = next(walk)
            while True:
                made += 1
                need = walk.send([node for _, node in source.chunks(need.cids)])
        return made

    walks = [cursor.select_many(tree, [5, 9000]), cursor.get_many(tree, [keys[19_000]]), cursor.get_many(tree, [])]
    assert needs(together(walks)) == needs(cursor.get_many(tree, keys[:1])) == 3


def test_a_chunk_that_is_no_node_is_told_to_the_walk_that_needs_it() -> None:
    """With the key on the way to it, whether one or many are asked for, alone or together."""
    source = MemorySource(MemoryStore())
    keys = [b"%06d" % number for number in range(20_000)]
    tree = built(source, dict.fromkeys(keys, b""))
    place = source.run(_leaf_of(tree, keys[12_345]))
    data = b"\0" + source.store.blocks.pop(place.cid)
    bad = cid_of(data)
    source.store.blocks[bad] = data
    parent, at = place.path[-1]
    links = [*parent.values[:at], bad, *parent.values[at + 1 :]]
    lying = encode_inner(parent.level, parent.keys, links, parent.counts)
    source.store.blocks[cid_of(lying)] = lying
    below = Tree(cid_of(lying), parent.count)
    walks = {
        "one": lambda: cursor.Cursor(below, cursor.Span(place.node.keys[1])).next_entries(),
        "many": lambda: cursor.get_many(below, [place.node.keys[1]]),
        "together": lambda: together([cursor.select_many(below, [0]), cursor.get_many(below, [place.node.keys[1]])]),
    }
    for walk in walks.values():
        with pytest.raises(IntegrityError) as caught:
            source.run(walk())
        assert (caught.value.cid, caught.value.key) == (bad, place.node.keys[0])


def _leaf_of(tree: Tree, key: bytes) -> Walk[Place]:
    levels = Levels(tree, (yield from load_root(tree)), None)
    return (yield from levels.towards(0, key))


def ground_keys(count: int) -> list[bytes]:
    """Keys whose gaps all have priorities so high that a threshold on hashes would never cut there."""
    keys: list[bytes] = []
    number = 0
    while len(keys) < count:
        number += 1
        key = b"%08d" % number
        if RULE.priorities(0, [key])[0] >= b"\xe0":
            keys.append(key)
    return keys


@pytest.mark.parametrize("arranged", ["ground", "rising", "falling"])
def test_an_edit_at_the_head_of_ground_keys_rewrites_few_chunks(arranged: str) -> None:
    keys = ground_keys(5000)
    if arranged != "ground":
        # Each key gets a prefix that puts it in the order of its priority, searched for as an attacker would.
        wanted: list[tuple[bytes, bytes]] = []
        for number in range(1200):
            options = [b"%05d-%d" % (number, attempt) for attempt in range(6)]
            ranked = sorted(zip(RULE.priorities(0, options), options, strict=True))
            share = number / 1200 if arranged == "rising" else 1 - number / 1200
            wanted.append(ranked[min(5, int(share * 6))])
        keys = [key for _, key in wanted]
    source = MemorySource(MemoryStore())
    content = {key: sha256(key).digest() for key in keys}
    tree = built(source, content)
    for edits in ({b"0": b"first"}, {keys[0]: None}, {keys[0]: b"longer than before" * 9}):
        written: Counter[int] = Counter()

        def sink(cid: bytes, data: bytes, written: Counter[int] = written) -> None:
            written[decode_node(data).level] += 1
            source.store.blocks[cid] = data

        source.run(edit(tree, RULE, sorted(edits.items()), sink))
        assert max(written.values()) <= 4, written


def test_an_edit_reads_little_beside_the_way_to_it() -> None:
    """Of a tree of three levels: what stays cut is not read, and of what may not only as much as decides it."""
    random_ = random.Random(3)
    source = MemorySource(MemoryStore())
    content = {sha256(b"%d" % number).digest(): bytes(40) for number in range(10_000)}
    tree = built(source, content)
    for value, chunks_max in ((bytes(80), 3.1), (bytes(40), 3.1), (bytes(39), 5), (bytes(10), 5), (None, 5)):
        read = 0
        for key in random_.sample(sorted(content), 50):
            read += len(list(record(edit(tree, RULE, [(key, value)], lambda cid, data: None), source))) - 1
        assert read / 50 < chunks_max


def test_edits_all_over_a_tree_need_it_level_by_level() -> None:
    """Not one after the other: whoever fetches what they need waits once for each level."""
    source = MemorySource(MemoryStore())
    content = {sha256(b"%d" % number).digest(): bytes(40) for number in range(10_000)}
    tree = built(source, content)
    random_ = random.Random(4)
    edits = [(key, bytes(41)) for key in sorted(random_.sample(sorted(content), 100))]
    walk = edit(tree, RULE, edits, source.store.blocks.__setitem__)
    needs, read = [], next(walk)
    with suppress(StopIteration):
        while True:
            needs.append(len(read.cids))
            read = walk.send([node for _, node in source.chunks(read.cids)])
    assert len(needs) == 3 and needs[0] == 1 and sum(needs) > 100


def test_every_chunk_is_bounded() -> None:
    source = MemorySource(MemoryStore())
    built(source, {b"%08d" % number: b"" for number in range(3000)}, Rule(b"", 4096))
    for data in source.store.blocks.values():
        node = decode_node(data)
        weight = sum(len(key) + 48 for key in node.keys) if node.level else sum(len(key) + 16 for key in node.keys)
        assert weight <= 4096 or len(node.keys) == 1


def test_the_golden_root_never_changes() -> None:
    source = MemorySource(MemoryStore())
    tree = built(
        source, {b"key %05d" % number: sha256(b"%d" % number).digest() for number in range(10_000)}, Rule(b"s")
    )
    assert format_cid(tree.root) == GOLDEN


def test_the_empty_tree_is_the_empty_leaf() -> None:
    source = MemorySource(MemoryStore())
    assert built(source, {}).root == cid_of(b"\x83\x00\x80\x80")


def test_build_refuses_keys_out_of_order() -> None:
    for entries in ([(b"b", b""), (b"a", b"")], [(b"a", b""), (b"a", b"")]):
        with pytest.raises(ValueError, match="increase"):
            build(RULE, entries, lambda cid, data: None)


GOLDEN = "bafyreibzajwwrlq5bqakjgkwu54btmiwgxrv5bfblpe5w5tjjzqbpp2tbq"
