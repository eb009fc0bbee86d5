"""Disks in memory: a file system for SQLite that can lose power.

Promises: what SQLite has synced survives whatever happens. A process that is killed
loses nothing that it has written, since its operating system goes on; when the power
goes, writes since the last sync are lost, or some of them only, or one is torn in
two, as chance has it. Who held a file open when it happened can do nothing with it
any more.

Every read, write and sync costs seconds as the disk's speed has it. SQLite does not
wait, so they are added up in `Disk.busy_until`, and the host sends nothing before.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import apsw

_numbers = count()
_SECTOR_BYTES = 4096


@dataclass(slots=True)
class Speed:
    """What one disk takes: seconds for each read, write and sync."""

    read_seconds: float = 0.0
    write_seconds: float = 0.0
    sync_seconds: float = 0.0


@dataclass(eq=False, slots=True)
class Disk:
    """One host's disk: files by name.

    generation  counts losses of power and kills: files opened before are dead
    busy_until  when it will have done what was asked of it so far
    syncs       how many there were
    fuse        writes and syncs until the power goes, in the midst of something; None: it does not
    """

    clock: Callable[[], float]
    chance: random.Random
    speed: Speed = field(default_factory=Speed)
    generation: int = 0
    busy_until: float = 0.0
    syncs: int = 0
    fuse: int | None = None
    files: dict[str, _Content] = field(default_factory=dict)

    def work(self, seconds: float) -> None:
        if seconds:
            self.busy_until = max(self.busy_until, self.clock()) + seconds

    def burn(self) -> None:
        """A write or sync begins."""
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse < 0:
                self.fuse = None
                self.cut_power()

    def kill(self) -> None:
        """The process that used it is gone."""
        self.generation += 1

    def cut_power(self) -> None:
        """What was not synced may be lost."""
        self.generation += 1
        for content in self.files.values():
            content.lose(self.chance)


class _Content:
    """A file's bytes, and how to go back to those of the last sync."""

    def __init__(self) -> None:
        self.data = bytearray()
        self._undo: list[tuple[int, bytes, int]] = []  # offset, bytes that stood there, size of the file before

    def write(self, data: bytes, offset: int) -> None:
        size = len(self.data)
        self._undo.append((offset, bytes(self.data[offset : offset + len(data)]), size))
        if offset > size:
            self.data.extend(bytes(offset - size))
        self.data[offset : offset + len(data)] = data

    def truncate(self, size: int) -> None:
        self._undo.append((size, bytes(self.data[size:]), len(self.data)))
        del self.data[size:]

    def sync(self) -> None:
        self._undo.clear()

    def lose(self, chance: random.Random) -> None:
        """Go back towards the last sync: all the way, or leaving some writes, the last of them perhaps torn."""
        written = bytes(self.data)
        left = int(chance.random() * (len(self._undo) + 1))
        torn = chance.random() < 0.5
        for offset, old, size in reversed(self._undo[left:]):
            del self.data[size:]
            self.data.extend(bytes(size - len(self.data)))
            self.data[offset : offset + len(old)] = old
        if torn and left < len(self._undo):
            offset = self._undo[left][0]
            part = written[offset : offset + int(chance.random() * _SECTOR_BYTES)]
            if offset <= len(self.data):
                self.data[offset : offset + len(part)] = part
        self._undo.clear()


class FileSystem(apsw.VFS):
    """All disks of a world: a file's path begins with its disk's name."""

    def __init__(self) -> None:
        self.name = f"rhizome-simulation-{next(_numbers)}"
        self._disks: dict[str, Disk] = {}
        super().__init__(self.name, base="")
        apsw.connection_hooks.append(self._configure)

    def close(self) -> None:
        """Forget everything."""
        apsw.connection_hooks.remove(self._configure)
        self.unregister()
        self._disks.clear()

    def add(self, name: str, disk: Disk) -> str:
        """Give a disk a place; the path of the folder on it."""
        self._disks[name] = disk
        return f"/{name}"

    def _configure(self, connection: Any) -> None:
        if connection.open_vfs == self.name:
            connection.execute("pragma locking_mode = exclusive")  # there is no memory to share with other processes

    def _disk(self, path: str) -> Disk:
        return self._disks[path.split("/", 2)[1]]

    def xOpen(self, name: Any, flags: list[int]) -> Any:
        path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        disk = self._disk(path)
        return _File(disk, disk.files.setdefault(path, _Content()))

    def xDelete(self, path: str, sync_folder: bool) -> None:
        self._disk(path).files.pop(path, None)

    def xAccess(self, path: str, flags: int) -> bool:
        return path in self._disk(path).files

    def xFullPathname(self, path: str) -> str:
        return path

    def xRandomness(self, size: int) -> bytes:
        return bytes(size)

    def xSleep(self, microseconds: int) -> int:
        return microseconds

    def xCurrentTime(self) -> float:
        return 2_461_041.5  # a Julian day; nothing here asks SQLite for the time

    def xGetLastError(self) -> tuple[int, str]:
        return 0, ""


class _File:
    """An open file. Its methods are those that SQLite calls."""

    def __init__(self, disk: Disk, content: _Content) -> None:
        self._disk = disk
        self._content = content
        self._generation = disk.generation

    def _work(self, seconds: float) -> None:
        if self._generation != self._disk.generation:
            raise apsw.IOError("the process that opened this file is gone")
        self._disk.work(seconds)

    def xRead(self, size: int, offset: int) -> bytes:
        self._work(self._disk.speed.read_seconds)
        return bytes(self._content.data[offset : offset + size])

    def xWrite(self, data: bytes, offset: int) -> None:
        self._disk.burn()
        self._work(self._disk.speed.write_seconds)
        self._content.write(data, offset)

    def xTruncate(self, size: int) -> None:
        self._work(self._disk.speed.write_seconds)
        self._content.truncate(size)

    def xSync(self, flags: int) -> None:
        self._disk.burn()
        self._work(self._disk.speed.sync_seconds)
        self._disk.syncs += 1
        self._content.sync()

    def xFileSize(self) -> int:
        return len(self._content.data)

    def xLock(self, level: int) -> None:
        pass

    def xUnlock(self, level: int) -> None:
        pass

    def xCheckReservedLock(self) -> bool:
        return False

    def xFileControl(self, operation: int, pointer: int) -> bool:
        return False

    def xSectorSize(self) -> int:
        return _SECTOR_BYTES

    def xDeviceCharacteristics(self) -> int:
        return 0

    def xClose(self) -> None:
        pass
