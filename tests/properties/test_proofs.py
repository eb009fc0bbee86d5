"""Proofs: good for one query, one plan and one head, whole and unchanged; anything else is refused."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import strategies as st

from rhizome_index.blocks.cid import check_block
from rhizome_index.errors import IntegrityError
from rhizome_index.index.condition import And, Compare
from rhizome_index.index.schema import Collection
from rhizome_index.query.answer import Answer
from rhizome_index.query.combine import Choice, all_candidates
from rhizome_index.query.expr import Query
from tests.driving import MemorySource, answer_directly, replay
from tests.properties import records as made
from tests.properties.effort import quickly, thoroughly


def a_proof(source: MemorySource, query: Query, collection: Collection, candidate: Choice) -> list[bytes]:
    _, blocks = answer_directly(Answer(query, collection, candidate), source)
    for cid, data in blocks:
        check_block(cid, data)
    return [data for _, data in blocks]


def damaged(random_: random.Random, blocks: list[bytes]) -> Iterator[list[bytes]]:
    """A proof with one block dropped, repeated, swapped, shorter, longer or changed in a bit, or one too many."""
    for place, block in enumerate(blocks):
        before, behind = blocks[:place], blocks[place + 1 :]
        yield before
        yield before + behind
        yield [*before, block, block, *behind]
        yield [*before, block[:-1], *behind]
        yield [*before, block + b"\0", *behind]
        yield [*before, b"", *behind]
        changed = bytearray(block)
        changed[random_.randrange(len(block))] ^= 1 << random_.randrange(8)
        yield [*before, bytes(changed), *behind]
        if behind:
            yield [*before, behind[0], block, *behind[1:]]
    yield [*blocks, b""]
    yield [*blocks, random_.choice(blocks) if blocks else b"\xa0"]


def check_damage(seed: int) -> None:
    random_ = random.Random(seed)
    records = made.some_records(random_, random_.choice([1, 10, 60]))
    source, collection = made.built(made.an_empty_collection(random_, 3), records)
    query = random_.choice([made.a_query, made.a_combined_query])(random_)
    for candidate in all_candidates(query, collection):
        blocks = a_proof(source, query, collection, candidate)
        for wrong in damaged(random_, blocks):
            with pytest.raises(IntegrityError):
                replay(Answer(query, collection, candidate), wrong)


def check_other_heads(seed: int) -> None:
    """A proof taken before one record changed proves nothing of what is there now, if it read anything that did."""
    random_ = random.Random(seed)
    records = made.some_records(random_, 40)
    source, collection = made.built(made.an_empty_collection(random_, 2), records)
    key = random_.choice(sorted(records))
    now = made.changed(source, collection, {key: random_.choice([None, made.a_record(random_, records[key]["id"])])})
    query = random_.choice([made.a_query, made.a_combined_query])(random_)
    for was, is_ in ((collection, now), (now, collection)):
        later = {candidate.plan: candidate for candidate in all_candidates(query, is_)}
        for candidate in all_candidates(query, was):
            if candidate.plan not in later or not candidate.parts[0].tree.count:
                continue
            blocks = a_proof(source, query, was, candidate)
            if blocks and _roots(later[candidate.plan]) != _roots(candidate):
                with pytest.raises(IntegrityError):
                    replay(Answer(query, is_, later[candidate.plan]), blocks)


def _roots(candidate: Choice) -> list[bytes]:
    return [part.tree.root for part in candidate.parts]


def check_other_plans(seed: int) -> None:
    """Of a few queries over the same records: each plan takes its own proof and no other, but one that is equal."""
    random_ = random.Random(seed)
    source, collection = made.built(made.an_empty_collection(random_, 3), made.some_records(random_, 90))
    queries = [random_.choice([made.a_query, made.a_combined_query])(random_) for _ in range(3)]
    plans = [(query, candidate) for query in queries for candidate in all_candidates(query, collection)]
    plans = random_.sample(plans, min(len(plans), 12))
    proofs = [a_proof(source, query, collection, candidate) for query, candidate in plans]
    for (query, candidate), own in zip(plans, proofs, strict=True):
        replay(Answer(query, collection, candidate), own)
        for other in proofs:
            if other != own:
                with pytest.raises(IntegrityError):
                    replay(Answer(query, collection, candidate), other)


SEEDS = st.integers(0, 2**32)
test_damaged_proofs_are_refused = quickly(check_damage, SEEDS)
test_many_damaged_proofs_are_refused = thoroughly(check_damage, SEEDS, cases=2000)
test_proofs_of_other_heads_are_refused = quickly(check_other_heads, SEEDS, cases=60)
test_many_proofs_of_other_heads_are_refused = thoroughly(check_other_heads, SEEDS)
test_proofs_of_other_plans_are_refused = quickly(check_other_plans, SEEDS, cases=20)
test_many_proofs_of_other_plans_are_refused = thoroughly(check_other_plans, SEEDS)


def test_every_bit_of_a_small_proof_counts() -> None:
    random_ = random.Random(3)
    source, collection = made.built(made.an_empty_collection(random_, 2), made.some_records(random_, 6))
    query = Query("things", Compare("exists", "id", True))
    tried = 0
    for candidate in all_candidates(query, collection):
        blocks = a_proof(source, query, collection, candidate)
        for place, block in enumerate(blocks):
            for bit in range(len(block) * 8):
                tried += 1
                changed = bytearray(block)
                changed[bit // 8] ^= 1 << bit % 8
                with pytest.raises(IntegrityError):
                    replay(
                        Answer(query, collection, candidate), [*blocks[:place], bytes(changed), *blocks[place + 1 :]]
                    )
    assert tried > 2000


def test_a_proof_of_another_query_or_plan_is_refused() -> None:
    """Over several leaves, so that what the queries read differs."""
    random_ = random.Random(5)
    records = {
        key: record | {"n": number % 40} for number, (key, record) in enumerate(made.some_records(random_, 400).items())
    }
    source, collection = made.built(made.an_empty_collection(random_, len(made.INDEXES)), records)
    queries = [
        Query("things", Compare("=", "n", 3)),
        Query("things", Compare("=", "n", 37)),
        Query("things", Compare("<", "n", 9), limit=9),
        Query("things", And((Compare("=", "n", 3), Compare("=", "m", 1)))),
        Query("things", Compare("=", "tags", "a"), limit=4),
        Query("things", limit=300),
    ]
    plans = [(query, candidate) for query in queries for candidate in all_candidates(query, collection)]
    proofs = [a_proof(source, query, collection, candidate) for query, candidate in plans]
    refused = 0
    for (query, candidate), own in zip(plans, proofs, strict=True):
        for other in proofs:
            if other != own:
                refused += 1
                with pytest.raises(IntegrityError):
                    replay(Answer(query, collection, candidate), other)
    assert refused > 300
