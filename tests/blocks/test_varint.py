"""Varints: one form a number, bounded, and patient with what has not arrived yet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhizome_index.blocks.varint import append_uvarint, read_uvarint, uvarint
from rhizome_index.errors import IntegrityError


@given(st.integers(0, 2**63 - 1), st.binary(max_size=3), st.binary(max_size=3))
def test_numbers_come_back_wherever_they_stand(value: int, before: bytes, behind: bytes) -> None:
    target = bytearray(before)
    append_uvarint(target, value)
    data = bytes(target) + behind
    end = len(target)
    assert read_uvarint(data, len(before), 9) == (value, end)
    for cut in range(len(before), end):
        assert read_uvarint(data[:cut], len(before), 9) is None


@pytest.mark.parametrize("width", [1, 2, 3, 9])
def test_the_width_is_bounded(width: int) -> None:
    largest = 2 ** (7 * width) - 1
    assert read_uvarint(uvarint(largest), 0, width) == (largest, width)
    with pytest.raises(IntegrityError):
        read_uvarint(uvarint(largest + 1), 0, width)


@pytest.mark.parametrize("data", [b"\x80\x00", b"\xff\x00", b"\x80\x80\x00", b"\x81\x80\x00"])
def test_longer_forms_are_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        read_uvarint(data, 0, 5)


@given(st.binary(max_size=12), st.integers(1, 9))
def test_any_bytes_are_a_number_unfinished_or_refused(data: bytes, width: int) -> None:
    try:
        found = read_uvarint(data, 0, width)
    except IntegrityError:
        return
    if found is None:
        assert len(data) < width
    else:
        assert uvarint(found[0]) == data[: found[1]]
