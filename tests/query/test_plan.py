"""Candidates: which there are, what they bind, which order they give; and the choice among them."""

from __future__ import annotations

from typing import Any

import pytest
from pyrsistent import pmap

from rhizome_index.blocks.store import MemoryStore
from rhizome_index.errors import IntegrityError, UsageError
from rhizome_index.index.condition import EVERYTHING, And, Compare, Expr, Or
from rhizome_index.index.record import encode_record
from rhizome_index.index.schema import Collection, Index, SortPath, primary_key
from rhizome_index.index.write import apply_changes
from rhizome_index.limits import CANDIDATES_MAX, SCAN_FREE_ENTRIES
from rhizome_index.query.answer import Answer
from rhizome_index.query.choose import choose
from rhizome_index.query.combine import find_candidate
from rhizome_index.query.expr import COUNT, ROWS, Query
from rhizome_index.query.parse import parse_index
from rhizome_index.query.plan import PRIMARY, Access, candidates, decode_plan
from rhizome_index.tree.boundary import Rule
from rhizome_index.tree.node import EMPTY_TREE
from tests.driving import MemorySource, answer_directly

CATS = Compare("=", "tags", "cats")


def a_collection(
    records: list[dict[str, Any]], *indexes: str, time: str | None = "created"
) -> tuple[MemorySource, Collection]:
    made = {name: Index.empty(name, definition) for name, definition in map(parse_index, indexes)}
    empty = Collection("posts", "id", time, (), EMPTY_TREE, pmap(made))
    changes = sorted((primary_key(record, ("id",)), encode_record(record)) for record in records)
    source = MemorySource(MemoryStore())
    return source, source.run(apply_changes(Rule(b""), empty, changes, source.store.blocks.__setitem__))


POSTS = [
    {
        "id": number,
        "author": f"a{number % 7}",
        "created": 1000 - number,
        "likes": number % 11,
        "tags": ["cats", f"t{number % 3}"],
    }
    for number in range(60)
]
SOURCE, POSTS_COLLECTION = a_collection(POSTS, "by_tag=tags,-created", "by_author=author,-created", "by_likes=-likes")


def found(query: Query, collection: Collection = POSTS_COLLECTION) -> dict[str, list[Any]]:
    made: dict[str, list[Any]] = {}
    for candidate in candidates(query, collection):
        made.setdefault(candidate.access.index, []).append(candidate)
    return made


@pytest.mark.parametrize(
    ("query", "index", "ordered", "reverse"),
    [
        (Query("posts", CATS, "newest", 5), "by_tag", True, False),
        (Query("posts", CATS, "oldest", 5), "by_tag", True, True),
        (Query("posts", CATS, (SortPath("likes"),), 5), "by_tag", False, False),
        (Query("posts", CATS, (SortPath("created", True), SortPath("id", True)), 5), "by_tag", True, False),
        (Query("posts", CATS, (SortPath("created", True), SortPath("id")), 5), "by_tag", False, False),
        (Query("posts", Compare("in", "author", ("a1",)), "newest", 5), "by_author", True, False),
        (Query("posts", Compare("in", "author", ("a1", "a2")), "newest", 5), "by_author", False, False),
        (Query("posts", EVERYTHING, (SortPath("author"), SortPath("created", True)), 5), "by_author", True, False),
        (Query("posts", EVERYTHING, (SortPath("author", True), SortPath("created")), 5), "by_author", True, True),
        (Query("posts", EVERYTHING, (SortPath("author"), SortPath("created")), 5), "by_author", False, False),
        (Query("posts", Compare(">", "likes", 3), (SortPath("likes", True),), 5), "by_likes", True, False),
        (Query("posts", Compare(">", "likes", 3), (SortPath("likes"),), 5), "by_likes", True, True),
        (Query("posts", limit=5), PRIMARY, True, False),
        (Query("posts", order=(SortPath("id", True),), limit=5), PRIMARY, True, True),
        (Query("posts", CATS, (SortPath("id"),), 5), PRIMARY, True, False),
    ],
)  # fmt: skip
def test_which_order_a_candidate_gives(query: Query, index: str, ordered: bool, reverse: bool) -> None:
    candidate = found(query)[index][0]
    assert (candidate.ordered, candidate.access.reverse) == (ordered, reverse)


def test_an_index_whose_lists_are_not_bound_is_no_candidate() -> None:
    assert "by_tag" not in found(Query("posts", limit=1))
    assert "by_tag" not in found(Query("posts", Or((CATS,))))
    bounded = found(Query("posts", Compare(">=", "tags", "c")))["by_tag"][0]
    assert bounded.repeats and not bounded.ordered and not bounded.counts_alone


def test_only_one_range_binds_a_path_with_lists() -> None:
    two = And((Compare(">", "tags", "cats"), Compare("<", "tags", "cats")))
    candidate = found(Query("posts", two))["by_tag"][0]
    assert len(candidate.residual) == 1
    _, collection = a_collection([record | {"tags": "cats"} for record in POSTS], "by_tag=tags,-created")
    candidate = found(Query("posts", two), collection)["by_tag"][0]
    assert not candidate.residual and candidate.access.span.is_empty


def test_each_equal_condition_on_one_path_is_a_candidate_of_its_own() -> None:
    query = Query("posts", And((CATS, Compare("=", "tags", "t1"))), kind=COUNT)
    paths = found(query)["by_tag"]
    assert {candidate.bound[0].value for candidate in paths} == {"cats", "t1"}
    assert all(len(candidate.residual) == 1 for candidate in paths)


def test_conditions_that_python_takes_for_equal_stay_apart() -> None:
    """1 == True in Python: a residual condition must not vanish for that."""
    records = [{"id": 1, "tags": [1]}, {"id": 2, "tags": [1, True]}, {"id": 3, "tags": [True]}]
    source, collection = a_collection(records, "by_tag=tags")
    for kind in (ROWS, COUNT):
        query = Query("posts", And((Compare("=", "tags", 1), Compare("=", "tags", True))), kind=kind)
        for candidate in candidates(query, collection):
            answer = Answer(query, collection, candidate)
            rows, _ = answer_directly(answer, source)
            assert answer.count == 1 if kind == COUNT else [row.record["id"] for row in rows] == [2]


@pytest.mark.parametrize("value", [["cats", "t1"], {"b": 1}, [], {}])
def test_lists_and_maps_can_be_asked_for(value: Any) -> None:
    query = Query("posts", And((Compare("=", "tags", value), Compare("!=", "likes", value))))
    assert SOURCE.run(choose(query, POSTS_COLLECTION, allow_scan=True)).candidate in candidates(query, POSTS_COLLECTION)


def test_the_number_of_candidates_is_bounded_before_they_are_made() -> None:
    """Eight conditions on each of eight paths would be sixteen million."""
    paths = [f"p{number}" for number in range(8)]
    _, collection = a_collection([{"id": 1}], "by_all=" + ",".join(paths))
    query = Query("posts", And(tuple(Compare("=", path, number) for path in paths for number in range(8))))
    assert 1 <= len(candidates(query, collection)) <= 512


def test_only_a_candidate_of_the_query_is_one() -> None:
    query = Query("posts", CATS, "newest", 5)
    access = found(query)["by_tag"][0].access
    assert find_candidate(query, POSTS_COLLECTION, access).access == access
    for wrong in (
        Access(access.index, access.low, access.high, not access.reverse),
        Access(access.index, access.low + b"\0", access.high, access.reverse),
        Access(access.index, access.low, None, access.reverse),
        Access("by_author", access.low, access.high, access.reverse),
        Access("nowhere", b"", None, False),
    ):
        with pytest.raises(IntegrityError):
            find_candidate(query, POSTS_COLLECTION, wrong)


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        ["i", b"", b""],
        ["i", "", b"", True],
        [b"i", b"", b"", True],
        ["i", b"", b"", 1],
        ["i", None, b"", True],
        {},
    ],
)
def test_other_bodies_are_no_plans(body: Any) -> None:
    with pytest.raises(IntegrityError):
        decode_plan(body)


def test_the_cheapest_is_chosen() -> None:
    def chosen(where: Expr, **more: Any) -> str:
        return SOURCE.run(
            choose(Query("posts", where, **more), POSTS_COLLECTION, allow_scan=False)
        ).candidate.access.index

    assert chosen(Compare("=", "id", 7)) == PRIMARY
    assert chosen(Compare("=", "author", "a3")) == "by_author"
    assert chosen(And((CATS, Compare("=", "author", "a3")))) == "by_author"
    assert chosen(CATS, kind=COUNT) == "by_tag"
    assert chosen(And(()), order="newest", limit=3) == PRIMARY


@pytest.mark.parametrize(("size", "allowed"), [(SCAN_FREE_ENTRIES, True), (SCAN_FREE_ENTRIES + 1, False)])
def test_a_scan_is_free_up_to_its_limit(size: int, allowed: bool) -> None:
    source, collection = a_collection([{"id": number} for number in range(size)], time=None)
    query = Query("posts", Compare("=", "tags", "cats"))
    source.run(choose(query, collection, allow_scan=True))
    if allowed:
        source.run(choose(query, collection, allow_scan=False))
    else:
        with pytest.raises(UsageError) as caught:
            source.run(choose(query, collection, allow_scan=False))
        assert "index add posts by_tags=tags" in caught.value.hint and "--scan" in caught.value.hint


def test_nothing_is_newest_without_a_time() -> None:
    _, collection = a_collection([{"id": 1}], time=None)
    with pytest.raises(UsageError):
        candidates(Query("posts", order="newest"), collection)


def test_estimates_count_exactly() -> None:
    estimate = SOURCE.run(choose(Query("posts", Compare("=", "author", "a3")), POSTS_COLLECTION, allow_scan=False))
    assert estimate.in_range == sum(record["author"] == "a3" for record in POSTS)


@pytest.mark.parametrize(("count", "most"), [(2, 2**8), (3, CANDIDATES_MAX)])
def test_a_query_is_weighed_in_a_bounded_number_of_ways(count: int, most: int) -> None:
    """Of so many conditions on each of an index's eight paths any may bind it: with 8 each, in 43 million ways."""
    paths = [f"p{number}" for number in range(8)]
    _, collection = a_collection([], "wide=" + ",".join(paths))
    terms = tuple(Compare("=", path, number) for path in paths for number in range(count))
    found = candidates(Query("posts", And(terms)), collection)
    assert len([candidate for candidate in found if candidate.access.index == "wide"]) <= most
    assert most - 2 <= len(found) <= most + 2 and len(found) <= CANDIDATES_MAX
