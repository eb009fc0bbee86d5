"""A home directory: the identity and the store of one peer.

identity.key   the private keys (`keyfile.py`), open or sealed with a passphrase, for the owner's eyes only
store.sqlite   blocks and heads; made before the key, so where there is a key, an empty store means a loss
store.lock     whoever has the store open shares it; whoever frees blocks has it alone (`lock.py`)
node.sock      while a node runs: where other processes of this home meet it

Whose home it is can be read without the passphrase. That is asked for when a private
key is needed, and the key file is replaced as a whole: a kill at any moment leaves
the old one or the new one.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from rhizome_index.errors import IntegrityError, StoreError, UsageError
from rhizome_index.index.address import peer_id_of
from rhizome_index.index.head import Identity
from rhizome_index.limits import KEYS_MAX
from rhizome_index.node import keyfile

if TYPE_CHECKING:
    from rhizome_index.node.disk import DiskStore

_FRESH = ".identity-"  # what a key file is called until it is whole


def no_passphrase() -> str:
    """Where there is nobody to ask."""
    raise UsageError(
        "the private key is sealed with a passphrase", hint="set RHIZOME_PASSPHRASE, or name a file: --passphrase-file"
    )


_Encode = Callable[[Sequence[Identity]], bytes]


@dataclass(frozen=True, slots=True)
class _Opened:
    """The keys of a file: its digest, and what makes the file for other keys, sealed in the same way."""

    digest: bytes
    keys: tuple[Identity, ...]
    encode: _Encode


class Home:
    """The directory, whether it has been made yet or not.

    ask  gives the passphrase, when a sealed key is needed; it may raise UsageError
    """

    def __init__(self, path: Path, ask: Callable[[], str] = no_passphrase) -> None:
        self.path = path
        self.ask = ask
        self._opened: _Opened | None = None

    @classmethod
    def at(cls, path: str | Path, ask: Callable[[], str] = no_passphrase) -> Home:
        """The home at a path, in which ~ stands for the user's own directory."""
        return cls(Path(path).expanduser(), ask)

    @property
    def identity_path(self) -> Path:
        return self.path / "identity.key"

    @property
    def store_path(self) -> Path:
        return self.path / "store.sqlite"

    @property
    def lock_path(self) -> Path:
        return self.path / "store.lock"

    @property
    def socket_path(self) -> Path:
        return self.path / "node.sock"

    @property
    def is_running(self) -> bool:
        """Whether a node of this home runs in some process."""
        from rhizome_index.node.unix_socket import connect

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

    def create(self, seed: bytes | None = None, passphrase: str | None = None) -> bool:
        """Make the directory, a store and an identity if there is none; whether there was none.

        passphrase  seals the new identity; None: whoever can read it can use it

        Raises StoreError, UsageError for a passphrase that is none.
        """
        from rhizome_index.node.disk import DiskStore
        from rhizome_index.node.sqlite import make_file

        if self.exists:
            return False
        content = _encoded([Identity(seed or os.urandom(32))], passphrase)
        try:
            missing = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
            for folder in reversed(missing):
                _make_folder(folder)
            self.path.mkdir(exist_ok=True)  # fails if it is there and no folder
            DiskStore(self.store_path, make=True).close()
            make_file(self.lock_path)
            with self._written(content) as fresh:
                try:
                    os.link(fresh, self.identity_path)  # unlike a rename, never replaces a key
                    was_none = True
                except FileExistsError:
                    was_none = False
            for folder in (self.path, *(made.parent for made in missing)):
                _sync_folder(folder)
            return was_none
        except (FileExistsError, NotADirectoryError):
            raise self._no_folder() from None
        except OSError as error:
            raise StoreError(
                f"cannot make a home in {self.path}: {error.strerror}", hint="choose another with --home"
            ) from None

    @contextmanager
    def _written(self, content: bytes) -> Iterator[Path]:
        """A key file under another name, whole and durable; afterwards that name is gone."""
        import secrets

        fresh = self.path / f"{_FRESH}{secrets.token_hex(8)}"
        try:
            # Exclusively: what somebody has laid there before keeps its owner and its mode.
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                os.fchmod(file.fileno(), 0o600)  # whatever the umask
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            yield fresh
        finally:
            fresh.unlink(missing_ok=True)

    def _no_folder(self) -> StoreError:
        return StoreError(f"there can be no home in {self.path}: not a folder", hint="choose another with --home")

    def exposures(self) -> Iterator[tuple[str, str]]:
        """What others than its owner may do with this home that they should not, each with what to do about it."""
        for path, others, hint in (
            (
                self.identity_path,
                0o077,
                f"whoever can read it can publish in your name: chmod 600 {self.identity_path}",
            ),
            (self.path, 0o022, f"whoever can write there can put another key in its place: chmod 700 {self.path}"),
        ):
            with suppress(OSError):
                if (mode := stat.S_IMODE(path.stat().st_mode)) & others:
                    yield f"{path} is open to others (mode {mode:04o})", hint

    # --- whose it is, and its keys ---

    @cached_property
    def peer_id(self) -> str:
        """Whose home this is. Raises UsageError if there is none, StoreError if that cannot be read."""
        with self._explained():
            return peer_id_of(keyfile.public_keys(self._key_bytes())[0])

    @property
    def is_sealed(self) -> bool:
        """Whether its private keys need a passphrase."""
        return keyfile.is_sealed(self._key_bytes())

    @property
    def identity(self) -> Identity:
        """This peer's own key. Raises UsageError, also for a wrong passphrase, and StoreError."""
        return self.unlock()[0]

    def key(self, peer_id: str) -> Identity:
        """The private key with a peer id. Raises as `identity` does."""
        for keys in (self.unlock, self._unlock_again):  # another process may have made it
            for key in keys():
                if key.peer_id == peer_id:
                    return key
        raise UsageError(f"{self.path} does not have the private key of {peer_id}", hint="restore it from a backup")

    def unlock(self) -> tuple[Identity, ...]:
        """Open the keys now, before anything waits for them. Raises as `identity` does."""
        return self._opened.keys if self._opened is not None else self._unlock_again()

    def _unlock_again(self) -> tuple[Identity, ...]:
        self._opened = self._open(self._key_bytes())
        return self._opened.keys

    def _open(self, data: bytes) -> _Opened:
        """The keys in a file; nobody is asked twice for what is in the same one."""
        digest = sha256(data).digest()
        if self._opened is not None and self._opened.digest == digest:
            return self._opened
        with self._explained():
            keyfile.public_keys(data)  # before anybody is asked
            passphrase = self.ask() if keyfile.is_sealed(data) else None
            keys = keyfile.open_keys(data, passphrase)
        return _Opened(digest, keys, lambda others: _encoded(others, passphrase))

    @property
    def peer_ids(self) -> tuple[str, ...]:
        """Whose private keys are here, its own first; no passphrase is needed to know. Raises as `peer_id` does."""
        with self._explained():
            return tuple(map(peer_id_of, keyfile.public_keys(self._key_bytes())))

    def spare_key(self, used: Collection[str]) -> Identity:
        """A key that is used for nothing yet, kept durably before it is. Raises UsageError, StoreError.

        used  peer ids of keys that are; one that is left from a rotation that was cut off is taken again
        """
        with self._changing() as opened:
            for key in opened.keys[1:]:
                if key.peer_id not in used:
                    return key
            if len(opened.keys) >= KEYS_MAX:
                raise UsageError(f"{self.identity_path} holds {KEYS_MAX} keys, as many as there is room for")
            key = Identity(os.urandom(32))
            self._replace((*opened.keys, key), opened.encode)
            return key

    def seal(self, passphrase: str | None) -> None:
        """Keep the keys under another passphrase from now on; None: under none. Raises UsageError, StoreError."""
        with self._changing() as opened:
            self._replace(opened.keys, lambda keys: _encoded(keys, passphrase))

    @contextmanager
    def _changing(self) -> Iterator[_Opened]:
        """The keys as they are, while nobody else changes them."""
        self._key_bytes()  # says best what is wrong
        try:
            descriptor = os.open(self.identity_path, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(descriptor).st_ino != self.identity_path.stat().st_ino:
                    raise BlockingIOError  # it was replaced before we had the lock of it
                yield self._open(self._key_bytes())
            finally:
                os.close(descriptor)
        except BlockingIOError:
            raise StoreError(
                f"another process is changing the keys in {self.path}", hint="wait until it is done, then try again"
            ) from None
        except OSError as error:
            raise StoreError(
                f"cannot change {self.identity_path}: {error.strerror}", hint="check the permissions of the folder"
            ) from None

    def _replace(self, keys: tuple[Identity, ...], encode: _Encode) -> None:
        content = encode(keys)
        with self._written(content) as fresh:
            fresh.replace(self.identity_path)
            _sync_folder(self.path)
        self._opened = _Opened(sha256(content).digest(), keys, encode)
        for left in self.path.glob(f"{_FRESH}*"):  # by whoever was killed: it may be a key that is to be sealed now
            left.unlink(missing_ok=True)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError as error:
            raise StoreError(f"{self.identity_path} {error}", hint="restore it from a backup") from None

    def _key_bytes(self) -> bytes:
        try:
            with self.identity_path.open("rb") as file:
                return file.read(keyfile.KEY_FILE_BYTES_MAX + 1)
        except FileNotFoundError:
            raise UsageError(f"there is no home in {self.path} yet", hint="make one: rhizome init") from None
        except NotADirectoryError:
            raise self._no_folder() from None
        except OSError as error:
            raise StoreError(
                f"cannot read {self.identity_path}: {error.strerror}", hint="check its permissions"
            ) from None

    @contextmanager
    def open_store(self, *, make: bool = False, alone: bool = False) -> Iterator[DiskStore]:
        """The store, closed behind.

        make   one in the place of one that was lost
        alone  nobody else has it open meanwhile: no node, no other command

        Raises UsageError if there is no home, StoreError if its store cannot be used.
        """
        from rhizome_index.node.disk import DiskStore
        from rhizome_index.node.lock import StoreLock

        self._key_bytes()
        lock = StoreLock(self.lock_path, self.identity_path)
        with lock.alone() if alone else lock.sharing():
            store = DiskStore(self.store_path, make=make, read_only=not os.access(self.path, os.W_OK))
            if not alone:
                store.having_alone = lock.having_alone
            try:
                yield store
            finally:
                store.close()


def _encoded(keys: Sequence[Identity], passphrase: str | None) -> bytes:
    return keyfile.encode_open(keys) if passphrase is None else keyfile.encode_sealed(keys, passphrase)


def _make_folder(path: Path) -> None:
    """For its owner alone, whatever the umask."""
    with suppress(FileExistsError):  # somebody was quicker
        path.mkdir(mode=0o700)
        path.chmod(0o700)


def _sync_folder(path: Path) -> None:
    """Make the names in a folder last: a file that was synced is lost if its name was not."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
