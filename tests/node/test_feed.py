"""Feeds: one order over many datasets, whether they are here or at a peer, and what of them is missing is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from rhizome_index.api import FeedResults, Node, open_node
from rhizome_index.cli.samples import posts
from rhizome_index.errors import PartialError, UnavailableError, UsageError
from rhizome_index.index.address import Address
from rhizome_index.limits import FEED_DATASETS_MAX
from tests.node.test_asking import TCP
from tests.query.oracle import in_order, meets

DATASETS = {f"d{number}": list(posts(40 * number, number)) for number in range(6)}
# The same records in two datasets: their rows are equal, and the lesser address comes first.
DATASETS["d6"] = DATASETS["d5"]
QUERIES = [
    "newest 12 posts tagged #cats",
    "oldest 12 posts tagged #cats",
    "newest 5 posts tagged #cats where likes > 3 select id, likes",
    "first 9 posts order by -likes",
    "newest 200 posts tagged #art",
    "all posts tagged #cats",
    "newest 3 posts tagged #nothing-has-this",
]


async def publish(node: Node, names: list[str]) -> list[Address]:
    for name in names:
        collection = node.collection("posts", name)
        await collection.create(time="created", order=["-created"], indexes={"by_tag": "tags,-created"})
        await collection.put_many(DATASETS[name])
    return [node.peer.publisher.address(name) for name in names]


def wanted(results: FeedResults, addresses: list[Address]) -> list[tuple[str, Any]]:
    query = results.query
    found = []
    for address in addresses:
        for record in DATASETS[address.name]:
            if meets(record, query.where):
                found.append({**record, "dataset": str(address)})
    newest = query.order in ("newest", "declared")
    paths = [("created", newest)] if isinstance(query.order, str) else [(by.path, by.descending) for by in query.order]
    rows = in_order(sorted(found, key=lambda row: str(row["dataset"]), reverse=False), paths)
    return [(row["dataset"], {name: row[name] for name in query.paths} or row["id"]) for row in rows][: query.limit]


async def got(results: FeedResults) -> list[tuple[str, Any]]:
    rows = [(str(address), record) async for address, record in results]
    return [(address, record if results.query.paths else record["id"]) for address, record in rows]


@pytest.mark.parametrize("text", QUERIES)
async def test_datasets_that_are_here(tmp_path: Path, text: str) -> None:
    async with open_node(tmp_path) as node:
        addresses = await publish(node, list(DATASETS))
        for some in (addresses, addresses[3:4]):
            results = node.feed(text, some, scan=True)
            assert await got(results) == wanted(results, some)


async def test_a_second_feed_sees_what_was_written_meanwhile(tmp_path: Path) -> None:
    async with open_node(tmp_path) as node:
        addresses = await publish(node, ["d1", "d2"])
        text = "newest 1 posts tagged #cats select id"
        await got(node.feed(text, addresses))
        await node.collection("posts", "d1").put({"id": "new", "tags": ["cats"], "created": 2**52})
        assert await got(node.feed(text, addresses)) == [(str(addresses[0]), {"id": "new"})]


@pytest.mark.parametrize("text", QUERIES)
async def test_datasets_of_a_peer(tmp_path: Path, text: str) -> None:
    async with open_node(tmp_path / "publisher", listen=[TCP]) as publisher:
        addresses = await publish(publisher, list(DATASETS))
        async with open_node(tmp_path / "reader", peers=publisher.addresses) as reader:
            with trio.fail_after(30):
                results = reader.feed(text, addresses, scan=True)
                assert await got(results) == wanted(results, addresses)
                # Where no index gives the order, all records come, which takes more than one answer.
                assert results.feed.cost.round_trips <= 2 or "order by" in text
                assert results.feed.cost.peers == [publisher.peer_id]


async def test_what_is_missing_is_said(tmp_path: Path) -> None:
    async with open_node(tmp_path) as node:
        addresses = await publish(node, ["d1", "d2"])
        missing = node.peer.publisher.address("nobody")
        results = node.feed("newest 3 posts tagged #cats", [*addresses, missing])
        rows = []
        with pytest.raises(PartialError, match="1 of 3 datasets"):
            async for address, _ in results:
                rows.append(address)
        assert len(rows) == 3 and list(results.feed.problems) == [missing]
        with pytest.raises(UnavailableError):
            await got(node.feed("newest 3 posts tagged #cats", [missing]))


async def test_what_cannot_be_a_feed(tmp_path: Path) -> None:
    async with open_node(tmp_path) as node:
        addresses = await publish(node, ["d1"])
        other = node.collection("posts", "other")
        await other.create(order=["likes"])
        with pytest.raises(UsageError, match="one dataset at a time"):
            node.feed("count posts", addresses)
        with pytest.raises(UsageError, match="by different paths"):
            await got(node.feed("first 3 posts", [*addresses, other.address]))
        address = addresses[0]
        many = [Address(address.publisher, f"n{number}") for number in range(FEED_DATASETS_MAX + 1)]
        node.feed("all posts", many[1:])
        for wrong in (many, []):
            with pytest.raises(UsageError, match="1 to 10,000 datasets"):
                node.feed("all posts", wrong)
