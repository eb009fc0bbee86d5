"""Messages of Kademlia: that the library reads and writes the same ones, and what is refused; multiaddrs in them."""

from __future__ import annotations

from contextlib import suppress
from hashlib import sha256
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libp2p.kad_dht.pb.kademlia_pb2 import Message as Theirs
from multiaddr import Multiaddr

from rhizome_index.errors import IntegrityError
from rhizome_index.index.address import Address
from rhizome_index.index.head import Identity
from rhizome_index.limits import (
    ADDRESS_BYTES_MAX,
    FRAME_BYTES_MAX,
    KAD_ADDRESSES_MAX,
    KAD_KEY_BYTES_MAX,
    KAD_PEER_ID_BYTES_MAX,
    KAD_PEERS_MAX,
)
from rhizome_index.wire import kad, protobuf
from rhizome_index.wire.kad import (
    ADD_PROVIDER,
    FIND_NODE,
    GET_PROVIDERS,
    Contact,
    Message,
    key_of,
    read_answer,
    read_request,
)
from rhizome_index.wire.multiaddr import decode_multiaddr, encode_multiaddr, some_of, tcp_place

IDS = st.integers(1, 50).map(lambda number: Identity(bytes([number]) * 32).peer_id)
PLACES = st.one_of(
    st.builds("/ip4/{}/tcp/{}".format, st.ip_addresses(v=4), st.integers(0, 65535)),
    st.builds("/ip6/{}/tcp/{}/ws".format, st.ip_addresses(v=6), st.integers(0, 65535)),
    st.just("/dns4/example.org/tcp/443/wss"),
    st.just(f"/ip4/10.0.0.1/tcp/4711/p2p/{Identity(b'r' * 32).peer_id}/p2p-circuit"),
)


@st.composite
def contacts(draw: st.DrawFn) -> Contact:
    peer_id = draw(IDS)
    places = draw(st.lists(PLACES, max_size=KAD_ADDRESSES_MAX, unique=True))
    return Contact(peer_id, tuple(f"{place}/p2p/{peer_id}" for place in places))


MESSAGES = st.builds(
    Message,
    st.sampled_from([ADD_PROVIDER, GET_PROVIDERS, FIND_NODE]),
    st.binary(min_size=1, max_size=KAD_KEY_BYTES_MAX),
    st.lists(contacts(), max_size=4).map(tuple),
    st.lists(contacts(), max_size=4).map(tuple),
)


@given(MESSAGES)
def test_what_is_said_comes_back(message: Message) -> None:
    assert read_request(message.encode()) == message == read_answer(message.encode(), message)


@given(MESSAGES)
def test_the_library_understands_the_same(message: Message) -> None:
    found = Theirs.FromString(message.encode())
    assert (found.type, found.key) == (message.kind, message.key)
    for theirs, ours in ((found.closerPeers, message.closer), (found.providerPeers, message.providers)):
        assert len(theirs) == len(ours)
        for peer, contact in zip(theirs, ours, strict=True):
            tail = f"/p2p/{contact.peer_id}"
            assert list(peer.addrs) == [Multiaddr(text.removesuffix(tail)).to_bytes() for text in contact.addresses]
    assert Message.read(found.SerializeToString()) == message


@given(PLACES)
def test_multiaddrs_are_those_of_the_library(text: str) -> None:
    assert encode_multiaddr(text) == Multiaddr(text).to_bytes() and decode_multiaddr(encode_multiaddr(text)) == text


@given(st.ip_addresses(), st.integers(0, 2**16))
def test_the_place_of_a_plain_tcp_address_is_its_ip_and_its_port(ip: IPv4Address | IPv6Address, port: int) -> None:
    kind = f"/ip{ip.version}"
    text = f"{kind}/{ip}/tcp/{port}"
    assert tcp_place(text) == ((str(ip), port) if 0 < port < 2**16 else None)
    others = (f"/ip{10 - ip.version}/{ip}/tcp/{port}", f"{text}/ws", f"{text}/p2p/12", f"/dns/a/tcp/{port}", text[1:])
    for other in (*others, f"{kind}/{ip}/tcp/+1", f"{kind}/{port}/tcp/1", ""):
        assert tcp_place(other) is None


@given(st.binary(max_size=100))
def test_whatever_comes_is_read_or_refused(data: bytes) -> None:
    with suppress(IntegrityError):
        Message.read(data)
    with suppress(IntegrityError):
        decode_multiaddr(data)


@pytest.mark.parametrize(
    "text", ["", "x", "/", "/ip4/1.2.3", "/ip4", "/tcp/65536", "/tcp/-1", "/onion/x", "/dns/", "/p2p/0"]
)
def test_what_is_no_multiaddr_is_refused(text: str) -> None:
    with pytest.raises(IntegrityError):
        encode_multiaddr(text)


def test_the_key_of_a_dataset_is_the_multihash_of_its_address() -> None:
    address = Address(Identity(b"k" * 32).peer_id, "main")
    assert key_of(address) == b"\x12\x20" + sha256(str(address).encode()).digest()


def test_limits_of_messages_and_one_past_them() -> None:
    ids = [Identity(bytes([number]) * 32).peer_id for number in range(1, KAD_PEERS_MAX + 2)]
    many = tuple(Contact(peer) for peer in ids)
    parts = [protobuf.field(1, GET_PROVIDERS), protobuf.field(2, b"k")]
    body = b"".join(parts + [protobuf.field(9, contact.encode()) for contact in many])
    assert Message.read(body).providers == many[:KAD_PEERS_MAX]
    assert Message.read(Message(GET_PROVIDERS, bytes(KAD_KEY_BYTES_MAX)).encode())
    with pytest.raises(IntegrityError, match="too long"):
        Message.read(Message(GET_PROVIDERS, bytes(KAD_KEY_BYTES_MAX + 1)).encode())
    assert Contact.read(protobuf.field(1, bytes(KAD_PEER_ID_BYTES_MAX)))
    for name in (b"", bytes(KAD_PEER_ID_BYTES_MAX + 1)):
        with pytest.raises(IntegrityError, match="without a name"):
            Contact.read(protobuf.field(1, name))


def test_addresses_past_the_limit_and_of_unknown_kinds_are_passed_over() -> None:
    peer = Identity(b"p" * 32).peer_id
    texts = [f"/ip4/10.0.0.1/tcp/{port}/p2p/{peer}" for port in range(KAD_ADDRESSES_MAX + 1)]
    assert Contact.at(peer, [*texts, "/ip4/10.0.0.1/tcp/1/p2p/other"]).addresses == tuple(texts[:KAD_ADDRESSES_MAX])
    start = Contact(peer).encode()
    place = encode_multiaddr("/ip4/10.0.0.1/tcp/0")
    body = start + b"".join(protobuf.field(2, place[:-1] + bytes([port])) for port in range(KAD_ADDRESSES_MAX + 1))
    assert Contact.read(body).addresses == tuple(texts[:KAD_ADDRESSES_MAX])
    longest = encode_multiaddr("/dns/" + (ADDRESS_BYTES_MAX - 3) * "x")
    assert len(longest) == ADDRESS_BYTES_MAX and Contact.read(start + protobuf.field(2, longest)).addresses
    for unknown in (b"\xcc\x03", b"", longest[:1] + b"\xfe\x03" + longest[3:] + b"x"):
        assert Contact.read(start + protobuf.field(2, unknown)).addresses == ()


def test_contacts_that_are_kept_at_the_limit_and_one_past_it() -> None:
    """What is read twice is the same, whether it was kept or not; large ones are not."""
    peer = Identity(b"p" * 32).peer_id
    start = Contact(peer).encode() + protobuf.field(2, encode_multiaddr("/ip4/10.0.0.1/tcp/1"))
    for size, more in ((kad._CONTACT_BYTES_KEPT, 1), (kad._CONTACT_BYTES_KEPT + 1, 0)):
        body = start + protobuf.field(9, bytes(size - len(start) - 3))
        assert len(body) == size
        kept = kad._read_again.cache_info().currsize
        assert Contact.read(body) == Contact.read(bytes(body)) == Contact(peer, (f"/ip4/10.0.0.1/tcp/1/p2p/{peer}",))
        assert kad._read_again.cache_info().currsize == kept + more
    for _ in range(2):
        with pytest.raises(IntegrityError, match="without a name"):
            Contact.read(b"")


def test_the_greatest_message_fits_a_frame() -> None:
    peer = "1" * KAD_PEER_ID_BYTES_MAX
    full = Contact(peer, tuple(f"/dns/{number}{150 * 'x'}/tcp/1/p2p/{peer}" for number in range(KAD_ADDRESSES_MAX)))
    message = Message(GET_PROVIDERS, bytes(KAD_KEY_BYTES_MAX), KAD_PEERS_MAX * (full,), KAD_PEERS_MAX * (full,))
    assert len(message.encode()) < FRAME_BYTES_MAX


def test_answers_to_other_questions_and_requests_without_keys_are_refused() -> None:
    with pytest.raises(IntegrityError, match="another question"):
        read_answer(Message(FIND_NODE, b"k").encode(), Message(GET_PROVIDERS, b"k"))
    with pytest.raises(IntegrityError, match="without a key"):
        read_request(Message(FIND_NODE, b"").encode())


def test_others_are_told_two_direct_addresses_and_one_through_a_relay() -> None:
    direct = [f"/ip4/192.0.2.1/tcp/{port}" for port in (1, 2, 3)]
    relayed = [f"/ip4/192.0.2.9/tcp/{port}/p2p/x/p2p-circuit/p2p/y" for port in (1, 2)]
    assert some_of([relayed[0], *direct, relayed[1]]) == [*direct[:2], relayed[0]]
    assert some_of(relayed) == relayed[:1] and some_of(direct[:1]) == direct[:1] and some_of(()) == []
