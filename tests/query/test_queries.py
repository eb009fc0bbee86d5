"""Queries against the oracle, over real and made records, whichever indexes there are; and every answer's proof."""

from __future__ import annotations

import random

import pytest

from rhizome_index.errors import IntegrityError, UsageError
from rhizome_index.index.condition import And, Compare
from rhizome_index.query.answer import Answer, Cursor
from rhizome_index.query.combine import all_candidates
from rhizome_index.query.expr import COUNT, Query
from tests.driving import answer_directly, replay
from tests.query.cases import MANIFEST, a_query, check_query, collection_of, names


@pytest.mark.parametrize("seed", range(12))
def test_answers_are_the_oracles(seed: int) -> None:
    random_ = random.Random(seed)
    for name in names():
        for _ in range(2):
            check_query(a_query(random_, name), random_, collection_of(name))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1040))
def test_many_answers_are_the_oracles(seed: int) -> None:
    """2,000 queries, half of them over real packages where those can be found, and a few over the emoji."""
    random_ = random.Random(seed)
    has_packages = "packages" in names()
    for name, count in (("emoji", 5), ("posts", 25 if has_packages else 50), ("packages", 25 if has_packages else 0)):
        for _ in range(count):
            check_query(a_query(random_, name), random_, collection_of(name))


PROVEN = [
    Query("posts", Compare("=", "tags", "cats"), limit=32),
    Query("posts", And((Compare("=", "tags", "cats"), Compare(">", "likes", 5))), limit=4),
    Query("posts", Compare("=", "tags", "cats"), kind=COUNT),
    Query("posts", Compare("=", "author", "alice"), "oldest", 3),
    Query("emoji", Compare(">", "tags", "z")),
]


@pytest.mark.parametrize("query", PROVEN)
def test_a_damaged_proof_is_refused(query: Query) -> None:
    source, collection = collection_of(query.collection)
    for candidate in all_candidates(query, collection):
        rows, named = answer_directly(Answer(query, collection, candidate), source)
        blocks = [data for _, data in named]
        damaged = [[*blocks, blocks[0]], [*blocks, blocks[-1]], [*blocks, b""]]
        places = range(len(blocks)) if len(blocks) < 12 else sorted({0, 1, 2, len(blocks) // 2, len(blocks) - 1})
        for place in places:
            block = blocks[place]
            before, behind = blocks[:place], blocks[place + 1 :]
            damaged += [before, before + behind, [*before, block, block, *behind], [*before, block[:-1], *behind]]
            middle = len(block) // 2
            damaged.append([*before, block[:middle] + bytes([block[middle] ^ 1]) + block[middle + 1 :], *behind])
            if behind:
                damaged.append([*before, behind[0], block, *behind[1:]])
        for wrong in damaged:
            with pytest.raises(IntegrityError):
                replay(Answer(query, collection, candidate), wrong)
        assert replay(Answer(query, collection, candidate), blocks) == rows


def test_a_proof_is_good_for_one_query_and_plan_only() -> None:
    proofs = []
    for query in PROVEN[:4]:
        source, collection = collection_of(query.collection)
    for candidate in all_candidates(query, collection):
        blocks = [data for _, data in answer_directly(Answer(query, collection, candidate), source)[1]]
        proofs.append((query, candidate, blocks))
    for query, candidate, own in proofs:
        _, collection = collection_of(query.collection)
        for _, _, blocks in proofs:
            if blocks != own:
                with pytest.raises(IntegrityError):
                    replay(Answer(query, collection, candidate), blocks)


def test_a_cursor_belongs_to_its_query() -> None:
    source, collection = collection_of("posts")
    query = PROVEN[0]
    candidate = all_candidates(query, collection)[0]
    answer = Answer(query, collection, candidate)
    rows, _ = answer_directly(answer, source)
    text = str(answer.cursor(MANIFEST, rows[-1]))
    for wrong in (text[:-4], text[1:], "x" * 40, "", text + "A" * 9000):
        with pytest.raises(UsageError):
            Cursor.parse(wrong, query)
    with pytest.raises(UsageError):
        Cursor.parse(text, PROVEN[1])
