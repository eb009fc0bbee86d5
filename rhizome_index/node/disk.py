"""The store of a home directory: blocks and heads in one SQLite file.

Promises: a block that is read matches its name; a batch is kept whole or not at
all; what `transaction` has committed survives a kill or a power cut at any
instant. One process writes at a time, any number read.

A block found damaged is set aside, so that it counts as missing and can be
fetched again. A disk that is full or fails makes the store one that is only read,
until writing works again: `problem` says why. What blocks mean is not known here,
except that chunks are decoded and kept in memory, newest use first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import apsw

from rhizome_index.blocks.cid import Cid, check_block, cid_of_digest, digest_of, format_cid
from rhizome_index.errors import IntegrityError, StoreError, UsageError
from rhizome_index.index.address import Address
from rhizome_index.index.head import Head, open_head
from rhizome_index.limits import CHUNK_CACHE_BYTES, LOG_PAGES_MAX, USES_NOTED_MAX
from rhizome_index.node.sqlite import RESTORE, TRY_AGAIN, connect, connect_reading, explain
from rhizome_index.node.succession import Successions
from rhizome_index.node.tables import CONTRADICTED, DATASETS, DATASETS_BETWEEN, HEAD_COLUMNS, SCHEMAS, open_row
from rhizome_index.node.uses import Uses
from rhizome_index.tree.node import Node, decode_node, node_of

_PAGE_BYTES = 16384  # chunks of 4 KiB fill pages of this size well, and single edits still write little
_BUSY_MILLISECONDS = 5000  # small writes of another process are over by then


class DiskStore:
    """A `BlockStore` that also keeps heads.

    path         the database file
    make         make it if it is missing or empty; otherwise that means that what was in it is lost
    read_only    the folder cannot be written
    vfs          SQLite's name of the file system that it is on, if not the machine's own
    log_pages    of SQLite's log, before it is written back into the file; by default LOG_PAGES_MAX
    is_shared    whether other processes may write to it
    decode       makes a chunk's node; several stores may share what they make
    problem      why the disk failed us last; empty once a write has worked again
    on_heads     told of datasets whose heads have been put and are durable now
    successions  which keys sign heads in place of which
    uses         what of it is in use by this process
    having_alone  gives whether nobody else has it open, and keeps it so meanwhile; see `lock.StoreLock`
    """

    def __init__(
        self,
        path: Path,
        *,
        make: bool = False,
        read_only: bool = False,
        vfs: str | None = None,
        log_pages: int | None = None,
        is_shared: bool = True,
        decode: Callable[[bytes], Node] = decode_node,
    ) -> None:
        self._path = path
        self._decode = decode
        self.is_shared = is_shared
        self._log_pages = log_pages or LOG_PAGES_MAX
        self._chunks: OrderedDict[Cid, tuple[bytes, Node]] = OrderedDict()
        self._chunk_bytes = 0
        self._is_changing = False
        self._with_new_heads: set[Address] = set()
        self.on_heads: Callable[[Collection[Address]], None] = lambda addresses: None
        self.having_alone: Callable[[], AbstractContextManager[bool]] = lambda: nullcontext(True)
        self.problem = ""
        self.successions = Successions(self)
        self.uses = Uses()
        self._note_use = self.uses.fresh.add
        with self._translated():
            self._db = connect_reading(path) if read_only else connect(path, make, vfs)
            try:
                self._db.setbusytimeout(_BUSY_MILLISECONDS)
                self._check_format(make=make, read_only=read_only)
                if not read_only:
                    self._db.execute(f"pragma page_size = {_PAGE_BYTES}")
                    if self._one("pragma user_version") == (0,):  # else it would be written into the file again
                        self._db.execute("pragma auto_vacuum = incremental")
                    self._db.execute("pragma journal_mode = wal")
                    self._db.execute("pragma synchronous = full; pragma journal_size_limit = 67108864;")
                    self._db.set_wal_hook(self._write_back)
                self._db.execute("pragma cache_size = -32000; pragma temp_store = memory;")
                if not read_only:
                    self._bring_up_to_date()
            except BaseException:
                self.close()
                raise

    def _check_format(self, *, make: bool, read_only: bool) -> None:
        (version,) = self._one("pragma user_version")
        newest = len(SCHEMAS)
        if version == 0 and not make:
            raise StoreError(f"the store {self._path} is empty: what was in it is lost", hint=RESTORE)
        if version > newest or (version < newest and read_only):
            raise StoreError(
                f"the store {self._path} has format {version}; this program reads {newest}",
                hint="use the version of rhizome that wrote it"
                if version > newest
                else "open it once where it can be written",
            )

    def _bring_up_to_date(self) -> None:
        (version,) = self._one("pragma user_version")
        newest = len(SCHEMAS)
        if version < newest:
            with self.transaction():
                (version,) = self._one("pragma user_version")  # another process may have been quicker
                for schema in SCHEMAS[version:]:
                    self._db.execute(schema)
                self._db.execute(f"pragma user_version = {newest}")

    @property
    def folder(self) -> Path:
        """Where the file lies."""
        return self._path.parent

    def close(self) -> None:
        """What was committed is safe, whether its log can still be written back or not."""
        self.forget_chunks()
        with suppress(apsw.Error):
            self._db.close()

    def data_version(self) -> int:
        """A number that changes when another process has written."""
        (version,) = self.execute("pragma data_version")[0]
        return int(version)

    def version(self) -> tuple[int, int]:
        """Something that changes with everything that is written, by whatever process."""
        return self.data_version(), self._db.total_changes()

    # --- blocks ---

    def get(self, cid: Cid) -> bytes | None:
        data = self.peek(cid)
        if data is not None:
            self._note_use(cid)
            if len(self.uses.fresh) >= USES_NOTED_MAX:
                self.uses.take()  # nobody has noted them for long
        return data

    def peek(self, cid: Cid) -> bytes | None:
        """What `get` gives, by whoever has no use for it."""
        try:
            row = self._db.execute("select cast(data as blob) from blocks where digest = ?", (cid[4:],)).fetchone()
        except apsw.Error as error:
            raise self._explain(error) from None
        if row is None:
            return None
        data: bytes = row[0] or b""
        try:
            check_block(cid, data)
        except IntegrityError:
            self._set_aside(cid)
            return None
        return data

    def has(self, cid: Cid) -> bool:
        found = self.is_here(cid)
        if found and self.uses.is_guarded:
            self._note_use(cid)
        return found

    def is_here(self, cid: Cid) -> bool:
        """What `has` says, to whoever does not count on it."""
        with self._translated():
            return self._one("select 1 from blocks where digest = ?", (digest_of(cid),)) is not None

    def chunk(self, cid: Cid) -> tuple[bytes, Node] | None:
        """A chunk and its node, or None if it is not here."""
        held = self._chunks.get(cid)
        if held is not None:
            self._chunks.move_to_end(cid)
            self._note_use(cid)
            return held
        data = self.get(cid)
        if data is None:
            return None
        held = (data, node_of(cid, data, self._decode))
        self._chunks[cid] = held
        self._chunk_bytes += len(data)
        while self._chunk_bytes > CHUNK_CACHE_BYTES:
            _, (old, _) = self._chunks.popitem(last=False)
            self._chunk_bytes -= len(old)
        return held

    def put_many(self, blocks: Iterable[tuple[Cid, bytes]]) -> None:
        """Keep blocks: in the transaction under way, or in one of its own."""
        if self.uses.is_guarded:
            blocks = list(blocks)
            self.uses.fresh.update(cid for cid, _ in blocks)
        with self.transaction(), self._translated():
            self._db.executemany(
                # Over a block that has been damaged unnoticed goes the right one.
                "insert into blocks (digest, data) values (?, ?) "
                "on conflict (digest) do update set data = excluded.data where data is not excluded.data",
                ((cid[4:], data) for cid, data in blocks),
            )

    def put_fetched(self, blocks: Iterable[tuple[Cid, bytes]]) -> None:
        """Keep blocks that can be fetched again: a kill loses none of them, a power cut perhaps the last ones.

        What is committed after them in the other way makes them last too.
        """
        with self.unhurried():
            self.put_many(blocks)

    def delete(self, digest: bytes) -> int:
        """Forget a block that nothing needs; its bytes."""
        rows = self.execute("delete from blocks where digest = ? returning length(data)", (digest,))
        held = self._chunks.pop(cid_of_digest(digest), None)
        self._chunk_bytes -= len(held[0]) if held is not None else 0
        return sum(size or 0 for (size,) in rows)

    @contextmanager
    def unhurried(self) -> Iterator[None]:
        """What is committed within does not wait for the disk, unless a transaction is under way that does."""
        if self._is_changing:
            yield
            return
        self.execute("pragma synchronous = normal")
        try:
            yield
        finally:
            self.execute("pragma synchronous = full")

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
        with suppress(StoreError), self.transaction():  # a store that cannot be written gives no wrong bytes either
            self.execute("insert or ignore into damaged values (?)", (digest_of(cid),))
            self.execute("delete from cached where digest = ?", (digest_of(cid),))
            self.execute("delete from blocks where digest = ?", (digest_of(cid),))

    # --- heads ---

    def put_head(self, head: Head, *, is_heard: bool = False) -> None:
        """Keep a verified head for good: of those that are disowned one for each dataset, as evidence.

        is_heard  it was merely told; otherwise something of its dataset is here, or was answered from it
        """
        with self.transaction():
            disowned = self.successions.disowns(head)
            if disowned and self.execute("select 1 from heads where dataset = ? and disowned", (str(head.address),)):
                return
            self.execute(
                "insert into heads (dataset, sequence, manifest, envelope, disowned, heard) values (?, ?, ?, ?, ?, ?) "
                "on conflict do update set heard = min(heard, excluded.heard) where heard > excluded.heard",
                (str(head.address), head.sequence, head.manifest, head.envelope, disowned, is_heard),
            )
            for delegation in () if disowned else head.delegations:
                self.successions.learn(delegation)
            if not disowned:
                self._with_new_heads.add(head.address)

    def put_heard(self, head: Head) -> None:
        """Keep a verified head that others have told of, as fetched blocks are kept: they know it too."""
        known = "select 1 from heads where (dataset, sequence, envelope) = (?, ?, ?)"
        if self.execute(known, (str(head.address), head.sequence, head.envelope)):
            return  # most are told of by several
        with self.unhurried():
            self.put_head(head, is_heard=True)

    def newest_head(self, address: Address) -> Head | None:
        """The head with the highest sequence, verified again. Raises IntegrityError if it is damaged."""
        rows = self._heads(
            "where dataset = ? and not disowned order by sequence desc, envelope limit 1", (str(address),)
        )
        return rows[0] if rows else None

    def head_of(self, address: Address, manifest: Cid) -> Head | None:
        """The newest head of a dataset with this manifest."""
        rows = self._heads(
            "where manifest = ? and dataset = ? and not disowned order by sequence desc limit 1",
            (manifest, str(address)),
        )
        return rows[0] if rows else None

    def heads_before(self, newest: Head, most: int) -> list[Head]:
        """Heads of a dataset up to one of them, that is included, the last first."""
        return self._heads(
            "where dataset = ? and not disowned and sequence <= ? and manifest not in (select manifest from frauds) "
            "order by sequence desc limit ?",
            (str(newest.address), newest.sequence, most),
        )

    def believed_head(self, address: Address) -> Head | None:
        """The newest head that is not convicted of fraud, though it may only have been heard of."""
        return self._newest_good(address, "")

    def current_head(self, address: Address) -> Head | None:
        """The head to answer from: the newest of which all is here or was answered from, and not convicted.

        It never goes back, as long as none is convicted. One that was merely heard of may be brought or not.
        """
        return self._newest_good(address, "and not heard")

    def served_head(self, address: Address) -> Head | None:
        """The head to answer others from: of a dataset that is followed the one that is all here, else the current."""
        held = self.held_head(address)
        if held is None or self.execute("select 1 from frauds where manifest = ?", (held.manifest,)):
            return self.current_head(address)
        return held

    def _newest_good(self, address: Address, condition: str) -> Head | None:
        rows = self._heads(
            f"where dataset = ? and not disowned {condition} and manifest not in (select manifest from frauds) "
            "order by sequence desc, envelope limit 1",
            (str(address),),
        )
        return rows[0] if rows else None

    def current_heads(self, publisher: str | None = None) -> list[Head]:
        """The head to answer from of every dataset, or of those of one publisher, by address; not the damaged ones."""
        found = []
        if publisher is None:
            names = self.execute(DATASETS)
        else:
            names = self.execute(DATASETS_BETWEEN, (f"rhizome:{publisher}/", f"rhizome:{publisher}0"))
        for (dataset,) in names:
            with suppress(IntegrityError, UsageError):
                address = Address.parse(str(dataset or b"", "utf-8", "replace"))
                head = self.current_head(address)
                found += [head] if head is not None else []
        return found

    def last_heads(self, address: Address, most: int) -> list[Head]:
        """The last heads of a dataset, convicted ones among them, the last first."""
        condition = "where dataset = ? and not disowned order by sequence desc, envelope limit ?"
        return self._heads(condition, (str(address), most))

    def datasets(self) -> list[Address]:
        """Every dataset of which a head is known. Raises IntegrityError for a name that is damaged."""
        try:
            return [Address.parse(str(name, "utf-8")) for (name,) in self.execute(DATASETS)]
        except (UsageError, UnicodeDecodeError):
            raise IntegrityError("a head in the store is damaged") from None

    def all_heads(self) -> list[Head]:
        """Every head that is known, by address and sequence."""
        return self._heads("order by dataset, sequence, envelope", ())

    def set_held(self, head: Head) -> None:
        """Switch to a head all of whose dataset is here. Raises IntegrityError if it is disowned."""
        with self.transaction():
            self.put_head(head)
            if self.successions.disowns(head):
                raise IntegrityError(f"head {head.sequence} of {head.address} is signed with a key that was replaced")
            self.execute("insert or replace into held values (?, ?)", (str(head.address), head.envelope))

    def held_head(self, address: Address) -> Head | None:
        """The head all of whose dataset is here, of a dataset that is followed."""
        rows = self.execute("select cast(envelope as blob) from held where dataset = ?", (str(address),))
        with suppress(IntegrityError):  # what is damaged counts as missing, and is brought again
            return open_head(rows[0][0] or b"") if rows else None
        return None

    def is_held(self, address: Address) -> bool:
        """Whether a dataset that is followed was all here once; its head may have been damaged since."""
        return bool(self.execute("select 1 from held where dataset = ?", (str(address),)))

    def equivocation(self, address: Address) -> tuple[Head, Head] | None:
        """Two heads of one dataset that contradict each other, if any are known.

        They have one sequence and different manifests, or one of them is disowned by the other.
        """
        if not self.execute(CONTRADICTED, (str(address),)):
            return None
        rows = self._heads(
            "where dataset = ?1 and not disowned and sequence = (select max(sequence) from (select sequence from heads "
            "where dataset = ?1 and not disowned group by sequence having count(distinct manifest) > 1)) "
            "group by manifest limit 2",
            (str(address),),
        )
        if len(rows) == 2:
            return rows[0], rows[1]
        newest = self.newest_head(address)
        for head in self._heads("where dataset = ? and disowned limit 1", (str(address),)):
            if newest is not None and newest.contradicts(head):
                return newest, head
        return None

    def _heads(self, condition: str, values: tuple[Any, ...]) -> list[Head]:
        rows = self.execute(f"select {HEAD_COLUMNS} from heads {condition}", values)
        return [open_row(*row) for row in rows]

    # --- transactions ---

    def execute(self, statement: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """The rows of a statement of those who keep other things here. Raises StoreError."""
        try:  # as `_translated` does, which would take longer than most statements
            return list(self._db.execute(statement, values))
        except (apsw.Error, UnicodeDecodeError) as error:
            raise self._explain(error) from None

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, durable once left. Inside another one, part of it. Raises StoreError."""
        if self._is_changing:
            self._check_whole()
            yield
            return
        with self._translated():
            self._db.execute("begin immediate")
        self._is_changing = True
        self._with_new_heads.clear()
        try:
            yield
            self._check_whole()
            self.problem = ""
            with self._translated():
                self._db.execute("commit")
        except BaseException:
            self.forget_chunks()
            if self._in_transaction():
                with self._translated():
                    self._db.execute("rollback")
            raise
        finally:
            self._is_changing = False
        if self._with_new_heads:
            self.on_heads(frozenset(self._with_new_heads))

    def _check_whole(self) -> None:
        """Raise StoreError if SQLite has given up the transaction under way: what follows must not stand alone."""
        if not self._in_transaction():
            raise StoreError(f"the store in {self.folder} failed on the way; nothing was changed", hint=TRY_AGAIN)

    def forget_chunks(self) -> None:
        """Of those in memory: they may have been of a transaction that is not to be, or have been freed."""
        self._chunks.clear()
        self._chunk_bytes = 0

    def _write_back(self, db: apsw.Connection, name: str, pages: int) -> int:
        """Write a long log back. What was committed is safe whether this works or not."""
        if pages >= self._log_pages:
            try:
                db.wal_checkpoint()
            except apsw.Error as error:
                self._explain(error)
        return int(apsw.SQLITE_OK)

    def _in_transaction(self) -> bool:
        return bool(self._db.in_transaction)

    def _one(self, statement: str, values: tuple[Any, ...] = ()) -> Any:
        return self._db.execute(statement, values).fetchone()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """The database's errors as ours."""
        try:
            yield
        except (apsw.Error, UnicodeDecodeError) as error:
            raise self._explain(error) from None

    def _explain(self, error: apsw.Error | UnicodeDecodeError) -> StoreError:
        """What is wrong, in our words; noted if it is the disk's fault."""
        if isinstance(error, UnicodeDecodeError):
            error = apsw.CorruptError(f"text that is none: {error.reason}")
        found = explain(error, self._path)
        if not isinstance(error, (apsw.BusyError, apsw.LockedError)):
            self.problem = str(found)
        return found


def describe_missing(cid: Cid) -> str:
    """What to say of a block that is not here."""
    return f"block {format_cid(cid)} is not here"
