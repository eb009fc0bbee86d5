"""How much room a home may take, and what takes it.

The quota is for what is kept of others: what is followed, what is pinned, and what
queries leave. What is published here does not count. Blocks of the first two are
never freed for it, but no more of them are brought once they fill it.

What each takes is measured when the store is collected. In between, all that came is
taken to be of others, which the next collection puts right.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import astuple, dataclass

from rhizome_index.blocks import cbor
from rhizome_index.errors import IntegrityError, QuotaError
from rhizome_index.index.size import say_size
from rhizome_index.limits import QUOTA_BYTES_DEFAULT, QUOTA_GROWTH, QUOTA_SLACK, STORE_BYTES_EMPTY
from rhizome_index.node.disk import DiskStore

_QUOTA, _MEASURED, _CACHED = "quota", "measured", "cached bytes"
_NONE = -1  # a quota that is none


@dataclass(frozen=True, slots=True)
class Measured:
    """What a collection has left, and what it has freed.

    at_ms                          when it ended
    own, followed, pinned, cached  bytes of blocks, each counted once, for the first of these that needs it
    file_bytes                     of the store's file, that are in use
    quota                          that held then; None: there was none
    freed_blocks, freed_bytes      that nothing needed
    evicted_blocks, evicted_bytes  that only queries had left
    took_ms                        how long it took
    """

    at_ms: int = 0
    own: int = 0
    followed: int = 0
    pinned: int = 0
    cached: int = 0
    file_bytes: int = 0
    quota: int | None = None
    freed_blocks: int = 0
    freed_bytes: int = 0
    evicted_blocks: int = 0
    evicted_bytes: int = 0
    took_ms: int = 0

    @property
    def blocks_bytes(self) -> int:
        return self.own + self.followed + self.pinned + self.cached

    @property
    def ratio(self) -> float:
        """What a byte of blocks takes in the file."""
        return _ratio(self.file_bytes, self.blocks_bytes)

    def encode(self) -> bytes:
        return cbor.encode(list(astuple(self)))

    @classmethod
    def decode(cls, data: bytes) -> Measured:
        """Raises IntegrityError."""
        fields = cbor.decode(data)
        if type(fields) is not list or len(fields) != len(cls.__dataclass_fields__):
            raise IntegrityError("a measure that is none")
        if not all(type(field) is int or field is None for field in fields):
            raise IntegrityError("a measure that is none")
        return cls(*fields)


def _ratio(file_bytes: int, blocks_bytes: int) -> float:
    return max(1.0, (file_bytes - STORE_BYTES_EMPTY) / blocks_bytes) if blocks_bytes else 1.0


class Room:
    """The room that one store has and takes."""

    def __init__(self, store: DiskStore) -> None:
        self._store = store

    @property
    def quota(self) -> int | None:
        """In bytes; None: there is none. Raises StoreError."""
        rows = self._store.execute("select cast(value as integer) from settings where name = ?", (_QUOTA,))
        found = int(rows[0][0]) if rows else QUOTA_BYTES_DEFAULT
        return None if found == _NONE else found

    @quota.setter
    def quota(self, quota: int | None) -> None:
        value = _NONE if quota is None else quota
        with self._store.transaction():
            self._store.execute("insert or replace into settings values (?, ?)", (_QUOTA, value))

    @property
    def measured(self) -> Measured | None:
        """What the last collection has left. Raises StoreError."""
        rows = self._store.execute("select cast(value as blob) from settings where name = ?", (_MEASURED,))
        with suppress(IntegrityError):  # damaged: the next one tells
            return Measured.decode(rows[0][0] or b"") if rows else None
        return None

    @measured.setter
    def measured(self, measured: Measured) -> None:
        with self._store.transaction():
            self._store.execute("insert or replace into settings values (?, ?)", (_MEASURED, measured.encode()))

    @property
    def cached_bytes(self) -> int:
        """Of blocks that queries have left, as far as nothing else needs them by now. Raises StoreError."""
        rows = self._store.execute("select cast(value as integer) from settings where name = ?", (_CACHED,))
        return int(rows[0][0]) if rows else 0

    def add_cached(self, change: int) -> None:
        """So many bytes more or less have been left. Raises StoreError."""
        if change:
            self._store.execute(
                "insert into settings values (?1, max(0, ?2)) on conflict do update set value = max(0, value + ?2)",
                (_CACHED, change),
            )

    def file_bytes(self) -> int:
        """Of the store's file, that are in use."""
        pages, free, size = (
            int(self._store.execute(f"pragma {name}")[0][0]) for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size

    def others_bytes(self, own: int | None = None) -> int:
        """What is kept of others takes in the file, as far as it is known: it may be less.

        own  bytes of blocks that are ours; None: as the last collection has found it
        """
        measured = self.measured or Measured()
        own = measured.own if own is None else own
        return max(0, self.file_bytes() - STORE_BYTES_EMPTY - int(own * measured.ratio))

    def cache_max(self, of_others: int, blocks_bytes: int) -> int | None:
        """Bytes of blocks that queries may leave beside those that are kept of others; None: any number.

        blocks_bytes  of all blocks that are in the file now
        """
        if self.quota is None:
            return None
        return max(0, int(self.quota / _ratio(self.file_bytes(), blocks_bytes)) - of_others)

    def should_collect(self) -> bool:
        """Whether more is kept of others than may be, and more than a collection has left."""
        quota, last = self.quota, self.measured
        if quota is None or self.others_bytes() <= quota:
            return False
        return last is None or last.quota != quota or self.file_bytes() - last.file_bytes > quota * QUOTA_GROWTH

    def takes_more(self) -> bool:
        """Whether queries may leave more: somewhat beyond the quota, for it takes a moment to make room."""
        quota = self.quota
        return quota is None or self.others_bytes() <= quota * (1 + QUOTA_SLACK)

    def check(self, needs: Callable[[], str] = str) -> None:
        """Raise QuotaError if there is no room for more of what is followed or pinned.

        needs  says, if it is asked, what there should be room for
        """
        quota = self.quota
        if quota is not None and (kept := self._kept_bytes(quota)) > quota:
            wanted = f"; {text}" if (text := needs()) else ""
            raise QuotaError(
                f"what is kept of others takes {say_size(kept)} of the store's file, "
                f"more than the quota of {say_size(quota)}{wanted}",
                hint=self._ways_out(),
            )

    def left_bytes(self) -> float:
        """Bytes of blocks for which there is room, of what is to stay; infinite where there is no quota."""
        quota = self.quota
        ratio = (self.measured or Measured()).ratio
        return math.inf if quota is None else max(0, quota - self._kept_bytes(0)) / ratio

    def refuse(self, what: str, needed: int, left: int) -> QuotaError:
        """The error of something for which there is no room. Sizes are bytes of blocks."""
        return QuotaError(
            f"{what} needs {say_size(needed)} of the room for what is kept of others, "
            f"and the quota of {say_size(self.quota or 0)} leaves {say_size(left)}",
            hint=self._ways_out(),
        )

    def _kept_bytes(self, enough: int) -> int:
        """What is kept of others in the file, without what can be freed unless there is enough room anyway."""
        others = self.others_bytes()
        return others if others <= enough else others - int(self.cached_bytes * (self.measured or Measured()).ratio)

    def _ways_out(self) -> str:
        """What whoever needs room can do, of what there is."""
        ways = {"unfollow": "held", "unpin": "pins"}
        words = [word for word, table in ways.items() if self._store.execute(f"select 1 from {table} limit 1")]
        free = f"{' or '.join(words)} something and free it" if words else "free what nothing needs"
        return f"allow more: rhizome quota SIZE; or {free}: rhizome gc"
