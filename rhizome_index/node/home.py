"""A home directory: the identity and the store of one peer.

identity.key   the private key in libp2p's protobuf form, for the owner's eyes only
store.sqlite   blocks and heads; made before the key, so where there is a key, an empty store means a loss
node.sock      while a node runs: where other processes of this home meet it
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path

from rhizome_index.errors import StoreError, UsageError
from rhizome_index.index.head import Identity
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.unix_socket import connect

_KEY_HEADER = bytes.fromhex("08011240")  # protobuf: type Ed25519, 64 bytes: seed and public key


class Home:
    """The directory, whether it has been made yet or not."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def at(cls, path: str | Path) -> Home:
        """The home at a path, in which ~ stands for the user's own directory."""
        return cls(Path(path).expanduser())

    @property
    def identity_path(self) -> Path:
        return self.path / "identity.key"

    @property
    def store_path(self) -> Path:
        return self.path / "store.sqlite"

    @property
    def socket_path(self) -> Path:
        return self.path / "node.sock"

    @property
    def is_running(self) -> bool:
        """Whether a node of this home runs in some process."""
        connection = connect(self.socket_path)
        if connection is not None:
            connection.close()
        return connection is not None

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Be the one node that runs from this home. Raises UsageError if another process is.

        The lock is the folder's own: it needs no right to write, and goes with the process that has it.
        """
        folder = os.open(self.path, os.O_RDONLY)
        try:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                is_taken = False
            except BlockingIOError:
                is_taken = True
            except OSError:  # a file system that has no locks
                is_taken = self.is_running
            if is_taken:
                raise UsageError(
                    f"a node of {self.path} is running already", hint="stop that one, or choose another --home"
                )
            yield
        finally:
            with suppress(OSError):
                fcntl.flock(folder, fcntl.LOCK_UN)  # a child may have the folder open, too
            os.close(folder)

    @property
    def exists(self) -> bool:
        return os.access(self.identity_path, os.F_OK)  # Path.exists raises where we may not look

    def create(self, seed: bytes | None = None) -> bool:
        """Make the directory, a store and an identity if there is none; whether there was none. Raises StoreError."""
        if self.exists:
            return False
        identity = Identity(seed or os.urandom(32))
        missing = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            DiskStore(self.store_path, make=True).close()
            was_none = self._keep(identity)
            for folder in (self.path, *(made.parent for made in missing)):
                _sync_folder(folder)
            return was_none
        except (FileExistsError, NotADirectoryError):
            raise self._no_folder() from None
        except OSError as error:
            raise StoreError(
                f"cannot make a home in {self.path}: {error.strerror}", hint="choose another with --home"
            ) from None

    def _keep(self, identity: Identity) -> bool:
        """Write the key, whole or not at all; whether there was none."""
        fresh = self.path / f".identity-{os.getpid()}"
        try:
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(_KEY_HEADER + identity.seed + identity.public_key)
                file.flush()
                os.fsync(file.fileno())
            os.link(fresh, self.identity_path)  # unlike a rename, never replaces a key
        except FileExistsError:
            return False
        finally:
            fresh.unlink(missing_ok=True)
        return True

    def _no_folder(self) -> StoreError:
        return StoreError(f"there can be no home in {self.path}: not a folder", hint="choose another with --home")

    @property
    def exposure(self) -> str:
        """Who else than its owner can read or write the private key; empty if nobody can."""
        try:
            mode = stat.S_IMODE(self.identity_path.stat().st_mode)
        except OSError:
            return ""
        return f"{self.identity_path} is open to others (mode {mode:04o})" if mode & 0o077 else ""

    @cached_property
    def identity(self) -> Identity:
        """This peer's key. Raises UsageError if there is none, StoreError if it cannot be read."""
        data = self._key_bytes()
        if len(data) != 68 or not data.startswith(_KEY_HEADER):
            raise StoreError(f"{self.identity_path} is not a private key", hint="restore it from a backup")
        identity = Identity(data[4:36])
        if identity.public_key != data[36:]:
            raise StoreError(f"{self.identity_path} is damaged", hint="restore it from a backup")
        return identity

    def _key_bytes(self) -> bytes:
        try:
            return self.identity_path.read_bytes()
        except FileNotFoundError:
            raise UsageError(f"there is no home in {self.path} yet", hint="make one: rhizome init") from None
        except NotADirectoryError:
            raise self._no_folder() from None
        except OSError as error:
            raise StoreError(
                f"cannot read {self.identity_path}: {error.strerror}", hint="check its permissions"
            ) from None

    @contextmanager
    def open_store(self, *, make: bool = False) -> Iterator[DiskStore]:
        """The store, closed behind; `make` one in the place of one that was lost.

        Raises UsageError if there is no home, StoreError if its store cannot be used.
        """
        self._key_bytes()
        store = DiskStore(self.store_path, make=make, read_only=not os.access(self.path, os.W_OK))
        try:
            yield store
        finally:
            store.close()


def _sync_folder(path: Path) -> None:
    """Make the names in a folder last: a file that was synced is lost if its name was not."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
