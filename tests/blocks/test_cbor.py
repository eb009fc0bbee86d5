"""Canonical bytes: what is encoded comes back, and nothing else is read."""

from __future__ import annotations

from contextlib import suppress

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


LINK = cbor.encode(cbor.Link(CID))


def shared_lists(depth: int) -> bytes:
    """A link, then lists that each hold the one before twice by reference: 2**depth items in a few bytes."""
    items = [LINK, b"\xd8\x1c\x80"]
    items += [b"\xd8\x1c\x82" + (b"\xd8\x1d" + cbor.encode(number)) * 2 for number in range(depth)]
    return b"\x98" + bytes([len(items)]) + b"".join(items)


@pytest.mark.parametrize("data", [shared_lists(60), shared_lists(200)])
def test_shared_values_cannot_grow_without_bound(data: bytes) -> None:
    assert len(data) < 2500
    with pytest.raises(IntegrityError):
        cbor.decode(data)


@pytest.mark.parametrize("beside", [b"", LINK], ids=["alone", "beside a link"])
@pytest.mark.parametrize(
    "item",
    [
        b"\x18\x01",  # long forms
        b"\x19\x00\xff",
        b"\x1a\x00\x00\xff\xff",
        b"\x1b\x00\x00\x00\x00\xff\xff\xff\xff",
        b"\x38\x01",
        b"\x58\x01a",
        b"\x78\x01a",
        b"\x98\x01\x00",
        b"\xb8\x01\x61a\x00",
        b"\x5f\x41a\xff",  # indefinite lengths
        b"\x7f\x61a\xff",
        b"\x9f\x00\xff",
        b"\xbf\x61a\x00\xff",
        b"\xff",
        b"\xa2\x61a\x00\x61a\x01",  # keys repeated, unsorted, not text
        b"\xa2\x61b\x00\x61a\x00",
        b"\xa2\x62aa\x00\x61b\x00",
        b"\xa1\x41a\x00",
        b"\xa1\xf6\x00",
        b"\xa1\x80\x00",
        b"\xf9\x00\x00",  # floats that are short, not finite or negative zero
        b"\xfa\x00\x00\x00\x00",
        b"\xfb\xff\xf0" + bytes(6),
        b"\xfb\x7f\xf8" + bytes(5) + b"\1",
        b"\xfb\x80" + bytes(7),
        b"\xf7",  # simple values
        b"\xf8\x20",
        b"\xe0",
        b"\xc0\x74" + b"2000-01-01T00:00:00Z",  # tags
        b"\xc1\x00",
        b"\xc2\x41\x01",
        b"\xc4\x82\x1b\x7f\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\xc5\x82\x1b\x7f\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\xd8\x1e\x82\x01\x00",
        b"\xd8\x23\x63(((",
        b"\xd9\x01\x02\x80",
        b"\xd9\xd9\xf7\x00",
        b"\xd8\x2b\x58\x25\0" + CID,
        b"\xd8\x2a\x58\x24" + CID,
        b"\xd8\x2a\x78\x25\0" + CID,
        b"\xda\x00\x00\x00\x2a\x58\x25\0" + CID,
        b"\xd8\x2a" + LINK,
        b"\x61\x80",  # text that is not UTF-8
        b"\x63\xed\xa0\x80",
        b"\x5b\x7f\xff\xff\xff\xff\xff\xff\xff",  # lengths that are not there
        b"\x9b\x00\x00\x00\x0f\xff\xff\xff\xff",
        b"\xbb\x00\x00\x00\x0f\xff\xff\xff\xff",
        b"\x1c",
    ],
)
def test_every_other_form_is_refused_with_and_without_links(item: bytes, beside: bytes) -> None:
    with pytest.raises(IntegrityError):
        cbor.decode(b"\x82" + beside + item if beside else b"\x81" + item)


def test_nothing_follows_and_nothing_is_missing() -> None:
    for data in (cbor.encode({"a": [1, "b", b"c", None, 2.5]}), cbor.encode([{"link": cbor.Link(CID)}, bytes(CID)])):
        cbor.decode(data)
        for wrong in [data[:end] for end in range(len(data))] + [data + b"\0", data + data]:
            with pytest.raises(IntegrityError):
                cbor.decode(wrong)


@given(values, st.data())
def test_a_changed_byte_is_another_value_or_refused(value: object, data: st.DataObject) -> None:
    encoded = bytearray(cbor.encode([cbor.Link(CID), value]))
    place = data.draw(st.integers(0, len(encoded) - 1))
    encoded[place] ^= data.draw(st.integers(1, 255))
    try:
        read = cbor.decode(bytes(encoded))
    except IntegrityError:
        return
    assert cbor.encode(read) == encoded and not same(read, [cbor.Link(CID), value])


@given(st.lists(st.sampled_from([b"\xd8\x2a", b"\x58\x25", b"\0", CID, LINK, b"\x82", b"\xa1", b"\x61a"]), max_size=8))
def test_pieces_of_links_are_read_strictly(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    with suppress(IntegrityError):
        assert cbor.encode(cbor.decode(data)) == data
    fast = cbor.decode_with_links(data)
    if fast is not None and fast[1] == 0:
        assert same(fast[0], cbor.decode(data))
