"""Combinations: which there are, what they read, and their bounds. That they answer rightly: tests/properties."""

from __future__ import annotations

from typing import Any

import pytest

from rhizome_index.errors import IntegrityError
from rhizome_index.index.condition import Compare, Or, all_of
from rhizome_index.limits import PLAN_ARMS_MAX, PLAN_PAIRS_MAX
from rhizome_index.query.answer import Answer
from rhizome_index.query.choose import choose
from rhizome_index.query.combine import Combination, all_candidates
from rhizome_index.query.expr import COUNT, Query
from rhizome_index.query.plan import ALL, ANY, Combined, decode_plan, encode_plan
from tests.driving import answer_directly
from tests.query.test_plan import a_collection


def tagged(*tags: str) -> Query:
    return Query("posts", all_of(*(Compare("=", "tags", tag) for tag in tags)), "newest", 5)


def of_kind(query: Query, collection: Any, kind: str) -> list[Combination]:
    found = all_candidates(query, collection)
    return [item for item in found if isinstance(item, Combination) and item.plan.kind == kind]


SOURCE, POSTS = a_collection(
    [
        {"id": number, "created": number, "tags": [f"a{number % 40}", f"b{number % 37}", "all"]}
        for number in range(6000)
    ],
    "by_tag=tags,-created",
)


def test_two_rare_tags_are_intersected_and_read_little() -> None:
    query = tagged("a3", "b5")
    chosen = SOURCE.run(choose(query, POSTS, allow_scan=False)).candidate
    assert isinstance(chosen, Combination) and chosen.plan.kind == ALL and chosen.ordered and not chosen.residual
    rows, blocks = answer_directly(Answer(query, POSTS, chosen), SOURCE)
    wanted = [number for number in range(5999, -1, -1) if number % 40 == 3 and number % 37 == 5]
    assert [row.record["id"] for row in rows] == wanted[:5]
    for single in chosen.parts:
        _, more = answer_directly(Answer(query, POSTS, single), SOURCE)
        assert len(blocks) < len(more) / 2


def test_any_of_several_tags_comes_in_order_and_once() -> None:
    query = Query("posts", Compare("in", "tags", ("a1", "b1", "a1")), "newest", 9)
    chosen = SOURCE.run(choose(query, POSTS, allow_scan=False)).candidate
    assert isinstance(chosen, Combination) and chosen.plan.kind == ANY and chosen.ordered and not chosen.residual
    rows, _ = answer_directly(Answer(query, POSTS, chosen), SOURCE)
    wanted = [number for number in range(5999, -1, -1) if number % 40 == 1 or number % 37 == 1]
    assert [row.record["id"] for row in rows] == wanted[:9]


def test_a_count_over_an_intersection_needs_no_records() -> None:
    query = Query("posts", tagged("a3", "b5").where, kind=COUNT)
    (both,) = of_kind(query, POSTS, ALL)
    answer = Answer(query, POSTS, both)
    _, blocks = answer_directly(answer, SOURCE)
    assert answer.count == sum(number % 40 == 3 and number % 37 == 5 for number in range(6000))
    assert len(blocks) < 30


def test_pairs_at_the_limit_and_one_past_it() -> None:
    eight = of_kind(tagged(*"abcdefgh"), POSTS, ALL)
    assert len(eight) == PLAN_PAIRS_MAX + 1  # and all of them at once
    assert len(of_kind(tagged(*"abcdefghi"), POSTS, ALL)) == PLAN_PAIRS_MAX + 1


def test_arms_at_the_limit_and_one_past_it() -> None:
    for size, there_are in ((PLAN_ARMS_MAX, 1), (PLAN_ARMS_MAX + 1, 0)):
        query = Query("posts", Compare("in", "tags", tuple(range(size))), "newest", 5)
        assert len(of_kind(query, POSTS, ANY)) == there_are
    (union,) = of_kind(Query("posts", Compare("in", "tags", tuple(range(PLAN_ARMS_MAX))), "newest", 5), POSTS, ANY)
    assert decode_plan(encode_plan(union.plan)) == union.plan
    with pytest.raises(IntegrityError, match="2 to 64 access paths"):
        decode_plan(encode_plan(Combined(ANY, (*union.plan.accesses, union.plan.accesses[0]))))


def test_an_index_that_gives_the_order_is_used_even_where_a_scan_would_be_cheaper() -> None:
    """A scan of everything was the cheapest way, and then refused, with the advice to add the index that was there."""
    source, posts = a_collection([{"id": number, "created": number} for number in range(3000)], "by_created=created")
    chosen = source.run(choose(Query("posts", order="newest", limit=2500), posts, allow_scan=False)).candidate
    assert chosen.parts[0].access.index == "by_created" and chosen.ordered


def test_what_every_arm_makes_sure_of_is_not_asked_again() -> None:
    """The arms bind the `in`: what is left is the other condition alone, and an index that includes it covers."""
    records = [{"id": n, "created": n, "tags": [f"a{n % 40}"], "likes": n % 7} for n in range(200)]
    source, posts = a_collection(records, "by_tag=tags,-created include likes, id")
    among, liked = Compare("in", "tags", ("a1", "a2")), Compare(">", "likes", 3)
    query = Query("posts", all_of(among, liked), "newest", paths=("id",))
    (union,) = of_kind(query, posts, ANY)
    assert union.residual == (liked,) and union.bound == (among,) and union.covered
    rows, _ = answer_directly(Answer(query, posts, union), source)
    wanted = [n for n in range(199, -1, -1) if n % 40 in (1, 2) and n % 7 > 3]
    assert [row.record for row in rows] == [{"id": n} for n in wanted]
    either = Or((all_of(Compare("=", "tags", "a1"), liked), Compare("=", "tags", "a2")))
    (partly,) = of_kind(Query("posts", either, "newest"), posts, ANY)
    assert partly.residual == (either,) and not partly.bound
