"""What queries leave: kept as long as there is room, the least recently used going first, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rhizome_index.blocks import cbor
from rhizome_index.blocks.cid import cid_of
from rhizome_index.errors import IntegrityError, StoreError
from rhizome_index.index.head import Identity
from rhizome_index.limits import QUOTA_BYTES_DEFAULT, QUOTA_GROWTH, QUOTA_SLACK, STORE_BYTES_EMPTY, USES_NOTED_MAX
from rhizome_index.node import room as room_module
from rhizome_index.node.cache import Cache
from rhizome_index.node.collect import Collection, collect, make_room
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.pins import Pins
from rhizome_index.node.publish import Declaration, Publisher
from rhizome_index.node.reach import dataset_blocks
from rhizome_index.node.register import Follow, Policy, Register
from rhizome_index.node.room import Measured, Room
from rhizome_index.node.uses import Kind

US, OTHER = Identity(b"u" * 32), Identity(b"o" * 32)
DECLARED = Declaration()
Blocks = list[tuple[bytes, bytes]]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DiskStore]:
    found = DiskStore(tmp_path / "store.sqlite", make=True)
    yield found
    found.close()


@pytest.fixture
def left(tmp_path: Path, store: DiskStore) -> Blocks:
    """All blocks of somebody's dataset, left by queries: its leaves one by one, each somewhat later."""
    other = DiskStore(tmp_path / "other.sqlite", make=True)
    publisher = Publisher(other, OTHER, lambda: 1_700_000_000.0)
    head = publisher.put_many("main", "posts", [{"id": n, "text": "x" * 900} for n in range(300)], DECLARED)[0]
    blocks = list(dataset_blocks(other, head, set()))
    other.close()
    cache = Cache(store)
    store.put_head(head)
    for block in blocks:
        assert cache.put([block])
    return blocks


def kept(store: DiskStore, blocks: Blocks) -> list[bool]:
    return [store.is_here(cid) for cid, _ in blocks]


def size(blocks: Blocks) -> int:
    return sum(len(data) for _, data in blocks)


def allow(store: DiskStore, blocks_bytes: int) -> None:
    """A quota for so many bytes of blocks, as far as that is known."""
    room = Room(store)
    room.quota = int(blocks_bytes * (room.measured or Measured()).ratio)


def test_all_of_it_stays_where_there_is_room(store: DiskStore, left: Blocks) -> None:
    room = Room(store)
    assert room.quota == QUOTA_BYTES_DEFAULT and room.cached_bytes == size(left)
    found = collect(store, US.peer_id)
    assert (found.freed_blocks, found.evicted_blocks) == (0, 0) and found.cached_bytes == size(left)
    room.quota = None
    assert collect(store, US.peer_id).evicted_blocks == 0 and all(kept(store, left))


def test_the_least_recently_used_goes_first(store: DiskStore, left: Blocks) -> None:
    collect(store, US.peer_id)  # what its blocks take in the file is known then
    read = left[1:6]
    for cid, _ in read:
        store.get(cid)
    allow(store, size(left) // 2)
    found = collect(store, US.peer_id)
    here = kept(store, left)
    assert all(kept(store, read)) and not here[0], "what was read is newer than what came last"
    gone = [number for number, is_here in enumerate(here) if not is_here]
    assert gone == [0, *range(6, 6 + len(gone) - 1)], "the order in which they came"
    left_over = sum(len(data) for (_, data), is_here in zip(left, here, strict=True) if is_here)
    assert found.cached_bytes == left_over == Room(store).cached_bytes
    assert 0.8 * size(left) // 2 < left_over <= size(left) // 2
    assert found.evicted_blocks == len(gone) and found.evicted_bytes == size(left) - left_over


def test_what_came_by_a_query_and_is_needed_by_now_stays(store: DiskStore, left: Blocks) -> None:
    """It is followed, say, or pinned, and nothing had to be brought."""
    (head,) = store.current_heads()
    collect(store, US.peer_id)
    Room(store).quota = 1
    Pins(store).add(head)
    found = collect(store, US.peer_id)
    assert found.cached_bytes == Room(store).cached_bytes == 0
    assert found.pinned_bytes == found.kept_bytes == size(left) and all(kept(store, left))
    Register(store).follow(Follow(head.address, Policy()))
    store.set_held(head)
    Pins(store).remove(head.address)
    found = collect(store, US.peer_id)
    assert found.followed_bytes == found.kept_bytes == size(left) and all(kept(store, left))
    Register(store).unfollow(head.address)
    found = collect(store, US.peer_id)
    assert found.evicted_bytes == size(left) and not any(kept(store, left)), "it is left over now"


def test_what_is_being_read_from_stays(store: DiskStore, left: Blocks) -> None:
    collect(store, US.peer_id)
    Room(store).quota = 1
    with store.uses.leasing(left[0][0]):
        assert collect(store, US.peer_id).evicted_blocks == 0 and all(kept(store, left))
    steps = Collection(store, US.peer_id).steps()
    next(steps)
    with store.uses.leasing(left[0][0]):  # from here on
        list(steps)
        assert all(kept(store, left))
    with store.uses.guarding():
        store.get(left[5][0])
        assert store.has(left[6][0])
        collect(store, US.peer_id)
        assert [number for number, is_here in enumerate(kept(store, left)) if is_here] == [5, 6]
    collect(store, US.peer_id)
    assert not any(kept(store, left))


def test_a_peer_that_is_being_answered_goes_elsewhere_before_there_is_no_room(
    store: DiskStore, left: Blocks, tmp_path: Path
) -> None:
    collect(store, US.peer_id)
    allow(store, size(left) // 2)
    with store.uses.leasing(left[0][0], Kind.ANSWERED):
        assert collect(store, US.peer_id).evicted_blocks > 0, "or peers that ask on and on would keep all of it here"


def test_nothing_is_taken_where_there_is_no_room_for_it(store: DiskStore, left: Blocks) -> None:
    collect(store, US.peer_id)
    room, cache = Room(store), Cache(store)
    data = b"one more"
    room.quota = int(room.others_bytes() / (1 + QUOTA_SLACK)) + 1
    assert room.takes_more() and room.should_collect()
    room.quota -= 2
    assert not room.takes_more() and not cache.put([(cid_of(data), data)]) and not store.is_here(cid_of(data))
    assert make_room(store, US.peer_id, lambda: 0.0)
    assert room.takes_more() and not room.should_collect()
    assert cache.put([(cid_of(data), data)]) and store.get(cid_of(data)) == data


def test_a_command_gives_up_what_takes_long(store: DiskStore, left: Blocks) -> None:
    ticks = iter(range(10**6))
    assert not make_room(store, US.peer_id, lambda: float(next(ticks)))
    assert Room(store).measured is None


def test_it_is_looked_at_again_when_enough_has_come(store: DiskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is followed may take more than the quota; then there is no use in collecting again and again."""
    room = Room(store)
    taken = 0
    monkeypatch.setattr(room_module, "STORE_BYTES_EMPTY", 0)
    monkeypatch.setattr(room_module.Room, "file_bytes", lambda self: taken)
    room.quota = 1600
    taken = 1600
    assert not room.should_collect()
    taken = 1601
    assert room.should_collect()
    room.measured = Measured(followed=1601, file_bytes=1601, quota=1600)
    assert not room.should_collect()
    taken = 1601 + int(1600 * QUOTA_GROWTH)
    assert not room.should_collect()
    taken += 1
    assert room.should_collect()
    room.measured = Measured(followed=1601, file_bytes=taken, quota=1700)  # another quota held then
    assert room.should_collect()
    room.measured = Measured(own=taken, file_bytes=taken, quota=1600)  # what is ours does not count
    assert room.others_bytes() == 0 and not room.should_collect()


def test_what_is_followed_is_brought_as_long_as_there_is_room(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = Room(store)
    monkeypatch.setattr(room_module, "STORE_BYTES_EMPTY", 0)
    monkeypatch.setattr(room_module.Room, "file_bytes", lambda self: 1000)
    room.quota = 1000
    room.check()
    room.quota = 999
    with pytest.raises(StoreError, match="more than the quota of 999 B"):
        room.check()
    room.add_cached(1)  # which will make room
    room.check()


def test_uses_that_nobody_notes_are_forgotten(store: DiskStore) -> None:
    for number in range(USES_NOTED_MAX):
        store.uses.fresh.add(number.to_bytes(36, "big"))
    data = b"x"
    store.put_many([(cid_of(data), data)])
    store.get(cid_of(data))
    assert not store.uses.fresh


def test_uses_are_known_from_the_first_guard_to_the_last(store: DiskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    data = [b"%d" % n for n in range(20)]
    cids = list(map(cid_of, data))
    store.put_many(zip(cids, data, strict=True))
    uses = store.uses
    uses._older._most = 4
    store.get(cids[0])
    with uses.guarding():
        assert not uses.has(cids[0])
        with uses.guarding():
            for cid in cids[1:7]:
                store.get(cid)
            assert set(uses.take()) == set(cids[:7])
            assert store.has(cids[7]) and not store.has(cid_of(b"nothing"))
            store.put_many([(cids[8], data[8])])
            uses.take()
        assert [uses.has(cid) for cid in cids] == [False, *[True] * 8, *[False] * 11]
    with uses.guarding():
        assert not any(map(uses.has, cids))


def test_a_measure_that_is_damaged_is_none(store: DiskStore) -> None:
    room = Room(store)
    room.measured = Measured(own=5, quota=None)
    assert room.measured == Measured(own=5, quota=None)
    for wrong in (b"", b"\x00", Measured().encode()[:-1]):
        store.execute("update settings set value = ? where name = 'measured'", (wrong,))
        assert room.measured is None
    for fields in ([1], ["x"] * 12):
        with pytest.raises(IntegrityError):
            Measured.decode(cbor.encode(fields))


def test_an_empty_store_takes_about_what_is_said(store: DiskStore) -> None:
    """Never less: what is in the least of stores would not be counted."""
    assert STORE_BYTES_EMPTY <= Room(store).file_bytes() < 2 * STORE_BYTES_EMPTY
