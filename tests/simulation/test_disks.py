"""Simulated disks: what was synced survives, what was not may not, and the dead write no more."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhizome_index.blocks.cid import cid_of
from rhizome_index.errors import StoreError
from rhizome_index.node.disk import DiskStore
from rhizome_index.simulation.disks import Disk, FileSystem, Speed, _Content


@pytest.fixture
def files() -> Iterator[FileSystem]:
    system = FileSystem()
    yield system
    system.close()


def a_disk(seed: int = 1) -> Disk:
    return Disk(lambda: 0.0, random.Random(seed))


def close(store: DiskStore) -> None:
    """Close a store whose disk may be dead."""
    with suppress(apsw.Error):
        store.close()


def blocks_of(*numbers: int) -> list[tuple[bytes, bytes]]:
    return [(cid_of(data), data) for data in (b"%06d" % number * 700 for number in numbers)]


@given(fuse=st.integers(0, 200), seed=st.integers(0, 100))
def test_what_was_committed_survives_a_loss_of_power_at_any_write(fuse: int, seed: int) -> None:
    system, disk = FileSystem(), a_disk(seed)
    try:
        path = Path(system.add("home", disk)) / "store.sqlite"
        store = DiskStore(path, make=True, vfs=system.name)
        disk.fuse = fuse
        committed = []
        try:
            for number in range(12):
                store.put_many(blocks_of(number))
                committed.append(number)
        except StoreError:
            pass
        else:
            disk.cut_power()
        with pytest.raises(StoreError):
            store.put_many(blocks_of(99))
        close(store)
        disk.fuse = None
        again = DiskStore(path, make=True, vfs=system.name)
        found = [data for _, data in again.all_blocks()]
        wanted = [data for _, data in blocks_of(*range(12))]
        assert found in (wanted[: len(committed)], wanted[: len(committed) + 1])
        assert not again.damaged()
        again.close()
    finally:
        system.close()


def test_a_kill_keeps_what_was_written(files: FileSystem) -> None:
    disk = a_disk()
    path = Path(files.add("home", disk)) / "store.sqlite"
    store = DiskStore(path, make=True, vfs=files.name)
    store.execute("pragma synchronous = off")
    store.put_many(blocks_of(1, 2))
    disk.kill()
    with pytest.raises(StoreError):
        store.put_many(blocks_of(3))
    close(store)
    again = DiskStore(path, make=True, vfs=files.name)
    assert len(list(again.all_blocks())) == 2
    again.close()


def test_without_syncs_a_loss_of_power_loses(files: FileSystem) -> None:
    lost = 0
    for seed in range(5):
        disk = a_disk(seed)
        path = Path(files.add(f"home-{seed}", disk)) / "store.sqlite"
        store = DiskStore(path, make=True, vfs=files.name)
        store.execute("pragma synchronous = off")
        store.put_many(blocks_of(*range(10)))
        disk.cut_power()
        close(store)
        try:
            again = DiskStore(path, make=True, vfs=files.name)
            lost += len(list(again.all_blocks())) < 10
            close(again)
        except StoreError:
            lost += 1
    assert lost >= 3


def test_what_was_written_after_a_sync_may_be_kept_without_what_was_written_before() -> None:
    seen = set()
    for seed in range(200):
        disk = a_disk(seed)
        content = disk.files["file"] = _Content()
        content.write(b"synced..", 0)
        content.sync()
        content.write(b"1", 0)
        content.truncate(6)
        content.write(b"2", 8)
        disk.cut_power()
        seen.add(bytes(content.data))
        content.lose(disk.chance)
        assert bytes(content.data) in seen  # what was kept is kept
    whole = {b"synced..", b"1ynced..", b"1ynced", b"1ynced\0\0" + b"2"}  # the first ones only
    others = {b"synced", b"synced..2", b"1ynced..2", b"synced\0\0" + b"2"}  # any of them
    assert whole | others <= seen
    torn = {b"1ynced\0\0", b"1ynced..", b"synced\0\0", b"synced.."}  # of one byte nothing is left
    assert seen <= whole | others | torn


def test_work_takes_its_time(files: FileSystem) -> None:
    disk = Disk(lambda: 100.0, random.Random(1), Speed(0.001, 0.01, 0.1))
    store = DiskStore(Path(files.add("home", disk)) / "store.sqlite", make=True, vfs=files.name)
    before, syncs = disk.busy_until, disk.syncs
    assert before > 100.0
    store.put_many(blocks_of(1))
    assert disk.syncs > syncs and disk.busy_until - before >= 0.1 * (disk.syncs - syncs)
    assert store.get(blocks_of(1)[0][0]) is not None
    store.close()


def test_two_disks_are_two(files: FileSystem) -> None:
    one, other = (
        DiskStore(Path(files.add(name, a_disk())) / "s.sqlite", make=True, vfs=files.name) for name in ("a", "b")
    )
    one.put_many(blocks_of(1))
    assert len(list(one.all_blocks())) == 1 and not list(other.all_blocks())
    one.close()
    other.close()


def test_a_file_system_that_is_gone_is_gone() -> None:
    system = FileSystem()
    system.close()
    assert system.name not in apsw.vfs_names()


def test_a_store_that_was_made_elsewhere_is_whole_and_synced(files: FileSystem, tmp_path: Path) -> None:
    made = DiskStore(tmp_path / "store.sqlite", make=True)
    made.put_many(blocks_of(1, 2, 3))
    made.close()
    disk = a_disk()
    path = f"{files.add('host', disk)}/store.sqlite"
    disk.lay(path, (tmp_path / "store.sqlite").read_bytes())
    disk.cut_power()
    store = DiskStore(Path(path), vfs=files.name, is_shared=False)
    assert sorted(store.all_blocks()) == sorted(blocks_of(1, 2, 3))
    close(store)
