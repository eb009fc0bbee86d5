"""A publisher's life in some twenty steps, and what must be true of its store whatever happened in between."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import apsw

from rhizome_index.blocks.cid import check_block, cid_of
from rhizome_index.errors import StoreError
from rhizome_index.index.head import Head, Identity
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.publish import Declaration, Publisher
from rhizome_index.node.reach import Place, dataset_blocks
from rhizome_index.query.parse import parse_index

IDENTITY = Identity(b"d" * 32)
DECLARED = Declaration(time="created", indexes=dict(map(parse_index, ["by_tag=tags,-created", "by_author=author"])))
OnHead = Callable[[Head], None]
OnFailure = Callable[[StoreError], None]


def a_publisher(store: DiskStore) -> Publisher:
    return Publisher(store, IDENTITY, lambda: 1_700_000_000.0)


def some_records(chance: random.Random, count: int) -> list[dict[str, Any]]:
    """Records of keys that meet again, a few of them large."""
    return [
        {
            "id": f"p{chance.randrange(400)}",
            "tags": chance.sample(["cats", "dogs", "birds", "news"], chance.randint(0, 3)),
            "author": f"a{chance.randrange(9)}",
            "created": chance.randrange(10**6),
            "text": "x" * (chance.randrange(3000, 9000) if chance.random() < 0.03 else chance.randrange(120)),
        }
        for _ in range(count)
    ]


def live(path: Path, seed: int, on_head: OnHead, on_failure: OnFailure | None = None, steps_max: int = 16) -> None:
    """Publish into the store at a path, blocks of others coming in between; closed and opened now and then.

    on_head     told of each head when the call that published it has returned
    on_failure  told of each step that failed, after which life goes on; None: a failure ends it
    """
    chance = random.Random(seed)
    steps: list[Callable[[Publisher], Head]] = [first_step(chance), *(some_step(chance) for _ in range(steps_max))]
    store: DiskStore | None = None
    for step in steps:
        fetched = [(cid_of(data), data) for data in (chance.randbytes(3000) for _ in range(chance.randrange(4)))]
        try:
            if store is None:
                store = DiskStore(path, make=True)
            store.put_fetched(fetched)
            publisher = a_publisher(store)
            has_begun = bool(publisher.manifest("main").collections)  # its first step may have failed
            on_head((step if has_begun else steps[0])(publisher))
        except StoreError as error:
            if on_failure is None:
                raise
            on_failure(error)
        if store is not None and chance.random() < 0.12:
            _close(store)
            store = None
    if store is not None:
        _close(store)


def _close(store: DiskStore) -> None:
    with suppress(apsw.Error):  # a fault in the last writing back, which SQLite passes over and apsw shows
        store.close()


def first_step(chance: random.Random) -> Callable[[Publisher], Head]:
    """The import that a life begins with."""
    records = some_records(chance, 150)
    return lambda publisher: publisher.put_many("main", "posts", records, DECLARED, big=True)[0]


def some_step(chance: random.Random) -> Callable[[Publisher], Head]:
    """A change, which is the same whatever became of those before it."""
    kind = chance.random()
    dataset = "main" if chance.random() < 0.8 else "other"
    if kind < 0.2 or dataset == "other":
        many = some_records(chance, 80)
        return lambda publisher: publisher.put_many(dataset, "posts", many, DECLARED, big=True)[0]
    if kind < 0.6:
        few = some_records(chance, chance.randint(1, 4))
        return lambda publisher: publisher.put_many(dataset, "posts", few, DECLARED)[0]
    if kind < 0.8:
        keys = [f"p{chance.randrange(400)}" for _ in range(5)]
        return lambda publisher: publisher.delete_many(dataset, "posts", keys)[0]
    return _change_index


def _change_index(publisher: Publisher) -> Head:
    if "by_time" in publisher.manifest("main").collection("posts").indexes:
        return publisher.drop_index("main", "posts", "by_time")
    return publisher.add_index("main", "posts", *parse_index("by_time=created"))[0]


def check_store(
    path: Path, acknowledged: list[Head], on_head: OnHead, others_max: int = 1, seen: set[Place] | None = None
) -> None:
    """The store opens, is sound, has every head that was acknowledged with all it leads to, and goes on behind them.

    on_head     told of the heads that are published then
    others_max  how many heads there may be beside those acknowledged: one that was being written, or none
    seen        blocks that need not be looked at again; those that are looked at are added
    """
    store = DiskStore(path, make=not acknowledged)
    try:
        assert store.execute("pragma integrity_check") == [("ok",)]
        for head in acknowledged:
            assert store.head_of(head.address, head.manifest) is not None, f"lost head {head.sequence}"
        check_blocks(store, store.all_heads(), set() if seen is None else seen)
        kept = {(head.address, head.sequence, head.manifest) for head in store.all_heads()}
        told = {(head.address, head.sequence, head.manifest) for head in acknowledged}
        assert told <= kept and len(kept - told) <= others_max, "acknowledged heads and kept ones differ"
        check_sequences(store, acknowledged, on_head)
    finally:
        store.close()


def check_blocks(store: DiskStore, heads: list[Head], seen: set[Place]) -> None:
    """Every block that these heads lead to can be read, and is right."""
    for head in heads:
        for cid, data in dataset_blocks(store, head, seen):
            check_block(cid, data)


def check_sequences(store: DiskStore, acknowledged: list[Head], on_head: OnHead) -> None:
    """Publishing goes on behind every sequence that anybody may know."""
    publisher = a_publisher(store)
    for name in ("main", "other"):
        known = [head.sequence for head in store.all_heads() if head.address.name == name]
        assert sorted(known) == list(range(1, len(known) + 1)), "a gap, or a sequence twice"
        head, _ = publisher.put_many(name, "posts", [{"id": "after", "n": len(known)}], None if known else DECLARED)
        on_head(head)
        assert head.sequence == len(known) + 1
        told = [old.sequence for old in acknowledged if old.address.name == name]
        assert head.sequence > max(told, default=0)
