"""Tuple keys sort as the values do, come back, and have one form only."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhizome_index.errors import IntegrityError
from rhizome_index.index.keys import Interval, component_end, decode_key, encode_component, encode_key, interval

numbers = (
    st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(
        [2**53, 2**53 + 1, -(2**53) - 1, 2.0**53, 2**63 - 1, -(2**63), 2.0**63, -(2.0**63), 0, -0.0, 5e-324]
    )
)
texts = st.text(st.sampled_from("\0\x01aé\U0001f600"), max_size=4)
scalars = st.none() | st.booleans() | numbers | texts | st.binary(max_size=4)


def rank(value: Any) -> tuple[int, Any]:
    """The order of values, said in Python's own words."""
    if value is None:
        return 0, 0
    if isinstance(value, bool):
        return 1, value
    if isinstance(value, int | float):
        return 2, Fraction(value)
    return (3, value.encode()) if isinstance(value, str) else (4, value)


@given(scalars, scalars)
def test_components_sort_as_values_do(a: Any, b: Any) -> None:
    x, y = encode_component(a), encode_component(b)
    assert (x < y, x == y) == (rank(a) < rank(b), rank(a) == rank(b))
    assert not y.startswith(x) or x == y
    p, q = encode_component(a, descending=True), encode_component(b, descending=True)
    assert (p > q, p == q) == (rank(a) < rank(b), rank(a) == rank(b))


@given(st.lists(st.tuples(scalars, st.booleans()), max_size=4), st.lists(st.tuples(scalars, st.booleans()), max_size=4))
def test_keys_sort_component_by_component(a: list[tuple[Any, bool]], b: list[tuple[Any, bool]]) -> None:
    directions = [flag for _, flag in a]
    left = [value for value, _ in a]
    right = [value for value, _ in b][: len(left)]
    if len(right) < len(left):
        return
    x, y = encode_key(left, directions), encode_key(right, directions)
    for value, other, flag in zip(left, right, directions, strict=True):
        if rank(value) != rank(other):
            assert (x < y) == ((rank(value) < rank(other)) != flag)
            return
    assert x == y


@given(st.lists(st.tuples(scalars, st.booleans()), max_size=5))
def test_keys_come_back(parts: list[tuple[Any, bool]]) -> None:
    decoded = decode_key(encode_key([value for value, _ in parts], [flag for _, flag in parts]))
    assert [rank(value) for value in decoded] == [rank(value) for value, _ in parts]


@given(st.binary(max_size=30))
def test_what_is_read_as_a_key_has_no_other_form(data: bytes) -> None:
    try:
        values = decode_key(data)
    except IntegrityError:
        return
    flags, at = [], 0
    for value in values:
        flags.append(bool(data[at] & 0x80))
        at += len(encode_component(value))
    assert encode_key(values, flags) == data


@pytest.mark.parametrize(
    "data", [b"\x00", b"\x30abc", b"\x20\x80", b"\x20" + b"\xff" * 8, b"\x30\xff\x00", b"\x48\x18\x01\x00"]
)
def test_malformed_keys_are_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        decode_key(data)


@given(st.sampled_from(["=", "<", "<=", ">", ">="]), scalars, scalars)
def test_intervals_hold_what_meets_the_comparison(operator: str, bound: Any, value: Any) -> None:
    a, b = rank(value), rank(bound)
    met = a[0] == b[0] and {"=": a == b, "<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[operator]
    found = interval(operator, bound)
    assert found.contains(encode_component(value)) == met
    for descending in (False, True):
        low, high = found.bounds(b"p", descending=descending)
        key = b"p" + encode_component(value, descending=descending) + encode_component(1)
        assert (low <= key < high) == met


@given(texts, texts)
def test_prefixes(prefix: str, value: str) -> None:
    low, high = interval("starts with", prefix).bounds(b"", descending=True)
    key = encode_component(value, descending=True) + encode_component(None)
    assert (low <= key < high) == value.startswith(prefix)


def test_intersections() -> None:
    both = interval(">", 1).intersect(interval("<=", 5))
    assert [value for value in range(9) if both.contains(encode_component(value))] == [2, 3, 4, 5]
    assert isinstance(both, Interval)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("kind", [str, bytes])
def test_a_value_with_a_zero_behind_it_is_another_value(kind: type, descending: bool) -> None:
    shorter, longer = ("a", "a\0") if kind is str else (b"a", b"a\0")
    x, y = (encode_component(value, descending=descending) for value in (shorter, longer))
    assert not y.startswith(x) and (y < x) == descending
    low, high = interval("=", shorter).bounds(b"", descending=descending)
    assert low <= x < high and not low <= y < high


EDGES = [
    -(2**63), -(2**63) + 1, -(2.0**63), -1e300, 1e300, -(2**53) - 2, -(2**53) - 1, -(2**53), -(2**53) + 1, -1, -0.5, 0,
    5e-324, 0.1, 1.5, 2**53 - 1, 2**53, 2**53 + 1, 2**53 + 2, 2**62 + 1, 2**63 - 1025, 2**63 - 1024, 2**63 - 1, 2.0**63,
]  # fmt: skip


def test_numbers_keep_their_exact_order_at_every_edge() -> None:
    for a in EDGES:
        for b in EDGES:
            x, y = encode_component(a), encode_component(b)
            assert (x < y, x == y) == (a < b, a == b), (a, b)
    assert encode_component(1) == encode_component(1.0) and encode_component(0.0) == encode_component(-0.0)
    assert encode_component(2**53) == encode_component(2.0**53)


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, "\ud800", object()])
def test_what_records_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises(ValueError):
        encode_component(value)


@pytest.mark.parametrize(
    "data",
    [
        b"\x48\x1b" + b"\xff" * 8 + b"\0\1",  # a number has its own type
        b"\x20" + encode_component(2**63 - 1)[1:9] + b"\xff\xff",  # beyond 64 bits
        b"\x20" + encode_component(2**53)[1:9],  # without what is left
        b"\x20" + b"\x7f" + b"\xff" * 7,  # negative zero
        b"\x30a\0\xff",
        b"\x30a\0\2",
        b"\x30a\0",
        b"\x30a",
        b"\x11",
        b"\xef\x11",
    ],
)
def test_other_forms_of_keys_are_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        decode_key(data)


@given(
    st.lists(
        st.sampled_from([b"\x10", b"\x20", b"\x30", b"\x48", b"\xcf", b"\xdf", b"\0", b"\1", b"\xff", b"\xfe"]),
        max_size=24,
    )
)
def test_pieces_of_keys_are_read_strictly(pieces: list[bytes]) -> None:
    with suppress(IntegrityError):
        decode_key(b"".join(pieces))


def test_a_component_that_is_not_there_is_no_component() -> None:
    for start in (1, 2):
        with pytest.raises(IntegrityError):
            component_end(b"\x10", start)
