"""Canonical bytes: what is encoded comes back, and nothing else is read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhizome_index.blocks import cbor
from rhizome_index.blocks.cid import cid_of
from rhizome_index.errors import IntegrityError

CID = cid_of(b"")
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.binary()
    | st.sampled_from([cbor.Link(CID), bytes(CID)]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def same(a: object, b: object) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@given(values)
def test_values_come_back_with_their_types(value: object) -> None:
    assert same(cbor.decode(cbor.encode(value)), value)


@given(st.binary(max_size=60))
def test_whatever_is_read_has_no_other_form(data: bytes) -> None:
    try:
        value = cbor.decode(data)
    except IntegrityError:
        return
    assert cbor.encode(value) == data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x18\x01",
        b"\x19\x00\x01",
        b"\x00\x00",
        b"\x9f\xff",
        b"\x7f\xff",
        b"\xf9\x3c\x00",
        b"\xfa\x3f\xc0\x00\x00",
        b"\xfb\x7f\xf8" + bytes(6),
        b"\xfb\x7f\xf0" + bytes(6),
        b"\xfb\x80" + bytes(7),
        b"\xf7",
        b"\xe0",
        b"\xa2\x61b\x00\x61a\x00",
        b"\xa2\x61a\x00\x61a\x00",
        b"\xa2\x62aa\x00\x61b\x00",
        b"\xa1\x00\x00",
        b"\xc1\x00",
        b"\xc2\x41\x01",
        b"\xd8\x2a\x41\x00",
        b"\xd8\x2a\x58\x24" + CID,
        b"\xd9\x00\x2a\x58\x25\x00" + CID,
        b"\xd8\x2a\x58\x25\x00\x01\x55\x12\x20" + bytes(32),
        b"\x61\xff",
        b"\x81" * 100_000,
        b"\x9b" + b"\x7f" + b"\xff" * 7,
    ],
)
def test_other_forms_are_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        cbor.decode(data)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**64, -(2**64) - 1, {1: 2}, {1, 2}, object(), "\ud800"])
def test_what_has_no_place_is_refused(value: object) -> None:
    with pytest.raises(ValueError):
        cbor.encode(value)


def test_bytes_that_look_like_a_cid_stay_bytes() -> None:
    assert type(cbor.decode(cbor.encode(bytes(CID)))) is bytes
    assert type(cbor.decode(cbor.encode(cbor.Link(CID)))) is cbor.Link
    assert cbor.encode(bytes(CID)) != cbor.encode(cbor.Link(CID))


def test_negative_zero_is_encoded_as_zero() -> None:
    assert cbor.encode(-0.0) == cbor.encode(0.0)
    assert cbor.encode([cbor.Link(CID), -0.0]) == cbor.encode([cbor.Link(CID), 0.0])
