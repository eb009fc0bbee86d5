"""Scrubbing: damage is found, set aside, and mended from what is here or from peers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rhizome_index.api import Node, open_node
from rhizome_index.blocks.cid import Cid
from rhizome_index.errors import IntegrityError, StoreError
from rhizome_index.index.address import Address
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.local import LocalSource
from rhizome_index.node.mend import missing_blocks
from rhizome_index.node.reach import INDEX, MANIFEST, Place, reach
from rhizome_index.node.register import INDEX as ONE_INDEX
from rhizome_index.node.register import WHERE, Policy
from rhizome_index.node.scrub import Scrubbed, mend, scrub
from tests.node.test_asking import publish
from tests.node.test_following import a_pair


def damage(store: DiskStore, cid: Cid) -> None:
    """Flip a bit of a block."""
    data = bytearray(store.execute("select data from blocks where digest = ?", (cid[4:],))[0][0])
    data[len(data) // 2] ^= 1
    store.execute("update blocks set data = ? where digest = ?", (bytes(data), cid[4:]))


def blocks_of(node: Node, address: Address) -> list[Cid]:
    """A dataset's manifest, then all blocks below it: the primary tree's before those of its index."""
    return [place.cid for place, _ in reach(node.peer.store, [Place(node.catalog[address].manifest, MANIFEST)], set())]


def index_blocks(node: Node, address: Address) -> list[Cid]:
    store = node.peer.store
    collection = LocalSource(store).manifest(node.catalog[address].manifest).collections["posts"]
    places = [Place(collection.indexes["by_tag"].tree.root, INDEX)]
    return [place.cid for place, _ in reach(store, places, set())]


def scrubbed(node: Node) -> Scrubbed:
    return scrub(node.peer.store, node.peer_id)


async def test_a_sound_store_is_whole(tmp_path: Path) -> None:
    async with open_node(tmp_path / "home") as node:
        assert scrubbed(node).is_whole
        await publish(node)
        read: list[int] = []
        found = scrub(node.peer.store, node.peer_id, read.append)
        assert found.is_whole and (found.damaged, found.damaged_heads) == (0, 0)
        assert (sum(read), found.bytes) == (found.blocks, node.peer.store.count_blocks()[1]) and found.blocks > 20


async def test_an_index_is_derived_again_without_anybody(tmp_path: Path) -> None:
    async with open_node(tmp_path / "home") as node:
        await publish(node)
        (address,) = node.catalog
        broken = index_blocks(node, address)
        for cid in broken:
            damage(node.peer.store, cid)
        found = scrubbed(node)
        assert found.damaged == len(broken) and found.is_whole and found.kept[0].mended > 0
        assert not missing_blocks(node.peer.store, node.catalog[address]) and not node.peer.store.damaged()


@pytest.mark.parametrize("policy", [Policy(), Policy(ONE_INDEX, "posts", "by_tag"), Policy(WHERE, query="all posts")])
async def test_what_a_follower_lost_comes_from_its_publisher(tmp_path: Path, policy: Policy) -> None:
    async with a_pair(tmp_path) as (_, reader, address):
        reader.follow(address, policy)
        await reader.sync(address)
        assert scrubbed(reader).is_whole
        for cid in [cid for cid in blocks_of(reader, address) if reader.peer.store.has(cid)][:5]:
            damage(reader.peer.store, cid)
        found = scrubbed(reader)
        assert found.damaged == 5 and not found.is_whole
        await mend(reader.peer, found)
        assert found.is_whole and not found.problems and scrubbed(reader).is_whole


async def test_what_a_publisher_lost_comes_from_a_follower(tmp_path: Path) -> None:
    """Its primary tree, and its newest head, without which it publishes nothing."""
    async with a_pair(tmp_path) as (publisher, reader, address):
        reader.follow(address)
        before = await reader.sync(address)
        store = publisher.peer.store
        for cid in blocks_of(publisher, address)[1:4]:
            damage(store, cid)
        store.execute("update heads set envelope = zeroblob(200) where sequence = 2")
        with pytest.raises(IntegrityError, match="damaged"):
            await publisher.collection("posts").put({"id": "new"})
        found = scrubbed(publisher)
        assert (found.damaged, found.damaged_heads, found.kept[0].head) == (3, 1, None)
        with pytest.raises(StoreError, match="is lost"):
            await publisher.collection("posts").put({"id": "new"})
        await publisher.peer.connect(reader.addresses)
        await mend(publisher.peer, found)
        assert found.is_whole and publisher.catalog[address] == before
        assert (await publisher.collection("posts").put({"id": "new"})).sequence == before.sequence + 1


async def test_a_follower_whose_head_is_damaged_brings_it_again(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as (_, reader, address):
        reader.follow(address)
        held = await reader.sync(address)
        reader.peer.store.execute("update held set envelope = zeroblob(9)")
        assert reader.peer.store.held_head(address) is None
        found = scrubbed(reader)
        assert not found.is_whole
        await mend(reader.peer, found)
        assert found.is_whole and reader.peer.store.held_head(address) == held


async def test_following_brings_back_what_was_set_aside(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as (_, reader, address):
        reader.follow(address)
        held = await reader.sync(address)
        damage(reader.peer.store, blocks_of(reader, address)[2])
        assert missing_blocks(reader.peer.store, held)
        assert await reader.sync(address) == held
        assert not missing_blocks(reader.peer.store, held)


async def test_what_nobody_has_stays_missing(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as (publisher, reader, address):
        reader.follow(address)
        await reader.sync(address)
        gone = [cid for cid in blocks_of(publisher, address) if cid not in index_blocks(publisher, address)][-2:]
        for node in (publisher, reader):
            for cid in gone:
                damage(node.peer.store, cid)
        found = scrubbed(reader)
        await mend(reader.peer, found)
        assert not found.is_whole and found.kept[0].missing == 2 and "no peer has the block" in found.problems[0]


@pytest.mark.parametrize(
    "hurt",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:100] + b"\xff" * 16000 + data[16100:],
        lambda data: data[: 16384 * 3] + bytes(16384) + data[16384 * 4 :],
    ],
)
async def test_a_broken_structure_is_said(tmp_path: Path, hurt: Callable[[bytes], bytes]) -> None:
    async with open_node(tmp_path / "home") as node:
        await publish(node)
    file = tmp_path / "home" / "store.sqlite"
    file.write_bytes(hurt(file.read_bytes()))
    with pytest.raises(StoreError, match="is damaged"):
        async with open_node(tmp_path / "home") as node:
            scrubbed(node)
