"""What identify says: that the library's messages are read, and what is passed over or refused."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libp2p.identity.identify.pb.identify_pb2 import Identify

from rhizome_index.errors import IntegrityError
from rhizome_index.index.head import Identity
from rhizome_index.limits import ADDRESS_BYTES_MAX, UPGRADE_ADDRESSES_MAX
from rhizome_index.wire.identify import Identified, read_identify
from rhizome_index.wire.multiaddr import encode_multiaddr
from rhizome_index.wire.protobuf import field
from tests.wire.test_dcutr import PLACES

RELAYED = encode_multiaddr(f"/ip4/192.0.2.1/tcp/1/p2p/{Identity(b'p' * 32).peer_id}/p2p-circuit")


@given(st.lists(PLACES, unique=True, max_size=UPGRADE_ADDRESSES_MAX), st.none() | PLACES)
def test_what_the_library_writes_is_read(listens: list[str], observed: str | None) -> None:
    said = Identify(
        protocol_version="x",
        public_key=b"key",
        listen_addrs=map(encode_multiaddr, listens),
        protocols=["/a", "/b"],
        observed_addr=None if observed is None else encode_multiaddr(observed),
    )
    assert read_identify(said.SerializeToString()) == Identified(tuple(listens), observed)


@pytest.mark.parametrize("more", [0, 1])
def test_addresses_at_the_limit_and_one_past_it(more: int) -> None:
    places = [f"/ip4/192.0.2.1/tcp/{port}" for port in range(1, UPGRADE_ADDRESSES_MAX + 1 + more)]
    said = b"".join(field(2, encode_multiaddr(place)) for place in places)
    assert read_identify(said).listens == tuple(places[:UPGRADE_ADDRESSES_MAX])


@pytest.mark.parametrize("more", [0, 1])
def test_the_size_of_an_address_at_the_limit_and_one_past_it(more: int) -> None:
    address = encode_multiaddr("/dns/" + "x" * (ADDRESS_BYTES_MAX + more - 3))
    assert len(address) == ADDRESS_BYTES_MAX + more
    found = read_identify(field(2, address) + field(4, address))
    assert (len(found.listens), found.observed is None) == ((1, False) if more == 0 else (0, True))


def test_what_is_of_no_use_is_passed_over() -> None:
    good = encode_multiaddr("/ip4/192.0.2.1/tcp/1")
    said = b"".join(field(2, item) for item in (b"", b"\xff", RELAYED, good, good)) + field(4, RELAYED) + field(1, 7)
    assert read_identify(said) == Identified(("/ip4/192.0.2.1/tcp/1",))


@pytest.mark.parametrize("data", [b"\xff", field(2, 1), field(4, 1)])
def test_nonsense_is_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        read_identify(data)


@given(st.binary())
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with suppress(IntegrityError):
        read_identify(data)
