"""Steps from head to head over libp2p: what is carried on, at which level; lies of the publisher and of the peer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from rhizome_index.api import Node, open_node
from rhizome_index.errors import IntegrityError, RemoteError, UnavailableError, UsageError
from rhizome_index.index.address import Address
from rhizome_index.index.manifest import Manifest
from rhizome_index.node.frauds import Frauds
from rhizome_index.node.ladder import Ladder
from rhizome_index.node.publish import Publisher
from rhizome_index.tree.boundary import Rule
from rhizome_index.tree.build import build
from rhizome_index.tree.cursor import Cursor
from rhizome_index.trust.fraud import CUT, ENTRY
from rhizome_index.trust.ladder import MADE, derivations_of
from rhizome_index.wire import sync
from tests.driving import gather
from tests.node.test_asking import POSTS, TCP, publish
from tests.node.test_frauds import lying

QUERY = "first 8 posts tagged #cats"


@asynccontextmanager
async def a_pair(tmp_path: Path) -> AsyncIterator[tuple[Node, Node, Address]]:
    """A publisher, and a reader that has audited its index."""
    async with open_node(tmp_path / "publisher", listen=[TCP]) as publisher:
        await publish(publisher)
        address = publisher.peer.publisher.address("main")
        async with open_node(tmp_path / "reader", peers=publisher.addresses) as reader:
            with trio.fail_after(30):
                await reader.audit(address, "posts", "by_tag", bad_fraction=0.05)
                yield publisher, reader, address


async def change(publisher: Node) -> None:
    """Records come, go and change."""
    posts = publisher.collection("posts")
    await posts.put_many([{**post, "likes": -1, "tags": ["cats", "new"]} for post in POSTS[50:60]])
    await posts.put({"id": "new", "tags": ["cats"], "created": 2**50})
    await posts.delete(POSTS[7]["id"], POSTS[300]["id"])


async def test_what_was_audited_is_carried_on_from_head_to_head(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as (publisher, reader, address):
        for sequence in (5, 6):
            if sequence == 5:
                await change(publisher)
            else:
                await publisher.collection("posts").delete("new")
            found = await reader.carry(address, "posts", "by_tag")
            assert (found.head.sequence, str(found.standing)) == (sequence, "L3")
            page = await reader.query(QUERY, address, require="L3").page()
            assert page.head == found.head and page.rows == (await publisher.query(QUERY).page()).rows
        bound = found.standing.bound
        assert bound is not None and 0.05 < bound.bad_fraction < 0.06 and found.changes == 1


async def test_what_was_made_here_once_is_carried_on_at_l4(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as (publisher, reader, address):
        manifest = publisher.peer.publisher.manifest("main")
        posts = manifest.collections["posts"]
        Ladder(reader.peer.store).note(address, derivations_of(manifest.rule, posts).values(), MADE)
        await change(publisher)
        found = await reader.carry(address, "posts", "by_tag")
        assert str(found.standing) == "L4" and found.changes == 13 and found.base.sequence == 2
        for query in (QUERY, 'all posts where id = "new"'):
            await reader.query(query, address, require="L4").page()


async def test_an_index_that_does_not_follow_convicts_its_publisher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_pair(tmp_path) as (publisher, reader, address):
        with lying(monkeypatch):
            await publisher.collection("posts").put({"id": "new", "tags": ["cats"], "created": 2**50})
        with pytest.raises(IntegrityError, match=r"head 3 .* is refused: the index 'by_tag' of 'posts' has no entry"):
            await reader.carry(address, "posts", "by_tag")
        (fraud,) = Frauds(reader.peer.store).known()
        assert fraud.claim is not None and fraud.claim.kind == ENTRY and len(fraud.encode()) < 100_000


async def test_a_primary_that_is_not_cut_as_it_must_be_convicts_its_publisher_and_not_the_peer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_pair(tmp_path) as (publisher, reader, address):
        honest = Publisher._publish

        def cut_otherwise(self: Publisher, dataset: str, manifest: Manifest) -> Any:
            posts = manifest.collections["posts"]
            entries = self._source.run(gather(Cursor(posts.primary)))
            tree = build(Rule(b"another"), entries, lambda cid, data: self._store.put_many([(cid, data)]))
            return honest(self, dataset, manifest.with_collection(replace(posts, primary=tree)))

        with monkeypatch.context() as patched:
            patched.setattr(Publisher, "_publish", cut_otherwise)
            await publisher.collection("posts").put({"id": "new", "tags": ["cats"], "created": 2**50})
        with pytest.raises(IntegrityError, match=r"head 3 .* is refused: the primary of 'posts' has a"):
            await reader.carry(address, "posts", "by_tag")
        (fraud,) = Frauds(reader.peer.store).known()
        assert fraud.claim is not None and fraud.claim.kind == CUT
        assert reader.peer.joined().swarm.connected_peers


async def test_changes_that_are_others_cost_the_peer_its_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_pair(tmp_path) as (publisher, reader, address):
        await change(publisher)
        take = sync.Syncing.take

        def dropping(self: Any, reply: Any) -> None:
            take(self, reply)
            for delta in self.deltas.values():
                del delta.changes[1:]

        monkeypatch.setattr(sync.Syncing, "take", dropping)
        with pytest.raises(RemoteError, match="do not lead to the head"):
            await reader.carry(address, "posts", "by_tag")
        assert not Frauds(reader.peer.store).known() and not reader.peer.joined().swarm.connected_peers


async def test_without_a_head_that_is_proven_there_is_no_step(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as (_, reader, address):
        reader.peer.store.execute("delete from proven")
        with pytest.raises(UsageError, match=r"no head .* is proven as far as L3"):
            await reader.carry(address, "posts", "by_tag")


async def test_another_definition_is_audited_anew(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as (publisher, reader, address):
        await publisher.collection("posts").drop_index("by_tag")
        await publisher.collection("posts").create_index("by_tag", "tags", "created")
        with pytest.raises(UnavailableError, match="too much has changed since head 2"):
            await reader.carry(address, "posts", "by_tag")
