"""Hints for answers with nothing in them: from what is here, or from a few blocks of peers, at a cost that is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from rhizome_index.api import Results, open_node
from rhizome_index.errors import UsageError
from rhizome_index.index.address import Address
from rhizome_index.limits import HINTS_SECONDS
from rhizome_index.node.hinting import hints_for
from rhizome_index.query import choose as choosing
from tests.node.test_asking import TCP, publish

HINT = 'nothing has "Cats" at tags; did you mean "cats"?'


async def test_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_node(tmp_path) as node:
        await publish(node)
        posts = node.collection("posts")
        assert (await posts.find({"tags": "Cats"}).limit(3).page()).hints == (HINT,)
        assert (await node.query("count posts tagged #Cats").page()).hints == (HINT,)
        assert (await node.query('{"find": "posts", "where": {"tags": "Cats"}}').page()).hints == (HINT,)
        assert (await node.query("first 3 posts tagged #cats").page()).hints == ()
        assert (await node.query("count posts tagged #cats").page()).hints == ()
        (hint,) = (await posts.find({"tgas": "cats"}).page()).hints
        assert hint.endswith('did you mean "tags"?')
        first = await posts.find({"tags": "cats"}).limit(1).page()
        assert first.cursor is not None
        monkeypatch.setattr(choosing, "SCAN_FREE_ENTRIES", 0)
        results = node.query("first 3 posts where lkes > 3")
        with pytest.raises(UsageError, match="no index answers"):
            await results.page()
        (hint,) = await results.hints()
        assert hint.endswith('did you mean "likes"?')


async def test_of_a_peer(tmp_path: Path) -> None:
    async with open_node(tmp_path / "publisher", listen=[TCP]) as publisher:
        await publish(publisher)
        address = publisher.peer.publisher.address("main")
        async with open_node(tmp_path / "reader", peers=publisher.addresses) as reader:
            with trio.fail_after(20):
                results: Results = reader.query("first 8 posts tagged #Cats", address)
                page = await results.page()
                assert page.rows == [] and page.cost.round_trips == 1
                assert page.hints == ()  # nothing more was asked for
                assert await results.hints(ask=True) == [HINT]
                assert page.cost.round_trips > 1 and page.cost.blocks_remote < 25
                assert (await reader.query("first 8 posts tagged #Cats", address).page()).hints == (HINT,)


async def test_peers_are_not_waited_for(tmp_path: Path, autojump_clock: MockClock) -> None:
    async def nobody(address: Address) -> list[str]:
        await trio.sleep_forever()
        raise AssertionError

    async with open_node(tmp_path) as node:
        await publish(node)
        results = node.query("count posts tagged #Cats")
        await results.page()
        address, resolver = results.address, node.peer.resolver
        assert await hints_for(resolver, address, results.resolution, [], None) == [HINT]
        started = trio.current_time()
        assert await hints_for(resolver, address, results.resolution, [], nobody) == []
        assert trio.current_time() - started == HINTS_SECONDS


async def test_of_nothing(tmp_path: Path) -> None:
    async with open_node(tmp_path) as node:
        results = node.query("first 8 posts")
        with pytest.raises(UsageError):
            node.query("frst 8 posts")
        assert await results.hints() == []
