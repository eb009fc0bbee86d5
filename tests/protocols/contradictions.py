"""Datasets whose publisher has signed trees that contradict his own records: answers from them must be refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pyrsistent import pmap

from rhizome_index.blocks.cid import cid_of
from rhizome_index.index.head import Head, sign_head
from rhizome_index.index.keys import encode_component
from rhizome_index.index.manifest import Manifest, encode_manifest
from rhizome_index.index.record import encode_record
from rhizome_index.index.schema import Collection, Definition, Index
from rhizome_index.tree.node import Tree, encode_leaf
from tests.properties.records import RULE
from tests.protocols.dataset import HEAD, IDENTITY

RECORD = {"id": "k", "tags": ["a"], "text": "b"}
DATA = encode_record(RECORD)
DIGEST = cid_of(DATA)[4:]
KEY = encode_component("k")
TAG = encode_component("a")
OTHER = encode_component("b")
TAGGED: list[Any] = ["things", ["=", "tags", "a"], "declared", None, False]
TAGGED_OTHER: list[Any] = ["things", ["=", "tags", "b"], "declared", None, False]
BOTH: list[Any] = ["things", ["and", ["=", "tags", "a"], ["=", "tags", "b"]], "declared", None, False]
ALL: list[Any] = ["things", ["and"], "declared", None, False]
ALL_PLAN: list[Any] = ["", b"", None, False]


@dataclass(frozen=True)
class Contradiction:
    """A query, and an answer to it that follows the trees to the letter."""

    name: str
    query: list[Any]
    head: Head
    manifest: bytes
    plan: list[Any]
    blocks: list[bytes]


def contradictions() -> Iterator[Contradiction]:
    tag_plan, other_plan = (["by_tag", tag, tag[:-1] + b"\x02", False] for tag in (TAG, OTHER))
    both_plan = ["all", [tag_plan, other_plan]]
    primary, by_tag = encode_leaf([KEY], [DATA]), encode_leaf([TAG + KEY], [DIGEST])
    wrong_tag, wrong_key = encode_leaf([OTHER + KEY], [DIGEST]), encode_leaf([OTHER], [DATA])
    two_tags = encode_leaf([TAG + KEY, OTHER + KEY], [DIGEST, DIGEST])
    no_digest, not_himself = encode_leaf([TAG + KEY], [DATA]), encode_leaf([TAG + OTHER], [DIGEST])
    cases: list[tuple[str, list[Any], list[Any], bytes, bytes, list[bytes], int]] = [
        ("an entry that its record does not give", TAGGED_OTHER, other_plan, primary, wrong_tag, [wrong_tag, DATA], 1),
        ("an entry of another record's key", TAGGED, tag_plan, primary, not_himself, [not_himself, DATA], 1),
        ("an entry that is no digest", TAGGED, tag_plan, primary, no_digest, [no_digest], 1),
        ("an index of another count", TAGGED, tag_plan, primary, by_tag, [by_tag, DATA], 2),
        ("one of two entries that its record does not give", BOTH, both_plan, primary, two_tags, [two_tags, DATA], 2),
        ("a record under another primary key", ALL, ALL_PLAN, wrong_key, by_tag, [wrong_key], 1),
    ]
    for name, query, plan, records, entries, blocks, count in cases:
        index = Index("by_tag", Definition.over("tags"), Tree(cid_of(entries), count), (1,))
        collection = Collection("things", "id", None, (), Tree(cid_of(records), 1), pmap({"by_tag": index}))
        cid, data = encode_manifest(Manifest(RULE, pmap({"things": collection})))
        yield Contradiction(name, query, sign_head(IDENTITY, "vectors", 4, cid, HEAD.time_ms), data, plan, blocks)
