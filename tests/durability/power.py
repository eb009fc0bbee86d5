"""A disk whose power can be cut: SQLite's files are real, and all that happens to them is written down.

From the record come the states a disk may be in after a power cut at any instant.
What was synced is there. Of what was not, each sector of each write may have
arrived or not, in any order, and the last one in part; a file may have grown
without its bytes; files made or deleted may be as before, until their folder was
synced. Bytes that nobody wrote do not change: the one thing SQLite asks of a disk
(https://sqlite.org/psow.html).

The same disk can be made to fail at its nth operation: see `Fault`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

_BASE = "unix"
_JOURNALS = apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL | apsw.SQLITE_OPEN_WAL


@dataclass(frozen=True, slots=True)
class Write:
    file: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncate:
    file: int
    size: int


@dataclass(frozen=True, slots=True)
class Sync:
    """Everything of a file arrives; `folder`: and the names in its folder."""

    file: int
    folder: bool


@dataclass(frozen=True, slots=True)
class Link:
    """A name stands for a file from now on; None: for nothing."""

    name: str
    file: int | None


@dataclass(frozen=True, slots=True)
class SyncFolder:
    pass


@dataclass(frozen=True, slots=True)
class Note:
    """Something that the run has been told by then."""

    value: Any


Operation = Write | Truncate | Sync | Link | SyncFolder | Note


class Fault:
    """Fails the nth operation of a disk, and those after it if it `lasts`; counts all."""

    def __init__(self, nth: int, error: type[apsw.Error], *, lasts: bool = False) -> None:
        self._nth = nth
        self._error = error
        self.lasts = lasts
        self.count = 0
        self.is_over = False

    def __call__(self, kind: str) -> None:
        if self.is_over:
            return
        self.count += 1
        if self.count == self._nth or (self.lasts and self.count > self._nth):
            raise self._error(f"a fault in {kind}")


class Disk:
    """What happened to the files of one folder, in order. `fault` is called before each operation and may raise."""

    def __init__(self, folder: Path, fault: Callable[[str], None] = lambda kind: None) -> None:
        self.folder = folder
        self.fault = fault
        self.log: list[Operation] = []
        self.files: dict[str, int] = {}
        self.before = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
        self._made = 0
        for name in self.before:
            self.files[name] = self.new_file()

    def new_file(self) -> int:
        self._made += 1
        return self._made - 1

    def note(self, value: Any) -> None:
        self.log.append(Note(value))

    def notes(self, instant: int) -> list[Any]:
        """What was noted before an instant: so many operations of the log."""
        return [operation.value for operation in self.log[:instant] if isinstance(operation, Note)]

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Inside, every file that SQLite opens is on this disk."""
        vfs = _Vfs(self)
        try:
            yield
        finally:
            vfs.unregister()

    def after_cut(self, instant: int, chance: random.Random) -> dict[str, bytes]:
        """The files as they may be after a power cut at an instant."""
        files: dict[int, _File] = {number: _File(bytearray(data)) for number, data in enumerate(self.before.values())}
        names: dict[str, int | None] = {name: number for number, name in enumerate(self.before)}
        renamed: list[Link] = []
        for operation in self.log[:instant]:
            match operation:
                case Write(number, _, _) | Truncate(number, _):
                    files[number].waiting.append(operation)
                case Sync(number, folder):
                    files[number].arrive()
                    if folder:
                        names |= {link.name: link.file for link in renamed}
                        renamed.clear()
                case Link(_, number):
                    if number is not None:
                        files.setdefault(number, _File())
                    renamed.append(operation)
                case SyncFolder():
                    names |= {link.name: link.file for link in renamed}
                    renamed.clear()
        part = chance.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        for link in renamed:
            if chance.random() < part:
                names[link.name] = link.file
        sector = chance.choice((512, 4096))
        found = {
            name: files[number].after_cut(part, sector, chance) for name, number in names.items() if number is not None
        }
        for name in list(found):
            if name.endswith("-wal") and chance.random() < 0.3:
                found[name.removesuffix("wal") + "shm"] = chance.randbytes(32768)  # memory that was mapped: anything
        return found


@dataclass(slots=True)
class _File:
    """Bytes that have arrived, and operations that may have."""

    data: bytearray = field(default_factory=bytearray)
    waiting: list[Write | Truncate] = field(default_factory=list)

    def arrive(self) -> None:
        for operation in self.waiting:
            _apply(self.data, operation)
        self.waiting.clear()

    def after_cut(self, part: float, sector: int, chance: random.Random) -> bytes:
        """`part` of what waits has arrived; or all before a moment, and nothing after it."""
        waiting, data = self.waiting, bytearray(self.data)
        if chance.random() < 0.5:
            waiting = waiting[: chance.randint(0, len(waiting))]
            whole, waiting = waiting[:-1], waiting[-1:]
            for operation in whole:
                _apply(data, operation)
        for operation in waiting:
            if isinstance(operation, Truncate):
                if chance.random() < part:
                    _apply(data, operation)
                continue
            for piece in _sectors(operation, sector):
                if chance.random() < part:
                    kept = len(piece.data) if chance.random() < 0.9 else chance.randint(0, len(piece.data))
                    _apply(data, Write(piece.file, piece.offset, piece.data[:kept]), chance)
        return bytes(data)


def _sectors(write: Write, sector: int) -> Iterator[Write]:
    start = write.offset
    end = start + len(write.data)
    while start < end:
        stop = min(end, (start // sector + 1) * sector)
        yield Write(write.file, start, write.data[start - write.offset : stop - write.offset])
        start = stop


def _apply(data: bytearray, operation: Write | Truncate, chance: random.Random | None = None) -> None:
    if isinstance(operation, Truncate):
        del data[operation.size :]
        return
    gap = operation.offset - len(data)
    if gap > 0:
        data += chance.randbytes(gap) if chance is not None and chance.random() < 0.5 else bytes(gap)
    data[operation.offset : operation.offset + len(operation.data)] = operation.data


class _Vfs(apsw.VFS):  # type: ignore[misc]
    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        super().__init__("power", _BASE, makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        assert path is not None, "the store keeps temporary tables in memory"
        self._disk.fault("open")
        return _OpenFile(name, flags, self._disk, Path(path))

    def xDelete(self, name: str, sync_folder: bool) -> None:
        self._disk.fault("delete")
        super().xDelete(name, sync_folder)
        self._disk.log.append(Link(Path(name).name, None))
        if sync_folder:
            self._disk.log.append(SyncFolder())


class _OpenFile(apsw.VFSFile):  # type: ignore[misc]
    def __init__(self, name: Any, flags: list[int], disk: Disk, path: Path) -> None:
        is_new = not path.exists() or path.name not in disk.files  # an empty one was made for the store
        super().__init__(_BASE, name, flags)
        self._disk = disk
        if is_new:
            disk.files[path.name] = disk.new_file()
            disk.log.append(Link(path.name, disk.files[path.name]))
        self._file = disk.files[path.name]
        self._syncs_folder = is_new and bool(flags[0] & _JOURNALS)  # as os_unix.c does, at the first sync

    def xWrite(self, data: bytes, offset: int) -> None:
        self._disk.fault("write")
        super().xWrite(data, offset)
        self._disk.log.append(Write(self._file, offset, bytes(data)))

    def xTruncate(self, size: int) -> None:
        self._disk.fault("truncate")
        super().xTruncate(size)
        self._disk.log.append(Truncate(self._file, size))

    def xSync(self, flags: int) -> None:
        self._disk.fault("sync")  # and nothing else: the files of a test need not outlive it
        self._disk.log.append(Sync(self._file, self._syncs_folder))
        self._syncs_folder = False
