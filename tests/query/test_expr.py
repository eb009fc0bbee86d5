"""Conditions: their bounds, their equality, their canonical form, and MongoDB's meaning where lists meet scalars."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhizome_index.blocks import cbor
from rhizome_index.errors import IntegrityError, UsageError
from rhizome_index.index.condition import EVERYTHING, And, Compare, Expr, Not, Or, all_of, compile_filter
from rhizome_index.index.schema import SortPath
from rhizome_index.limits import IN_VALUES_MAX, QUERY_BYTES_MAX, QUERY_DEPTH_MAX, QUERY_TERMS_MAX, ROWS_MAX
from rhizome_index.query.expr import Query, decode_query, encode_query
from tests.query.oracle import meets

IS_A = Compare("=", "a", 1)


@pytest.mark.parametrize(
    ("record", "condition", "met"),
    [
        ({"a": 1}, Compare("=", "a", 1.0), True),
        ({"a": 1}, Compare("=", "a", True), False),
        ({"a": True}, Compare("=", "a", 1), False),
        ({}, Compare("=", "a", None), True),
        ({"a": None}, Compare("exists", "a", True), True),
        ({}, Compare("exists", "a", True), False),
        ({"a": [1, 2]}, Compare("=", "a", 2), True),
        ({"a": [1, 2]}, Compare("!=", "a", 2), False),
        ({"a": [1, 2]}, Compare("=", "a", [1, 2]), True),
        ({"a": [1, 2]}, Compare("=", "a", [2, 1]), False),
        ({"a": [[1, 2]]}, Compare("=", "a", [1, 2]), True),
        ({"a": [[1, 2]]}, Compare("=", "a", 1), False),
        ({"a": [{"b": [1, 2]}, {"b": 3}]}, Compare("=", "a.b", [1, 2]), True),
        ({"a": [{"b": [1, 2]}, {"b": 3}]}, Compare("=", "a.b", [1, 2, 3]), False),
        ({"a": [{"b": 1}, {"b": 2}]}, Compare("=", "a.b", [1, 2]), False),
        ({"a": [{"b": 1}, {"b": 2}]}, Compare("in", "a.b", ([1, 2], 2)), True),
        ({"a": []}, Compare("=", "a", None), False),
        ({"a": []}, Compare("=", "a", []), True),
        ({"a": [1, 9]}, And((Compare("<", "a", 2), Compare(">", "a", 8))), True),
        ({"a": "1"}, Compare("<", "a", 2), False),
        ({"a": "a\0"}, Compare("=", "a", "a"), False),
        ({"a": "a\0"}, Compare("<=", "a", "a"), False),
        ({"a": ["a\0"]}, Compare("in", "a", ("a", "b")), False),
        ({"a": 2**53 + 1}, Compare(">", "a", float(2**53)), True),
        ({"a": {"b": 1, "c": 2}}, Compare("=", "a", {"c": 2, "b": 1}), True),
        ({"a": 1}, Or(()), False),
        ({"a": 1}, And(()), True),
        ({"a": 1}, Not(Compare("in", "a", (1, 2))), False),
    ],
)
def test_what_a_condition_means(record: dict[str, Any], condition: Expr, met: bool) -> None:
    assert compile_filter(condition)(record) is met
    assert meets(record, condition) is met


def test_conditions_are_equal_if_they_mean_the_same_type() -> None:
    assert Compare("=", "a", 1) == Compare("=", "a", 1) != Compare("=", "a", True)
    assert Compare("=", "a", 1) != Compare("=", "a", 1.0)
    assert len({Compare("=", "a", [1]), Compare("=", "a", [1]), Compare("=", "a", {}), Compare("!=", "a", {})}) == 3
    assert Compare("=", "a", 1) != "a"


def nested(depth: int) -> Expr:
    expr: Expr = IS_A
    for _ in range(depth):
        expr = Not(expr)
    return expr


@pytest.mark.parametrize(
    ("make", "limit"),
    [
        (lambda count: Query("c", Or((IS_A,) * count)), QUERY_TERMS_MAX),
        (lambda count: Query("c", nested(count)), QUERY_DEPTH_MAX),
        (lambda count: Query("c", Compare("in", "a", tuple(range(count)))), IN_VALUES_MAX),
        (lambda count: Query("c", limit=count), ROWS_MAX),
    ],
    ids=["terms", "depth", "in", "rows"],
)
def test_limits(make: Any, limit: int) -> None:
    assert decode_query(encode_query(make(limit))) == make(limit)
    with pytest.raises(UsageError):
        make(limit + 1)


@pytest.mark.parametrize(
    "condition",
    [
        Compare("~", "a", 1),
        Compare("=", "", 1),
        Compare("=", "a..b", 1),
        Compare("=", "-a", 1),
        Compare("=", "x" * 257, 1),
        Compare("=", "a", 2**63),
        Compare("=", "a", float("nan")),
        Compare("=", "a", "\ud800"),
        Compare("=", "a", cbor.Link(b"")),
        Compare("=", "\ud800", 1),
        Compare("<", "a", [1]),
        Compare("<", "a", {}),
        Compare("in", "a", [1]),
        Compare("in", "a", ()),
        Compare("exists", "a", 1),
        Compare("starts with", "a", b"x"),
    ],
)
def test_conditions_that_make_no_sense_are_refused(condition: Compare) -> None:
    with pytest.raises(UsageError):
        Query("c", condition)


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        ["c", ["and"], "declared", None],
        ["C", ["and"], "declared", None, False],
        ["c", ["and"], "declared", 0, False],
        ["c", ["and"], "declared", True, False],
        ["c", ["and"], "declared", None, 0],
        ["c", ["and"], "upwards", None, False],
        ["c", ["and"], [], None, False],
        ["c", ["and"], ["a"] * (QUERY_TERMS_MAX + 1), None, False],
        ["c", ["and"], ["-"], None, False],
        ["c", ["and"], {}, None, False],
        ["c", [], "declared", None, False],
        ["c", ["not"], "declared", None, False],
        ["c", ["not", ["and"], ["and"]], "declared", None, False],
        ["c", ["and", 1], "declared", None, False],
        ["c", ["=", "a"], "declared", None, False],
        ["c", ["=", 1, 1], "declared", None, False],
        ["c", ["in", "a", 1], "declared", None, False],
        ["c", ["in", "a", []], "declared", None, False],
        ["c", [["and"]], "declared", None, False],
    ],
)
def test_other_bodies_are_no_queries(body: object) -> None:
    with pytest.raises(IntegrityError):
        decode_query(cbor.encode(body))


def test_the_bytes_of_a_query_are_bounded() -> None:
    empty = len(encode_query(Query("c", Compare("=", "a", "x" * 1000)))) - 1000
    fits = encode_query(Query("c", Compare("=", "a", "x" * (QUERY_BYTES_MAX - empty))))
    assert len(fits) == QUERY_BYTES_MAX and decode_query(fits).limit is None
    with pytest.raises(IntegrityError):
        decode_query(encode_query(Query("c", Compare("=", "a", "x" * (QUERY_BYTES_MAX - empty + 1)))))


def test_deep_bodies_are_refused_before_they_are_followed() -> None:
    body: Any = ["and"]
    for _ in range(150):
        body = ["not", body]
    with pytest.raises(IntegrityError):
        decode_query(cbor.encode(["c", body, "declared", None, False]))


@given(st.binary(max_size=60), st.integers(0, 2**32))
def test_changed_bytes_are_another_query_or_refused(tail: bytes, place: int) -> None:
    query = Query("c", And((IS_A, Not(Compare("in", "b", ("x", 2))))), (SortPath("a", True),), 7)
    data = bytearray(encode_query(query))
    data[place % len(data)] ^= 1 + place % 255
    for wrong in (bytes(data), tail, encode_query(query) + tail[:1] + b"\0"):
        try:
            read = decode_query(wrong)
        except IntegrityError:
            continue
        assert encode_query(read) == wrong and read != query


def test_conjunctions_are_flat() -> None:
    assert all_of() == EVERYTHING and all_of(IS_A) == IS_A
    assert Query("c", And((And((IS_A,)), And(()), IS_A))).conjuncts() == (IS_A, IS_A)
