"""Queries that stay open, of this home and of a peer: what they say of each change, and what they outlive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from rhizome_index.api import Node, Watch, open_node
from rhizome_index.errors import UnavailableError, UsageError
from rhizome_index.index.head import Head
from rhizome_index.node import live
from rhizome_index.node.live import Turn
from rhizome_index.node.newest import Newest
from rhizome_index.query.live import ADDED, CHANGED, REMOVED
from rhizome_index.query.parse import parse
from tests.node.test_asking import TCP, newest_tagged, publish
from tests.node.test_libp2p_swarm import LIMIT_SECONDS, free_port

NEWEST = "newest 8 posts tagged #cats"


def later(number: int, **fields: Any) -> dict[str, Any]:
    return {"id": f"later-{number}", "tags": ["cats"], "created": 2**50 + number, **fields}


async def turns(watch: Watch, *actions: Any) -> list[Turn]:
    """The first turn, and the one that follows each of these actions."""
    found = []
    left = iter(actions)
    with trio.fail_after(30):
        async for turn in watch:
            found.append(turn)
            action = next(left, None)
            if action is None:
                break
            await action()
    return found


def said(turn: Turn) -> list[tuple[str, str]]:
    return [(change.kind, change.record["id"]) for change in turn.changes]


async def change_three(node: Node) -> None:
    collection = node.collection("posts")
    first, second = newest_tagged("cats", 2)
    with collection.batch() as batch:
        batch.put(later(1))
        batch.put({**second, "text": "another"})
        batch.delete(first["id"])


async def check_turns(node: Node, watch: Watch) -> None:
    begun, changed, again = await turns(
        watch, lambda: change_three(node), lambda: node.collection("posts").put(later(2))
    )
    first, second, *others = newest_tagged("cats", 8)
    assert [change.record for change in begun.changes] == [first, second, *others]
    assert {change.kind for change in begun.changes} == {ADDED}
    assert said(changed) == [(REMOVED, first["id"]), (ADDED, "later-1"), (CHANGED, second["id"])]
    assert said(again) == [(REMOVED, others[-1]["id"]), (ADDED, "later-2")]
    assert begun.head.sequence < changed.head.sequence < again.head.sequence
    assert begun.count == changed.count == again.count == 8


async def test_of_this_home(tmp_path: Path) -> None:
    async with open_node(tmp_path) as node:
        await publish(node)
        await check_turns(node, node.watch(NEWEST))


async def test_of_a_peer(tmp_path: Path) -> None:
    async with open_node(tmp_path / "publisher", listen=[TCP]) as publisher:
        await publish(publisher)
        address = publisher.peer.publisher.address("main")
        async with open_node(tmp_path / "reader", peers=publisher.addresses) as reader:
            await check_turns(publisher, reader.watch(NEWEST, address))
            page = await reader.query(NEWEST, address).page()
            assert page.rows[0]["id"] == "later-2"


async def test_counts(tmp_path: Path) -> None:
    async with open_node(tmp_path) as node:
        await publish(node)
        for text in ("count posts tagged #cats", "count posts tagged #cats where likes >= 0"):
            found = await turns(node.watch(text), lambda: node.collection("posts").put(later(1, likes=3)))
            assert found[1].count - found[0].count == 1 and not found[1].changes
            await node.collection("posts").delete("later-1")


async def test_what_was_there_before_may_be_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then all is read anew, and still only what changed is said."""

    def lost(*_: Any) -> Any:
        raise UnavailableError("lost")
        yield

    monkeypatch.setattr("rhizome_index.query.live.Live.advance", lost)
    async with open_node(tmp_path) as node:
        await publish(node)
        await check_turns(node, node.watch(NEWEST))


async def test_an_index_may_be_dropped_meanwhile(tmp_path: Path) -> None:
    async with open_node(tmp_path) as node:
        await publish(node)
        collection = node.collection("posts")

        async def drop() -> None:
            await collection.drop_index("by_tag")

        _, dropped, after = await turns(node.watch(NEWEST, scan=True), drop, lambda: change_three(node))
        first, second, *_ = newest_tagged("cats", 8)
        assert said(dropped) == []
        assert said(after) == [(REMOVED, first["id"]), (ADDED, "later-1"), (CHANGED, second["id"])]


async def test_who_is_away_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problems = []
    newest = Newest.newest

    async def sometimes(*args: Any) -> Head:
        problems.append(watch.problem)
        if len(problems) < 3:
            raise UnavailableError(f"away {len(problems)}")
        return await newest(*args)

    monkeypatch.setattr(Newest, "newest", sometimes)
    async with open_node(tmp_path) as node:
        await publish(node)
        watch = node.watch(NEWEST)
        _, turn = await turns(watch, lambda: node.collection("posts").put(later(1)))
        assert said(turn)[-1] == (ADDED, "later-1") and watch.problem is None
    assert [str(problem) for problem in problems] == ["None", "away 1", "away 2"]


async def test_what_cannot_be_watched(tmp_path: Path) -> None:
    async with open_node(tmp_path) as node:
        await publish(node)
        for text in ("count by tags of posts", "distinct author of posts", "newest 3 posts after abc"):
            with pytest.raises(UsageError):
                node.watch(text)


async def test_a_query_goes_on_when_the_peer_that_was_named_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "LIVE_PULL_SECONDS", 0.02)
    listen = [f"/ip4/127.0.0.1/tcp/{free_port()}"]
    leave, gone, back = trio.Event(), trio.Event(), trio.Event()

    async def serve_twice(*, task_status: trio.TaskStatus[Node]) -> None:
        async with open_node(tmp_path / "publisher", listen=listen) as publisher:
            await publish(publisher)
            task_status.started(publisher)
            await leave.wait()
        await gone.wait()
        async with open_node(tmp_path / "publisher", listen=listen) as publisher:
            await publisher.collection("posts").put(later(1))
            await back.wait()

    with trio.fail_after(LIMIT_SECONDS):
        async with trio.open_nursery() as nursery:
            publisher = await nursery.start(serve_twice)
            address = publisher.peer.publisher.address("main")
            async with open_node(tmp_path / "reader", peers=publisher.addresses) as reader:
                watch = Watch(reader, address, parse(NEWEST)[0], on_problem=lambda problem: gone.set())
                await anext(watch)
                leave.set()
                turn = await anext(watch)
                assert said(turn)[-1] == (ADDED, "later-1") and gone.is_set() and watch.problem is None
                back.set()
