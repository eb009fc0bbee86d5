"""Filters in MongoDB's shape."""

from __future__ import annotations

from typing import Any

import pytest

from rhizome_index.errors import UsageError
from rhizome_index.index.condition import EVERYTHING, And, Compare, Expr, Not, Or
from rhizome_index.query.mongo import from_mongo

A, B = Compare("=", "a", 1), Compare("=", "b", 2)


@pytest.mark.parametrize(
    ("filter_", "expr"),
    [
        ({}, EVERYTHING),
        ({"a": 1}, A),
        ({"a": 1, "b": 2}, And((A, B))),
        ({"a": {"$gt": 1, "$lte": 5}}, And((Compare(">", "a", 1), Compare("<=", "a", 5)))),
        ({"a": {"$eq": 1}}, A),
        ({"a": {"$ne": 1}}, Compare("!=", "a", 1)),
        ({"a": {"$gte": 1}}, Compare(">=", "a", 1)),
        ({"a": {"$lt": 1}}, Compare("<", "a", 1)),
        ({"a": {"$in": [1, 2]}}, Compare("in", "a", (1, 2))),
        ({"a": {"$nin": [1, 2]}}, Not(Compare("in", "a", (1, 2)))),
        ({"a": {"$all": [1, 2]}}, And((Compare("=", "a", 1), Compare("=", "a", 2)))),
        ({"a": {"$exists": False}}, Compare("exists", "a", False)),
        ({"a": {"$not": {"$gt": 1}}}, Not(Compare(">", "a", 1))),
        ({"a": {"b": 1}}, Compare("=", "a", {"b": 1})),
        ({"a": [1]}, Compare("=", "a", [1])),
        ({"a": (1,), "b": {"$ne": (1, 2)}}, And((Compare("=", "a", [1]), Compare("!=", "b", [1, 2])))),
        ({"a": {"$in": ((1,), 2), "$all": ((),)}}, And((Compare("in", "a", ([1], 2)), Compare("=", "a", [])))),
        ({"a": {}}, Compare("=", "a", {})),
        ({"$or": [{"a": 1}, {"b": 2}]}, Or((A, B))),
        ({"$and": [{"a": 1}, {"b": 2}]}, And((A, B))),
        ({"$nor": [{"a": 1}, {"b": 2}]}, Not(Or((A, B)))),
    ],
)
def test_what_a_filter_means(filter_: dict[str, Any], expr: Expr) -> None:
    assert from_mongo(filter_) == expr


@pytest.mark.parametrize(
    "filter_",
    [
        None,
        [],
        {"$or": []},
        {"$or": {}},
        {"$or": [1]},
        {"$where": "x"},
        {"a": {"$regex": "x"}},
        {"a": {"$in": 1}},
        {"a": {"$all": []}},
        {"a": {"$exists": 1}},
        {"a": {"$gt": 1, "b": 2}},
    ],
)
def test_other_filters_are_refused(filter_: Any) -> None:
    with pytest.raises(UsageError):
        from_mongo(filter_)


def test_a_slip_is_hinted_at() -> None:
    with pytest.raises(UsageError) as caught:
        from_mongo({"a": {"$gtt": 1}})
    assert "$gt" in caught.value.hint
