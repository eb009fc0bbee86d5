"""What is needed of a store, noted in a temporary file of SQLite's that goes with the process.

A mark says for whose sake a block is needed: the least kind counts, since what our own
data need is not the less ours because somebody else's do, too.
"""

from __future__ import annotations

import apsw

from rhizome_index.blocks.cid import digest_of
from rhizome_index.errors import StoreError
from rhizome_index.node.digests import open_temporary
from rhizome_index.node.reach import Place
from rhizome_index.node.sqlite import TRY_AGAIN
from rhizome_index.node.uses import Kind


class Marks:
    """Places that are needed, and of what kind their need is."""

    def __init__(self) -> None:
        self._db = open_temporary(
            "create table marks (digest blob, place text, is_whole int, kind int, "
            "primary key (digest, place, is_whole)) without rowid"
        )

    def add(self, place: Place, kind: Kind, *, is_whole: bool) -> bool:
        """Whether it is a new one, or of a lesser kind than before. Raises StoreError."""
        try:
            self._db.execute(
                "insert into marks values (?, ?, ?, ?) on conflict do update set kind = excluded.kind "
                "where excluded.kind < kind",
                (digest_of(place.cid), place.kind, is_whole, kind),
            )
        except apsw.Error as error:
            raise StoreError(f"no room to note what is needed: {error}", hint=TRY_AGAIN) from None
        return bool(self._db.changes())

    def kind_of(self, digest: bytes) -> Kind | None:
        """The least kind of need there is for a block, or None."""
        (kind,) = self._db.execute("select min(kind) from marks where digest = ?", (digest,)).fetchone() or (None,)
        return None if kind is None else Kind(kind)

    def close(self) -> None:
        self._db.close()
