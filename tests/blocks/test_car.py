"""CAR files: whole ones come back in order, all others are refused."""

from __future__ import annotations

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhizome_index.blocks import cbor
from rhizome_index.blocks.car import read_car, write_car
from rhizome_index.blocks.cid import CID_BYTES, cid_of, format_cid, parse_cid
from rhizome_index.blocks.varint import read_uvarint, uvarint
from rhizome_index.errors import IntegrityError, UsageError
from rhizome_index.limits import CAR_HEADER_BYTES_MAX, RECORD_BYTES_MAX

BLOCKS = [(cid_of(data), data) for data in (b"\x80", b"\x00", b"x" * 300)]


def a_file() -> bytes:
    file = BytesIO()
    assert write_car(file, [BLOCKS[0][0]], BLOCKS) == 3
    return file.getvalue()


def read(data: bytes) -> tuple[list[bytes], list[tuple[bytes, bytes]]]:
    roots, blocks = read_car(BytesIO(data))
    return roots, list(blocks)


def test_a_file_comes_back() -> None:
    assert read(a_file()) == ([BLOCKS[0][0]], BLOCKS)


def test_every_cut_is_noticed_or_falls_between_blocks() -> None:
    data = a_file()
    whole = []
    for end in range(len(data)):
        try:
            whole.append(len(read(data[:end])[1]))
        except IntegrityError:
            continue
    assert whole == [0, 1, 2]


def test_every_changed_byte_is_noticed() -> None:
    data = a_file()
    for place in range(len(data)):
        changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        try:
            roots, blocks = read(changed)
        except IntegrityError:
            continue
        assert blocks == BLOCKS and roots != [BLOCKS[0][0]], place


def test_a_section_is_bounded_before_it_is_read() -> None:
    header = a_file()[: a_file()[0] + 1]
    for size in (0, CID_BYTES + RECORD_BYTES_MAX + 1, 2**40):
        with pytest.raises(IntegrityError):
            read(header + uvarint(size) + b"x" * 100)


def test_varints() -> None:
    for value in (0, 1, 127, 128, 300, 2**21 - 1):
        assert read_uvarint(uvarint(value), 0, 3) == (value, len(uvarint(value)))
    assert read_uvarint(b"\x80", 0, 3) is None
    for wrong in (b"\x80\x00", b"\x80\x80\x80"):
        with pytest.raises(IntegrityError):
            read_uvarint(wrong, 0, 3)


@pytest.mark.parametrize("text", ["", "x", "bafy", "Qm" + "x" * 44, "bafkreib" + "a" * 51, "b" * 1000, "é"])
def test_other_texts_are_no_cids(text: str) -> None:
    with pytest.raises(UsageError):
        parse_cid(text)


def test_cids_come_back_from_their_text() -> None:
    assert parse_cid(format_cid(BLOCKS[0][0])) == BLOCKS[0][0]


def test_the_largest_record_fits_and_one_byte_more_does_not() -> None:
    for size, fits in ((RECORD_BYTES_MAX, True), (RECORD_BYTES_MAX + 1, False)):
        file = BytesIO()
        data = bytes(size)
        write_car(file, [], [(cid_of(data), data)])
        if fits:
            assert read(file.getvalue()) == ([], [(cid_of(data), data)])
        else:
            with pytest.raises(IntegrityError):
                read(file.getvalue())


@pytest.mark.parametrize(
    "header",
    [
        {},
        [],
        {"roots": [], "version": 2},
        {"roots": [], "version": 1, "more": 1},
        {"roots": [bytes(BLOCKS[0][0])], "version": 1},
        {"roots": None, "version": 1},
        {"version": 1},
    ],
)
def test_other_headers_are_refused(header: object) -> None:
    data = cbor.encode(header)
    with pytest.raises(IntegrityError):
        read(uvarint(len(data)) + data)


def test_lengths_have_one_form() -> None:
    data = a_file()
    for longer in (bytes([data[0] | 0x80]) + b"\0" + data[1:], b"\x80" * 6 + data):
        with pytest.raises(IntegrityError):
            read(longer)


@given(st.binary(max_size=80))
def test_random_bytes_are_refused(data: bytes) -> None:
    for tail in (data, a_file() + data):
        try:
            read(tail)
        except IntegrityError:
            continue
        assert tail == a_file()


def test_a_header_at_the_limit_and_one_past_it() -> None:
    """Of so many roots; ours have one."""
    most = (CAR_HEADER_BYTES_MAX - 20) // (CID_BYTES + 5)
    for roots in (most, most + 1):
        file = BytesIO()
        write_car(file, [cid_of(b"")] * roots, [])
        file.seek(0)
        if roots == most:
            assert len(read_car(file)[0]) == most
        else:
            with pytest.raises(IntegrityError, match="not a CAR file"):
                read_car(file)
