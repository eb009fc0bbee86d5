"""Blocks of any size travel in frames that fit; what is larger than any block does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhizome_index.blocks import cbor
from rhizome_index.errors import IntegrityError
from rhizome_index.limits import ERROR_TEXT_MAX, FRAME_BYTES_MAX, FRAME_PAYLOAD_BYTES, RECORD_BYTES_MAX
from rhizome_index.wire import message as m
from rhizome_index.wire.frame import FrameReader

NUMBER = 2**32 - 1  # the longest


def packed(blocks: list[bytes | None], *, deflates: bool = False) -> list[bytes]:
    """The messages of an answer with these blocks."""
    packer = m.BlockPacker(NUMBER, deflates=deflates)
    frames = [frame for block in blocks for frame in packer.add(block)] + list(packer.flush())
    return list(FrameReader().feed(b"".join(frames)))


def unpacked(bodies: list[bytes]) -> list[bytes | None]:
    reader = m.ReplyReader()
    found: list[bytes | None] = []
    for body in bodies:
        reply = reader.read(body)
        if reply is not None:
            assert isinstance(reply, m.Blocks) and reply.number == NUMBER
            found += reply.blocks
    return found


EDGES = [0, 1, FRAME_PAYLOAD_BYTES - 9, FRAME_PAYLOAD_BYTES - 8, FRAME_PAYLOAD_BYTES, FRAME_PAYLOAD_BYTES + 1]
SIZES = st.integers(0, 70_000) | st.sampled_from([*EDGES, 2 * FRAME_PAYLOAD_BYTES, 2 * FRAME_PAYLOAD_BYTES + 1])


@given(st.lists(st.none() | SIZES, max_size=6), st.booleans())
def test_blocks_of_any_size_come_back(sizes: list[int | None], deflates: bool) -> None:
    blocks = [None if size is None else bytes([place]) * size for place, size in enumerate(sizes)]
    bodies = packed(blocks, deflates=deflates)
    assert unpacked(bodies) == blocks
    assert all(len(body) <= FRAME_BYTES_MAX for body in bodies)


def test_many_small_blocks_fill_a_frame_and_no_more() -> None:
    bodies = packed([b""] * 20_000)
    assert len(unpacked(bodies)) == 20_000 and max(map(len, bodies)) <= FRAME_BYTES_MAX


def test_a_block_at_the_limit_and_one_past_it() -> None:
    most = bytes(RECORD_BYTES_MAX)
    assert unpacked(packed([b"a", most, b"b"])) == [b"a", most, b"b"]
    with pytest.raises(IntegrityError, match="larger than any may be"):
        unpacked(packed([most + bytes(FRAME_PAYLOAD_BYTES)]))
    parts = m.ReplyReader()
    for _ in range(RECORD_BYTES_MAX // FRAME_PAYLOAD_BYTES):
        assert parts.read(cbor.encode([NUMBER, "part", bytes(FRAME_PAYLOAD_BYTES)])) is None
    rest = RECORD_BYTES_MAX % FRAME_PAYLOAD_BYTES
    with pytest.raises(IntegrityError, match="larger than any may be"):
        parts.read(cbor.encode([NUMBER, "part", bytes(rest + 1)]))


def test_what_is_said_for_people_is_cut() -> None:
    said = "é" * (ERROR_TEXT_MAX + 1)
    (body,) = FrameReader().feed(m.encode_failure(1, m.BUSY, said))
    assert cbor.decode(body)[3] == said[:-1]
    failure = m.ReplyReader().read(cbor.encode([1, "error", m.BUSY, said]))
    assert failure == m.Failure(1, m.BUSY, said[:-1])


def test_a_number_at_the_limit_and_one_past_it() -> None:
    assert m.decode_request(cbor.encode([2**32 - 1, {}])).number == 2**32 - 1
    for wrong in (2**32, -1, True):
        with pytest.raises(IntegrityError, match="a number out of range"):
            m.decode_request(cbor.encode([wrong, {}]))


@pytest.mark.parametrize("fields", [None, 1, 1.5, "a", b"a", [], ["a"]])
def test_fields_are_a_map(fields: object) -> None:
    assert m.read_fields({"a": 1}, a=m.is_natural) == [1]
    with pytest.raises(IntegrityError, match="no map"):
        m.read_fields(fields, a=m.is_natural)
