"""The power is cut at any instant: nothing that was acknowledged is lost, and the store goes on."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from tests.durability.power import Disk
from tests.durability.story import check_store, live


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


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 140))
def test_many_power_cuts_lose_nothing(tmp_path: Path, seed: int) -> None:
    """2,000 cuts in 40 lives, every other of them soon after another one."""
    cut_and_go_on(tmp_path, a_life(tmp_path / "life", seed), seed, 25, 2)
