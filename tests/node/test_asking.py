"""Two nodes over real libp2p: answers are proven, cheap and equal to the publisher's; lies are never believed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from rhizome_index.api import Node, Page, open_node
from rhizome_index.blocks import cbor
from rhizome_index.cli.samples import posts
from rhizome_index.errors import RemoteError, UnavailableError, UsageError
from rhizome_index.node import serve
from rhizome_index.wire import ask as ask_protocol
from rhizome_index.wire.frame import FrameReader, encode_frame

POSTS = list(posts(400, 3))
TCP, WS = "/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/0/ws"


async def publish(node: Node) -> None:
    collection = node.collection("posts")
    await collection.create(time="created", order=["-created"], indexes={"by_tag": "tags,-created"})
    await collection.put_many(POSTS)


def newest_tagged(tag: str, count: int) -> list[dict[str, Any]]:
    return [post for post in reversed(POSTS) if tag in post["tags"]][:count]


async def ask(tmp_path: Path, listen: str, query: str = "first 8 posts tagged #cats") -> tuple[Page, Node]:
    async with open_node(tmp_path / "publisher", listen=[listen]) as publisher:
        await publish(publisher)
        address = next(text for text in publisher.addresses if ("/ws" in text) == ("/ws" in listen))
        async with open_node(tmp_path / "reader", peers=[address]) as reader:
            with trio.fail_after(20):
                return await reader.query(query, publisher.peer.publisher.address("main")).page(), reader


@pytest.mark.parametrize("listen", [TCP, WS])
async def test_a_cold_peer_gets_the_answer_in_one_round_trip(tmp_path: Path, listen: str) -> None:
    page, _ = await ask(tmp_path, listen)
    assert page.rows == newest_tagged("cats", 8)
    assert (page.cost.round_trips, page.cost.blocks_local, page.proof, page.head.sequence) == (1, 0, "L1", 2)
    assert len(page.cost.peers) == 1 and page.cost.bytes_received < 40_000


async def test_pages_go_on_at_the_same_head(tmp_path: Path) -> None:
    async with open_node(tmp_path / "publisher", listen=[TCP]) as publisher:
        await publish(publisher)
        address = publisher.peer.publisher.address("main")
        async with open_node(tmp_path / "reader", peers=publisher.addresses) as reader:
            first = await reader.query("newest 3 posts tagged #cats", address).page()
            await publisher.collection("posts").put({"id": "new", "tags": ["cats"], "created": 2**50})
            second = await reader.query("newest 3 posts tagged #cats", address, after=first.cursor).page()
            assert first.rows + second.rows == newest_tagged("cats", 6)
            again = await reader.query("newest 3 posts tagged #cats", address).page()
            assert again.rows[0]["id"] == "new" and again.head.sequence == 3


async def test_what_was_proven_is_kept_and_answers_offline(tmp_path: Path) -> None:
    page, reader = await ask(tmp_path, TCP)
    async with open_node(tmp_path / "reader") as offline:
        (address,) = offline.catalog
        again = await offline.query("first 8 posts tagged #cats", address).page()
        assert again.rows == page.rows and again.cost.blocks_remote == 0
        with pytest.raises(UnavailableError):
            await offline.query("first 8 posts tagged #dogs", address).page()
    assert reader.peer_id == offline.peer_id


async def test_a_large_answer_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ask_protocol, "ASK_ROWS_MAX", 100)
    page, _ = await ask(tmp_path, TCP, "all posts where likes >= 0")
    assert page.rows == POSTS[::-1]
    assert page.cost.round_trips == 4


async def test_a_count_needs_no_entries(tmp_path: Path) -> None:
    page, _ = await ask(tmp_path, TCP, "count posts tagged #cats")
    assert page.count == len(newest_tagged("cats", 400)) and page.cost.entries_scanned == 0


async def test_a_query_that_makes_no_sense_there_is_the_askers_fault(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no collection called 'pots'"):
        await ask(tmp_path, TCP, "first 3 pots")


async def test_nobody_there(tmp_path: Path) -> None:
    async with open_node(
        tmp_path / "reader",
        peers=["/ip4/127.0.0.1/tcp/9/p2p/" + "12D3KooWSxpeJpcAebtV9emdNM7bUNATFhTx2JirESHYLkxhVvHC"],
    ) as reader:
        assert not reader.peers and "connection refused" in next(iter(reader.unreachable.values()))
    with pytest.raises(UsageError):
        async with open_node(tmp_path / "reader", peers=["/ip4/127.0.0.1/tcp/9"]):
            raise AssertionError


def lying(frames: Iterator[bytes], lie: str) -> Iterator[bytes]:
    """An honest answer, spoiled."""
    reader = FrameReader()
    for frame in frames:
        for body in reader.feed(frame):
            number, kind, content = cbor.decode(body)
            if kind == "blocks":
                last = content[-1]
                content = {
                    "flip": [*content[:-1], last[:-1] + bytes([last[-1] ^ 1])],
                    "drop": content[:-1],
                    "drop first": content[1:],
                    "swap": [content[1], content[0], *content[2:]],
                    "add": [*content, last],
                    "gap": [None, *content[1:]],
                    "text": ["x", *content[1:]],
                }.get(lie, content)
            elif kind == "open":
                if lie == "head":
                    content["head"] = content["head"][:-1] + bytes([content["head"][-1] ^ 1])
                elif lie == "manifest":
                    content["manifest"] = content["manifest"][:-1] + b"\x05"
                elif lie == "plan":
                    content["plan"] = ["by_tag", b"a", b"b", False]
                elif lie == "field":
                    content["more"] = 1
            elif lie == "incomplete":
                content = {"complete": False}
            if lie == "malformed":
                yield encode_frame(b"\xff" + body)
            elif lie == "number":
                yield encode_frame(cbor.encode([number + 1, kind, content]))
            else:
                yield encode_frame(cbor.encode([number, kind, content]))


LIES = ["flip", "drop", "swap", "add", "gap", "text", "head", "manifest", "plan", "field", "incomplete"]
LIES += ["malformed", "number", "drop first"]


@pytest.mark.parametrize("lie", LIES)
async def test_a_lie_is_told_from_the_truth_and_costs_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    honest = ask_protocol.answer
    monkeypatch.setattr(serve.ask, "answer", lambda number, ask, peer: lying(honest(number, ask, peer), lie))
    async with open_node(tmp_path / "publisher", listen=[TCP]) as publisher:
        await publish(publisher)
        async with open_node(tmp_path / "reader", peers=publisher.addresses) as reader:
            given = []
            with pytest.raises(RemoteError) as caught:
                async for row in reader.query("first 8 posts tagged #cats", publisher.peer.publisher.address("main")):
                    given.append(row)
            assert not given
            assert caught.value.exit_code == 4 and caught.value.peer == publisher.peer_id
            assert (
                reader.peer.membership is not None
                and publisher.peer_id not in reader.peer.membership.swarm.connected_peers
            )


async def test_an_honest_peer_makes_up_for_a_lying_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = ask_protocol.answer
    asked = []

    def answer(number: int, ask: Any, peer: Any) -> Iterator[bytes]:
        asked.append(number)
        return lying(honest(number, ask, peer), "flip") if len(asked) == 1 else honest(number, ask, peer)

    monkeypatch.setattr(serve.ask, "answer", answer)
    async with open_node(tmp_path / "publisher", listen=[TCP]) as publisher:
        await publish(publisher)
        address = publisher.peer.publisher.address("main")
        async with open_node(tmp_path / "other", listen=[TCP], peers=publisher.addresses) as other:
            other.peer.store.put_many(publisher.peer.store.all_blocks())
            other.peer.store.put_head(publisher.catalog[address])
            async with open_node(tmp_path / "reader", peers=[*publisher.addresses, *other.addresses]) as reader:
                page = await reader.query("first 8 posts tagged #cats", address).page()
                assert page.rows == newest_tagged("cats", 8) and len(page.cost.peers) == 2
