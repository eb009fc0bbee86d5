"""Text records of libp2p's mDNS: what we say is read back, what others say is bounded, and belongs to one peer."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rhizome_index.errors import IntegrityError
from rhizome_index.index.head import Identity
from rhizome_index.limits import MDNS_ADDRESSES_MAX, MDNS_TEXT_BYTES_MAX
from rhizome_index.wire import mdns
from rhizome_index.wire.mdns import announced, encode_text, ip_of, is_loopback, read_text
from rhizome_index.wire.multiaddr import encode_multiaddr

ONE, TWO = (Identity(name * 32).peer_id for name in (b"1", b"2"))
ADDRESSES = st.one_of(
    st.builds("/ip4/{}/tcp/{}/p2p/{}".format, st.ip_addresses(v=4), st.integers(0, 65535), st.just(ONE)),
    st.builds("/ip6/{}/tcp/{}/ws/p2p/{}".format, st.ip_addresses(v=6), st.integers(0, 65535), st.just(ONE)),
)
RELAYED = f"/ip4/192.0.2.1/tcp/1/p2p/{TWO}/p2p-circuit/p2p/{ONE}"


def entry(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return bytes([len(data)]) + data


def said(*addresses: str) -> bytes:
    return b"".join(entry(f"dnsaddr={address}") for address in addresses)


@given(st.lists(ADDRESSES, unique=True, max_size=MDNS_ADDRESSES_MAX))
def test_what_is_said_is_heard(addresses: list[str]) -> None:
    assert read_text(encode_text(addresses)) == tuple(addresses)


@given(st.lists(ADDRESSES, unique=True, max_size=40))
def test_a_record_has_room_for_so_much(addresses: list[str]) -> None:
    data = encode_text(addresses)
    assert len(data) <= MDNS_TEXT_BYTES_MAX
    assert read_text(data) == tuple(addresses[:MDNS_ADDRESSES_MAX])


def test_an_address_that_is_too_long_is_left_out_and_others_are_not() -> None:
    long = f"/dns4/{'x' * 200}/tcp/1/p2p/{ONE}"
    short = f"/ip4/192.0.2.1/tcp/1/p2p/{ONE}"
    assert encode_text([long, short]) == said(short)


@given(st.one_of(st.binary(max_size=200), st.lists(st.binary(max_size=60).map(entry)).map(b"".join)))
@example(entry(b"dnsaddr=\xff"))
def test_whatever_is_heard_is_addresses_of_one_peer_or_refused(data: bytes) -> None:
    with suppress(IntegrityError):
        found = read_text(data)
        assert len({text.rpartition("/p2p/")[2] for text in found}) <= 1
        for text in found:
            encode_multiaddr(text)


@pytest.mark.parametrize("more", [0, 1])
def test_sizes_at_the_limit_and_one_past_it(more: int) -> None:
    data = said(f"/ip4/192.0.2.1/tcp/1/p2p/{ONE}")
    while len(data) + 1 <= MDNS_TEXT_BYTES_MAX + more:
        data += entry(bytes(min(255, MDNS_TEXT_BYTES_MAX + more - len(data) - 1)))
    assert len(data) == MDNS_TEXT_BYTES_MAX + more
    if more:
        with pytest.raises(IntegrityError, match="too long"):
            read_text(data)
    else:
        assert len(read_text(data)) == 1


@pytest.mark.parametrize("more", [0, 1])
def test_addresses_at_the_limit_and_one_past_it(more: int) -> None:
    addresses = [f"/ip4/192.0.2.1/tcp/{port}/p2p/{ONE}" for port in range(1, MDNS_ADDRESSES_MAX + 1 + more)]
    assert read_text(said(*addresses)) == tuple(addresses[:MDNS_ADDRESSES_MAX])


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (said(f"/ip4/192.0.2.1/tcp/1/p2p/{ONE}", f"/ip4/192.0.2.1/tcp/2/p2p/{TWO}"), "several peers"),
        (b"\x05dns", "ends too early"),
    ],
)
def test_what_no_honest_peer_says(data: bytes, says: str) -> None:
    with pytest.raises(IntegrityError, match=says):
        read_text(data)


@pytest.mark.parametrize(
    "text",
    [
        "/ip4/192.0.2.1/tcp/1",
        f"/p2p/{ONE}",
        f"/ip4/192.0.2.1/tcp/1/p2p/{ONE}/p2p-circuit",
        RELAYED,
        "nonsense",
        "",
        "/x/y",
    ],
)
def test_what_is_of_no_use_is_passed_over(text: str) -> None:
    good = f"/ip4/192.0.2.1/tcp/1/p2p/{ONE}"
    assert read_text(said(text, good) + entry("other=1") + entry("")) == (good,)


def test_loopback_is_announced_only_where_there_is_nothing_else() -> None:
    here, near = f"/ip4/127.0.0.1/tcp/1/p2p/{ONE}", f"/ip4/192.0.2.1/tcp/1/p2p/{ONE}"
    assert announced([here, near, RELAYED]) == (near,)
    assert announced([here, f"/ip6/::1/tcp/1/p2p/{ONE}"]) == (here, f"/ip6/::1/tcp/1/p2p/{ONE}")
    assert announced([RELAYED]) == ()
    assert [ip_of(text) for text in (near, RELAYED, "/dns4/example.org/tcp/1", "")] == ["192.0.2.1"] * 2 + ["", ""]
    assert [is_loopback(text) for text in (here, near, "/dns4/localhost/tcp/1", "")] == [True, False, False, False]


@given(st.binary(min_size=20, max_size=20))
def test_a_name_is_as_the_specification_has_it(seed: bytes) -> None:
    name = mdns.name_of(seed)
    assert re.fullmatch(r"[a-z0-9]{32,63}\._p2p\._udp\.local\.", name) and mdns.is_name(name)


def test_names_differ_and_others_are_none() -> None:
    assert len({mdns.name_of(number.to_bytes(20, "big")) for number in range(100)}) == 100
    assert not mdns.is_name(mdns.SERVICE) and not mdns.is_name("x._http._tcp.local.")
    assert mdns.is_name("X._P2P._UDP.LOCAL.")
