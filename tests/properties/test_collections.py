"""A collection is what its records make it, however it came about; and each index follows from the primary alone."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import strategies as st
from pyrsistent import pmap

from rhizome_index.blocks.store import MemoryStore
from rhizome_index.index.record import encode_record
from rhizome_index.index.schema import Collection
from rhizome_index.index.write import add_index, rebuild
from rhizome_index.query.answer import Answer
from rhizome_index.query.expr import Query
from rhizome_index.query.parse import parse_index
from rhizome_index.query.plan import candidates
from rhizome_index.tree.cursor import Cursor
from tests.driving import MemorySource, answer_directly, gather
from tests.properties import records as made
from tests.properties.effort import quickly, thoroughly

SEEDS = st.integers(0, 2**32)


def some_changes(random_: random.Random, records: made.Records, size: int) -> dict[bytes, made.Record | None]:
    """Puts of new records, puts over old ones (perhaps the same again), deletes, and deletes of nothing."""
    changes: dict[bytes, made.Record | None] = dict(made.some_records(random_, size))
    for key in random_.sample(sorted(records), min(len(records), size)):
        changes[key] = random_.choice([None, records[key], made.a_record(random_, records[key]["id"])])
    for key in list(changes):
        if random_.random() < 0.15:
            changes[key] = None
    return changes


def check_histories(seed: int) -> None:
    random_ = random.Random(seed)
    empty = made.an_empty_collection(random_)
    source, collection = MemorySource(MemoryStore()), empty
    records: made.Records = {}
    for _ in range(random_.choice([1, 2, 5])):
        changes = some_changes(random_, records, random_.choice([0, 1, 1, 5, 60]))
        collection = made.changed(source, collection, changes)
        for key, record in changes.items():
            records.pop(key, None)
            if record is not None:
                records[key] = record
        assert collection == made.built(empty, records)[1]
    assert source.run(rebuild(made.RULE, collection, lambda cid, data: None)) == collection
    entries = source.run(gather(Cursor(collection.primary)))
    assert [key for key, _ in entries] == sorted(records)
    emptied = made.changed(source, collection, dict.fromkeys(records))
    assert emptied == made.changed(source, empty, {})


def check_late_indexes(seed: int) -> None:
    """An index added to records is the index that would have grown with them."""
    random_ = random.Random(seed)
    records = made.some_records(random_, random_.choice([0, 1, 40]))
    whole = made.an_empty_collection(random_, len(made.INDEXES + made.SPECIAL))
    source, grown = made.built(whole, records)
    bare = Collection(whole.name, whole.key, whole.time, whole.order, whole.primary, pmap())
    collection = made.changed(source, bare, dict(records))
    for text in made.INDEXES + made.SPECIAL:
        name, definition = parse_index(text)
        collection = source.run(add_index(made.RULE, collection, name, definition, source.store.blocks.__setitem__))
    assert collection == grown


def check_bits(seed: int) -> None:
    """Two collections that answer everything alike are one: their roots are equal exactly if their records are."""
    random_ = random.Random(seed)
    records = made.some_records(random_, 6)
    _, one = made.built(made.an_empty_collection(random_, 2), records)
    key = random_.choice(sorted(records))
    other: made.Records = {**records, key: made.a_record(random_, records[key]["id"])}
    _, two = made.built(Collection(one.name, one.key, one.time, one.order, EMPTY, pmap()), other)
    assert (one.primary == two.primary) == (encode_record(records[key]) == encode_record(other[key]))


EMPTY: Any = made.an_empty_collection(random.Random(0), 0).primary

test_histories = quickly(check_histories, SEEDS)
test_many_histories = thoroughly(check_histories, SEEDS, cases=3000)
test_late_indexes = quickly(check_late_indexes, SEEDS, cases=50)
test_many_late_indexes = thoroughly(check_late_indexes, SEEDS, cases=1000)
test_equal_roots_are_equal_records = quickly(check_bits, SEEDS)
test_many_equal_roots_are_equal_records = thoroughly(check_bits, SEEDS)


def test_a_large_history_in_batches_of_all_sizes() -> None:
    """Several levels, with records inside of leaves and in blocks of their own."""
    random_ = random.Random(11)
    empty = made.an_empty_collection(random_, 3)
    records = made.some_records(random_, 300)
    source, collection = MemorySource(MemoryStore()), empty
    left = list(records)
    random_.shuffle(left)
    while left:
        size = random_.choice([1, 7, 100])
        batch, left = left[:size], left[size:]
        collection = made.changed(source, collection, {key: records[key] for key in batch})
    assert collection == made.built(empty, records)[1]
    query = Query("things")
    rows, _ = answer_directly(Answer(query, collection, candidates(query, collection)[-1]), source)
    assert sorted(row.key for row in rows) == sorted(records)
