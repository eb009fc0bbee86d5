"""Snapshots that stay: brought whole, kept through newer heads and collections, mended, and let go."""

from __future__ import annotations

from pathlib import Path

import pytest

from rhizome_index.api import Node, open_node
from rhizome_index.blocks.cid import format_cid
from rhizome_index.errors import StoreError, UnavailableError, UsageError
from rhizome_index.index.head import Head
from rhizome_index.limits import HEADS_KEPT
from rhizome_index.node.collect import collect
from rhizome_index.node.mend import missing_blocks
from rhizome_index.node.pins import Pins, find_head
from rhizome_index.node.reach import dataset_blocks
from rhizome_index.node.room import Room
from rhizome_index.node.scrub import mend, scrub
from tests.node.test_asking import POSTS, publish
from tests.node.test_following import QUERY, a_pair


async def change(publisher: Node, times: int = 1) -> None:
    for number in range(times):
        await publisher.collection("posts").put({**POSTS[number], "likes": 10_000 + number})


def held(node: Node) -> int:
    return collect(node.peer.store, node.peer_id).pinned_bytes


async def test_a_snapshot_is_fetched_whole_and_outlives_newer_heads(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as (publisher, reader, address):
        await reader.query(QUERY, address).page()
        pinned = await reader.pin(address)
        first, store = publisher.catalog[address], reader.peer.store
        assert pinned.head == first and pinned.is_new and pinned.cost.bytes_received > 0
        assert pinned.bytes == sum(len(data) for _, data in dataset_blocks(publisher.peer.store, first, set()))
        again = await reader.pin(address)
        assert (again.head, again.is_new, again.cost.blocks_remote) == (first, False, 0)
        await change(publisher, HEADS_KEPT + 2)
        await reader.query(QUERY, address).page()
        Room(store).quota = 1
        assert held(reader) == pinned.bytes and not missing_blocks(store, first)
        newest = await reader.query(QUERY, address).page()
        assert newest.head.sequence > first.sequence, "a pin is no reason to answer from it"
        assert reader.unpin(address) == 1 and reader.unpin(address) == 0
        assert held(reader) == 0 and missing_blocks(store, first) == [first.manifest]


async def test_heads_are_named_by_sequence_or_manifest(tmp_path: Path) -> None:
    async with open_node(tmp_path / "home") as node:
        await publish(node)
        address = node.peer.publisher.address("main")
        first = node.catalog[address]
        await change(node)
        second, store = node.catalog[address], node.peer.store
        for name, head in ((str(first.sequence), first), (format_cid(second.manifest), second)):
            assert find_head(store, address, name) == head
            assert (await node.pin(address, name)).head == head
        assert Pins(store).all() == [first, second]
        for unknown in ("99", format_cid(POSTS_CID)):
            with pytest.raises(UnavailableError, match="is known here"):
                await node.pin(address, unknown)
        with pytest.raises(UsageError):
            await node.pin(address, "newest")
        assert node.unpin(address, first.manifest) == 1 and Pins(store).all() == [second]
        assert node.unpin(address) == 1


POSTS_CID = b"\x01\x71\x12\x20" + bytes(32)


async def test_what_nobody_has_is_not_pinned(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as (_, reader, address):
        await reader.query(QUERY, address).page()
    async with open_node(tmp_path / "reader") as offline:
        with pytest.raises(UnavailableError, match="is not here"):
            await offline.pin(address)
        assert not Pins(offline.peer.store).all()


async def test_a_snapshot_for_which_there_is_no_room_is_not_pinned(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as (_, reader, address):
        Room(reader.peer.store).quota = 1
        with pytest.raises(StoreError, match="more than the quota"):
            await reader.pin(address)
        assert not Pins(reader.peer.store).all()


async def test_nothing_is_freed_while_a_pin_is_not_whole_and_scrub_mends_it(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as (publisher, reader, address):
        head, store = (await reader.pin(address)).head, reader.peer.store
        await change(publisher)
        await reader.query(QUERY, address).page()
        lost = list(dataset_blocks(store, head, set()))[1][0]
        store.delete(lost[4:])
        with pytest.raises(StoreError, match="are missing") as told:
            collect(store, reader.peer_id)
        assert "scrub" in told.value.hint
        found = scrub(store, reader.peer_id)
        (kept,) = found.kept
        assert (kept.address, kept.head, kept.is_pin, found.is_whole) == (address, head, True, False)
        await mend(reader.peer, found)
        assert found.is_whole and not missing_blocks(store, head)
        assert collect(store, reader.peer_id).pinned_bytes > 0


async def test_a_damaged_pin_is_known_from_its_head_or_said_to_be_damaged(tmp_path: Path) -> None:
    async with open_node(tmp_path / "home") as node:
        await publish(node)
        address, store = node.peer.publisher.address("main"), node.peer.store
        head: Head = (await node.pin(address)).head
        store.execute("update pins set envelope = x'00'")
        assert Pins(store).all() == [head]
        store.execute("delete from heads where sequence = ?", (head.sequence,))
        with pytest.raises(StoreError, match=r"a pin of .* is damaged") as told:
            Pins(store).all()
        assert "unpin" in told.value.hint and node.unpin(address) == 1 and not Pins(store).all()


async def test_blocks_of_a_pin_under_way_are_in_use(tmp_path: Path) -> None:
    """What is here already may not go while the rest is fetched."""
    async with a_pair(tmp_path) as (_, reader, address):
        await reader.query(QUERY, address).page()
        store = reader.peer.store
        Room(store).quota = 1
        began: list[int] = []

        def meanwhile(blocks: object) -> None:
            if not began:
                began.append(1)
                assert collect(store, reader.peer_id).evicted_blocks == 0

        put = store.put_fetched
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Room, "check", lambda room: meanwhile(None))
            await reader.pin(address)
        assert began and put and not missing_blocks(store, Pins(store).all()[0])
