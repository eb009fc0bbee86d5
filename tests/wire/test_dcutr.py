"""Messages of direct connection upgrades: that the library reads and writes the same ones, and what is refused."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libp2p.relay.circuit_v2.pb.dcutr_pb2 import HolePunch

from rhizome_index.errors import IntegrityError
from rhizome_index.index.head import Identity
from rhizome_index.limits import ADDRESS_BYTES_MAX, CIRCUIT_MESSAGE_BYTES_MAX, UPGRADE_ADDRESSES_MAX
from rhizome_index.wire.dcutr import check_sync, encode_connect, encode_sync, read_connect
from rhizome_index.wire.frame import FrameReader
from rhizome_index.wire.multiaddr import encode_multiaddr
from rhizome_index.wire.protobuf import field

PEER = Identity(b"p" * 32).peer_id
PLACES = st.one_of(
    st.builds("/ip4/{}/tcp/{}".format, st.ip_addresses(v=4), st.integers(0, 65535)),
    st.builds("/ip6/{}/tcp/{}/ws".format, st.ip_addresses(v=6), st.integers(0, 65535)),
)


def body(frame: bytes) -> bytes:
    (found,) = FrameReader(CIRCUIT_MESSAGE_BYTES_MAX).feed(frame)
    return found


@given(st.lists(PLACES, unique=True, max_size=UPGRADE_ADDRESSES_MAX))
def test_where_a_peer_is_is_read(places: list[str]) -> None:
    said = body(encode_connect(places))
    assert read_connect(said) == tuple(places)
    theirs = HolePunch.FromString(said)
    assert theirs.type == HolePunch.CONNECT and list(theirs.ObsAddrs) == [encode_multiaddr(place) for place in places]
    assert read_connect(theirs.SerializeToString()) == tuple(places)


def test_now_is_read() -> None:
    check_sync(body(encode_sync()))
    assert HolePunch.FromString(body(encode_sync())).type == HolePunch.SYNC


@pytest.mark.parametrize("more", [0, 1])
def test_addresses_at_the_limit_and_one_past_it(more: int) -> None:
    places = [f"/ip4/192.0.2.1/tcp/{port}" for port in range(1, UPGRADE_ADDRESSES_MAX + 1 + more)]
    data = field(1, 100) + b"".join(field(2, encode_multiaddr(place)) for place in places)
    assert read_connect(data) == tuple(places[:UPGRADE_ADDRESSES_MAX])
    assert len(read_connect(body(encode_connect(places)))) == UPGRADE_ADDRESSES_MAX


@pytest.mark.parametrize("more", [0, 1])
def test_the_size_of_an_address_at_the_limit_and_one_past_it(more: int) -> None:
    address = encode_multiaddr("/dns/" + "x" * (ADDRESS_BYTES_MAX + more - 3))
    assert len(address) == ADDRESS_BYTES_MAX + more
    assert len(read_connect(field(1, 100) + field(2, address))) == (0 if more else 1)


def test_what_is_of_no_use_is_passed_over() -> None:
    relayed = encode_multiaddr(f"/ip4/192.0.2.1/tcp/1/p2p/{PEER}/p2p-circuit")
    good = encode_multiaddr("/ip4/192.0.2.1/tcp/1")
    data = field(1, 100) + b"".join(field(2, item) for item in (b"", b"\xff", relayed, good, good))
    assert read_connect(data) == ("/ip4/192.0.2.1/tcp/1",)


@pytest.mark.parametrize(
    "data", [b"", b"\xff", field(1, 300), field(1, 0), field(1, b"x"), field(1, 100) + field(2, 1)]
)
def test_what_does_not_say_where_a_peer_is(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        read_connect(data)


@pytest.mark.parametrize("data", [b"", b"\xff", field(1, 100), field(1, b"x")])
def test_what_is_not_now(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        check_sync(data)


@given(st.binary(max_size=300))
def test_whatever_is_said_is_read_or_refused(data: bytes) -> None:
    for read in (read_connect, check_sync):
        with suppress(IntegrityError):
            read(data)
