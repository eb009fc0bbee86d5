"""What processes of one home say to each other: everything comes back, and nothing else is taken for it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhizome_index.blocks import cbor
from rhizome_index.errors import IntegrityError, PartialError, RemoteError, RhizomeError, StoreError, UnavailableError
from rhizome_index.errors import UsageError as Usage
from rhizome_index.limits import CONTROL_ANSWER_BYTES_MAX, CONTROL_WAIT_MS_MAX, ERROR_TEXT_MAX, FRAME_BYTES_MAX
from rhizome_index.wire import control
from rhizome_index.wire.frame import FrameReader

TEXT = st.text(max_size=300)
WAIT = st.integers(1, CONTROL_WAIT_MS_MAX)
REQUESTS = st.one_of(
    st.builds(control.WatchPeers),
    st.builds(control.Dial, TEXT, WAIT),
    st.builds(control.Disconnect, TEXT),
    st.builds(control.Borrow, TEXT, TEXT, WAIT),
    st.builds(control.Bring, TEXT),
    st.builds(control.Look),
    st.builds(control.Status),
)


def body_of(frame: bytes, bytes_max: int = FRAME_BYTES_MAX) -> bytes:
    (body,) = FrameReader(bytes_max).feed(frame)
    return body


@given(REQUESTS)
def test_a_request_comes_back(request: control.Request) -> None:
    assert control.decode_request(body_of(control.encode_request(request))) == request


@given(REQUESTS, st.data())
def test_a_changed_request_is_another_or_none(request: control.Request, data: st.DataObject) -> None:
    body = body_of(control.encode_request(request))
    place, changed = data.draw(st.integers(0, len(body) - 1)), data.draw(st.integers(0, 255))
    for wrong in (body[:place], body[:place] + bytes([changed]) + body[place + 1 :], body + bytes([changed])):
        with suppress(IntegrityError):
            assert control.decode_request(wrong) != request or wrong == body


WRONG: list[Any] = [
    None,
    [],
    {},
    [1, "peers"],
    [1, "peers", {}, 0],
    [1, "peers", []],
    [1, "peers", {"more": 1}],
    [1, 7, {}],
    [1, "dial", {}],
    [1, "dial", {"address": "/ip4", "timeout_ms": 1, "more": 1}],
    [1, "dial", {"address": b"/ip4", "timeout_ms": 1}],
    [1, "dial", {"address": "/ip4", "timeout_ms": 0}],
    [1, "dial", {"address": "/ip4", "timeout_ms": 1.0}],
    [1, "dial", {"address": "/ip4", "timeout_ms": True}],
    [1, "dial", {"address": "/ip4", "timeout_ms": CONTROL_WAIT_MS_MAX + 1}],
    [1, "borrow", {"peer_id": "x", "protocol": None, "timeout_ms": 1}],
    [0, "peers", {}],
    [2, "peers", {}],
    [1, "something new", {}],
]


@pytest.mark.parametrize("value", WRONG, ids=str)
def test_what_is_no_request(value: Any) -> None:
    with pytest.raises(IntegrityError):
        control.decode_request(cbor.encode(value))


def test_another_version_is_told_so() -> None:
    with pytest.raises(IntegrityError, match="another version of this program: 2 'peers'"):
        control.decode_request(cbor.encode([2, "peers", {}]))


@given(st.dictionaries(TEXT, TEXT | st.integers(0, 2**53) | st.none() | st.lists(TEXT), max_size=4))
def test_an_answer_comes_back(fields: dict[str, Any]) -> None:
    assert control.decode_answer(body_of(control.encode_news(fields))) == control.News(fields)
    assert control.decode_answer(body_of(control.encode_end(fields))) == control.End(fields)


def test_an_answer_may_be_larger_than_what_peers_send() -> None:
    fields = {"text": "x" * (CONTROL_ANSWER_BYTES_MAX - 30)}
    frame = control.encode_end(fields)
    assert control.decode_answer(body_of(frame, CONTROL_ANSWER_BYTES_MAX)) == control.End(fields)
    with pytest.raises(AssertionError):
        control.encode_end({"text": "x" * CONTROL_ANSWER_BYTES_MAX})


ERRORS = [
    (Usage("no", hint="do"), Usage),
    (StoreError("no", hint="do"), StoreError),
    (UnavailableError("no"), UnavailableError),
    (IntegrityError("no"), IntegrityError),
    (RemoteError("12D", "lies"), IntegrityError),
    (PartialError("half"), UnavailableError),
]


@pytest.mark.parametrize(("error", "kind"), ERRORS, ids=lambda item: getattr(item, "__name__", ""))
def test_an_error_keeps_whose_fault_it_is_and_what_to_do(error: RhizomeError, kind: type[RhizomeError]) -> None:
    answer = control.decode_answer(body_of(control.encode_error(error)))
    assert isinstance(answer, control.Failed) and type(answer.error) is kind
    assert (str(answer.error), answer.error.hint) == (str(error), error.hint)


def test_an_error_is_cut() -> None:
    error = UnavailableError("é" * (ERROR_TEXT_MAX + 1), hint="é" * (ERROR_TEXT_MAX + 1))
    answer = control.decode_answer(body_of(control.encode_error(error)))
    assert isinstance(answer, control.Failed)
    assert len(str(answer.error)) == len(answer.error.hint) == ERROR_TEXT_MAX


@pytest.mark.parametrize(
    "value", [None, ["end"], ["end", []], ["begin", {}], ["error", "new", "", ""], ["error", "usage", ""], {}], ids=str
)
def test_what_is_no_answer(value: Any) -> None:
    with pytest.raises(IntegrityError):
        control.decode_answer(cbor.encode(value))


@given(st.integers(0, 200_000))
def test_bytes_for_a_peer_come_through(size: int) -> None:
    data = bytes(place % 251 for place in range(size))
    stream = b"".join(control.encode_bytes(data)) + control.encode_close()
    found = [control.decode_bytes(body) for body in FrameReader().feed(stream)]
    assert found.pop() is None and b"".join(part or b"?" for part in found) == data


@pytest.mark.parametrize("value", ["text", 1, [b""], {}], ids=str)
def test_what_is_nothing_for_a_peer(value: Any) -> None:
    with pytest.raises(IntegrityError):
        control.decode_bytes(cbor.encode(value))


def test_what_comes_behind_a_frame_is_left_as_it_is() -> None:
    reader = FrameReader()
    frames = reader.feed(control.encode_end({}) + control.encode_close() + b"\xff\xff\xff\xff")
    assert control.decode_answer(next(frames)) == control.End({})
    frames.close()
    frames = reader.feed(b"")
    assert control.decode_bytes(next(frames)) is None
    frames.close()
    assert reader.take_rest() == b"\xff\xff\xff\xff" and reader.is_between_frames
