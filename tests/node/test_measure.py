"""How much room a dataset takes: as much as all of its blocks that are here, and no more."""

from __future__ import annotations

from pathlib import Path

import pytest

from rhizome_index.api import open_node
from rhizome_index.blocks.cid import Cid
from rhizome_index.cli.samples import posts
from rhizome_index.index.head import Head
from rhizome_index.limits import INLINE_VALUE_BYTES_MAX
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.measure import bytes_held
from rhizome_index.node.reach import MANIFEST, Place, reach
from rhizome_index.node.register import INDEX, WHERE, Policy
from tests.node.test_following import a_pair

LARGE = [{"id": f"large {n}", "tags": ["cats"], "text": "x" * (INLINE_VALUE_BYTES_MAX + n)} for n in range(9)]


async def publish(path: Path, *records: object) -> tuple[DiskStore, Head]:
    async with open_node(path) as node:
        collection = node.collection("posts")
        await collection.create(indexes={"by_tag": "tags"})
        await collection.put_many(records)  # type: ignore[arg-type]
        twice = node.collection("twice")
        await twice.create(indexes={"by_tag": "tags"})
        head = await twice.put_many(records)  # type: ignore[arg-type]
    return DiskStore(path / "store.sqlite"), head


def reached(store: DiskStore, head: Head) -> dict[Cid, int]:
    """The sizes of the blocks that a head leads to, read one by one."""
    found = reach(store, [Place(head.manifest, MANIFEST)], set())
    return {place.cid: len(data) for place, data in found if data is not None}


@pytest.mark.parametrize("records", [[], LARGE, [*posts(3000, 1), *LARGE]], ids=len)
async def test_all_blocks_of_a_dataset_each_once(tmp_path: Path, records: list[object]) -> None:
    store, head = await publish(tmp_path, *records)
    blocks = list(reached(store, head))
    while blocks:
        assert bytes_held(store, head, Policy()) == sum(reached(store, head).values())
        for cid in blocks[-1 : -len(blocks) - 1 : -7]:
            store.execute("delete from blocks where digest = ?", (cid[4:],))
        blocks = blocks[: len(blocks) // 2]
    store.execute("delete from blocks")
    assert bytes_held(store, head, Policy()) == 0
    store.close()


@pytest.mark.parametrize(
    "policy", [Policy(INDEX, "posts", "by_tag"), Policy(WHERE, query="first 20 posts tagged #cats")], ids=str
)
async def test_a_part_takes_what_came_for_it(tmp_path: Path, policy: Policy) -> None:
    async with a_pair(tmp_path) as (publisher, reader, address):
        reader.follow(address, policy)
        head = await reader.sync(address)
        store = reader.peer.store
        assert bytes_held(store, head, policy) == store.count_blocks()[1] > 1000
        assert bytes_held(publisher.peer.store, head, policy) == bytes_held(store, head, policy)
        assert bytes_held(store, head, Policy()) < bytes_held(publisher.peer.store, head, Policy())
        store.execute("delete from blocks where digest != ?", (head.manifest[4:],))
        store.forget_chunks()
        assert bytes_held(store, head, policy) == store.count_blocks()[1]
