"""The store of a home directory: blocks and heads in one SQLite file.

Promises: a block that is read matches its name; a batch is kept whole or not at
all; what `transaction` has committed survives a kill or a power cut at any
instant. One process writes at a time, any number read.

A block found damaged is set aside, so that it counts as missing and can be
fetched again. What blocks mean is not known here, except that chunks are decoded
and kept in memory, newest use first.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw

from rhizome_index.blocks.cid import Cid, check_block, cid_of_digest, digest_of, format_cid
from rhizome_index.errors import IntegrityError, RhizomeError, StoreError
from rhizome_index.index.address import Address
from rhizome_index.index.head import Head, open_head
from rhizome_index.limits import CHUNK_CACHE_BYTES
from rhizome_index.tree.node import Node, decode_node

_PAGE_BYTES = 16384  # chunks of 4 KiB fill pages of this size well, and single edits still write little
_BUSY_MILLISECONDS = 5000  # small writes of another process are over by then

_RESTORE = "restore an export: rhizome restore FILE"

# Each brings a store of the version before it to the next one.
_SCHEMAS = (
    """
create table blocks (id integer primary key, digest blob not null unique, data blob not null);
create table damaged (digest blob primary key) without rowid;
create table heads (
    dataset text not null, sequence integer not null, manifest blob not null, envelope blob not null,
    primary key (dataset, sequence, envelope)
) without rowid;
create index heads_by_manifest on heads (manifest);
""",
    """
create table follows (dataset text primary key, policy blob not null) without rowid;
create table held (dataset text primary key, envelope blob not null) without rowid;
create table peers (
    address text primary key, peer_id text not null, seen_seconds real not null
) without rowid;
create table providers (
    dataset text not null, peer_id text not null, seen_seconds real not null, primary key (dataset, peer_id)
) without rowid;
""",
)


class DiskStore:
    """A `BlockStore` that also keeps heads.

    path       the database file
    make       make it if it is missing or empty; otherwise that means that what was in it is lost
    read_only  the folder cannot be written
    vfs        SQLite's name of the file system that it is on, if not the machine's own
    """

    def __init__(self, path: Path, *, make: bool = False, read_only: bool = False, vfs: str | None = None) -> None:
        self._path = path
        self._chunks: OrderedDict[Cid, tuple[bytes, Node]] = OrderedDict()
        self._chunk_bytes = 0
        with self._translated():
            self._db = _connect_reading(path) if read_only else _connect(path, make, vfs)
            try:
                self._db.setbusytimeout(_BUSY_MILLISECONDS)
                self._check_format(make=make, read_only=read_only)
                if not read_only:
                    self._db.execute(f"pragma page_size = {_PAGE_BYTES}; pragma journal_mode = wal;")
                    self._db.execute("pragma synchronous = full; pragma journal_size_limit = 67108864;")
                self._db.execute("pragma cache_size = -32000; pragma temp_store = memory;")
                if not read_only:
                    self._bring_up_to_date()
            except BaseException:
                self._db.close()
                raise

    def _check_format(self, *, make: bool, read_only: bool) -> None:
        (version,) = self._one("pragma user_version")
        newest = len(_SCHEMAS)
        if version == 0 and not make:
            raise StoreError(f"the store {self._path} is empty: what was in it is lost", hint=_RESTORE)
        if version > newest or (version < newest and read_only):
            raise StoreError(
                f"the store {self._path} has format {version}; this program reads {newest}",
                hint="use the version of rhizome that wrote it"
                if version > newest
                else "open it once where it can be written",
            )

    def _bring_up_to_date(self) -> None:
        (version,) = self._one("pragma user_version")
        newest = len(_SCHEMAS)
        if version < newest:
            with self.transaction():
                (version,) = self._one("pragma user_version")  # another process may have been quicker
                for schema in _SCHEMAS[version:]:
                    self._db.execute(schema)
                self._db.execute(f"pragma user_version = {newest}")

    @property
    def folder(self) -> Path:
        """Where the file lies."""
        return self._path.parent

    def close(self) -> None:
        self._db.close()

    def data_version(self) -> int:
        """A number that changes when another process has written."""
        (version,) = self.execute("pragma data_version")[0]
        return int(version)

    # --- blocks ---

    def get(self, cid: Cid) -> bytes | None:
        try:
            row = self._db.execute("select data from blocks where digest = ?", (cid[4:],)).fetchone()
        except apsw.Error as error:
            raise _explain(error, self._path) from None
        if row is None:
            return None
        data: bytes = row[0]
        try:
            check_block(cid, data)
        except IntegrityError:
            self._set_aside(cid)
            return None
        return data

    def has(self, cid: Cid) -> bool:
        with self._translated():
            return self._one("select 1 from blocks where digest = ?", (digest_of(cid),)) is not None

    def chunk(self, cid: Cid) -> tuple[bytes, Node] | None:
        """A chunk and its node, or None if it is not here."""
        held = self._chunks.get(cid)
        if held is not None:
            self._chunks.move_to_end(cid)
            return held
        data = self.get(cid)
        if data is None:
            return None
        held = (data, decode_node(data))
        self._chunks[cid] = held
        self._chunk_bytes += len(data)
        while self._chunk_bytes > CHUNK_CACHE_BYTES:
            _, (old, _) = self._chunks.popitem(last=False)
            self._chunk_bytes -= len(old)
        return held

    def put_many(self, blocks: Iterable[tuple[Cid, bytes]]) -> None:
        """Keep blocks: in the transaction under way, or in one of its own."""
        with self.transaction(), self._translated():
            self._db.executemany(
                # Over a block that has been damaged unnoticed goes the right one.
                "insert into blocks (digest, data) values (?, ?) "
                "on conflict (digest) do update set data = excluded.data where data is not excluded.data",
                ((cid[4:], data) for cid, data in blocks),
            )

    def count_blocks(self) -> tuple[int, int]:
        """How many blocks there are, and their bytes."""
        with self._translated():
            count, size = self._one("select count(*), coalesce(sum(length(data)), 0) from blocks") or (0, 0)
        return count, size

    def all_blocks(self) -> Iterator[tuple[Cid, bytes]]:
        """Every block, in the order in which they came."""
        with self._translated():
            for digest, data in self._db.execute("select digest, data from blocks order by id"):
                yield cid_of_digest(digest), data

    def damaged(self) -> list[Cid]:
        """Blocks that were set aside and have not come back."""
        with self._translated():
            rows = self._db.execute("select digest from damaged where digest not in (select digest from blocks)")
            return [cid_of_digest(digest) for (digest,) in rows]

    def _set_aside(self, cid: Cid) -> None:
        try:
            with self.transaction():
                self._db.execute("insert or ignore into damaged values (?)", (digest_of(cid),))
                self._db.execute("delete from blocks where digest = ?", (digest_of(cid),))
        except RhizomeError:
            pass  # a store that cannot be written still must not give wrong bytes

    # --- heads ---

    def put_head(self, head: Head) -> None:
        """Keep a verified head for good."""
        with self.transaction(), self._translated():
            self._db.execute(
                "insert or ignore into heads values (?, ?, ?, ?)",
                (str(head.address), head.sequence, head.manifest, head.envelope),
            )

    def newest_head(self, address: Address) -> Head | None:
        """The head with the highest sequence, verified again."""
        rows = self._heads("where dataset = ? order by sequence desc, envelope limit 1", (str(address),))
        return rows[0] if rows else None

    def head_of(self, address: Address, manifest: Cid) -> Head | None:
        """The newest head of a dataset with this manifest."""
        rows = self._heads(
            "where manifest = ? and dataset = ? order by sequence desc limit 1", (manifest, str(address))
        )
        return rows[0] if rows else None

    def current_head(self, address: Address) -> Head | None:
        """The head to answer from: of a dataset that is followed the one that is all here, else the newest."""
        return self.held_head(address) or self.newest_head(address)

    def current_heads(self) -> list[Head]:
        """The head to answer from of every dataset, by address."""
        rows = self.execute(
            "select dataset, coalesce((select envelope from held where held.dataset = heads.dataset), "
            "(select envelope from heads as of where of.dataset = heads.dataset "
            "order by sequence desc, envelope limit 1)) from heads group by dataset order by dataset"
        )
        return [open_head(envelope) for _, envelope in rows]

    def set_held(self, head: Head) -> None:
        """Switch to a head all of whose dataset is here."""
        with self.transaction():
            self.put_head(head)
            self.execute("insert or replace into held values (?, ?)", (str(head.address), head.envelope))

    def held_head(self, address: Address) -> Head | None:
        """The head all of whose dataset is here, of a dataset that is followed."""
        rows = self.execute("select envelope from held where dataset = ?", (str(address),))
        return open_head(rows[0][0]) if rows else None

    def equivocation(self, address: Address) -> tuple[Head, Head] | None:
        """Two heads of one dataset with one sequence and different manifests, if any are known."""
        rows = self._heads(
            "where dataset = ?1 and sequence = (select max(sequence) from (select sequence from heads "
            "where dataset = ?1 group by sequence having count(distinct manifest) > 1)) group by manifest limit 2",
            (str(address),),
        )
        return (rows[0], rows[1]) if len(rows) == 2 else None

    def _heads(self, condition: str, values: tuple[Any, ...]) -> list[Head]:
        with self._translated():
            rows = list(self._db.execute(f"select envelope from heads {condition}", values))
        return [open_head(envelope) for (envelope,) in rows]

    # --- transactions ---

    def execute(self, statement: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """The rows of a statement of those who keep other things here. Raises StoreError."""
        with self._translated():
            return list(self._db.execute(statement, values))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, durable once left. Inside another one, part of it. Raises StoreError."""
        if self._in_transaction():
            yield
            return
        with self._translated():
            self._db.execute("begin immediate")
        try:
            yield
            with self._translated():
                self._db.execute("commit")
        except BaseException:
            if self._in_transaction():
                with self._translated():
                    self._db.execute("rollback")
            raise

    def _in_transaction(self) -> bool:
        return bool(self._db.in_transaction)

    def _one(self, statement: str, values: tuple[Any, ...] = ()) -> Any:
        return self._db.execute(statement, values).fetchone()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """The database's errors as ours."""
        try:
            yield
        except apsw.Error as error:
            raise _explain(error, self._path) from None


def _connect(path: Path, make: bool, vfs: str | None) -> apsw.Connection:
    create = apsw.SQLITE_OPEN_CREATE if make else 0
    return apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE | create, vfs=vfs)


def _connect_reading(path: Path) -> apsw.Connection:
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


def _explain(error: apsw.Error, path: Path) -> StoreError:
    home = path.parent
    if isinstance(error, (apsw.BusyError, apsw.LockedError)):
        return StoreError(f"another process is writing to {home}", hint="wait until it is done, then try again")
    if isinstance(error, (apsw.ReadOnlyError, apsw.PermissionsError, apsw.AuthError)):
        return StoreError(f"the store in {home} cannot be written", hint="check the permissions of the folder")
    if isinstance(error, apsw.FullError):
        return StoreError(f"the disk with {home} is full; nothing was lost", hint="free some space and try again")
    if isinstance(error, apsw.CantOpenError):
        if os.access(home, os.X_OK) and home.is_dir() and not path.exists():
            return StoreError(f"the store {path} is missing", hint=_RESTORE)
        return StoreError(f"the store in {home} cannot be opened", hint="check that the folder is there and yours")
    if isinstance(error, (apsw.CorruptError, apsw.NotADBError)):
        return StoreError(f"the store in {home} is damaged: {error}", hint=f"move {path.name} away; {_RESTORE}")
    return StoreError(f"the store in {home} failed: {error}", hint="check the disk; what was published is still there")


def describe_missing(cid: Cid) -> str:
    """What to say of a block that is not here."""
    return f"block {format_cid(cid)} is not here"
