"""Datasets that contradict themselves: a walk believes an entry only together with its record."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from pyrsistent import pmap

from rhizome_index.blocks import cbor
from rhizome_index.blocks.cid import cid_of
from rhizome_index.blocks.store import MemoryStore
from rhizome_index.errors import IntegrityError
from rhizome_index.index.condition import Compare
from rhizome_index.index.keys import encode_component, encode_key
from rhizome_index.index.schema import Collection, Index
from rhizome_index.limits import ROWS_BATCH
from rhizome_index.query.answer import Answer
from rhizome_index.query.execute import scan
from rhizome_index.query.expr import Query
from rhizome_index.query.parse import parse_index
from rhizome_index.query.plan import candidates
from rhizome_index.tree.boundary import Rule
from rhizome_index.tree.build import build
from rhizome_index.tree.node import EMPTY_TREE
from tests.driving import MemorySource, answer_directly

RECORD = {"id": "k", "tags": ["cats"]}
BYTES = cbor.encode(RECORD)
DIGEST = sha256(BYTES).digest()
KEY = encode_component("k")
QUERY = Query("posts", Compare("=", "tags", "cats"))


def answered(primary: dict[bytes, bytes], entries: dict[bytes, bytes], blocks: tuple[bytes, ...] = ()) -> list[Any]:
    """The rows over a dataset that somebody made by hand."""
    source = MemorySource(MemoryStore())
    keep = source.store.blocks.__setitem__
    for data in blocks:
        keep(cid_of(data), data)
    name, definition = parse_index("by_tag=tags")
    tree = build(Rule(b""), sorted(entries.items()), keep)
    index = Index(name, definition, tree, (1,))
    posts = Collection("posts", "id", None, (), build(Rule(b""), sorted(primary.items()), keep), pmap({name: index}))
    candidate = next(item for item in candidates(QUERY, posts) if item.access.index == (name if entries else ""))
    return [row.record for row in answer_directly(Answer(QUERY, posts, candidate), source)[0]]


ENTRY = encode_key(["cats", "k"])


def test_an_honest_dataset_is_believed() -> None:
    assert answered({KEY: BYTES}, {ENTRY: DIGEST}) == [RECORD]
    assert answered({KEY: BYTES}, {}) == [RECORD]
    assert answered({KEY: cbor.Link(cid_of(BYTES))}, {ENTRY: DIGEST}, (BYTES,)) == [RECORD]


def holding(record: Any) -> tuple[dict[bytes, bytes], dict[bytes, bytes]]:
    data = cbor.encode(record)
    return {KEY: data}, {ENTRY: sha256(data).digest()}


DEEP: Any = []
for _ in range(40):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "record",
    [
        {"id": "k", "tags": ["dogs"]},
        {"id": "k", "tags": []},
        {"id": "other", "tags": ["cats"]},
        {"id": ["k"], "tags": ["cats"]},
        {"id": [], "tags": ["cats"]},
        {"id": None, "tags": ["cats"]},
        {"tags": ["cats"]},
        {"id": "k", "tags": ["cats", *range(1100)]},
        {"id": "k", "tags": ["cats", "x" * 1030]},
        {"id": "k", "tags": ["cats"], "deep": DEEP},
        {"id": "k", "tags": ["cats"], "link": cbor.Link(cid_of(b""))},
        {"id": "k", "tags": ["cats"], "n": 2**63},
        ["not a map"],
    ],
    ids=str,
)
def test_a_record_that_does_not_give_the_entry_is_noticed(record: Any) -> None:
    primary, entries = holding(record)
    data = primary[KEY]
    if len(data) > 2048:
        primary = {KEY: cbor.Link(cid_of(data))}
    with pytest.raises(IntegrityError):
        answered(primary, entries, (data,))


@pytest.mark.parametrize(
    "record", [{"id": "other", "tags": ["cats"]}, {"tags": ["cats"]}, {"id": ["k"], "tags": ["cats"]}, [1]], ids=str
)
def test_a_record_at_another_primary_key_is_noticed(record: Any) -> None:
    with pytest.raises(IntegrityError):
        answered({KEY: cbor.encode(record)}, {})


@pytest.mark.parametrize(
    "key",
    [
        encode_component("cats"),
        encode_component("cats") + b"\x30k",
        encode_component("cats") + b"\x11",
        encode_key(["cats", "k", "more"]),
        encode_key(["cats", "z"]),
        encode_component("cats") + encode_component("k", descending=True),
    ],
    ids=bytes.hex,
)
def test_an_entry_with_another_key_than_its_record_gives_is_noticed(key: bytes) -> None:
    source_primary = {KEY: BYTES, encode_component("z"): cbor.encode({"id": "z", "tags": []})}
    with pytest.raises(IntegrityError):
        answered({**source_primary, key[len(encode_component("cats")) :]: BYTES}, {key: DIGEST})


@pytest.mark.parametrize("value", [b"", DIGEST[:-1], DIGEST + b"\0", cbor.Link(cid_of(BYTES))])
def test_an_entry_without_a_digest_is_noticed(value: bytes) -> None:
    with pytest.raises(IntegrityError):
        answered({KEY: BYTES}, {ENTRY: value})


def test_a_primary_that_links_to_no_record_is_noticed() -> None:
    node = b"\x83\x00\x80\x80"
    with pytest.raises(IntegrityError):
        answered({KEY: cbor.Link(cid_of(node))}, {}, (node,))


def test_a_tree_that_holds_other_counts_than_the_manifest_says_is_noticed() -> None:
    source = MemorySource(MemoryStore())
    tree = build(Rule(b""), [(KEY, BYTES)], source.store.blocks.__setitem__)
    posts = Collection("posts", "id", None, (), replace(tree, count=2), pmap())
    with pytest.raises(IntegrityError):
        answer_directly(Answer(QUERY, posts, candidates(QUERY, posts)[0]), source)


def test_nothing_is_read_for_no_rows() -> None:
    posts = Collection("posts", "id", None, (), replace(EMPTY_TREE, count=9), pmap())
    walk = scan(QUERY, posts, candidates(QUERY, posts)[0], None, 0)
    with pytest.raises(StopIteration):
        next(walk)


@pytest.mark.parametrize("size", [ROWS_BATCH - 1, ROWS_BATCH, ROWS_BATCH + 1, 2 * ROWS_BATCH])
def test_batches_end_where_they_should(size: int) -> None:
    records = [{"id": f"{number:04}", "tags": ["cats"]} for number in range(size)]
    primary = {encode_component(record["id"]): cbor.encode(record) for record in records}
    entries = {encode_key(["cats", record["id"]]): sha256(cbor.encode(record)).digest() for record in records}
    assert answered(primary, entries) == answered(primary, {}) == records
