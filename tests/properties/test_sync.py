"""What a peer says has changed, applied to what was held, is what the head says; and nothing else is taken."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import strategies as st
from pyrsistent import pmap

from rhizome_index.blocks import cbor
from rhizome_index.blocks.cid import Cid
from rhizome_index.blocks.store import MemoryStore
from rhizome_index.errors import IntegrityError, UnavailableError
from rhizome_index.index.address import Address
from rhizome_index.index.head import Head, Identity, sign_head
from rhizome_index.index.manifest import Manifest, decode_manifest, encode_manifest
from rhizome_index.index.write import apply_changes
from rhizome_index.tree.walk import NeedNodes
from rhizome_index.wire import message as m
from rhizome_index.wire import sync
from rhizome_index.wire.frame import FrameReader, encode_frame
from rhizome_index.wire.sync import Sync, Syncing
from tests.driving import MemorySource
from tests.properties import records as made
from tests.properties.effort import quickly, thoroughly
from tests.properties.test_collections import some_changes

SEEDS = st.integers(0, 2**32)
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


def a_history(random_: random.Random, size: int = 40) -> tuple[Publisher, Head, Head]:
    """A dataset of two collections, with a head, and a later one."""
    peer = Publisher()
    manifest = Manifest(made.RULE, pmap())
    records: dict[str, made.Records] = {"a": {}, "b": {}}
    for _ in range(2):
        for name in records:
            empty = replace(made.an_empty_collection(random_), name=name)
            collection = manifest.collections.get(name, empty)
            changes = some_changes(random_, records[name], random_.choice([0, 1, 5, size]))
            for key, record in changes.items():
                records[name].pop(key, None)
                if record is not None:
                    records[name][key] = record
            manifest = manifest.with_collection(made.changed(peer, collection, changes))
        peer.publish(manifest)
    return peer, peer.heads[0], peer.heads[1]


def ask(peer: Publisher, request: Sync) -> Syncing:
    syncing = Syncing(request)
    feed(syncing, list(sync.answer(1, request, peer)))
    return syncing


def feed(syncing: Syncing, frames: Sequence[bytes]) -> None:
    reader = m.ReplyReader()
    for body in FrameReader().feed(b"".join(frames)):
        reply = reader.read(body)
        if reply is not None:
            syncing.take(reply)


def ask_in_parts(peer: Publisher, request: Sync) -> Syncing:
    whole = part = ask(peer, request)
    while not part.is_complete:
        assert part.head is not None
        request = replace(request, manifest=part.head.manifest, place=part.place)
        part = ask(peer, request)
        whole.extend(part)
    return whole


def check_deltas(seed: int) -> None:
    random_ = random.Random(seed)
    peer, old, new = a_history(random_)
    budget = random_.choice([4_000_000, 20_000, 3000])
    whole = ask_in_parts(peer, Sync(new.address, old.manifest, budget=budget))
    assert whole.head == new and whole.manifest is not None
    held = peer.manifest(old.manifest)
    ours = MemorySource(MemoryStore())
    ours.store.put_many(peer.store.blocks.items())
    for name, wanted in whole.manifest.collections.items():
        delta = whole.deltas.get(name, sync.Delta())
        assert (whole.forms[name] == sync.SAME) == (held.collections[name].primary == wanted.primary)
        if whole.forms[name] == sync.CHUNKS:
            assert not delta.changes
            continue
        linked = dict(delta.records)
        changes = [(key, None if value is None else linked.get(value, value)) for key, value in delta.changes]
        sink = ours.store.blocks.__setitem__
        assert ours.run(apply_changes(made.RULE, held.collections[name], changes, sink)) == wanted


test_deltas = quickly(check_deltas, SEEDS)
test_many_deltas = thoroughly(check_deltas, SEEDS)


def test_nothing_held_means_chunks() -> None:
    peer, _, new = a_history(random.Random(3))
    whole = ask(peer, Sync(new.address))
    assert whole.is_complete and not whole.deltas
    assert set(whole.forms.values()) == {sync.CHUNKS}


def test_an_unknown_manifest_is_said_to_be() -> None:
    peer, _, new = a_history(random.Random(3))

    class Forgetful(Publisher):
        def manifest(self, cid: Cid) -> Manifest:
            raise UnavailableError("not here")

    peer.__class__ = Forgetful
    frames = list(sync.answer(1, Sync(new.address, b"\x01\x71\x12\x20" + bytes(32)), peer))
    (body,) = FrameReader().feed(b"".join(frames))
    assert cbor.decode(body)[1:3] == ["error", "unknown"]


def honest_bodies() -> tuple[Sync, list[Any]]:
    """An answer with a delta of one collection and a large record, as messages."""
    random_ = random.Random(5)
    peer = Publisher()
    empty = replace(made.an_empty_collection(random_, 2), name="a")
    first = made.changed(peer, empty, dict(made.some_records(random_, 50)))
    old = peer.publish(Manifest(made.RULE, pmap({"a": first})))
    large = {"id": "large", "large": bytes(3000)}
    changes: Any = {made.primary_key(record, ("id",)): record for record in (large, {"id": "zz", "n": 1})}
    peer.publish(Manifest(made.RULE, pmap({"a": made.changed(peer, first, changes)})))
    request = Sync(old.address, old.manifest)
    return request, [cbor.decode(body) for body in FrameReader().feed(b"".join(sync.answer(1, request, peer)))]


REQUEST, (OPEN, BLOCKS, END) = honest_bodies()
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


@pytest.mark.parametrize("lie", LIES)
def test_what_an_honest_peer_does_not_send_is_refused(lie: str) -> None:
    with pytest.raises(IntegrityError):
        feed(Syncing(REQUEST), [encode_frame(cbor.encode(body)) for body in LIES[lie]])


def test_the_honest_answer_to_that_is_taken() -> None:
    syncing = Syncing(REQUEST)
    feed(syncing, [encode_frame(cbor.encode(body)) for body in (OPEN, BLOCKS, END)])
    assert syncing.is_complete and len(syncing.deltas["a"].changes) == 2 and len(syncing.deltas["a"].records) == 1


def test_more_than_the_budget_is_refused() -> None:
    with pytest.raises(IntegrityError, match="more bytes"):
        feed(Syncing(replace(REQUEST, budget=100)), [encode_frame(cbor.encode(body)) for body in (OPEN, BLOCKS, END)])
