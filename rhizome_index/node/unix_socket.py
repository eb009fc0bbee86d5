"""A Unix socket in a folder: only processes of one user meet on it.

Promises: the socket is for its owner's eyes, by its mode and, where the system tells
who is at the other end, by that. Paths of any length work where there is /proc. What
a killed process left is replaced. It does not know what is said.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rhizome_index.errors import UnavailableError
from rhizome_index.limits import SOCKET_PATH_BYTES_MAX

if TYPE_CHECKING:
    import trio

_BACKLOG = 64
_XUCRED_BYTES = 76  # of the BSDs: version, uid, groups


def connect(path: Path) -> socket.socket | None:
    """A connection, which does not block, with our own process that listens there; None if there is none."""
    with suppress(OSError), _short(path) as name:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.setblocking(False)
            connection.connect(name)  # at once, or never: there is no handshake
            if is_own(connection):
                return connection
        except BaseException:
            connection.close()
            raise
        connection.close()
    return None


@contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """A socket that listens at a path, removed when done. The caller has seen to it that nobody else listens there.

    Raises UnavailableError where there can be none.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with listener:
        try:
            path.unlink(missing_ok=True)
            with _short(path) as name:
                before = os.umask(0o177)
                try:
                    listener.bind(name)
                finally:
                    os.umask(before)
            listener.listen(_BACKLOG)
        except OSError as error:
            raise UnavailableError(f"no socket can be made at {path}: {error.strerror or error}") from None
        try:
            yield listener
        finally:
            with suppress(OSError):  # the folder may have gone
                path.unlink(missing_ok=True)


def is_own(connection: socket.socket | trio.socket.SocketType) -> bool:
    """Whether the process at the other end is our user's, as far as this system tells."""
    if hasattr(socket, "SO_PEERCRED"):
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        _, user, _ = struct.unpack("3i", credentials)
    elif (option := getattr(socket, "LOCAL_PEERCRED", None)) is not None:
        _, user = struct.unpack_from("2I", connection.getsockopt(0, option, _XUCRED_BYTES))
    else:
        return True  # the mode of the file has to do
    return bool(user == os.geteuid())


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """A name for a path that is short enough for a socket."""
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
