"""How much is proven: what each way to a dataset reaches, that it lasts, that damage raises nothing, that it can be
insisted on."""

from __future__ import annotations

from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import trio

from rhizome_index.api import FeedResults, Node, open_node
from rhizome_index.blocks import cbor
from rhizome_index.errors import UnprovenError
from rhizome_index.index.address import Address
from rhizome_index.limits import PROVEN_MAX
from rhizome_index.node.archive import read_dataset, write_dataset
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.ladder import Ladder
from rhizome_index.node.part import standing_of
from rhizome_index.node.register import INDEX, WHERE, Policy
from rhizome_index.query.parse import parse
from rhizome_index.tree.node import EMPTY_TREE
from rhizome_index.trust.ladder import AUDITED, CARRIED, MADE, PROVEN, Bound, Derivation, Standing, derivation_of
from tests.node.test_asking import TCP, newest_tagged, publish

QUERY = "first 8 posts tagged #cats"
PRIMARY_QUERY = 'all posts where id = "p00000003"'
ADDRESS = Address("12D3KooWSxpeJpcAebtV9emdNM7bUNATFhTx2JirESHYLkxhVvHC", "main")


def derivation(number: int) -> Derivation:
    return Derivation(number.to_bytes(32, "big"), EMPTY_TREE, ())


async def proof_of(node: Node, address: Address, query: str = QUERY) -> str:
    return (await node.query(query, address).page()).proof


async def test_what_was_published_here_was_made_here(tmp_path: Path) -> None:
    async with open_node(tmp_path) as node:
        await publish(node)
        own = node.peer.publisher.address("main")
        await node.collection("posts").put({"id": "new", "tags": ["cats"], "created": 2**50})
        await node.collection("posts").create_index("by_likes", "likes")
        await node.collection("posts").delete("new")
        for query in (QUERY, PRIMARY_QUERY, "newest 3 posts", "count posts where likes > 3"):
            page = await node.query(query, require="L5").page()
            assert page.proof == "L5" and page.standing.level == MADE
        head = node.catalog[own]
        assert standing_of(node.peer.store, head, Policy()) == Standing(MADE)
    async with open_node(tmp_path) as node:
        assert await proof_of(node, own) == "L5"


async def test_what_was_restored_from_a_file_was_not_made_here(tmp_path: Path) -> None:
    async with open_node(tmp_path / "one") as node:
        await publish(node)
        address = node.peer.publisher.address("main")
        with (tmp_path / "file.car").open("wb") as file:
            write_dataset(file, node.peer.store, node.catalog[address])
    async with open_node(tmp_path / "other") as other:
        with (tmp_path / "file.car").open("rb") as file:
            read_dataset(file, other.peer.store)
        assert await proof_of(other, address) == "L1"
        with pytest.raises(UnprovenError, match=r"is L1 only, and L3 is required; proven: complete and right .*; not"):
            await other.query(QUERY, address, require="L3").page()


async def test_a_change_to_what_was_not_made_here_makes_no_more_of_it(tmp_path: Path) -> None:
    async with open_node(tmp_path) as node:
        await publish(node)
        own, store = node.peer.publisher.address("main"), node.peer.store
        store.execute("delete from proven")
        await node.collection("posts").put({"id": "new", "tags": ["cats"], "created": 2**50})
        assert await proof_of(node, own) == "L1"
        await node.collection("posts").create_index("by_cats", "tags", "-created", where={"tags": "cats"})
        with pytest.raises(UnprovenError):
            await node.query(PRIMARY_QUERY, require="L5").page()
        manifest = node.peer.publisher.manifest("main")
        standings = Ladder(store).of_collection(manifest.rule, manifest.collections["posts"])
        assert {name: one.level for name, one in standings.items()} == {"": PROVEN, "by_tag": PROVEN, "by_cats": MADE}


async def test_each_way_to_follow_reaches_its_own_level(tmp_path: Path) -> None:
    async with open_node(tmp_path / "publisher", listen=[TCP]) as publisher:
        await publish(publisher)
        address = publisher.peer.publisher.address("main")
        policies = [(None, "L5"), (Policy(INDEX, "posts", "by_tag"), "L1"), (Policy(WHERE, query=QUERY), "L1")]
        for number, (policy, wanted) in enumerate(policies):
            async with open_node(tmp_path / str(number), peers=publisher.addresses) as node:
                with trio.fail_after(30):
                    assert await proof_of(node, address) == "L1"
                    node.follow(address, policy)
                    head = await node.sync(address)
                    assert await proof_of(node, address) == wanted
                    assert str(standing_of(node.peer.store, head, policy or Policy())) == wanted


async def test_nothing_is_given_of_what_is_not_proven_as_far_as_required(tmp_path: Path) -> None:
    async with open_node(tmp_path / "publisher", listen=[TCP]) as publisher:
        await publish(publisher)
        address = publisher.peer.publisher.address("main")
        async with open_node(tmp_path / "reader", peers=publisher.addresses) as reader:
            with trio.fail_after(30):
                for level in ("L3", "L4", "L5"):
                    rows = []
                    with pytest.raises(UnprovenError, match=f"is L1 only, and {level}"):
                        async for row in reader.query(QUERY, address, require=level):
                            rows.append(row)
                    assert not rows
                with pytest.raises(UnprovenError):
                    find = reader.remote_collection("posts", address).find({"tags": "cats"})
                    await find.limit(3).require("L3").page()
                page = await reader.query(QUERY, address, require="L1").page()
                assert page.rows == newest_tagged("cats", 8)
                head = page.head
                manifest = publisher.peer.publisher.manifest("main")
                posts = manifest.collections["posts"]
                Ladder(reader.peer.store).note(
                    address, [derivation_of(manifest.rule, posts, "by_tag")], AUDITED, Bound(0.01, 0.99)
                )
                page = await reader.query(QUERY, address, require="L3").page()
                assert (page.rows, page.proof, page.head) == (newest_tagged("cats", 8), "L3", head)
                with pytest.raises(UnprovenError):
                    await reader.query(QUERY, address, require="L4").page()


async def test_of_a_feed_the_least_counts(tmp_path: Path) -> None:
    async with open_node(tmp_path) as node:
        await publish(node)
        other = node.collection("posts", "other")
        await other.create(time="created", order=["-created"], indexes={"by_tag": "tags,-created"})
        await other.put({"id": "x", "tags": ["cats"], "created": 2**50})
        addresses = [node.peer.publisher.address(name) for name in ("main", "other")]
        query, _ = parse("newest 5 posts tagged #cats")
        for require in (False, True):
            feed = FeedResults(node, query, addresses)
            rows = [row async for row in feed]
            assert len(rows) == 5 and feed.feed.standing().level == (PROVEN if require else MADE)
            node.peer.store.execute("delete from proven where dataset = ?", (str(addresses[1]),))


def test_the_best_that_is_known_counts(tmp_path: Path) -> None:
    store = DiskStore(tmp_path / "store", make=True)
    ladder = Ladder(store)
    assert ladder.standing(derivation(1)) == Standing(PROVEN)
    for bound, best in ((0.05, 0.05), (0.01, 0.01), (0.02, 0.01)):
        ladder.note(ADDRESS, [derivation(1)], AUDITED, Bound(bound, 0.99))
        assert ladder.standing(derivation(1)) == Standing(AUDITED, Bound(best, 0.99))
    ladder.note(ADDRESS, [derivation(1)], MADE)
    ladder.note(ADDRESS, [derivation(1)], CARRIED)
    assert ladder.standing(derivation(1)) == Standing(MADE)
    assert ladder.standing(derivation(2)) == Standing(PROVEN)
    store.close()


@pytest.mark.parametrize("column", ["derivation", "found"])
def test_no_damage_proves_anything(tmp_path: Path, column: str) -> None:
    store = DiskStore(tmp_path / "store", make=True)
    ladder = Ladder(store)
    ladder.note(ADDRESS, [derivation(1)], AUDITED, Bound(0.01, 0.99))
    ((size,),) = store.execute(f"select length({column}) from proven")
    ((before,),) = store.execute(f"select {column} from proven")
    for at in range(8 * size):
        bits = int.from_bytes(before, "big") ^ 1 << at
        store.execute(f"update proven set {column} = ?", (bits.to_bytes(size, "big"),))
        assert ladder.standing(derivation(1)).level == PROVEN
    for value in (None, 7, "text", b""):
        if column == "found" and value is not None:
            store.execute("update proven set found = ?", (value,))
            assert ladder.standing(derivation(1)).level == PROVEN
    store.close()


@pytest.mark.parametrize(
    "said",
    [
        [6, None],
        [-1, None],
        [2, None],
        [True, None],
        [5.0, None],
        ["5", None],
        [5, [0.1, 0.9]],
        [3, None],
        [3, [0.1]],
        5,
    ],
)
def test_a_level_that_this_version_does_not_know_proves_nothing(tmp_path: Path, said: Any) -> None:
    with closing(DiskStore(tmp_path / "store", make=True)) as store:
        ladder, name = Ladder(store), derivation(1).digest
        ladder.note(ADDRESS, [derivation(1)], MADE)
        for body, level in (([MADE, None], MADE), (said, PROVEN)):
            found = cbor.encode(body)
            store.execute("update proven set found = ?", (sha256(name + found).digest()[:8] + found,))
            assert ladder.standing(derivation(1)).level == level


@pytest.mark.slow
def test_the_last_that_was_proven_of_a_dataset_is_remembered(tmp_path: Path) -> None:
    store = DiskStore(tmp_path / "store", make=True)
    ladder = Ladder(store)
    ladder.note(Address(ADDRESS.publisher, "other"), [derivation(0)], MADE)
    for start in range(1, PROVEN_MAX + 1, 512):
        ladder.note(ADDRESS, map(derivation, range(start, start + 512)), MADE)
    assert ladder.standing(derivation(1)).level == MADE
    ladder.note(ADDRESS, [derivation(PROVEN_MAX + 1)], MADE)
    levels = [ladder.standing(derivation(number)).level for number in (0, 1, 2, PROVEN_MAX, PROVEN_MAX + 1)]
    assert levels == [MADE, PROVEN, MADE, MADE, MADE]
    store.close()
