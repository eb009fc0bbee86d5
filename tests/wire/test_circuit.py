"""Messages of circuit relay v2: that the library reads and writes the same ones, and what is refused."""

from __future__ import annotations

from contextlib import suppress

import base58
import pytest
from hypothesis import given
from hypothesis import strategies as st
from libp2p.relay.circuit_v2.pb.circuit_pb2 import HopMessage, StopMessage

from rhizome_index.errors import IntegrityError
from rhizome_index.index.head import Identity
from rhizome_index.limits import CIRCUIT_MESSAGE_BYTES_MAX, CIRCUIT_PEER_BYTES_MAX, RESERVATION_ADDRESSES_MAX
from rhizome_index.wire import circuit
from rhizome_index.wire.circuit import Answer, Connect, Limit, Reserve, Status
from rhizome_index.wire.frame import FrameReader
from rhizome_index.wire.multiaddr import encode_multiaddr
from rhizome_index.wire.protobuf import field

PEER = Identity(b"p" * 32).peer_id
PLACES = st.builds("/ip4/{}/tcp/{}".format, st.ip_addresses(v=4), st.integers(0, 65535))
LIMITS = st.builds(Limit, st.integers(0, 2**32 - 1), st.integers(0, 2**63))
STATUSES = st.sampled_from(list(Status))


def body(frame: bytes) -> bytes:
    (found,) = FrameReader(CIRCUIT_MESSAGE_BYTES_MAX).feed(frame)
    return found


@given(st.integers(0, 2**63), st.lists(PLACES, max_size=RESERVATION_ADDRESSES_MAX), LIMITS)
def test_what_a_relay_grants_is_read(expires: int, places: list[str], limit: Limit) -> None:
    said = body(circuit.hop_reserved(expires, [encode_multiaddr(place) for place in places], limit))
    assert circuit.read_answer(said) == Answer(Status.OK, expires, tuple(places), limit)
    theirs = HopMessage.FromString(said)
    assert theirs.reservation.expire == expires and len(theirs.reservation.addrs) == len(places)
    theirs.limit.duration, theirs.reservation.voucher = limit.seconds, b"unread"
    assert circuit.read_answer(theirs.SerializeToString()) == Answer(Status.OK, expires, tuple(places), limit)


@given(STATUSES, LIMITS)
def test_other_answers_of_a_relay_are_read(status: Status, limit: Limit) -> None:
    assert circuit.read_answer(body(circuit.hop_refusal(status))) == Answer(status)
    assert circuit.read_answer(body(circuit.hop_connected(limit))) == Answer(Status.OK, limit=limit)


@given(st.integers(0, 2**31))
def test_a_refusal_says_why(status: int) -> None:
    assert Answer(status).reason


def test_what_is_asked_is_read_by_a_relay() -> None:
    assert circuit.read_hop(body(circuit.hop_reserve())) == Reserve()
    assert circuit.read_hop(body(circuit.hop_connect(PEER))) == Connect(PEER)
    theirs = HopMessage.FromString(body(circuit.hop_connect(PEER)))
    assert theirs.type == HopMessage.CONNECT and theirs.peer.id == base58.b58decode(PEER)


@given(LIMITS)
def test_what_a_relay_tells_the_peer_behind_it_is_read(limit: Limit) -> None:
    """Also where the type is left out, being the first of them, as the library's relay does."""
    said = body(circuit.stop_connect(PEER, limit))
    assert circuit.read_stop(said) == (PEER, limit)
    theirs = StopMessage.FromString(said)
    assert circuit.read_stop(theirs.SerializeToString()) == (PEER, limit)


@given(STATUSES)
def test_what_the_peer_behind_says_is_read(status: Status) -> None:
    said = body(circuit.stop_answer(status))
    assert circuit.is_accepted(said) == (status == Status.OK)
    assert StopMessage.FromString(said).status == status


@pytest.mark.parametrize("more", [0, 1])
def test_addresses_at_the_limit_and_one_past_it(more: int) -> None:
    places = [f"/ip4/192.0.2.1/tcp/{port}" for port in range(1, RESERVATION_ADDRESSES_MAX + 1 + more)]
    said = body(circuit.hop_reserved(1, [encode_multiaddr(place) for place in places], Limit(0, 0)))
    assert circuit.read_answer(said).addresses == tuple(places[:RESERVATION_ADDRESSES_MAX])


def test_addresses_of_kinds_unknown_here_are_passed_over() -> None:
    good = encode_multiaddr("/ip4/192.0.2.1/tcp/1")
    said = body(circuit.hop_reserved(1, [b"\xff", b"", good], Limit(0, 0)))
    assert circuit.read_answer(said).addresses == ("/ip4/192.0.2.1/tcp/1",)


@pytest.mark.parametrize("more", [0, 1])
def test_the_id_of_a_peer_at_the_limit_and_one_past_it(more: int) -> None:
    said = field(1, 0) + field(2, field(1, bytes(CIRCUIT_PEER_BYTES_MAX + more)))
    if more:
        with pytest.raises(IntegrityError):
            circuit.read_stop(said)
    else:
        circuit.read_stop(said)


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"\xff", id="no protobuf"),
        pytest.param(b"", id="no type"),
        pytest.param(field(1, 0), id="a request"),
        pytest.param(field(1, b"2"), id="a type that is none"),
        pytest.param(field(1, 2) + field(3, 1), id="a reservation that is none"),
        pytest.param(field(1, 2) + field(3, field(1, b"x")), id="an end that is none"),
        pytest.param(field(1, 2) + field(4, field(1, b"x")), id="a limit that is none"),
        pytest.param(field(1, 2) + field(5, b"100"), id="a status that is none"),
    ],
)
def test_what_no_relay_answers(said: bytes) -> None:
    with pytest.raises(IntegrityError):
        circuit.read_answer(said)


@pytest.mark.parametrize("said", [b"\xff", field(1, 1), field(1, 0), field(1, 0) + field(2, b"")])
def test_what_no_relay_tells(said: bytes) -> None:
    with pytest.raises(IntegrityError):
        circuit.read_stop(said)


@given(st.binary(max_size=300))
def test_whatever_is_said_is_read_or_refused(said: bytes) -> None:
    for read in (circuit.read_answer, circuit.read_stop, circuit.read_hop, circuit.is_accepted):
        with suppress(IntegrityError):
            read(said)
