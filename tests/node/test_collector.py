"""A node that collects between everything else: by itself when there is no room, and when another process asks."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from rhizome_index.api import Node, open_node
from rhizome_index.cli.keeping import have_collected
from rhizome_index.errors import StoreError, UnavailableError
from rhizome_index.node import collector as collecting
from rhizome_index.node.collector import Collector
from rhizome_index.node.follow import FollowState
from rhizome_index.node.mend import missing_blocks
from rhizome_index.node.room import Room
from rhizome_index.node.status import room_of
from rhizome_index.node.tally import DONE, FAILED
from tests.node.test_asking import POSTS, newest_tagged
from tests.node.test_following import QUERY, a_pair
from tests.node.test_full_disk import until
from tests.node.test_pins import change


def collector_of(node: Node) -> Collector:
    found: Collector = node.peer.membership.collector
    return found


def fill(node: Node) -> None:
    """From now on there is no room for what queries have left."""
    Room(node.peer.store).quota = 1


async def test_it_makes_room_when_there_is_none(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as (_, reader, address):
        collector, store, tally = collector_of(reader), reader.peer.store, reader.peer.membership.swarm.tally
        await reader.query(QUERY, address).page()
        assert Room(store).cached_bytes > 0
        collector.look()
        await wait_all_tasks_blocked(0.01)
        assert not tally.collections
        fill(reader)
        collector.look()
        await until(lambda: tally.collections[DONE])
        assert Room(store).cached_bytes == 0 and tally.evicted_blocks > 0 and tally.evicted_bytes > 0
        collector.look()
        await wait_all_tasks_blocked(0.01)
        assert tally.collections == {DONE: 1}, "once is enough until more comes"
        page = await reader.query(QUERY, address).page()
        assert page.rows == newest_tagged("cats", 8) and page.cost.blocks_remote > 0
        room = room_of(reader.peer)
        assert room is not None and room.collected_seconds is not None and room.quota_bytes == 1


async def test_another_process_asks_for_it(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as (publisher, reader, address):
        await reader.query(QUERY, address).page()
        await change(publisher)
        await reader.query(QUERY, address).page()
        path = reader.peer.keys.socket_path
        looked: list[int] = []
        tried = await have_collected(path, True, looked.append, lambda: None)
        before = reader.peer.store.count_blocks()
        assert before == (tried.kept_blocks + tried.freed_blocks, tried.kept_bytes + tried.freed_bytes)
        found = await have_collected(path, False, looked.append, lambda: None)
        assert found == tried and found.freed_blocks > 0
        assert reader.peer.store.count_blocks() == (found.kept_blocks, found.kept_bytes)


async def test_it_waits_while_another_process_has_the_store_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "COLLECT_LOOK_SECONDS", 0.0)
    async with a_pair(tmp_path) as (_, reader, address):
        await reader.query(QUERY, address).page()
        fill(reader)
        collector, home = collector_of(reader), reader.peer.keys
        with home.open_store():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(collector.collect)
                await until(lambda: collector.progress is not None and collector.progress.is_waiting)
                room = room_of(reader.peer)
                assert room is not None and room.is_collecting and room.is_waiting
                assert (await reader.query(QUERY, address).page()).rows == newest_tagged("cats", 8)
                nursery.cancel_scope.cancel()
        assert reader.peer.membership.swarm.tally.collections == {FAILED: 1}
        assert (await collector.collect()).evicted_blocks > 0


async def test_answers_and_syncs_go_on_meanwhile(tmp_path: Path) -> None:
    """A step of the collection between any two steps of theirs."""
    async with a_pair(tmp_path) as (publisher, reader, address):
        reader.follow(address)
        await reader.sync(address)
        fill(publisher)
        collected: list[Any] = []

        async def collect_again_and_again() -> None:
            while True:
                collected.append(await collector_of(reader).collect())
                await collector_of(publisher).collect()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(collect_again_and_again)
            for number in range(6):
                await publisher.collection("posts").put({**POSTS[number], "likes": 77_000 + number})
                head = await reader.sync(address)
                assert not missing_blocks(reader.peer.store, head)
                assert not missing_blocks(publisher.peer.store, head)
            while len(collected) < 3:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        assert all(found.followed_bytes > 0 for found in collected)


async def test_what_cannot_be_collected_is_told_once_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(collecting, "note", lambda level, event, text="", **fields: told.append(event))
    monkeypatch.setattr(collecting, "COLLECT_AGAIN_SECONDS", 0.0)
    async with a_pair(tmp_path) as (_, reader, address):
        collector, tally = collector_of(reader), reader.peer.membership.swarm.tally
        reader.follow(address)
        head = await reader.sync(address)
        reader.peer.store.delete(head.manifest[4:])
        fill(reader)
        for times in (1, 2):
            collector.look()
            await until(lambda times=times: tally.collections[FAILED] == times)
        assert told.count("no_room") == 1


async def test_no_more_is_followed_than_there_is_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(collecting, "note", lambda level, event, text="", **fields: told.append(event))
    async with a_pair(tmp_path) as (publisher, reader, address):
        reader.follow(address)
        first = await reader.sync(address)
        fill(reader)
        await collector_of(reader).collect()
        assert told == ["collected", "no_room"] and not missing_blocks(reader.peer.store, first)
        await change(publisher)
        with pytest.raises(StoreError, match="more than the quota"):
            await reader.sync(address)
        state: FollowState = reader.peer.membership.follower.states[address]
        assert "more than the quota" in state.problem or state.error is None
        assert reader.peer.store.held_head(address) == first
        Room(reader.peer.store).quota = None
        assert (await reader.sync(address)).sequence > first.sequence


async def test_a_command_makes_room_when_it_ends(tmp_path: Path) -> None:
    async with open_node(tmp_path / "other", listen=["/ip4/127.0.0.1/tcp/0"]) as other:
        await other.collection("posts").create(time="created", indexes={"by_tag": "tags,-created"})
        await other.collection("posts").put_many(POSTS)
        address = other.peer.publisher.address("main")
        async with open_node(tmp_path / "home", peers=other.addresses) as node:
            await node.query(QUERY, address).page()
            assert Room(node.peer.store).cached_bytes > 0
            fill(node)
    async with open_node(tmp_path / "home") as node:
        assert Room(node.peer.store).cached_bytes == 0
        with pytest.raises(UnavailableError):
            await node.query(QUERY, address).page()


async def test_a_guest_who_leaves_ends_what_he_has_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_pair(tmp_path) as (_, reader, address):
        await reader.query(QUERY, address).page()
        collector = collector_of(reader)
        monkeypatch.setattr(reader.peer.store, "having_alone", lambda: nullcontext(False))
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(
                    have_collected, reader.peer.keys.socket_path, False, lambda count: None, scope.cancel
                )
        assert scope.cancelled_caught
        await until(lambda: collector.progress is None)
