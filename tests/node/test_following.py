"""Following over real libp2p: all of a dataset or a part, caught up, served on, and never believed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from rhizome_index.api import Node, open_node
from rhizome_index.cli.samples import posts
from rhizome_index.errors import IntegrityError, RemoteError, UnavailableError, UsageError
from rhizome_index.index.address import Address
from rhizome_index.index.head import Head
from rhizome_index.index.manifest import Manifest
from rhizome_index.node import serve
from rhizome_index.node.home import Home
from rhizome_index.node.local import LocalSource
from rhizome_index.node.mend import missing_blocks
from rhizome_index.node.publish import Publisher
from rhizome_index.node.register import INDEX, WHERE, Policy
from rhizome_index.tree.node import EMPTY_TREE
from rhizome_index.wire import sync as sync_protocol
from tests.node.test_asking import POSTS, TCP, newest_tagged, publish

QUERY = "first 8 posts tagged #cats"


@asynccontextmanager
async def a_pair(tmp_path: Path) -> Any:
    """A publisher and a reader that knows it, and the dataset's address."""
    async with open_node(tmp_path / "publisher", listen=[TCP]) as publisher:
        await publish(publisher)
        address = publisher.peer.publisher.address("main")
        async with open_node(tmp_path / "reader", listen=[TCP], peers=publisher.addresses) as reader:
            with trio.fail_after(30):
                yield publisher, reader, address


def roots(node: Node, address: Address) -> Manifest:
    return LocalSource(node.peer.store).manifest(node.catalog[address].manifest)


async def test_all_of_a_dataset_is_rebuilt_here(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as (publisher, reader, address):
        reader.follow(address)
        head = await reader.sync(address)
        assert head == publisher.catalog[address] == reader.catalog[address]
        assert roots(reader, address) == roots(publisher, address)
        cost = reader.peer.membership.follower.states[address].cost
        size = sum(len(data) for _, data in publisher.peer.store.all_blocks())
        assert cost.bytes_received < size
    async with open_node(tmp_path / "reader") as offline:
        page = await offline.query(QUERY, address).page()
        assert page.rows == newest_tagged("cats", 8) and page.cost.blocks_remote == 0


async def test_what_changed_comes_in_one_round_trip(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as (publisher, reader, address):
        reader.follow(address)
        await reader.sync(address)
        collection = publisher.collection("posts")
        await collection.put({"id": "new", "tags": ["cats"], "created": 2**50, "text": "long" * 2000})
        await collection.delete(POSTS[0]["id"])
        await collection.create_index("by_author", "author")
        cost = reader.peer.membership.follower.states[address].cost
        before = (cost.bytes_received, cost.round_trips)
        head = await reader.sync(address)
        assert head.sequence == publisher.catalog[address].sequence
        assert roots(reader, address) == roots(publisher, address)
        assert cost.round_trips - before[1] <= 3 and cost.bytes_received - before[0] < 20_000
        page = await reader.query("first 1 posts tagged #cats", address).page()
        assert page.rows[0]["id"] == "new" and page.cost.blocks_remote == 0


async def test_a_query_that_reckons_from_now_is_kept_as_of_now(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as (_, reader, address):
        reader.follow(address, Policy(WHERE, query="newest 8 posts tagged #cats since 9999w"))
        (follow,) = reader.peer.register.follows()
        kept = follow.policy.query
        assert kept.startswith("newest 8 posts tagged #cats since 18") and "9999w" not in kept
        await reader.sync(address)
    async with open_node(tmp_path / "reader") as offline:
        page = await offline.query(kept, address).page()
        assert page.rows == newest_tagged("cats", 8) and page.cost.blocks_remote == 0


@pytest.mark.parametrize(
    "text", ["newest 8 pots tagd #cats", "newest 8 posts after AbCd_-12", "all posts since 999999999w"]
)
async def test_a_query_that_cannot_be_kept_is_refused_at_once(tmp_path: Path, text: str) -> None:
    async with open_node(tmp_path) as node:
        with pytest.raises(UsageError):
            node.follow(node.peer.publisher.address("other"), Policy(WHERE, query=text))
        assert not node.followed()


@pytest.mark.parametrize("first", [Policy(INDEX, "posts", "by_tag"), Policy(WHERE, query=QUERY)], ids=str)
async def test_who_changes_his_mind_gets_the_rest(tmp_path: Path, first: Policy) -> None:
    """Though there is no newer head."""
    async with a_pair(tmp_path) as (_, reader, address):
        reader.follow(address, first)
        head = await reader.sync(address)
        assert missing_blocks(reader.peer.store, head)
        reader.follow(address, first)
        assert reader.peer.store.held_head(address) == head
        reader.follow(address)
        assert reader.peer.store.held_head(address) is None
        assert await reader.sync(address) == head
        assert not missing_blocks(reader.peer.store, head)


async def test_a_new_key_is_followed_and_the_old_one_is_not_believed_any_more(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as (publisher, reader, address):
        reader.follow(address)
        old = await reader.sync(address)
        shutil.copytree(tmp_path / "publisher", tmp_path / "thief", ignore=shutil.ignore_patterns("*.sock"))
        home = Home(tmp_path / "publisher")
        (rotated,) = publisher.peer.publisher.rotate(home.spare_key(()).public_key)
        head = await reader.sync(address)
        assert head == rotated and head.sequence == old.sequence + 1 and head.signer != old.signer
        page = await reader.query(QUERY, address).page()
        assert page.head == head and page.rows == newest_tagged("cats", 8)
    async with (
        open_node(tmp_path / "thief", listen=[TCP]) as thief,
        open_node(tmp_path / "newcomer", peers=thief.addresses) as newcomer,
        open_node(tmp_path / "reader", peers=thief.addresses) as reader,
    ):
        for number in range(3):
            await thief.collection("posts").put({"id": "lie", "tags": ["cats"], "created": 2**50 + number})
        assert (await newcomer.query(QUERY, address).page()).rows[0]["id"] == "lie"  # it knows no better
        assert await reader.sync(address) == head
        assert (await reader.query(QUERY, address).page()).head == head


async def test_a_running_node_catches_up_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rhizome_index.node.follow.HEADS_PULL_SECONDS", 0.05)
    async with a_pair(tmp_path) as (publisher, reader, address):
        reader.follow(address)
        tell, switched = trio.open_memory_channel[Head](10)
        reader.peer.membership.follower.on_head = tell.send_nowait
        await switched.receive()
        await publisher.collection("posts").put({"id": "new", "tags": ["cats"], "created": 2**50})
        await switched.receive()
        assert reader.catalog[address] == publisher.catalog[address]
        assert reader.unfollow(address) and not reader.unfollow(address)


async def test_a_follower_serves_when_the_publisher_is_gone(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as (_, reader, address):
        reader.follow(address)
        await reader.sync(address)
    async with (
        open_node(tmp_path / "reader", listen=[TCP]) as follower,
        open_node(tmp_path / "third", peers=follower.addresses) as third,
    ):
        assert (await third.query(QUERY, address).page()).rows == newest_tagged("cats", 8)
        third.follow(address)
        assert (await third.sync(address)).sequence == follower.catalog[address].sequence


@pytest.mark.parametrize(
    "policy", [Policy(INDEX, "posts", "by_tag"), Policy(WHERE, query="first 8 posts tagged #cats")], ids=str
)
async def test_a_part_answers_here_and_for_others(tmp_path: Path, policy: Policy) -> None:
    async with a_pair(tmp_path) as (publisher, reader, address):
        reader.follow(address, policy)
        await reader.sync(address)
        await publisher.collection("posts").put({"id": "new", "tags": ["cats"], "created": 2**50})
        head = await reader.sync(address)
    async with (
        open_node(tmp_path / "reader", listen=[TCP]) as part,
        open_node(tmp_path / "third", peers=part.addresses) as third,
    ):
        for node in (part, third):
            page = await node.query(QUERY, address).page()
            assert page.rows[1:] == newest_tagged("cats", 7) and page.head == head
        if policy.kind == WHERE:
            with pytest.raises(UnavailableError):
                await third.query("first 8 posts tagged #dogs", address).page()


async def test_an_index_that_is_not_there_cannot_be_kept(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as (_, reader, address):
        reader.follow(address, Policy(INDEX, "posts", "by_nothing"))
        with pytest.raises(UsageError, match="no index called 'by_nothing'"):
            await reader.sync(address)
        with pytest.raises(UsageError, match="is not followed"):
            await reader.sync(Address(reader.peer_id, "x"))


async def test_a_publisher_whose_index_does_not_follow_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signed, complete, every block sound: and still a lie, which rebuilding shows."""
    honest = Publisher._publish

    def lying(self: Publisher, dataset: str, manifest: Manifest) -> Any:
        collection = manifest.collections["posts"]
        index = replace(collection.indexes["by_tag"], tree=EMPTY_TREE)
        return honest(
            self,
            dataset,
            manifest.with_collection(replace(collection, indexes=collection.indexes.set("by_tag", index))),
        )

    async with a_pair(tmp_path) as (publisher, reader, address):
        reader.follow(address)
        held = await reader.sync(address)
        with monkeypatch.context() as patched:
            patched.setattr(Publisher, "_publish", lying)
            await publisher.collection("posts").put({"id": "new", "tags": ["cats"], "created": 2**50})
        for _ in range(2):
            with pytest.raises(
                IntegrityError, match="is refused: the index 'by_tag' of 'posts' has no entry"
            ) as caught:
                await reader.sync(address)
            assert not isinstance(caught.value, RemoteError)
        assert reader.catalog[address] == held
        await publisher.collection("posts").create_index("by_likes", "likes")


async def test_changes_that_do_not_lead_to_the_head_cost_the_peer_its_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = sync_protocol._delta_blocks

    def lying(*arguments: Any) -> Iterator[Any]:
        for block in honest(*arguments):
            if block is not None:
                yield [block[0].replace(b"cats", b"dogs"), *block[1:]]

    async with a_pair(tmp_path) as (publisher, reader, address):
        reader.follow(address)
        held = await reader.sync(address)
        await publisher.collection("posts").put({"id": "new", "tags": ["cats"], "created": 2**50})
        with monkeypatch.context() as patched:
            patched.setattr(sync_protocol, "_delta_blocks", lying)
            with pytest.raises(RemoteError, match="do not lead to the head"):
                await reader.sync(address)
        assert reader.catalog[address] == held
        assert publisher.peer_id not in reader.peer.membership.swarm.connected_peers


async def test_a_sync_that_was_cut_off_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that stops in the middle, and another one: nothing that was kept is fetched again."""
    wanted: list[int] = []
    honest = serve.want.answer

    def counting(number: int, want: Any, get: Any) -> Iterator[bytes]:
        wanted.append(len(want.names))
        if len(wanted) == 3:
            raise UnavailableError("gone")
        yield from honest(number, want, get)

    async with open_node(tmp_path / "publisher", listen=[TCP]) as publisher:
        collection = publisher.collection("posts")
        await collection.create(indexes={"by_tag": "tags"})
        await collection.put_many(posts(3000, 1))
        address = publisher.peer.publisher.address("main")
        chunks = len(list(publisher.peer.store.all_blocks()))
        monkeypatch.setattr(serve.want, "answer", counting)
        async with open_node(tmp_path / "reader", peers=publisher.addresses) as reader:
            reader.follow(address)
            for _ in range(3):
                try:
                    await reader.sync(address)
                    break
                except UnavailableError:
                    continue
            assert roots(reader, address) == roots(publisher, address)
            assert sum(wanted) < chunks
