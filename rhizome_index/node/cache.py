"""What queries leave in a store: blocks that can be had again, the least recently used of which go first.

Promises: a block is noted as left by a query only if it came by one; whether something
else needs it by now is for `collect` to find out. Uses are noted many at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

from rhizome_index.blocks.cid import Cid, digest_of
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.room import Room

Use = tuple[int, bytes]  # when, as a number that rises, and the digest of the block that was used


class Cache:
    """The part of a store that queries have left."""

    def __init__(self, store: DiskStore) -> None:
        self._store = store
        self._room = Room(store)

    def put(self, blocks: Sequence[tuple[Cid, bytes]]) -> bool:
        """Keep blocks that have come for a query, unless there is no room for them; whether they are kept.

        Raises StoreError.
        """
        if not self._room.takes_more():
            return False
        with self._store.transaction():
            now = self._next_use()
            fresh = {cid: len(data) for cid, data in blocks if not self._store.is_here(cid)}
            self._store.put_many(blocks)
            for cid, size in fresh.items():
                self._store.execute("insert or ignore into cached values (?, ?, ?)", (digest_of(cid), size, now))
            self._room.add_cached(sum(fresh.values()))
            self.note_uses()
        return True

    def note_uses(self) -> None:
        """What was read since the last time is newer than all before. Raises StoreError."""
        used = self._store.uses.take()
        if not used or not self._store.execute("select 1 from cached limit 1"):
            return
        with self._store.transaction():
            now = self._next_use()
            for cid in used:
                self._store.execute("update cached set used = ? where digest = ?", (now, digest_of(cid)))

    def add(self, digest: bytes, size: int) -> None:
        """A block that nothing else needs any more: as if it had been used before all others."""
        if self._store.execute("insert or ignore into cached values (?, ?, 0) returning 1", (digest, size)):
            self._room.add_cached(size)

    def forget(self, digest: bytes) -> None:
        """Something else needs the block, or it is gone."""
        rows = self._store.execute("delete from cached where digest = ? returning bytes", (digest,))
        self._room.add_cached(-sum(size for (size,) in rows))

    def oldest(self, last: Use, most: int) -> list[Use]:
        """What was used the longest ago, behind that one."""
        return [
            (used, digest)
            for used, digest in self._store.execute(
                "select used, digest from cached where (used, digest) > (?, ?) order by used, digest limit ?",
                (*last, most),
            )
        ]

    def _next_use(self) -> int:
        (last,) = self._store.execute("select coalesce(max(used), 0) from cached")[0]
        return int(last) + 1
