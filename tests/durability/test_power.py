"""The power is cut at any instant: nothing that was acknowledged is lost, and the store goes on."""

from __future__ import annotations

import random
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rhizome_index.blocks.cid import cid_of
from rhizome_index.index.head import sign_head
from rhizome_index.node.disk import DiskStore
from tests.durability.power import Disk
from tests.durability.story import IDENTITY, check_store, live


def a_life(folder: Path, seed: int) -> Disk:
    """All that happened to the disk of a publisher."""
    folder.mkdir()
    disk = Disk(folder)
    with disk.attached():
        live(folder / "store", seed, disk.note)
    return disk


def cut_and_go_on(tmp_path: Path, life: Disk, seed: int, cuts: int, times: int) -> None:
    """Cut the power in a publisher's life at some instants; after each, go on and cut again, so many times."""
    chance = random.Random(seed)
    for number in range(cuts):
        disk, told = life, []
        for time in range(times):
            instant = chance.randint(0, len(disk.log))
            told += disk.notes(instant)
            folder = tmp_path / f"cut{number}.{time}"
            folder.mkdir()
            for name, data in disk.after_cut(instant, chance).items():
                (folder / name).write_bytes(data)
            disk = Disk(folder)
            try:
                with disk.attached():
                    check_store(folder / "store", told, disk.note, time + 1)
            except BaseException as error:
                error.add_note(f"seed {seed}, cut {number}.{time} after {instant} operations")
                raise
            for path in folder.iterdir():
                path.unlink()


@pytest.fixture(scope="module", params=range(2))
def life(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Disk:
    return a_life(tmp_path_factory.mktemp("lives") / "life", request.param)


@pytest.mark.parametrize("seed", range(12))
def test_a_power_cut_loses_nothing(tmp_path: Path, life: Disk, seed: int) -> None:
    cut_and_go_on(tmp_path, life, seed, 2, 1)


@pytest.mark.parametrize("seed", range(8))
def test_fetched_blocks_last_once_something_else_does(tmp_path: Path, seed: int) -> None:
    """They are written without waiting for the disk; the head that leads to them, which is kept after them, waits."""
    chance = random.Random(seed)
    life, store_path = tmp_path / "life", tmp_path / "life" / "store"
    life.mkdir()
    disk = Disk(life)
    with disk.attached(), closing(DiskStore(store_path, make=True)) as store:
        for sequence in range(1, 6):
            blocks = [(cid_of(data), data) for data in (chance.randbytes(5000) for _ in range(chance.randint(1, 9)))]
            for block in blocks:
                store.put_fetched([block])
            head = sign_head(IDENTITY, "fetched", sequence, blocks[-1][0], 0)
            store.set_held(head)
            disk.note((head, blocks))
    for number in range(5):
        instant = chance.randint(0, len(disk.log))
        folder = tmp_path / str(number)
        folder.mkdir()
        for name, data in disk.after_cut(instant, chance).items():
            (folder / name).write_bytes(data)
        told = disk.notes(instant)
        with closing(DiskStore(folder / "store", make=not told)) as store:
            assert store.execute("pragma integrity_check") == [("ok",)]
            for head, blocks in told:
                assert store.head_of(head.address, head.manifest) == head
                assert [(cid, store.get(cid)) for cid, _ in blocks] == blocks


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 140))
def test_many_power_cuts_lose_nothing(tmp_path: Path, seed: int) -> None:
    """2,000 cuts in 40 lives, every other of them soon after another one."""
    cut_and_go_on(tmp_path, a_life(tmp_path / "life", seed), seed, 25, 2)
