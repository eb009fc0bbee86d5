"""Attestations: a peer's word that it has made an index from the records, and what came out.

An attestation is `{"given", "lists", "tree"}` in DAG-CBOR inside a signed envelope: a
`Derivation`, which is true or false for all time, so that it carries neither time nor
head. Words are not proof: they count by the networks they come from, since peers cost
nothing and networks do, and none of them count where one says otherwise. That is
never voted on: one of them is wrong, which a fraud proof or making the index here shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from rhizome_index.blocks import cbor
from rhizome_index.blocks.cid import DIGEST_BYTES
from rhizome_index.errors import IntegrityError
from rhizome_index.index.address import peer_id_of
from rhizome_index.index.envelope import Signer, seal, unseal
from rhizome_index.index.manifest import tree_body
from rhizome_index.limits import ATTESTATION_BYTES_MAX, INDEX_PATHS_MAX
from rhizome_index.tree.node import Tree
from rhizome_index.trust.ladder import Derivation

DOMAIN = b"rhizome-attestation"
PAYLOAD_TYPE = b"/rhizome/attestation/1"

_FIELDS = frozenset(("given", "lists", "tree"))


@dataclass(frozen=True, slots=True)
class Attestation:
    """What one peer says of one derivation.

    envelope  the signed bytes, from which all else was read
    """

    peer_id: str
    derivation: Derivation
    envelope: bytes


def attest(signer: Signer, derivation: Derivation) -> Attestation:
    """Make and sign an attestation."""
    body = {"given": derivation.given, "tree": tree_body(derivation.tree), "lists": list(derivation.lists)}
    envelope = seal(signer, DOMAIN, PAYLOAD_TYPE, cbor.encode(body))
    return Attestation(peer_id_of(signer.public_key), derivation, envelope)


@lru_cache(maxsize=1024)  # they are looked at for every answer
def open_attestation(envelope: bytes) -> Attestation:
    """The attestation in an envelope, its signature verified. Raises IntegrityError."""
    if len(envelope) > ATTESTATION_BYTES_MAX:
        raise IntegrityError(f"an attestation of {len(envelope)} bytes; at most {ATTESTATION_BYTES_MAX} are read")
    public_key, payload = unseal(envelope, DOMAIN, PAYLOAD_TYPE)
    body = cbor.decode(payload)
    if not isinstance(body, dict) or body.keys() != _FIELDS:
        raise IntegrityError("an attestation with other fields than it has")
    given, tree, lists = body["given"], body["tree"], body["lists"]
    if type(given) is not bytes or len(given) != DIGEST_BYTES:
        raise IntegrityError("an attestation of what is not named by a digest")
    if type(tree) is not list or len(tree) != 2 or type(tree[0]) is not cbor.Link or not _is_natural(tree[1]):
        raise IntegrityError("an attestation of what is no tree")
    if type(lists) is not list or len(lists) > INDEX_PATHS_MAX or not all(map(_is_natural, lists)):
        raise IntegrityError("an attestation with lists that are none")
    derivation = Derivation(given, Tree(bytes(tree[0]), tree[1]), tuple(lists))
    return Attestation(peer_id_of(public_key), derivation, envelope)


def _is_natural(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**53
