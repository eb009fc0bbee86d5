"""What a place for blocks must do, and the simplest one that does.

A store never returns bytes that do not match their name, and never holds part
of a batch. It does not know what blocks contain.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from rhizome_index.blocks.cid import Cid, check_block


class BlockStore(Protocol):
    """Blocks by name."""

    def get(self, cid: Cid) -> bytes | None:
        """The block's bytes, checked against its name, or None if it is not here."""

    def put_many(self, blocks: Iterable[tuple[Cid, bytes]]) -> None:
        """Keep all of these blocks or, if anything fails, none. The caller has named them rightly."""

    def has(self, cid: Cid) -> bool:
        """Whether the block is here, without reading it."""


class MemoryStore:
    """Blocks in a dict."""

    def __init__(self) -> None:
        self.blocks: dict[Cid, bytes] = {}

    def get(self, cid: Cid) -> bytes | None:
        data = self.blocks.get(cid)
        if data is not None:
            check_block(cid, data)
        return data

    def put_many(self, blocks: Iterable[tuple[Cid, bytes]]) -> None:
        self.blocks.update(list(blocks))

    def has(self, cid: Cid) -> bool:
        return cid in self.blocks
