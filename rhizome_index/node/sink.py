"""Blocks on their way to the store, written many at a time."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress

from rhizome_index.blocks.cid import Cid
from rhizome_index.errors import RhizomeError
from rhizome_index.limits import BUFFERED_BLOCK_BYTES
from rhizome_index.node.disk import DiskStore


class BlockBuffer:
    """Takes blocks and writes them in batches: those that are left, when its `with` block is left, however.

    waiting  blocks that have not been written yet, for those who read what they wrote
    """

    def __init__(self, store: DiskStore) -> None:
        self._store = store
        self._bytes = 0
        self.waiting: dict[Cid, bytes] = {}

    def add(self, cid: Cid, data: bytes) -> None:
        self.waiting[cid] = data
        self._bytes += len(data)
        if self._bytes >= BUFFERED_BLOCK_BYTES:
            self.flush()

    def extend(self, blocks: Iterable[tuple[Cid, bytes]]) -> None:
        for cid, data in blocks:
            self.add(cid, data)

    def flush(self) -> None:
        self._store.put_many(self.waiting.items())
        self.waiting.clear()
        self._bytes = 0

    def __enter__(self) -> BlockBuffer:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        with nullcontext() if error is None else suppress(RhizomeError):  # the first error says more
            self.flush()


@contextmanager
def without_collecting() -> Iterator[None]:
    """No cyclic garbage collection: much work on records makes millions of small objects and no cycles."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
