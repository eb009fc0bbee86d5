"""Nodes: every rule, broken in turn, is noticed when a node is read."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhizome_index.blocks import cbor
from rhizome_index.blocks.cid import cid_of
from rhizome_index.blocks.store import MemoryStore
from rhizome_index.errors import IntegrityError
from rhizome_index.limits import (
    INLINE_VALUE_BYTES_MAX,
    KEY_BYTES_MAX,
    NODE_ENTRIES_MAX,
    TREE_BLOCK_BYTES_MAX,
    TREE_HEIGHT_MAX,
)
from rhizome_index.tree import cursor
from rhizome_index.tree.boundary import Rule
from rhizome_index.tree.build import build
from rhizome_index.tree.edit import edit
from rhizome_index.tree.node import Ref, decode_node, encode_inner, encode_leaf
from tests.driving import MemorySource, gather

CID = cid_of(b"some block")
LINK = cbor.Link(CID)
LOOKS_LIKE_A_CID = bytes(CID)


def test_what_is_encoded_is_decoded() -> None:
    leaf = decode_node(encode_leaf([LOOKS_LIKE_A_CID, b"a"], [LINK, LOOKS_LIKE_A_CID]))
    assert (leaf.level, list(leaf.keys), list(leaf.values), leaf.count) == (0, [CID, b"a"], [CID, CID], 2)
    assert [type(value) for value in leaf.values] == [cbor.Link, bytes]
    inner = decode_node(encode_inner(3, [b"", LOOKS_LIKE_A_CID], [CID, CID], [5, 6]))
    assert (inner.level, list(inner.keys), [bytes(v) for v in inner.values], inner.count) == (
        3,
        [b"", CID],
        [CID, CID],
        11,
    )


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        None,
        [0, []],
        [0, [], [], []],
        [0, [b"a"], []],
        [0, [b"b", b"a"], [b"", b""]],
        [0, [b"a", b"a"], [b"", b""]],
        [0, ["a"], [b""]],
        [0, [LINK], [b""]],
        [0, [b"a"], ["text"]],
        [0, [b"a"], [b"x" * (INLINE_VALUE_BYTES_MAX + 1)]],
        [0, [b"x" * (KEY_BYTES_MAX + 1)], [b""]],
        [0, [b"%04d" % n for n in range(NODE_ENTRIES_MAX + 1)], [b""] * (NODE_ENTRIES_MAX + 1)],
        [False, [b"a"], [b""]],
        [1, [b"a"], [b""]],
        [1, [], [], []],
        [1, [b"a"], [LINK], [0]],
        [1, [b"a"], [LINK], [-1]],
        [1, [b"a"], [LINK], [True]],
        [1, [b"a"], [LINK], [1, 1]],
        [1, [b"a"], [LOOKS_LIKE_A_CID], [1]],
        [1, [LINK], [LINK], [1]],
        [1, [LINK], [LOOKS_LIKE_A_CID], [1]],
        [32, [b"a"], [LINK], [1]],
        [-1, [b"a"], [LINK], [1]],
        [1, [b"b", b"a"], [LINK, LINK], [1, 1]],
    ],
)
def test_a_malformed_node_is_refused(value: object) -> None:
    with pytest.raises(IntegrityError):
        decode_node(cbor.encode(value))


def test_the_limits_themselves_are_allowed() -> None:
    decode_node(encode_leaf([b"x" * KEY_BYTES_MAX], [b"x" * INLINE_VALUE_BYTES_MAX]))
    decode_node(encode_leaf([b"%04d" % n for n in range(NODE_ENTRIES_MAX)], [b""] * NODE_ENTRIES_MAX))


def leaf_of(size: int) -> bytes:
    """A leaf whose chunk has so many bytes: long values fill it up, and the last key makes it exact."""
    keys = [b"%02d" % number for number in range(33)]
    values = [bytes(INLINE_VALUE_BYTES_MAX)] * 31 + [bytes(500)] * 2
    missing = size - len(encode_leaf(keys, values)) - 2  # its length takes two bytes more
    data = encode_leaf([*keys[:-1], keys[-1] + bytes(missing)], values)
    assert len(data) == size
    return data


def test_a_chunk_at_the_limit_and_one_past_it() -> None:
    assert decode_node(leaf_of(TREE_BLOCK_BYTES_MAX)).count == 33
    with pytest.raises(IntegrityError, match=f"a chunk of {TREE_BLOCK_BYTES_MAX + 1} bytes"):
        decode_node(leaf_of(TREE_BLOCK_BYTES_MAX + 1))


def test_a_level_at_the_limit_and_one_past_it() -> None:
    assert decode_node(encode_inner(TREE_HEIGHT_MAX - 1, [b"a"], [CID], [1])).level == TREE_HEIGHT_MAX - 1
    with pytest.raises(IntegrityError, match="a level that no tree has"):
        decode_node(encode_inner(TREE_HEIGHT_MAX, [b"a"], [CID], [1]))


@pytest.mark.parametrize("size", [0, 1])
def test_no_tree_is_made_that_nobody_could_read(size: int) -> None:
    """Of a longer key or value, whether it is built with it or edited."""
    source = MemorySource(MemoryStore())
    keep = source.store.blocks.__setitem__
    rule = Rule(b"", 4096)
    tree = build(rule, [(b"%d" % number, b"") for number in range(size)], keep)
    most = (b"k" * KEY_BYTES_MAX, b"v" * INLINE_VALUE_BYTES_MAX)
    assert source.run(gather(cursor.Cursor(source.run(edit(tree, rule, [most], keep)))))[-1] == most
    assert source.run(gather(cursor.Cursor(build(rule, [most], keep)))) == [most]
    for key, value in ((most[0] + b"k", b""), (b"a", most[1] + b"v")):
        with pytest.raises(ValueError, match="too long for a tree"):
            build(rule, [(key, value)], keep)
        with pytest.raises(ValueError, match="too long for a tree"):
            source.run(edit(tree, rule, [(key, value)], keep))


@pytest.mark.parametrize("lie", [{"level": 2}, {"count": 3}, {"key": b"b"}])
def test_a_node_that_contradicts_its_parent_is_refused(lie: dict[str, object]) -> None:
    node = decode_node(encode_leaf([b"a", b"c"], [b"", b""]))
    ref = Ref(CID, 0, b"a", 2)
    ref.check(node)
    with pytest.raises(IntegrityError):
        replace(ref, **lie).check(node)  # type: ignore[arg-type]


def test_a_walk_notices_a_lie_anywhere_on_its_way() -> None:
    source = MemorySource(MemoryStore())
    tree = build(Rule(b"", 4096), [(b"%06d" % n, os.urandom(32)) for n in range(4000)], source.store.blocks.__setitem__)
    root = decode_node(source.block(tree.root))
    for place in range(len(root.keys)):
        counts = list(root.counts)
        counts[place] += 1
        lie = encode_inner(root.level, root.keys, root.values, counts)
        source.store.blocks[cid_of(lie)] = lie
        for count in (tree.count, tree.count + 1):
            with pytest.raises(IntegrityError):
                source.run(gather(cursor.Cursor(replace(tree, root=cid_of(lie), count=count))))


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_or_are_a_node(data: bytes) -> None:
    try:
        decode_node(b"\x83\x00" + data)
        decode_node(b"\x84\x01" + data)
    except IntegrityError:
        pass
