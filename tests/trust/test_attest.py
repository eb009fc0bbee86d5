"""Attestations: what is signed is what is read, and nothing else is; and where a peer's network begins."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhizome_index.blocks.cid import cid_of
from rhizome_index.errors import IntegrityError
from rhizome_index.index.head import Identity
from rhizome_index.limits import ATTESTATION_BYTES_MAX, INDEX_PATHS_MAX
from rhizome_index.tree.node import Tree
from rhizome_index.trust.attest import attest, open_attestation
from rhizome_index.trust.ladder import Derivation
from rhizome_index.wire.multiaddr import network_of

NATURALS = st.integers(0, 2**53 - 1)
DERIVATIONS = st.builds(
    Derivation,
    st.binary(min_size=32, max_size=32),
    st.builds(lambda data, count: Tree(cid_of(data), count), st.binary(max_size=8), NATURALS),
    st.lists(NATURALS, max_size=INDEX_PATHS_MAX).map(tuple),
)
SIGNER, OTHER = Identity(b"s" * 32), Identity(b"o" * 32)
PEER = "/p2p/12D3KooWSxpeJpcAebtV9emdNM7bUNATFhTx2JirESHYLkxhVvHC"


@given(DERIVATIONS)
def test_what_is_signed_is_read(derivation: Derivation) -> None:
    said = attest(SIGNER, derivation)
    assert open_attestation(said.envelope) == said and said.derivation == derivation
    assert said.peer_id == SIGNER.peer_id and attest(SIGNER, derivation) == said != attest(OTHER, derivation)


def test_the_longest_fits() -> None:
    longest = Derivation(bytes(32), Tree(cid_of(b""), 2**53 - 1), (2**53 - 1,) * INDEX_PATHS_MAX)
    assert len(attest(SIGNER, longest).envelope) <= ATTESTATION_BYTES_MAX


@given(DERIVATIONS, st.data())
def test_one_bit_changed_is_refused(derivation: Derivation, data: st.DataObject) -> None:
    envelope = bytearray(attest(SIGNER, derivation).envelope)
    at = data.draw(st.integers(0, 8 * len(envelope) - 1))
    envelope[at // 8] ^= 1 << at % 8
    with pytest.raises(IntegrityError):
        open_attestation(bytes(envelope))


def test_the_signature_of_one_is_not_that_of_another() -> None:
    one = Derivation(bytes(32), Tree(cid_of(b""), 1), ())
    other = replace(one, tree=Tree(cid_of(b""), 2))
    with pytest.raises(IntegrityError, match="does not match"):
        open_attestation(attest(SIGNER, one).envelope[:-64] + attest(SIGNER, other).envelope[-64:])


@pytest.mark.parametrize(
    ("addresses", "network"),
    [
        ([], None),
        (["/ip4/10.1.2.3/tcp/4711"], "10.1.0.0/16"),
        (["/ip4/10.1.255.255/tcp/1/ws"], "10.1.0.0/16"),
        (["/ip4/10.2.0.0/tcp/1"], "10.2.0.0/16"),
        (["/ip6/2001:db8:1::1/tcp/1"], "2001:db8::/32"),
        (["/ip6/fe80::1%eth0/tcp/1"], "fe80::/32"),
        (["/ip6/::ffff:10.1.2.3/tcp/1"], "10.1.0.0/16"),
        (["/dns4/example.org/tcp/1"], None),
        (["/dns4/example.org/tcp/1", "/ip4/10.1.2.3/tcp/1"], "10.1.0.0/16"),
        ([f"/ip4/10.1.2.3/tcp/1{PEER}/p2p-circuit"], None),
        (["/ip4/nonsense", "nonsense", "", "/"], None),
    ],
)
def test_the_network_of_a_peer(addresses: list[str], network: str | None) -> None:
    assert network_of(addresses) == network_of([address + PEER for address in addresses]) == network
