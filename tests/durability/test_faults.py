"""Any operation of the disk fails: one clear error, nothing half-done, and exactly what was acknowledged afterwards."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from rhizome_index.errors import StoreError
from rhizome_index.index.head import Head
from tests.durability.power import Disk, Fault
from tests.durability.story import check_store, live

SEED, STEPS = 29, 7  # a life with everything in it: puts, deletes, an index that comes and goes, new beginnings


def live_with(tmp_path: Path, fault: Fault) -> list[StoreError]:
    """A publisher's life on a disk with a fault; the failures that it met.

    Where the disk fails for good right after a change was written, but before it was synced, the change may show
    when the store is opened again: nothing can be written any more that would take it back.
    """
    (tmp_path / "life").mkdir()
    disk = Disk(tmp_path / "life", fault)
    heads: list[Head] = []
    failures: list[StoreError] = []
    with disk.attached():
        live(tmp_path / "life" / "store", SEED, heads.append, failures.append, STEPS)
        fault.is_over = True
        check_store(tmp_path / "life" / "store", list(dict.fromkeys(heads)), lambda head: None, int(fault.lasts))
    for failure in failures:
        assert str(failure).startswith("the ") and "\n" not in str(failure) and failure.hint
    return failures


def operations(tmp_path: Path) -> int:
    """How many operations there are that may fail."""
    (tmp_path / "counted").mkdir()
    fault = Fault(0, apsw.IOError)
    disk = Disk(tmp_path / "counted", fault)
    with disk.attached():
        live(tmp_path / "counted" / "store", SEED, lambda head: None, steps_max=STEPS)
    return fault.count


@pytest.mark.parametrize("error", [apsw.IOError, apsw.FullError])
@pytest.mark.parametrize("nth", [1, 2, 9, 40, 171])
def test_a_fault_costs_what_was_not_acknowledged(tmp_path: Path, error: type[apsw.Error], nth: int) -> None:
    live_with(tmp_path, Fault(nth, error))


@pytest.mark.parametrize("nth", [1, 9, 171])
def test_a_disk_that_stays_full_keeps_what_it_has(tmp_path: Path, nth: int) -> None:
    assert "is full" in str(live_with(tmp_path, Fault(nth, apsw.FullError, lasts=True))[0])


@pytest.mark.slow
@pytest.mark.parametrize("lasts", [False, True])
@pytest.mark.parametrize("error", [apsw.IOError, apsw.FullError])
def test_every_operation_may_fail(tmp_path: Path, error: type[apsw.Error], lasts: bool) -> None:
    for nth in range(1, operations(tmp_path) + 1):
        folder = tmp_path / str(nth)
        folder.mkdir()
        try:
            live_with(folder, Fault(nth, error, lasts=lasts))
        except BaseException as problem:
            problem.add_note(f"operation {nth} failed")
            raise
