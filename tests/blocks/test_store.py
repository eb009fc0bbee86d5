"""What every block store promises, checked on the simplest one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rhizome_index.blocks.cid import Cid, cid_of
from rhizome_index.blocks.store import BlockStore, MemoryStore
from rhizome_index.errors import IntegrityError

BLOCKS = [(cid_of(data), data) for data in (b"", b"one", b"two" * 1000)]


def check_block_store(store: BlockStore) -> None:
    """The promises of BlockStore, for any implementation of it that is empty."""
    for cid, _ in BLOCKS:
        assert store.get(cid) is None and not store.has(cid)
    store.put_many(BLOCKS[:2])
    store.put_many([])
    store.put_many(BLOCKS)
    for cid, data in BLOCKS:
        assert store.get(cid) == data and store.has(cid)


def test_memory() -> None:
    check_block_store(MemoryStore())


def test_a_batch_that_fails_leaves_nothing() -> None:
    def failing() -> Iterator[tuple[Cid, bytes]]:
        yield BLOCKS[0]
        raise OSError("gone")

    store = MemoryStore()
    with pytest.raises(OSError, match="gone"):
        store.put_many(failing())
    assert not store.has(BLOCKS[0][0])


def test_a_block_that_does_not_match_its_name_is_never_given() -> None:
    store = MemoryStore()
    store.put_many([(BLOCKS[0][0], b"something else")])
    with pytest.raises(IntegrityError):
        store.get(BLOCKS[0][0])
