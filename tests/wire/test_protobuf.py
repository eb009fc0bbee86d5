"""Protobuf: what is written comes back, here and in the library that everybody uses, and what is broken is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libp2p.pubsub.pb import rpc_pb2

from rhizome_index.errors import IntegrityError
from rhizome_index.wire import protobuf

NUMBERS = st.integers(1, 2000)
VALUES = st.one_of(st.integers(0, 2**64 - 1), st.binary(max_size=50))


@given(st.lists(st.tuples(NUMBERS, VALUES), max_size=10))
def test_fields_come_back_in_their_order(written: list[tuple[int, int | bytes]]) -> None:
    data = b"".join(protobuf.field(number, value) for number, value in written)
    assert list(protobuf.fields(data)) == written


@given(st.lists(st.tuples(NUMBERS, VALUES), min_size=1, max_size=5), st.data())
def test_a_message_that_was_cut_off_is_refused(written: list[tuple[int, int | bytes]], draw: st.DataObject) -> None:
    parts = [protobuf.field(number, value) for number, value in written]
    cut = draw.draw(st.integers(1, len(parts[-1]) - 1))
    with pytest.raises(IntegrityError):
        list(protobuf.fields(b"".join(parts)[:-cut]))


@given(st.binary(max_size=100))
def test_whatever_comes_is_read_or_refused(data: bytes) -> None:
    try:
        list(protobuf.fields(data))
    except IntegrityError:
        return
    for number, value in protobuf.fields(data):
        assert number >= 0 and (type(value) is bytes or 0 <= value < 2**70)


def test_fixed_fields_are_passed_over() -> None:
    data = b"\x0d1234" + b"\x1112345678" + protobuf.field(3, "text")
    assert list(protobuf.fields(data)) == [(3, b"text")]
    with pytest.raises(IntegrityError, match="ends too early"):
        list(protobuf.fields(b"\x0d123"))


def test_a_group_is_no_field_of_ours() -> None:
    with pytest.raises(IntegrityError, match="not a protobuf message"):
        list(protobuf.fields(b"\x0b\x0c"))


@given(st.booleans(), st.text(max_size=20))
def test_the_library_reads_the_same(is_on: bool, topic: str) -> None:
    written = protobuf.field(1, int(is_on)) + protobuf.field(2, topic)
    found = rpc_pb2.RPC.SubOpts.FromString(written)
    assert (found.subscribe, found.topicid) == (is_on, topic)


def test_values_of_the_wrong_type_are_refused() -> None:
    assert protobuf.text_of(b"a") == "a" and protobuf.bytes_of(b"a") == b"a" and protobuf.number_of(7) == 7
    for wrong in (lambda: protobuf.text_of(b"\xff"), lambda: protobuf.bytes_of(7), lambda: protobuf.number_of(b"a")):
        with pytest.raises(IntegrityError):
            wrong()
