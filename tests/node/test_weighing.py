"""Where an answer is to come from: what is here is seen, what is not costs what the peers' speed makes it cost."""

from __future__ import annotations

from pathlib import Path

import pytest

from rhizome_index.api import Node, open_node
from rhizome_index.blocks.cid import digest_of
from rhizome_index.index.schema import Collection
from rhizome_index.node.resolve import Resolver
from rhizome_index.node.serve import LocalAnswerer
from rhizome_index.node.weigh import ASK, FOLLOW, HERE, WANTS, Location, Speed, locations
from rhizome_index.query.choose import Estimate, choose
from rhizome_index.query.parse import parse
from tests.node.test_asking import TCP, newest_tagged, publish

QUERY = "newest 100 posts tagged #cats"
LOCAL, DISTANT, NARROW = Speed(0.0001, 1e9), Speed(1.0, 1e9), Speed(0.001, 1e3)


def chosen_by(node: Node) -> tuple[LocalAnswerer, Estimate, Collection]:
    source = LocalAnswerer(node.peer.store, {})
    query, _ = parse(QUERY)
    _, _, manifest = source.snapshot(node.peer.publisher.address("main"), None)
    collection = manifest.collection(query.collection)
    return source, source.run(choose(query, collection, allow_scan=True)), collection


def weigh(node: Node, speed: Speed | None) -> list[Location]:
    source, chosen, collection = chosen_by(node)
    return locations(source, collection, chosen, speed)


async def test_what_is_all_here_needs_nobody(tmp_path: Path) -> None:
    async with open_node(tmp_path) as node:
        await publish(node)
        for speed in (LOCAL, DISTANT, None):
            (only,) = weigh(node, speed)
            assert (only.location, only.verdict, only.blocks, only.round_trips) == (HERE, "chosen", 0, 0)


async def test_what_is_missing_is_wanted_or_all_is_asked_for(tmp_path: Path) -> None:
    """Chunks are here, records are not: wanting them takes a round trip as asking does, and fewer bytes."""
    async with open_node(tmp_path) as node:
        await publish(node)
        _, _, collection = chosen_by(node)
        node.peer.store.execute("delete from blocks where digest = ?", (digest_of(collection.primary.root),))
        node.peer.store.forget_chunks()
        found = weigh(node, NARROW)
        assert [item.location for item in found] == [WANTS, ASK, FOLLOW]
        assert found[0].verdict == "chosen" and found[0].bytes < found[1].bytes
        assert "times as long" in found[1].verdict and "such answers" in found[2].verdict
        (alone,) = weigh(node, None)
        assert alone.verdict.startswith("incomplete") and alone.blocks


async def test_who_has_nothing_asks(tmp_path: Path) -> None:
    async with open_node(tmp_path / "publisher") as publisher, open_node(tmp_path / "empty") as empty:
        await publish(publisher)
        _, chosen, collection = chosen_by(publisher)
        source = LocalAnswerer(empty.peer.store, {})
        for speed in (DISTANT, Speed(0.1, 1e6)):
            found = locations(source, collection, chosen, speed)
            assert (found[0].location, found[0].round_trips) == (ASK, 1)
            assert found[1].round_trips == 4  # the head, the root, the leaf it would name, and the records


@pytest.mark.parametrize("is_lost", ["nothing", "a record", "the index"])
async def test_a_reader_wants_what_little_it_lacks(
    tmp_path: Path, is_lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Resolver, "_speed", lambda *_: Speed(1e-6, 1e3))
    async with open_node(tmp_path / "publisher", listen=[TCP]) as publisher:
        await publish(publisher)
        address = publisher.peer.publisher.address("main")
        async with open_node(tmp_path / "reader", peers=publisher.addresses) as reader:
            await reader.query(QUERY, address).page()
            reader.peer.named = ()  # from here on the store comes first
            store = reader.peer.store
            if is_lost == "a record":
                (digest,) = store.execute("select digest from blocks order by length(data) limit 1")[0]
                store.execute("delete from blocks where digest = ?", (digest,))
            elif is_lost == "the index":
                store.execute("delete from blocks where length(data) > 700")
            store.forget_chunks()
            page = await reader.query(QUERY, address).page()
            assert page.rows == newest_tagged("cats", 100)
            lacking = {"nothing": 0, "a record": 1}.get(is_lost, page.cost.blocks_remote)
            assert page.cost.blocks_remote == lacking
            assert (page.cost.blocks_remote > len(page.rows)) == (is_lost == "the index")
