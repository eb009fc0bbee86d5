"""Freeing blocks: all that is needed stays, the rest goes, and nothing goes where that cannot be told apart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rhizome_index.api import open_node
from rhizome_index.blocks.cid import cid_of
from rhizome_index.errors import StoreError
from rhizome_index.index.head import Head
from rhizome_index.limits import HEADS_KEPT
from rhizome_index.node.collect import collect
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.home import Home
from rhizome_index.node.mend import missing_blocks
from rhizome_index.node.publish import Declaration, Publisher
from rhizome_index.node.register import INDEX, WHERE, Policy
from rhizome_index.query.parse import parse_index
from tests.node.test_asking import POSTS, newest_tagged
from tests.node.test_following import QUERY, a_pair

DECLARED = Declaration(indexes=dict([parse_index("by_n=n")]))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.create(b"k" * 32)
    return made


@pytest.fixture
def store(home: Home) -> Iterator[DiskStore]:
    with home.open_store() as opened:
        yield opened


def publish_heads(home: Home, store: DiskStore, count: int, name: str = "main") -> list[Head]:
    """Each with other records than the one before, some of which have blocks of their own."""
    publisher = Publisher(store, home.identity, lambda: 1_700_000_000.0)
    publisher.put_many(name, "things", [{"id": n, "n": 0, "text": "x" * 100} for n in range(200)], DECLARED)
    return [
        publisher.put_many(name, "things", [{"id": 300 + n % 7, "n": n, "text": "y" * 3000 + str(n)}])[0]
        for n in range(count)
    ]


def file_bytes(home: Home) -> int:
    return home.store_path.stat().st_size


def test_heads_at_the_limit_stay_whole_and_one_past_it_does_not(home: Home, store: DiskStore) -> None:
    heads = publish_heads(home, store, HEADS_KEPT + 10)
    before = store.count_blocks()
    tried = collect(store, home.peer_id, is_trial=True)
    assert store.count_blocks() == before and tried.freed_blocks > 20
    read: list[int] = []
    found = collect(store, home.peer_id, on_blocks=read.append)
    assert found == tried and sum(read) <= 2 * before[0]
    assert store.count_blocks() == (found.kept_blocks, found.kept_bytes)
    assert (found.kept_blocks + found.freed_blocks, found.kept_bytes + found.freed_bytes) == before
    assert not any(missing_blocks(store, head) for head in heads[-HEADS_KEPT:])
    assert all(missing_blocks(store, head) for head in heads[:-HEADS_KEPT])
    assert collect(store, home.peer_id).freed_blocks == 0
    publish_heads(home, store, 1)


@pytest.mark.parametrize("is_old", [False, True])
def test_room_goes_back_to_the_disk(home: Home, is_old: bool) -> None:
    with home.open_store() as store:
        if is_old:  # as stores were made that could not shrink
            store.execute("pragma auto_vacuum = none")
            store.execute("vacuum")
        publish_heads(home, store, HEADS_KEPT)
        store.put_many(waste(2000))
        store.execute("pragma wal_checkpoint(truncate)")
        before = file_bytes(home)
        assert collect(store, home.peer_id).freed_blocks >= 2000
        assert file_bytes(home) < before - 1500 * 4000
        assert store.execute("pragma integrity_check") == [("ok",)] and store.execute("pragma page_size") == [(16384,)]
        assert store.execute("pragma auto_vacuum") == [(2,)] and store.execute("pragma freelist_count") == [(0,)]


def waste(count: int) -> Iterator[tuple[bytes, bytes]]:
    for number in range(count):
        data = number.to_bytes(4, "big") * 1000
        yield cid_of(data), data


def test_nothing_is_freed_where_something_is_missing(home: Home, store: DiskStore) -> None:
    head = publish_heads(home, store, HEADS_KEPT + 5)[-1]
    store.execute("delete from blocks where digest = ?", (head.manifest[4:],))
    before = store.count_blocks()
    with pytest.raises(StoreError, match="are missing") as told:
        collect(store, home.peer_id)
    assert "scrub" in str(told.value.hint) and store.count_blocks() == before


def test_nothing_is_freed_where_the_newest_head_is_lost(home: Home, store: DiskStore) -> None:
    publish_heads(home, store, HEADS_KEPT + 5)
    before = store.count_blocks()
    store.execute("delete from heads where sequence = (select max(sequence) from heads)")
    with pytest.raises(StoreError, match=r"newest head .* is lost"):
        collect(store, home.peer_id)
    store.execute("update heads set envelope = x'00'")
    with pytest.raises(StoreError, match="is damaged"):
        collect(store, home.peer_id)
    assert store.count_blocks() == before


def test_what_others_write_meanwhile_stays(home: Home, store: DiskStore) -> None:
    """Between two steps, which are all that nobody else may have the store open for."""
    publish_heads(home, store, HEADS_KEPT + 5)
    is_first = True

    def write(count: int) -> None:
        nonlocal is_first
        if is_first:
            is_first = False
            with home.open_store() as other:
                publish_heads(home, other, 1, "other")

    assert collect(store, home.peer_id, on_blocks=write).freed_blocks > 0 and not is_first
    assert len(store.current_heads()) == 2
    for head in store.current_heads():
        assert not missing_blocks(store, head)


@pytest.mark.parametrize("policy", [Policy(), Policy(INDEX, "posts", "by_tag"), Policy(WHERE, query=QUERY)])
async def test_what_is_followed_stays(tmp_path: Path, policy: Policy) -> None:
    async with a_pair(tmp_path) as (_, reader, address):
        reader.follow(address, policy)
        await reader.sync(address)
        assert collect(reader.peer.store, reader.peer_id).kept_blocks > 3
    async with open_node(tmp_path / "reader") as offline:
        page = await offline.query(QUERY, address).page()
        assert page.rows == newest_tagged("cats", 8) and page.cost.blocks_remote == 0


async def test_a_lost_head_or_part_of_what_is_followed_frees_nothing(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as (_, reader, address):
        reader.follow(address, Policy(WHERE, query=QUERY))
        head = await reader.sync(address)
        store = reader.peer.store
        kept = store.count_blocks()
        with store.transaction():
            store.execute("update held set envelope = x'00'")
        with pytest.raises(StoreError, match="is lost"):
            collect(store, reader.peer_id)
        store.set_held(head)
        store.execute("delete from blocks where digest = ?", (head.manifest[4:],))
        with pytest.raises(StoreError, match="are missing"):
            collect(store, reader.peer_id)
        assert store.count_blocks()[0] == kept[0] - 1


async def test_answers_stay_until_there_is_a_newer_head(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as (publisher, reader, address):
        await reader.query(QUERY, address).page()
        assert collect(reader.peer.store, reader.peer_id).freed_blocks == 0
        await publisher.collection("posts").put({**POSTS[0], "id": "new", "tags": ["cats"]})
        await reader.query(QUERY, address).page()
        assert collect(reader.peer.store, reader.peer_id).freed_blocks > 0
    async with open_node(tmp_path / "reader") as offline:
        assert len((await offline.query(QUERY, address).page()).rows) == 8
