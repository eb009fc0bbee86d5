"""The store and publishing: all or nothing, never wrong bytes, never a sequence twice."""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path
from typing import Any

import apsw
import pytest

from rhizome_index.blocks.cid import cid_of
from rhizome_index.cli.samples import posts
from rhizome_index.errors import StoreError, UsageError
from rhizome_index.index.head import sign_head
from rhizome_index.index.write import rebuild
from rhizome_index.node import disk
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.home import Home
from rhizome_index.node.local import LocalSource
from rhizome_index.node.publish import Declaration, Publisher
from rhizome_index.node.spill import SpillingSorter
from rhizome_index.query.parse import parse_index
from rhizome_index.tree.node import EMPTY_CHUNK, encode_leaf
from tests.node.older import before

DECLARED = Declaration(time="created", indexes=dict(map(parse_index, ["by_tag=tags,-created", "by_author=author"])))


def a_publisher(home: Home, store: DiskStore) -> Publisher:
    return Publisher(store, home.identity, lambda: 1_700_000_000.0)


def a_home(path: Path) -> Home:
    home = Home(path)
    home.create(b"k" * 32)
    return home


def test_a_block_comes_back_or_is_missing(tmp_path: Path) -> None:
    store = DiskStore(tmp_path / "store", make=True)
    store.put_many([(cid_of(b"a"), b"a")])
    assert store.get(cid_of(b"a")) == b"a" and store.has(cid_of(b"a"))
    assert store.get(cid_of(b"b")) is None and not store.has(cid_of(b"b"))


def test_a_damaged_block_is_set_aside_and_can_come_back(tmp_path: Path) -> None:
    store = DiskStore(tmp_path / "store", make=True)
    store.put_many([(cid_of(b"a"), b"a")])
    apsw.Connection(str(tmp_path / "store")).execute("update blocks set data = x'00'")
    assert store.get(cid_of(b"a")) is None and store.damaged() == [cid_of(b"a")]
    store.put_many([(cid_of(b"a"), b"a")])
    assert store.get(cid_of(b"a")) == b"a" and not store.damaged()


def test_a_damaged_block_that_nobody_has_read_is_put_right(tmp_path: Path) -> None:
    store = DiskStore(tmp_path / "store", make=True)
    store.put_many([(cid_of(b"a"), b"a")])
    apsw.Connection(str(tmp_path / "store")).execute("update blocks set data = x'00'")
    store.put_many([(cid_of(b"a"), b"a")])
    assert store.get(cid_of(b"a")) == b"a" and not store.damaged()


@pytest.mark.parametrize("content", [None, b""])
def test_a_store_that_was_lost_is_not_made_anew_unasked(tmp_path: Path, content: bytes | None) -> None:
    """It would start at sequence 1 again, against heads of its own that others know."""
    home = a_home(tmp_path / "home")
    home.store_path.unlink()
    if content is not None:
        home.store_path.write_bytes(content)
    with pytest.raises(StoreError, match=r"missing|lost"), home.open_store():
        raise AssertionError
    assert not home.create() and (home.store_path.read_bytes() if home.store_path.exists() else None) == content
    with home.open_store(make=True) as store:
        assert store.current_heads() == []


def test_a_damaged_block_that_cannot_be_set_aside_is_missing(tmp_path: Path) -> None:
    store = DiskStore(tmp_path / "store", make=True)
    store.put_many([(cid_of(b"a"), b"a")])
    store.execute("update blocks set data = x'00'")
    store.execute("create trigger t before delete on blocks begin select raise(abort, 'no'); end")
    assert store.get(cid_of(b"a")) is None and not store.damaged()


def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path) -> None:
    store = DiskStore(tmp_path / "store", make=True)
    with pytest.raises(KeyboardInterrupt), store.transaction():
        store.put_many([(cid_of(b"a"), b"a")])
        raise KeyboardInterrupt
    assert not store.has(cid_of(b"a"))


def test_a_transaction_that_sqlite_has_given_up_is_not_gone_on_with(tmp_path: Path) -> None:
    """What follows would else be kept on its own: a head without its blocks."""
    home = a_home(tmp_path / "home")
    with home.open_store() as store:
        head = sign_head(home.identity, "main", 1, cid_of(b"a"), 0)
        for ask in (lambda: store.put_head(head), lambda: store.put_many([(cid_of(b"a"), b"a")]), lambda: None):
            with pytest.raises(StoreError, match="nothing was changed"), store.transaction():
                store.execute("rollback")
                ask()
        assert not store.all_heads() and not store.has(cid_of(b"a"))


def test_a_chunk_of_a_transaction_that_failed_is_not_remembered(tmp_path: Path) -> None:
    store = DiskStore(tmp_path / "store", make=True)
    data = EMPTY_CHUNK
    with pytest.raises(KeyboardInterrupt), store.transaction():
        store.put_many([(cid_of(data), data)])
        assert store.chunk(cid_of(data)) is not None
        raise KeyboardInterrupt
    assert store.chunk(cid_of(data)) is None


def test_a_second_writer_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rhizome_index.node.disk._BUSY_MILLISECONDS", 1)
    one, two = DiskStore(tmp_path / "store", make=True), DiskStore(tmp_path / "store", make=True)
    with one.transaction(), pytest.raises(StoreError, match="another process is writing"):
        two.put_many([(cid_of(b"a"), b"a")])


def test_a_file_that_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "store").write_bytes(b"not a database, not at all" * 100)
    with pytest.raises(StoreError, match="damaged"):
        DiskStore(tmp_path / "store", make=True)


def test_the_key_is_for_its_owner_alone_and_made_once(tmp_path: Path) -> None:
    home = a_home(tmp_path / "home")
    assert stat.S_IMODE(home.identity_path.stat().st_mode) == 0o600
    peer_id = home.identity.peer_id
    assert not Home(tmp_path / "home").create() and Home(tmp_path / "home").identity.peer_id == peer_id
    with pytest.raises(UsageError, match="no home"):
        _ = Home(tmp_path / "nothing").identity


def test_the_key_lasts_before_its_home_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is synced, then its name, then the names of the folders that were made for it."""
    synced: list[tuple[int, bool]] = []
    home = Home(tmp_path / "new" / "home")
    monkeypatch.setattr("os.fsync", lambda file: synced.append((os.fstat(file).st_ino, home.identity_path.exists())))
    assert home.create()
    places = [home.identity_path, home.path, tmp_path / "new", tmp_path]
    assert synced == [(place.stat().st_ino, place != home.identity_path) for place in places]


def test_any_batching_of_puts_and_deletes_gives_one_manifest(tmp_path: Path) -> None:
    records = list(posts(300, 2))
    records[7]["text"] = "long" * 2000
    home = a_home(tmp_path / "home")
    with home.open_store() as store:
        publisher = a_publisher(home, store)
        publisher.put_many("one", "posts", [*records, records[3]], DECLARED, big=True)
        publisher.put_many("two", "posts", records[100:], DECLARED)
        publisher.put_many("two", "posts", [{**record, "tags": ["other"]} for record in records[:150]])
        publisher.put_many("two", "posts", [{"id": f"x{number}", "tags": [number]} for number in range(20)])
        publisher.delete_many("two", "posts", [f"x{number}" for number in range(30)])
        publisher.put_many("two", "posts", records[:150])
        one, two = publisher.manifest("one"), publisher.manifest("two")
        source = LocalSource(store)
        assert (
            source.run(rebuild(two.rule, two.collections["posts"], lambda cid, data: None)) == two.collections["posts"]
        )
        for name in ("by_tag", "by_author"):
            index = two.collections["posts"].indexes[name]
            assert one.collections["posts"].indexes[name].tree.count == index.tree.count
        assert publisher.get("two", "posts", records[7]["id"]) == records[7]


def test_a_change_reads_what_it_has_just_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many changes are applied in batches, each over the tree that the one before it made."""
    monkeypatch.setattr("rhizome_index.index.write._BATCH", 50)
    home, records = a_home(tmp_path / "home"), list(posts(400, 2))
    with home.open_store() as store:
        publisher = a_publisher(home, store)
        publisher.put_many("two", "posts", records[::2], DECLARED)
        publisher.put_many("two", "posts", records[1::2])
        publisher.put_many("one", "posts", records, DECLARED)
        one, two = (publisher.manifest(name).collections["posts"] for name in ("one", "two"))
        assert one.primary.count == two.primary.count
        assert LocalSource(store).run(rebuild(publisher.manifest("two").rule, two, lambda cid, data: None)) == two


def test_indexes_come_and_go(tmp_path: Path) -> None:
    home = a_home(tmp_path / "home")
    with home.open_store() as store:
        publisher = a_publisher(home, store)
        first, _ = publisher.put_many("main", "posts", list(posts(50, 1)), DECLARED)
        name, definition = parse_index("by_likes=-likes")
        second, index = publisher.add_index("main", "posts", name, definition)
        assert index.tree.count == 50
        third = publisher.drop_index("main", "posts", name)
        assert (first.sequence, second.sequence, third.sequence) == (1, 2, 3) and third.manifest == first.manifest
        with pytest.raises(UsageError):
            publisher.drop_index("main", "posts", name)


@pytest.mark.parametrize(
    "bad", [{"id": None}, {}, {"id": 1, "n": 2**63}, {"id": 1, "f": float("nan")}, {"id": ["x"]}, [1]]
)
def test_a_bad_record_publishes_nothing(tmp_path: Path, bad: Any) -> None:
    home = a_home(tmp_path / "home")
    with home.open_store() as store:
        publisher = a_publisher(home, store)
        publisher.put_many("main", "posts", [{"id": "a"}], DECLARED)
        with pytest.raises(UsageError):
            publisher.put_many("main", "posts", [{"id": "b"}, bad])
        assert publisher.get("main", "posts", "b") is None and len(store.current_heads()) == 1
        assert store.current_heads()[0].sequence == 1


def test_nothing_changed_signs_nothing(tmp_path: Path) -> None:
    home = a_home(tmp_path / "home")
    with home.open_store() as store:
        publisher = a_publisher(home, store)
        first, _ = publisher.put_many("main", "posts", [{"id": "a"}], DECLARED)
        again, _ = publisher.put_many("main", "posts", [{"id": "a"}])
        assert again == first


def test_two_heads_with_one_sequence_are_remembered(tmp_path: Path) -> None:
    home = a_home(tmp_path / "home")
    with home.open_store() as store:
        heads = [sign_head(home.identity, "main", 4, cid_of(bytes([n])), 0) for n in range(2)]
        for head in heads:
            assert store.equivocation(head.address) is None
            store.put_head(head)
        found = store.equivocation(heads[0].address)
        assert found is not None and set(found) == set(heads)


def test_a_head_that_was_merely_heard_of_is_not_answered_from(tmp_path: Path) -> None:
    home = a_home(tmp_path / "home")
    with home.open_store() as store:
        first, second, third = (sign_head(home.identity, "main", n, cid_of(bytes([n])), 0) for n in (1, 2, 3))
        address = first.address
        store.put_heard(first)
        assert store.current_head(address) is None and store.believed_head(address) == first
        store.set_held(first)
        store.put_heard(second)
        assert store.current_head(address) == store.served_head(address) == first
        assert store.current_heads() == [first] and store.believed_head(address) == second
        store.put_head(second)  # a query was answered from it
        store.put_heard(second)
        assert store.current_head(address) == second and store.served_head(address) == first
        store.put_heard(third)
        assert store.newest_head(address) == third and store.current_head(address) == second


def test_what_was_heard_before_there_was_a_difference_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with before(monkeypatch, "heard"), (home := a_home(tmp_path / "home")).open_store(make=True) as store:
        numbers = [(name, n) for name in ("followed", "other") for n in (1, 2)]
        heads = [sign_head(home.identity, name, n, cid_of(bytes([n])), 0) for name, n in numbers]
        for head in heads:
            values = (str(head.address), head.sequence, head.manifest, head.envelope)
            store.execute("insert into heads (dataset, sequence, manifest, envelope) values (?, ?, ?, ?)", values)
        store.execute("insert into held values (?, ?)", (str(heads[0].address), heads[0].envelope))
    with home.open_store() as store:
        assert store.current_heads() == [heads[0], heads[3]]


def test_contradictions_are_known_that_came_before_they_were_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed = [("torn", 1, b"a"), ("torn", 1, b"b"), ("whole", 1, b"a"), ("whole", 2, b"b")]
    older = before(monkeypatch, "create table contradicted")
    with older, (home := a_home(tmp_path / "home")).open_store(make=True) as store:
        heads = [sign_head(home.identity, name, sequence, cid_of(manifest), 0) for name, sequence, manifest in signed]
        for head in heads:
            store.put_head(head)
    with home.open_store() as store:
        assert set(store.equivocation(heads[0].address) or ()) == set(heads[:2])
        assert store.equivocation(heads[2].address) is None


def test_whoever_waits_for_heads_is_told_once_they_are_durable(tmp_path: Path) -> None:
    home = a_home(tmp_path / "home")
    with home.open_store() as store:
        told: list[set[str]] = []
        store.on_heads = lambda addresses: told.append({address.name for address in addresses})
        one, other = (sign_head(home.identity, name, 1, cid_of(b"m"), 0) for name in ("one", "other"))
        with store.transaction():
            store.put_head(one)
            store.set_held(other)
            assert not told
        assert told == [{"one", "other"}]
        with pytest.raises(KeyboardInterrupt), store.transaction():
            store.put_head(one)
            raise KeyboardInterrupt
        store.put_many([(cid_of(b"block"), b"block")])
        assert len(told) == 1


def test_chunks_in_memory_at_the_limit_and_one_past_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The least lately used goes first; and what has gone is read again."""
    store = DiskStore(tmp_path / "store", make=True)
    chunks = [encode_leaf([b"%d" % number], [bytes(100)]) for number in range(4)]
    cids = [cid_of(data) for data in chunks]
    store.put_many(zip(cids, chunks, strict=True))
    size = len(chunks[0])
    monkeypatch.setattr(disk, "CHUNK_CACHE_BYTES", 3 * size)
    for cid in (*cids[:3], cids[0]):
        assert store.chunk(cid) is not None
    assert list(store._chunks) == [cids[1], cids[2], cids[0]] and store._chunk_bytes == 3 * size
    assert store.chunk(cids[3]) is not None
    assert list(store._chunks) == [cids[2], cids[0], cids[3]] and store._chunk_bytes == 3 * size
    found = store.chunk(cids[1])
    assert found is not None and found[0] == chunks[1]


class SmallDisk(io.FileIO):
    """A file that may have so many bytes."""

    def __init__(self, path: Path, bytes_max: int) -> None:
        super().__init__(path, "w+b")
        self._bytes_max = bytes_max

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > self._bytes_max:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data) or 0


def test_a_sorter_on_a_full_disk_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it is that the space ends: what could not be written does not count as spilled."""
    pairs = [(b"%05d" % (number * 7919 % 9973), b"") for number in range(4200)]

    def spilled(bytes_max: int) -> SpillingSorter:
        file = io.BufferedRandom(SmallDisk(tmp_path / "run", bytes_max))
        monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: file)
        sorter = SpillingSorter(tmp_path, bytes_max=1)
        for start in (0, 2100):
            sorter.add_many(pairs[start : start + 2100])
        return sorter

    assert list(spilled(10**6).sorted()) == sorted(pairs)
    size = (tmp_path / "run").stat().st_size
    assert list(spilled(size).sorted()) == sorted(pairs)
    for lacking in (1, 300, size // 2, size):
        with pytest.raises(StoreError, match="No space left"):
            spilled(size - lacking)


def test_a_sorter_that_spills_is_stable(tmp_path: Path) -> None:
    sorter = SpillingSorter(tmp_path, bytes_max=100_000)
    pairs = [(b"%d" % (number * 7919 % 997), b"%d" % number) for number in range(20_000)]
    for start in range(0, len(pairs), 512):
        sorter.add_many(pairs[start : start + 512])
    assert sorter.spills > 2
    assert list(sorter.sorted()) == sorted(pairs, key=lambda pair: pair[0])
