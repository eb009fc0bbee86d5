"""What is packed comes back, whatever deflated it; what is not, or unpacks to more than a frame, is refused."""

from __future__ import annotations

import zlib
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhizome_index.blocks import cbor
from rhizome_index.errors import IntegrityError
from rhizome_index.limits import FRAME_BYTES_MAX
from rhizome_index.wire import message as m
from rhizome_index.wire.frame import FrameReader
from rhizome_index.wire.packed import pack, unpack


def deflated(data: bytes, level: int = 9) -> bytes:
    deflating = zlib.compressobj(level, wbits=-15)
    return deflating.compress(data) + deflating.flush()


@given(st.lists(st.none() | st.binary(max_size=300), max_size=20), st.integers(0, 9))
def test_what_is_packed_comes_back_whatever_deflated_it(blocks: list[bytes | None], level: int) -> None:
    assert unpack(pack(blocks)) == unpack(deflated(cbor.encode(blocks), level)) == blocks


@given(st.binary(max_size=200), st.integers(0, 200), st.integers(0, 7))
def test_what_is_changed_is_read_or_refused(data: bytes, place: int, bit: int) -> None:
    changed = bytearray(pack([data, None, b"abc" * 50]))
    changed[place % len(changed)] ^= 1 << bit
    for wrong in (data, bytes(changed)):
        try:
            unpack(wrong)
        except IntegrityError:
            continue


def test_as_much_as_a_frame_holds_and_one_byte_more() -> None:
    most = [bytes(FRAME_BYTES_MAX - 4)]
    assert len(cbor.encode(most)) == FRAME_BYTES_MAX and unpack(pack(most)) == most
    for wrong in (pack([most[0] + b"\0"]), deflated(bytes(2**24))):
        with pytest.raises(IntegrityError, match="more than 65536 bytes"):
            unpack(wrong)


@pytest.mark.parametrize("level", [0, 1, 9])
def test_every_cut_and_anything_behind_it_is_refused(level: int) -> None:
    data = deflated(cbor.encode([b"abc" * 9, None]), level)
    for wrong in [*(data[:end] for end in range(len(data))), data + b"\0", data + data]:
        with pytest.raises(IntegrityError):
            unpack(wrong)


def test_what_does_not_get_shorter_is_sent_as_it_is() -> None:
    digests = b"".join(sha256(bytes([n])).digest() for n in range(255))
    for block, kind in ((b"word " * 200, "packed"), (digests, "blocks"), (None, "blocks")):
        packer = m.BlockPacker(1, deflates=True)
        (body,) = FrameReader().feed(b"".join([*packer.add(block), *packer.flush()]))
        assert cbor.decode(body)[1] == kind
        assert m.ReplyReader().read(body) == m.Blocks(1, (block,), kind == "packed")
