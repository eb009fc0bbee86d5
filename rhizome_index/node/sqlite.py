"""A store's file as SQLite opens it, and what its errors mean: whose fault they are, and what to do next."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import apsw

from rhizome_index.errors import StoreError

RESTORE = "restore an export: rhizome restore FILE"
TRY_AGAIN = "check the disk; what was published is still there"


def connect(path: Path, make: bool, vfs: str | None) -> apsw.Connection:
    """To read and write; `make` the file if it is missing; `vfs`: as of a DiskStore."""
    create = apsw.SQLITE_OPEN_CREATE if make else 0
    if make and vfs is None:
        make_file(path)
    return apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE | create, vfs=vfs)


def make_file(path: Path) -> None:
    """For its owner alone, whatever the umask; SQLite gives the files beside it the same mode."""
    with suppress(OSError):  # it is there, or SQLite says better why it cannot be made
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)


def connect_reading(path: Path) -> apsw.Connection:
    """In a folder that cannot be written there can be no index of the log, unless there is one already.

    Without a log, none is needed. With one, it must be read: it may hold the newest head.
    """
    try:
        has_log = path.with_name(path.name + "-wal").stat().st_size > 0
    except OSError:
        has_log = False
    mode = "mode=ro" if has_log else "immutable=1"
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    return apsw.Connection(f"{path.absolute().as_uri()}?{mode}", flags=flags)


def explain(error: apsw.Error, path: Path) -> StoreError:
    """What is wrong with a store; `path` is its file."""
    home = path.parent
    if isinstance(error, (apsw.BusyError, apsw.LockedError)):
        return StoreError(f"another process is writing to {home}", hint="wait until it is done, then try again")
    if isinstance(error, (apsw.ReadOnlyError, apsw.PermissionsError, apsw.AuthError)):
        return StoreError(f"the store in {home} cannot be written", hint="check the permissions of the folder")
    if isinstance(error, apsw.FullError):
        return StoreError(f"the disk with {home} is full; nothing was lost", hint="free some space and try again")
    if isinstance(error, apsw.CantOpenError):
        if os.access(home, os.X_OK) and home.is_dir() and not path.exists():
            return StoreError(f"the store {path} is missing", hint=RESTORE)
        return StoreError(f"the store in {home} cannot be opened", hint="check that the folder is there and yours")
    if isinstance(error, (apsw.CorruptError, apsw.NotADBError)):
        return StoreError(f"the store in {home} is damaged: {error}", hint=f"move {path.name} away; {RESTORE}")
    return StoreError(f"the store in {home} failed: {error}", hint=TRY_AGAIN)
