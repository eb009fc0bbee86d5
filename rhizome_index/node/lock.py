"""Who uses a store: the lock that all share who have it open, and that one has alone while blocks are freed.

Promises: nobody has the store open, in whatever way, while somebody has it alone. A
lock goes with the process that has it.

The lock is a file beside the store. Where that is missing and cannot be made, in a
folder or on a disk that takes nothing more, the key file is shared in its place: that
one is there in every home, and nobody replaces it while others share it. So whoever
wants the store alone has both alone.

One process of a home at most goes from sharing to having alone and back (the one that
has claimed the home): the way up leaves the lock for a moment, in which another such
could take it.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from rhizome_index.errors import StoreError
from rhizome_index.limits import LOCK_LOOK_SECONDS, LOCK_WAIT_SECONDS
from rhizome_index.node.sqlite import make_file


class StoreLock:
    """A share in the lock of a store, for as long as `sharing` lasts."""

    def __init__(self, path: Path, spare: Path) -> None:
        """
        path   of the lock, which is made
        spare  of a file that is there in any case
        """
        self._path = path
        self._spare = spare
        self._descriptor: int | None = None

    @contextmanager
    def sharing(self) -> Iterator[None]:
        """Use the store beside others. Raises StoreError while somebody frees blocks, if that takes long."""
        make_file(self._path)
        with ExitStack() as files:
            try:
                descriptor = files.enter_context(_opened(self._path))
                self._descriptor = descriptor
            except (FileNotFoundError, PermissionError):
                descriptor = files.enter_context(_opened(self._spare))
            self._share(descriptor)
            try:
                yield
            finally:
                self._descriptor = None

    def _share(self, descriptor: int) -> None:
        """Blocks are freed in small steps: wait for the end of one."""
        until = time.monotonic() + LOCK_WAIT_SECONDS
        while not _take(descriptor, fcntl.LOCK_SH):
            if time.monotonic() >= until:
                raise StoreError(
                    f"rhizome gc is freeing blocks of the store in {self._path.parent}",
                    hint="wait until it is done, then try again",
                )
            time.sleep(LOCK_LOOK_SECONDS)

    @contextmanager
    def having_alone(self) -> Iterator[bool]:
        """While sharing, have the store alone for a moment; whether that can be now."""
        if self._descriptor is None:
            yield False
            return
        try:
            with _opened(self._spare) as spare:
                yield _take(self._descriptor, fcntl.LOCK_EX) and _take(spare, fcntl.LOCK_EX)
        finally:
            with suppress(OSError):  # a file system that has no locks
                fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Use the store while nobody else does. Raises StoreError if somebody does, or it cannot be told."""
        make_file(self._path)
        with ExitStack() as files:
            try:
                locks = [files.enter_context(_opened(path)) for path in (self._path, self._spare)]
                is_alone = all(_take(lock, fcntl.LOCK_EX, must_lock=True) for lock in locks)
            except OSError as error:
                raise StoreError(
                    f"cannot lock the store in {self._path.parent}: {error.strerror}",
                    hint="check the permissions of the folder; some file systems have no locks",
                ) from None
            if not is_alone:
                raise StoreError(
                    f"a node or another command is using the store in {self._path.parent}",
                    hint="stop it, then try again",
                )
            yield


def _take(descriptor: int, how: int, *, must_lock: bool = False) -> bool:
    """Whether a lock could be had. What was had before may be lost if not.

    must_lock  raise OSError on a file system that has no locks; there, all can share
    """
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        if must_lock:
            raise
        return how == fcntl.LOCK_SH
    return True


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # a child may have it open, too
        os.close(descriptor)
