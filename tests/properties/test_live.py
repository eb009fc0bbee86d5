"""A query that stays open has the oracle's rows after every change, says what changed, and reads what differs alone."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import strategies as st

from rhizome_index.blocks import cbor
from rhizome_index.blocks.store import MemoryStore
from rhizome_index.errors import UnavailableError, UsageError
from rhizome_index.index.condition import Compare
from rhizome_index.index.schema import Collection, primary_key
from rhizome_index.query.choose import choose
from rhizome_index.query.combine import all_candidates
from rhizome_index.query.expr import COUNT, Query
from rhizome_index.query.live import ADDED, CHANGED, REMOVED, Change, Live
from tests.driving import MemorySource
from tests.properties import records as made
from tests.properties.effort import quickly, thoroughly
from tests.properties.test_answers import wanted_rows
from tests.properties.test_collections import some_changes
from tests.query.oracle import result


def expected_changes(query: Query, before: list[made.Record], after: list[made.Record]) -> Counter[bytes]:
    """By the primary keys of whole records, whatever of them is selected."""
    (was, now) = (
        {primary_key(record, ("id",)): row for record, row in zip(records, result(query, records), strict=True)}
        for records in (before, after)
    )
    found = [[REMOVED, row] for key, row in was.items() if key not in now]
    found += [[ADDED, row] for key, row in now.items() if key not in was]
    found += [[CHANGED, row] for key, row in now.items() if key in was and cbor.encode(was[key]) != cbor.encode(row)]
    return Counter(map(cbor.encode, found))


def said(changes: list[Change]) -> Counter[bytes]:
    return Counter(cbor.encode([change.kind, change.record]) for change in changes)


def go_on(live: Live, source: MemorySource, collection: Collection) -> list[Change]:
    """To another state, whatever indexes it has."""
    changes: list[Change] | None = source.run(live.advance(collection))
    if changes is None:
        chosen = source.run(choose(live.asked, collection, allow_scan=True))
        changes = source.run(live.begin(collection, chosen.candidate))
    assert changes is not None
    return changes


def check_lives(seed: int) -> None:
    random_ = random.Random(seed)
    records = made.some_records(random_, random_.choice([0, 3, 30, 90]))
    source, collection = made.built(made.an_empty_collection(random_), records)
    query = made.a_query(random_) if random_.random() < 0.7 else made.a_combined_query(random_)
    if query.is_grouped:
        with pytest.raises(UsageError):
            Live(query)
        return
    lives = []
    for candidate in all_candidates(Live(query).asked, collection):
        live = Live(query)
        changes = source.run(live.begin(collection, candidate))
        assert [change.record for change in changes] == live.rows
        lives.append(live)
    before: list[made.Record] = wanted_rows(query, collection, records)
    for size in (0, 1, 1, 3, 9, 1, len(records), 1, 2):
        edits = some_changes(random_, records, size)
        records = {key: record for key, record in {**records, **edits}.items() if record is not None}
        collection = made.changed(source, collection, edits)
        after = wanted_rows(query, collection, records)
        for live in lives:
            changed = said(go_on(live, source, collection))
            if query.kind == COUNT:
                assert live.count == len(after) and not changed, query
                continue
            assert live.rows == result(query, after)[: query.limit], query
            limit = query.limit
            assert changed == expected_changes(query, before[:limit], after[:limit]), query
        before = after


SEEDS = st.integers(0, 2**32)
test_lives_are_the_oracles = quickly(check_lives, SEEDS, cases=60)
test_many_lives_are_the_oracles = thoroughly(check_lives, SEEDS, cases=3000)


class Counting(MemorySource):
    """Says how many blocks are read, and can lose them."""

    reads = 0
    is_lost = False

    def block(self, cid: bytes) -> bytes:
        self.reads += 1
        if self.is_lost:
            raise UnavailableError("lost")
        return super().block(cid)


def posts(source: MemorySource, count: int) -> Collection:
    empty = made.an_empty_collection(random.Random(1), 1, ["by_tag=tags,-n"])
    records = [{"id": number, "n": number, "tags": [f"t{number % 20}"]} for number in range(count)]
    return made.changed(source, empty, {primary_key(record, ("id",)): record for record in records})


def begun(source: MemorySource, collection: Collection, query: Query) -> Live:
    live = Live(query)
    chosen = source.run(choose(live.asked, collection, allow_scan=True))
    source.run(live.begin(collection, chosen.candidate))
    return live


def test_what_did_not_change_is_not_read() -> None:
    source = Counting(MemoryStore())
    collection = posts(source, 20_000)
    live = begun(source, collection, Query("things", Compare("=", "tags", "t7"), "newest", 32))
    edits = {primary_key({"id": number}, ("id",)): None for number in range(0, 2000, 20)}
    edits |= {primary_key(record, ("id",)): record for record in [{"id": -1, "n": 10**6, "tags": ["t7"]}]}
    changed = made.changed(source, collection, edits)
    source.reads = 0
    changes = source.run(live.advance(changed))
    assert [(change.kind, change.record["id"]) for change in changes] == [(REMOVED, 19367), (ADDED, -1)]
    assert source.reads * 20 < len(source.store.blocks)


def test_a_walk_that_fails_changes_nothing() -> None:
    source = Counting(MemoryStore())
    collection = posts(source, 500)
    live = begun(source, collection, Query("things", Compare("=", "tags", "t7"), "newest", 3))
    rows = live.rows
    changed = made.changed(source, collection, {primary_key(rows[0], ("id",)): None})
    source.is_lost = True
    with pytest.raises(UnavailableError):
        source.run(live.advance(changed))
    assert live.rows == rows
    source.is_lost = False
    assert [change.kind for change in source.run(live.advance(changed))] == [REMOVED, ADDED]
    assert live.rows[:2] == rows[1:]


def test_an_answer_of_more_rows_than_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rhizome_index.query.live.LIVE_ROWS_MAX", 10)
    source = MemorySource(MemoryStore())
    collection = posts(source, 200)
    live = begun(source, collection, Query("things", Compare("=", "tags", "t7")))
    assert len(live.rows) == 10
    more = made.changed(source, collection, {primary_key({"id": 0}, ("id",)): {"id": 0, "tags": ["t7"]}})
    with pytest.raises(UsageError, match="watched"):
        source.run(live.advance(more))
    with pytest.raises(UsageError, match="watched"):
        begun(source, collection, Query("things", Compare(">", "tags", "t7")))


@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_what_comes_behind_the_last_row_is_not_taken_for_the_next(order: str) -> None:
    source = MemorySource(MemoryStore())
    collection = posts(source, 500)
    live = begun(source, collection, Query("things", Compare("=", "tags", "t7"), order, 3))
    first, *_, last = live.rows
    far = {"id": "far", "n": -1 if order == "newest" else 10**6, "tags": ["t7"]}
    edits = {primary_key(first, ("id",)): None, primary_key(far, ("id",)): far}
    changes = source.run(live.advance(made.changed(source, collection, edits)))
    step = -20 if order == "newest" else 20
    assert said(changes) == said([Change(REMOVED, first), Change(ADDED, live.rows[-1])])
    assert live.rows[-1]["id"] == last["id"] + step
