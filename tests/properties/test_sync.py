"""What a peer says has changed, applied to what was held, is what the head says; and nothing else is taken."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import strategies as st
from pyrsistent import pmap

from rhizome_index.blocks import cbor
from rhizome_index.blocks.cid import Cid, cid_of
from rhizome_index.blocks.store import MemoryStore
from rhizome_index.errors import IntegrityError, UnavailableError
from rhizome_index.index.head import Head
from rhizome_index.index.manifest import Manifest
from rhizome_index.index.write import apply_changes
from rhizome_index.limits import SYNC_DELTA_BYTES_MAX
from rhizome_index.wire import message as m
from rhizome_index.wire import sync
from rhizome_index.wire.frame import FrameReader, encode_frame
from rhizome_index.wire.sync import Sync, Syncing
from tests.driving import MemorySource
from tests.properties import records as made
from tests.properties.effort import quickly, thoroughly
from tests.properties.syncing import BLOCKS, END, LIES, OPEN, PEER, REQUEST, Publisher
from tests.properties.test_collections import some_changes

SEEDS = st.integers(0, 2**32)


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


def ask_cut_off(peer: Publisher, request: Sync, random_: random.Random) -> Syncing:
    """Each answer may end in the middle, and the next request goes on there."""
    whole: Syncing | None = None
    while True:
        part, frames = Syncing(request), list(sync.answer(1, request, peer))
        came = frames[: random_.randint(0, len(frames))]
        feed(part, came)
        is_of_use = part.is_complete or part.cut_off()
        assert is_of_use == (part.is_complete or bool(part.deltas))
        if not is_of_use:
            continue
        if whole is None:
            whole = part
        else:
            whole.extend(part)
        if part.is_complete:
            return whole
        assert part.head is not None
        request = replace(request, manifest=part.head.manifest, place=part.place)


def check_deltas(seed: int) -> None:
    random_ = random.Random(seed)
    peer, old, new = a_history(random_)
    # The least holds a single change: a record of 2,100 bytes, or one of 2 KiB inside of its list.
    budget = random_.choice([4_000_000, 20_000, 3000])
    request = Sync(new.address, old.manifest, budget=budget)
    check_delta(peer, old, new, ask_in_parts(peer, request))
    with pytest.MonkeyPatch.context() as patch:
        for module in (m, sync):  # small frames, of which some have come and others not
            patch.setattr(module, "FRAME_PAYLOAD_BYTES", random_.choice([2500, 10_000, 61_440]))
        check_delta(peer, old, new, ask_cut_off(peer, replace(request, budget=4_000_000), random_))


def check_delta(peer: Publisher, old: Head, new: Head, whole: Syncing) -> None:
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


@pytest.mark.parametrize("seed", [115, 191])
def test_a_budget_of_less_than_a_list_may_have(seed: int) -> None:
    """Found by generation: the first list alone was larger, and an honest answer made no progress."""
    check_deltas(seed)


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


def test_many_large_records_come_in_parts() -> None:
    """35 changes fit in one list, but their records of 200 kB do not fit in one part."""
    peer = Publisher()
    empty = replace(made.an_empty_collection(random.Random(5), 2), name="a")

    def records(count: int, size: int) -> dict[bytes, made.Record | None]:
        rows = [{"id": f"r{number:03}", "large": bytes([number]) * size} for number in range(count)]
        return {made.primary_key(row, ("id",)): row for row in rows}

    first = made.changed(peer, empty, records(200, 10))
    old = peer.publish(Manifest(made.RULE, pmap({"a": first})))
    peer.publish(Manifest(made.RULE, pmap({"a": made.changed(peer, first, records(35, 200_000))})))
    part = ask(peer, Sync(old.address, old.manifest))
    assert not part.is_complete and 0 < len(part.deltas["a"].records) < 35
    whole = ask_in_parts(peer, Sync(old.address, old.manifest))
    assert len(whole.deltas["a"].changes) == len(whole.deltas["a"].records) == 35


def test_a_delta_at_the_limit_and_one_past_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than that comes as chunks, which can be resumed."""
    size = sum(sync._size(key, value) for key, value in ask(PEER, REQUEST).deltas["a"].changes)
    assert 0 < size < SYNC_DELTA_BYTES_MAX
    for limit, form in ((size, sync.DELTA), (size - 1, sync.CHUNKS)):
        monkeypatch.setattr(sync, "SYNC_DELTA_BYTES_MAX", limit)
        assert ask(PEER, REQUEST).forms["a"] == form


@pytest.mark.parametrize("records", range(6))
def test_a_change_counts_when_its_record_has_come(records: int) -> None:
    """Five changes in one list, of which all but the third link to a record; then the answer is cut off."""
    changes = [[b"%d" % n, None if n == 2 else cbor.Link(cid_of(bytes([n])))] for n in range(5)]
    blocks = [cbor.encode(["a", changes]), *(bytes([n]) for n in range(5) if n != 2)]
    syncing = Syncing(REQUEST)
    feed(
        syncing,
        [encode_frame(cbor.encode(body)) for body in (OPEN, [1, "blocks", blocks[:records]])][: 1 + bool(records)],
    )
    assert syncing.cut_off() == (records > 1)
    if records > 1:
        whole = {2: 1, 3: 3, 4: 4, 5: 5}[records]
        assert [key for key, _ in syncing.deltas["a"].changes] == [b"%d" % n for n in range(whole)]
        assert len(syncing.deltas["a"].records) == records - 1
        assert syncing.place == ("a", b"%d" % (whole - 1) + b"\0")
