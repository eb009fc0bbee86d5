"""A publisher in memory that answers `sync`, an honest answer of it, and what must be refused in its place."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from pyrsistent import pmap

from rhizome_index.blocks import cbor
from rhizome_index.blocks.cid import Cid
from rhizome_index.blocks.store import MemoryStore
from rhizome_index.index.address import Address
from rhizome_index.index.head import Head, Identity, sign_head
from rhizome_index.index.manifest import Manifest, decode_manifest, encode_manifest
from rhizome_index.tree.walk import NeedNodes
from rhizome_index.wire import sync
from rhizome_index.wire.frame import FrameReader
from rhizome_index.wire.sync import Sync
from tests.driving import MemorySource
from tests.properties import records as made

IDENTITY = Identity(b"p" * 32)


class Publisher(MemorySource):
    """A `sync.Syncer` with the heads of one dataset."""

    def __init__(self) -> None:
        super().__init__(MemoryStore())
        self.heads: list[Head] = []

    def publish(self, manifest: Manifest) -> Head:
        cid, data = encode_manifest(manifest)
        self.store.put_many([(cid, data)])
        self.heads.append(sign_head(IDENTITY, "main", len(self.heads) + 1, cid, 0))
        return self.heads[-1]

    def snapshot(self, address: Address, manifest: Cid | None) -> tuple[Head, bytes, Manifest]:
        head = next(head for head in reversed(self.heads) if manifest in (None, head.manifest))
        return head, self.block(head.manifest), self.manifest(head.manifest)

    def manifest(self, cid: Cid) -> Manifest:
        return decode_manifest(self.block(cid))

    def step(self, need: Any) -> Any:
        if isinstance(need, NeedNodes):
            return [node for _, node in self.chunks(need.cids)]
        return self.records(need)


def honest_bodies() -> tuple[Publisher, Sync, list[Any]]:
    """A publisher with two heads; an answer with a delta of one collection and a large record, as messages."""
    random_ = random.Random(5)
    peer = Publisher()
    empty = replace(made.an_empty_collection(random_, 2), name="a")
    first = made.changed(peer, empty, dict(made.some_records(random_, 50)))
    old = peer.publish(Manifest(made.RULE, pmap({"a": first})))
    large = {"id": "large", "large": bytes(3000)}
    changes: Any = {made.primary_key(record, ("id",)): record for record in (large, {"id": "zz", "n": 1})}
    peer.publish(Manifest(made.RULE, pmap({"a": made.changed(peer, first, changes)})))
    request = Sync(old.address, old.manifest)
    return peer, request, [cbor.decode(body) for body in FrameReader().feed(b"".join(sync.answer(1, request, peer)))]


PEER, REQUEST, (OPEN, BLOCKS, END) = honest_bodies()
LIST, RECORD = BLOCKS[2]
(NAME, CHANGES) = cbor.decode(LIST)
OTHER = sign_head(Identity(b"o" * 32), "main", 9, b"\x01\x71\x12\x20" + bytes(32), 0)


def blocks_of(*blocks: Any) -> list[Any]:
    return [1, "blocks", list(blocks)]


def listed(changes: Any, name: Any = NAME) -> bytes:
    return cbor.encode([name, changes])


LIES: dict[str, list[Any]] = {
    "no opening": [BLOCKS, END],
    "two openings": [OPEN, OPEN, BLOCKS, END],
    "the head of another publisher": [[1, "open", OPEN[2] | {"head": OTHER.envelope}], BLOCKS, END],
    "a manifest changed": [[1, "open", OPEN[2] | {"manifest": OPEN[2]["manifest"][:-1] + b"\1"}], BLOCKS, END],
    "no forms": [[1, "open", OPEN[2] | {"forms": {}}], BLOCKS, END],
    "an unknown form": [[1, "open", OPEN[2] | {"forms": {"a": "magic"}}], BLOCKS, END],
    "changes where there are none": [[1, "open", OPEN[2] | {"forms": {"a": "same"}}], BLOCKS, END],
    "changes of another collection": [OPEN, blocks_of(listed(CHANGES, "b"), RECORD), END],
    "a record changed": [OPEN, blocks_of(LIST, RECORD[:-1] + b"\1"), END],
    "a record missing": [OPEN, blocks_of(LIST), END],
    "a gap": [OPEN, blocks_of(LIST, None), END],
    "changes out of order": [OPEN, blocks_of(listed(CHANGES[::-1]), RECORD), END],
    "a change twice": [OPEN, blocks_of(listed([CHANGES[0], *CHANGES]), RECORD), END],
    "no changes": [OPEN, blocks_of(listed([])), END],
    "a change of three parts": [OPEN, blocks_of(listed([[b"k", None, None]])), END],
    "a key of text": [OPEN, blocks_of(listed([["k", None]])), END],
    "a key that is too long": [OPEN, blocks_of(listed([[bytes(1025), None]])), END],
    "a value that is too long": [OPEN, blocks_of(listed([[b"k", bytes(2049)]])), END],
    "a list of three parts": [OPEN, blocks_of(cbor.encode([NAME, CHANGES, 1])), END],
    "a list that goes back": [OPEN, blocks_of(LIST, RECORD, listed([[b"", None]])), END],
    "something behind the end": [OPEN, BLOCKS, END, END],
    "incomplete without progress": [OPEN, [1, "end", {"complete": False}]],
    "an end without a word": [OPEN, BLOCKS, [1, "end", {}]],
}
