"""Frames at their limits, and however they are cut into reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhizome_index.blocks.varint import uvarint
from rhizome_index.errors import IntegrityError
from rhizome_index.limits import FRAME_BYTES_MAX
from rhizome_index.wire.frame import FrameReader, encode_frame


def test_a_frame_at_the_limit_and_one_past_it() -> None:
    most = bytes(FRAME_BYTES_MAX)
    assert list(FrameReader().feed(encode_frame(most))) == [most]
    with pytest.raises(AssertionError):
        encode_frame(most + b"\0")
    reader = FrameReader()
    with pytest.raises(IntegrityError, match=f"a frame of {FRAME_BYTES_MAX + 1} bytes"):
        list(reader.feed(uvarint(FRAME_BYTES_MAX + 1)))  # on the announcement, before a byte of it has come


def test_a_frame_of_nothing_is_refused() -> None:
    with pytest.raises(IntegrityError, match="a frame of 0 bytes"):
        list(FrameReader().feed(b"\0"))


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=8), st.integers(1, 50))
def test_frames_come_back_whatever_the_reads(bodies: list[bytes], size: int) -> None:
    stream = b"".join(map(encode_frame, bodies))
    reader = FrameReader()
    found = [body for start in range(0, len(stream), size) for body in reader.feed(stream[start : start + size])]
    assert found == bodies and reader.is_between_frames
