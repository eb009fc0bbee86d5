"""Where records stand, and how many indexes a collection takes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pyrsistent import pmap

from rhizome_index.blocks import cbor
from rhizome_index.blocks.cid import cid_of
from rhizome_index.blocks.store import MemoryStore
from rhizome_index.errors import UsageError
from rhizome_index.index.record import encode_record
from rhizome_index.index.schema import Collection, Definition
from rhizome_index.index.write import add_index, apply_changes
from rhizome_index.limits import INDEXES_MAX, INLINE_VALUE_BYTES_MAX
from rhizome_index.tree.boundary import Rule
from rhizome_index.tree.cursor import get
from rhizome_index.tree.node import EMPTY_CHUNK, EMPTY_TREE
from tests.driving import MemorySource

RULE = Rule(b"write")
EMPTY = Collection("things", "id", None, (), EMPTY_TREE, pmap())


@pytest.mark.parametrize("there", [b"", b"\x01"])
def test_a_record_stands_in_its_leaf_up_to_the_limit_and_beyond_by_itself(there: bytes) -> None:
    """In a new tree and in an old one."""
    source = MemorySource(MemoryStore())
    keep = source.store.blocks.__setitem__
    collection = source.run(apply_changes(RULE, EMPTY, [(there, encode_record({}))] if there else [], keep))
    inside = encode_record({"t": "x" * (INLINE_VALUE_BYTES_MAX - 6)})
    outside = encode_record({"t": "x" * (INLINE_VALUE_BYTES_MAX - 5)})
    assert (len(inside), len(outside)) == (INLINE_VALUE_BYTES_MAX, INLINE_VALUE_BYTES_MAX + 1)
    collection = source.run(apply_changes(RULE, collection, [(b"a", inside), (b"b", outside)], keep))
    values = [source.run(get(collection.primary, key)) for key in (b"a", b"b")]
    assert values == [inside, cbor.Link(cid_of(outside))]
    assert cid_of(inside) not in source.store.blocks and source.store.blocks[cid_of(outside)] == outside


def test_indexes_at_the_limit_and_one_past_it() -> None:
    source = MemorySource(MemoryStore())
    keep = source.store.blocks.__setitem__
    keep(cid_of(EMPTY_CHUNK), EMPTY_CHUNK)
    collection = EMPTY
    for number in range(INDEXES_MAX):
        collection = source.run(add_index(RULE, collection, f"i{number}", Definition.over("n"), keep))
    assert len(collection.indexes) == INDEXES_MAX
    with pytest.raises(UsageError, match=f"at most {INDEXES_MAX} indexes"):
        source.run(add_index(RULE, collection, "one-more", Definition.over("n"), keep))
    fewer = replace(collection, indexes=collection.indexes.remove("i3"))
    assert len(source.run(add_index(RULE, fewer, "one-more", Definition.over("n"), keep)).indexes) == INDEXES_MAX
