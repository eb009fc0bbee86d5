"""Disks in memory: a file system for SQLite that can lose power.

Promises: what SQLite has synced survives whatever happens. A process that is killed
loses nothing that it has written, since its operating system goes on; when the power
goes, writes since the last sync are lost, or those after some moment only, or any of
them, for disks write in an order of their own; and one may be torn in two. Who held a
file open when it happened can do nothing with it any more.

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

    def lay(self, path: str, data: bytes) -> None:
        """Let there be a file, whole and synced, that was made elsewhere."""
        content = self.files[path] = _Content()
        content.data[:] = data

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


@dataclass(slots=True)
class _Write:
    """A write that was not synced yet: what it put where, over what, in a file of what size. None: it was cut there."""

    offset: int
    data: bytes | None
    before: bytes
    size_before: int


class _Content:
    """A file's bytes, and how to go back to those of the last sync."""

    def __init__(self) -> None:
        self.data = bytearray()
        self._writes: list[_Write] = []

    def write(self, data: bytes, offset: int) -> None:
        before = bytes(self.data[offset : offset + len(data)])
        self._writes.append(_Write(offset, data, before, len(self.data)))
        self._put(data, offset)

    def truncate(self, size: int) -> None:
        self._writes.append(_Write(size, None, bytes(self.data[size:]), len(self.data)))
        del self.data[size:]

    def sync(self) -> None:
        self._writes.clear()

    def lose(self, chance: random.Random) -> None:
        """Go back to the last sync, but for some writes: the first ones or any, the last of them perhaps torn."""
        writes, self._writes = self._writes, []
        for write in reversed(writes):
            del self.data[write.size_before :]
            self.data.extend(bytes(write.size_before - len(self.data)))
            self.data[write.offset : write.offset + len(write.before)] = write.before
        if chance.random() < 0.5:
            left = writes[: int(chance.random() * (len(writes) + 1))]
        else:
            left = [write for write in writes if chance.random() < 0.5]
        is_torn = chance.random() < 0.5
        for write in left:
            if write.data is None:
                del self.data[write.offset :]
            elif is_torn and write is left[-1]:
                self._put(write.data[: int(chance.random() * _SECTOR_BYTES)], write.offset)
            else:
                self._put(write.data, write.offset)

    def _put(self, data: bytes, offset: int) -> None:
        if offset > len(self.data):
            self.data.extend(bytes(offset - len(self.data)))
        self.data[offset : offset + len(data)] = data


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
        self._content.write(bytes(data), offset)

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
