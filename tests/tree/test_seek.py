"""Jumps land where a sorted list says, and short ones read little."""

from __future__ import annotations

import random
from bisect import bisect_left
from typing import Any

from hypothesis import strategies as st

from rhizome_index.blocks.store import MemoryStore
from rhizome_index.tree.boundary import Rule
from rhizome_index.tree.build import build
from rhizome_index.tree.node import EMPTY_TREE, decode_node
from rhizome_index.tree.seek import Seeker
from rhizome_index.tree.walk import run
from tests.properties.effort import quickly, thoroughly


def check_jumps(seed: int, size: int) -> None:
    random_ = random.Random(seed)
    keys = sorted({random_.randbytes(random_.choice([1, 2, 3])) for _ in range(size)})
    store = MemoryStore()
    tree = build(Rule(b"", 4096), [(key, key * 9) for key in keys], store.blocks.__setitem__)
    seeker = Seeker(tree)
    for _ in range(40):
        key = random_.choice([b"", random_.randbytes(2), random_.choice(keys) if keys else b"", b"\xff" * 4])
        place = bisect_left(keys, key)
        behind = (keys[place], keys[place] * 9) if place < len(keys) else None
        before = (keys[place - 1], keys[place - 1] * 9) if place else None
        assert run(seeker.at_or_behind(key), store.get) == behind
        assert run(seeker.before(key), store.get) == before
    last = (keys[-1], keys[-1] * 9) if keys else None
    assert run(seeker.before(None), store.get) == last


test_jumps = quickly(check_jumps, st.integers(0, 2**32), st.sampled_from([0, 1, 50, 2000]), cases=30)
test_many_jumps = thoroughly(check_jumps, st.integers(0, 2**32), st.sampled_from([0, 1, 50, 2000, 9000]), cases=1000)


def test_a_jump_to_the_same_leaf_reads_nothing() -> None:
    store = MemoryStore()
    entries = [(b"%06d" % number, b"value") for number in range(5000)]
    tree = build(Rule(b"", 4096), entries, store.blocks.__setitem__)
    read: list[Any] = []

    def get(cid: bytes) -> bytes | None:
        read.append(decode_node(store.blocks[cid]).level)
        return store.get(cid)

    seeker = Seeker(tree)
    run(seeker.at_or_behind(b"003000"), get)
    assert read[-1] == 0 and len(read) == read[0] + 1
    before = len(read)
    run(seeker.at_or_behind(b"003000"), get)
    assert len(read) == before
    run(seeker.at_or_behind(b"000001"), get)
    assert len(read) <= before + read[0]


def test_nothing_is_read_of_an_empty_tree() -> None:
    seeker = Seeker(EMPTY_TREE)
    assert run(seeker.at_or_behind(b""), lambda cid: None) is None
    assert run(seeker.before(None), lambda cid: None) is None
