"""Disks that fail: SQLite's way to the disk with a fault at a chosen step, and rights that even root has not.

Everything here changes the whole process, so use it in a child.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any

import apsw
import pytest

Fault = Callable[[], None]

_in_use: list[apsw.VFS] = []  # a file system that nobody holds is forgotten


def from_step(number: int, fault: Fault) -> Callable[[], None]:
    """What makes SQLite's changes to the disk go wrong, from the n-th of its steps on."""
    return lambda: _in_use.append(FaultyDisk(number, fault))


class FaultyDisk(apsw.VFS):
    """SQLite's default file system from now on."""

    def __init__(self, at: int, fault: Fault) -> None:
        super().__init__("faulty", "unix", makedefault=True)
        self.at, self.fault = at, fault
        self.steps = 0

    def step(self) -> None:
        self.steps += 1
        if self.steps >= self.at:
            self.fault()

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        return _FaultyFile(self, name, flags)


class _FaultyFile(apsw.VFSFile):
    def __init__(self, disk: FaultyDisk, name: Any, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        self._disk = disk

    def xWrite(self, data: bytes, offset: int) -> None:
        self._disk.step()
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:
        self._disk.step()
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:
        self._disk.step()
        super().xSync(flags)

    def excepthook(self, *_: object) -> None:
        """Where SQLite goes on in spite of an error, nobody need be told."""


def full() -> None:
    raise apsw.FullError


def broken() -> None:
    raise apsw.IOError


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def files_of_at_most(size: int) -> Callable[[], None]:
    """Like a disk with little room, for all kinds of files (but pipes)."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def give_up_rights() -> None:
    """From here on root may do no more than the owner of a file. Others may not do more as it is."""
    if os.geteuid() == 0:
        version_3 = 0x20080522
        header = (ctypes.c_uint32 * 2)(version_3, 0)
        none = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable
        assert ctypes.CDLL(None).capset(header, none) == 0


def need_rights_that_can_be_given_up() -> None:
    """Say so where it cannot be arranged that a folder is read-only."""
    if os.geteuid() == 0 and not sys.platform.startswith("linux"):
        pytest.skip("run by root, and only on Linux can root give up the right to write everywhere")
