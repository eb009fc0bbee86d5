"""Sets of blocks that may be larger than memory: what is too much for it goes to a temporary file of SQLite's."""

from __future__ import annotations

from collections.abc import Collection

import apsw

from rhizome_index.blocks.cid import Cid
from rhizome_index.errors import StoreError
from rhizome_index.node.sqlite import TRY_AGAIN


def open_temporary(schema: str) -> apsw.Connection:
    """A database that goes with the process."""
    found = apsw.Connection("")
    found.execute("pragma journal_mode = off; pragma synchronous = off; pragma cache_size = -4000")
    found.execute(schema)
    found.execute("begin")
    return found


class Digests:
    """A set of blocks, the first of which stay in memory."""

    def __init__(self, in_memory_max: int) -> None:
        self._most = in_memory_max
        self._few: set[Cid] = set()
        self._db: apsw.Connection | None = None

    def update(self, cids: Collection[Cid]) -> None:
        """Raises StoreError."""
        self._few.update(cids)
        if len(self._few) <= self._most:
            return
        try:
            if self._db is None:
                self._db = open_temporary("create table digests (digest blob primary key) without rowid")
            self._db.executemany("insert or ignore into digests values (?)", ((cid,) for cid in self._few))
        except apsw.Error as error:
            raise StoreError(f"no room to note what is in use: {error}", hint=TRY_AGAIN) from None
        self._few.clear()

    def __contains__(self, cid: Cid) -> bool:
        if cid in self._few:
            return True
        return self._db is not None and bool(
            self._db.execute("select 1 from digests where digest = ?", (cid,)).fetchone()
        )

    def clear(self) -> None:
        self._few.clear()
        if self._db is not None:
            self._db.close()
            self._db = None
