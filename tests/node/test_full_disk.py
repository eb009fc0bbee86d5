"""A running node whose disk is full or fails: answers go on, follows say why they do not, and nothing dies."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import trio

from rhizome_index.api import Node, open_node
from rhizome_index.blocks.cid import cid_of
from rhizome_index.errors import StoreError
from rhizome_index.index.head import Head
from rhizome_index.node.cost import Cost
from rhizome_index.node.register import INDEX, Policy
from tests.node.test_asking import TCP, newest_tagged, publish
from tests.node.test_following import QUERY, a_pair, roots
from tests.node.test_gathering import give
from tests.node.test_scrub import blocks_of, damage


def fill_disk(node: Node) -> None:
    """No page more, as SQLite sees it, and no room in those that there are."""
    store = node.peer.store
    store.execute("pragma max_page_count = 1")  # that is, as many as there are
    for size in (10_000, 1000, 100, 1):
        with suppress(StoreError):
            for number in count():
                data = b"%d" % number * size
                store.put_many([(cid_of(data), data)])
    assert "is full" in store.problem


def free_disk(node: Node) -> None:
    node.peer.store.execute("pragma max_page_count = 4294967294")


async def until(holds: Callable[[], Any]) -> None:
    while not holds():
        await trio.lowlevel.checkpoint()


async def test_a_question_is_answered_though_nothing_can_be_kept(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as (_, reader, address):
        fill_disk(reader)
        blocks = reader.peer.store.count_blocks()
        page = await reader.query(QUERY, address).page()
        assert page.rows == newest_tagged("cats", 8) and reader.peer.store.count_blocks() == blocks
        assert "is full" in reader.peer.store.problem
        free_disk(reader)
        assert (await reader.query(QUERY, address).page()).rows == page.rows
        assert reader.peer.store.count_blocks() > blocks and not reader.peer.store.problem


async def test_a_walk_over_several_peers_needs_no_disk(tmp_path: Path) -> None:
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
            fill_disk(reader)
            blocks = reader.peer.store.count_blocks()
            results = reader.query(QUERY, address, proof=True)
            page = await results.page()
            assert page.rows == newest_tagged("cats", 8) and reader.peer.store.count_blocks() == blocks
            direct = publisher.query(QUERY, address, proof=True)
            await direct.page()
            assert results.resolution.proof == direct.resolution.proof


@pytest.mark.parametrize("policy", [Policy(), Policy(INDEX, "posts", "by_tag")], ids=str)
async def test_a_follow_says_why_it_does_not_go_on_and_then_does(tmp_path: Path, policy: Policy) -> None:
    async with a_pair(tmp_path) as (publisher, reader, address):
        follower = reader.peer.membership.follower
        tell, switched = trio.open_memory_channel[Head](10)
        follower.on_head = tell.send_nowait
        reader.follow(address, policy)
        fill_disk(reader)
        await until(lambda: address in follower.states and follower.states[address].problem)
        assert "is full" in follower.states[address].problem and reader.peer.store.held_head(address) is None
        assert (await reader.query(QUERY, address).page()).rows == newest_tagged("cats", 8)
        free_disk(reader)
        follower.hint(address)
        assert await switched.receive() == publisher.catalog[address]
        await until(lambda: not follower.states[address].problem)
        if policy == Policy():
            assert roots(reader, address) == roots(publisher, address)


async def test_a_full_publisher_answers_whom_it_can(tmp_path: Path) -> None:
    """A damaged block cannot even be set aside: it is not given out, and all else is."""
    async with a_pair(tmp_path) as (publisher, reader, address):
        store = publisher.peer.store
        broken = blocks_of(publisher, address)[-1]
        damage(store, broken)
        fill_disk(publisher)
        store.execute("pragma query_only = on")
        assert store.get(broken) is None
        assert (await reader.query(QUERY, address).page()).rows == newest_tagged("cats", 8)
        with pytest.raises(StoreError):
            await publisher.collection("posts").put({"id": "new"})
        assert await reader.peer.datasets_of([publisher.peer_id], Cost()) == [address]


async def test_a_store_that_cannot_be_read_for_a_while_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the tasks that follow nor those that serve; afterwards all goes on."""
    async with a_pair(tmp_path) as (publisher, reader, address):
        follower = reader.peer.membership.follower
        failed: list[str] = []

        def fail(statement: str, values: tuple[Any, ...] = ()) -> Any:
            failed.append(statement)
            raise StoreError("the disk fails")

        reader.follow(address)
        await reader.sync(address)
        with monkeypatch.context() as patched:
            for node in (publisher, reader):
                patched.setattr(node.peer.store, "execute", fail)
                patched.setattr(node.peer.store, "data_version", lambda: fail("data_version"))
            follower.refresh()
            follower.hint(address)
            await until(lambda: follower.states[address].problem and "data_version" in failed)
        await publisher.collection("posts").put({"id": "new", "tags": ["cats"], "created": 2**50})
        tell, switched = trio.open_memory_channel[Head](10)
        follower.on_head = tell.send_nowait
        follower.hint(address)
        assert await switched.receive() == publisher.catalog[address]
