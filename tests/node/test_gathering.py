"""Peers that have parts only: the asker walks by itself over what they have together."""

from __future__ import annotations

from pathlib import Path

import pytest

from rhizome_index.api import Node, open_node
from rhizome_index.blocks.cid import Cid
from rhizome_index.errors import UnavailableError
from tests.node.test_asking import TCP, newest_tagged, publish

QUERY = "first 8 posts tagged #cats"


def give(publisher: Node, other: Node, parity: int) -> None:
    """Every second block, and the newest head."""
    blocks = list(publisher.peer.store.all_blocks())
    other.peer.store.put_many(blocks[parity::2])
    for head in publisher.catalog.values():
        other.peer.store.put_head(head)


async def test_two_halves_make_a_whole_answer(tmp_path: Path) -> None:
    async with open_node(tmp_path / "publisher") as publisher:
        await publish(publisher)
        address = publisher.peer.publisher.address("main")
        async with (
            open_node(tmp_path / "even", listen=[TCP]) as even,
            open_node(tmp_path / "odd", listen=[TCP]) as odd,
            open_node(tmp_path / "reader", peers=[*even.addresses, *odd.addresses]) as reader,
        ):
            give(publisher, even, 0)
            give(publisher, odd, 1)
            page = await reader.query(QUERY, address).page()
            assert page.rows == newest_tagged("cats", 8) and page.proof == "L1"
            assert page.cost.blocks_remote > 0 and set(page.cost.peers) == {even.peer_id, odd.peer_id}
            head = page.head
        async with open_node(tmp_path / "reader") as offline:
            again = await offline.query(QUERY, address).page()
            assert again.rows == page.rows and again.head == head


async def test_the_saved_proof_of_a_gathered_answer_verifies(tmp_path: Path) -> None:
    async with open_node(tmp_path / "publisher") as publisher:
        await publish(publisher)
        address = publisher.peer.publisher.address("main")
        async with (
            open_node(tmp_path / "even", listen=[TCP]) as even,
            open_node(tmp_path / "odd", listen=[TCP]) as odd,
            open_node(tmp_path / "reader", peers=[*even.addresses, *odd.addresses]) as reader,
        ):
            give(publisher, even, 0)
            give(publisher, odd, 1)
            results = reader.query(QUERY, address, proof=True)
            rows = (await results.page()).rows
            proof = results.resolution.proof
            direct = publisher.query(QUERY, address, proof=True)
            await direct.page()
            assert proof is not None and proof == direct.resolution.proof and rows


async def test_half_a_dataset_is_not_enough(tmp_path: Path) -> None:
    async with open_node(tmp_path / "publisher") as publisher:
        await publish(publisher)
        address = publisher.peer.publisher.address("main")
        root: Cid = publisher.peer.publisher.manifest("main").collection("posts").primary.root
        async with (
            open_node(tmp_path / "even", listen=[TCP]) as even,
            open_node(tmp_path / "reader", peers=even.addresses) as reader,
        ):
            give(publisher, even, 0 if publisher.peer.store.has(root) else 1)
            with pytest.raises(UnavailableError):
                await reader.query(QUERY, address).page()
