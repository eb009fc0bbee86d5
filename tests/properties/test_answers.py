"""Any query over any records: all ways to answer it give the oracle's rows, in pages, in parts, and from a proof."""

from __future__ import annotations

import random

from hypothesis import strategies as st

from rhizome_index.blocks.cid import cid_of
from rhizome_index.index.schema import Collection
from rhizome_index.query.answer import Answer, Cursor
from rhizome_index.query.choose import choose
from rhizome_index.query.combine import Choice, all_candidates, find_candidate
from rhizome_index.query.expr import COUNT, ROWS, Query, decode_query, encode_query
from rhizome_index.query.found import Found
from rhizome_index.query.plan import decode_plan, encode_plan
from rhizome_index.query.proof import record
from rhizome_index.query.rows import Row
from tests.driving import MemorySource, answer_directly, replay
from tests.properties import records as made
from tests.properties.effort import quickly, thoroughly
from tests.query.oracle import in_order, meets, result

MANIFEST = cid_of(b"manifest")


def wanted_rows(query: Query, collection: Collection, records: made.Records) -> list[made.Record]:
    found = [record for record in records.values() if meets(record, query.where)]
    if query.order in ("newest", "oldest"):
        terms = [("n", query.order == "newest")]
    else:
        paths = query.order if isinstance(query.order, tuple) else collection.order
        terms = [(path.path, path.descending) for path in paths]
    if collection.key in (names := [path for path, _ in terms]):
        terms = terms[: names.index(collection.key) + 1]
    return in_order(found, terms)


def answer_in_parts(answer: Answer, source: MemorySource, random_: random.Random) -> list[Row]:
    """As over a network: a walk is left where it stands and another goes on behind it."""
    rows: list[Row] = []
    while not answer.is_complete:
        steps = random_.choice([1, 1, 2, 5])
        for step in record(answer.next_walk(), source):
            if isinstance(step, Found):
                answer.take(step)
                rows += answer.rows()
                steps -= 1
                if not steps:
                    break
            elif not isinstance(step, tuple):
                answer.finish(step)
    return rows + list(answer.rows())


def in_pages(query: Query, collection: Collection, candidate: Choice, source: MemorySource) -> list[made.Record]:
    found: list[made.Record] = []
    cursor: Cursor | None = None
    while True:
        answer = Answer(query, collection, candidate, cursor)
        rows, _ = answer_directly(answer, source)
        found += [row.record for row in rows]
        cursor = answer.cursor(MANIFEST, rows[-1] if rows else None)
        if cursor is None:
            return found
        cursor = Cursor.parse(str(cursor), query)
        assert cursor.manifest == MANIFEST


def check_answers(seed: int) -> None:
    """Four queries over some records under some indexes."""
    random_ = random.Random(seed)
    records = made.some_records(random_, random_.choice([0, 3, 30, 30, 90]))
    source, collection = made.built(made.an_empty_collection(random_), records)
    for number in range(4):
        query = made.a_query(random_) if number < 3 else made.a_combined_query(random_)
        check_query(query, collection, source, records, random_)


def check_query(
    query: Query, collection: Collection, source: MemorySource, records: made.Records, random_: random.Random
) -> int:
    """As `tests.query.cases.check_query`, and in parts."""
    assert decode_query(encode_query(query)) == query
    wanted = wanted_rows(query, collection, records)
    expected = [] if query.kind == COUNT else result(query, wanted)
    found = all_candidates(query, collection)
    assert source.run(choose(query, collection, allow_scan=True)).candidate in found
    for candidate in found:
        assert find_candidate(query, collection, decode_plan(encode_plan(candidate.plan))) == candidate
        answer = Answer(query, collection, candidate)
        rows, blocks = answer_directly(answer, source)
        again = Answer(query, collection, candidate)
        assert replay(again, [data for _, data in blocks]) == rows and again.count == answer.count
        parts = Answer(query, collection, candidate)
        assert answer_in_parts(parts, source, random_) == rows and parts.count == answer.count
        if query.kind == COUNT:
            assert answer.count == len(wanted), (query, candidate)
            continue
        assert [row.record for row in rows] == expected[: query.limit], (query, candidate)
        if query.limit and query.kind == ROWS:
            assert in_pages(query, collection, candidate, source) == expected, (query, candidate)
    return len(found)


SEEDS = st.integers(0, 2**32)
test_answers_are_the_oracles = quickly(check_answers, SEEDS, cases=60)
test_many_answers_are_the_oracles = thoroughly(check_answers, SEEDS, cases=3000)


def test_an_index_that_names_the_primary_key_twice_has_other_tails() -> None:
    """Found by generation: n,-id ends with the key twice, so it cannot be intersected with an index that does not."""
    check_answers(29187745)
