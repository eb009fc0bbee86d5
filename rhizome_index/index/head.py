"""The signed head: a publisher's statement of what its dataset is now.

A head is `{"dataset", "manifest", "sequence", "time"}` in DAG-CBOR inside a
libp2p signed envelope with a domain and a payload type of our own. It may say, too,
when it expires. Its publisher is the key of the envelope, or the first of the keys
that have delegated to it, one to the next: an address names that key for good.
Verification raises; it never returns a bool to forget.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Protocol

from rhizome_index.blocks import cbor
from rhizome_index.blocks.cid import Cid
from rhizome_index.errors import IntegrityError, UsageError
from rhizome_index.index.address import Address, peer_id_of, public_key_of
from rhizome_index.index.envelope import seal, signed_bytes, unseal, verify_signature
from rhizome_index.index.schema import check_name
from rhizome_index.limits import DELEGATIONS_MAX, HEAD_BYTES_MAX

DOMAIN = b"rhizome-head"
PAYLOAD_TYPE = b"/rhizome/head/1"
DELEGATION_TYPE = b"/rhizome/delegation/1"

_FIELDS = frozenset(("dataset", "manifest", "sequence", "time"))


class Keys(Protocol):
    """A peer's private keys, which need not be opened before one of them is needed."""

    @property
    def peer_id(self) -> str:
        """Whose keys they are."""

    def key(self, peer_id: str) -> Identity:
        """The one with this peer id. Raises UsageError if it is not here, or cannot be opened."""


class Identity:
    """An Ed25519 key that signs heads.

    seed  32 bytes, the only secret there is: nothing else that this holds shows it, for whatever can be shown
          may be logged
    """

    __slots__ = ("_sign", "peer_id", "public_key", "seed")

    def __init__(self, seed: bytes) -> None:
        from nacl.signing import SigningKey

        self.seed = seed
        key = SigningKey(seed)  # shows its seed
        self._sign = key.sign
        self.public_key = bytes(key.verify_key)
        self.peer_id = peer_id_of(self.public_key)

    def __repr__(self) -> str:
        return f"Identity({self.peer_id})"

    def key(self, peer_id: str) -> Identity:
        """This key, as the only one of its `Keys`."""
        if peer_id != self.peer_id:
            raise UsageError(f"the private key of {peer_id} is not here", hint=f"here is that of {self.peer_id}")
        return self

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature of a message."""
        return self._sign(message).signature


@dataclass(frozen=True, slots=True)
class Delegation:
    """A key's word that another one signs heads in its place. Of each dataset it says so once.

    key        the public key that says it
    dataset    which it is about; None: all that the key signs
    start      the first sequence that is the other key's; the key itself signs none from there on
    successor  the other public key
    """

    key: bytes
    dataset: Address | None
    start: int
    successor: bytes
    signature: bytes = field(compare=False)

    @property
    def payload(self) -> bytes:
        """What is signed."""
        dataset = None if self.dataset is None else str(self.dataset)
        return cbor.encode({"dataset": dataset, "from": self.start, "to": self.successor})

    def covers(self, address: Address) -> bool:
        """Whether it is about a dataset, if the key signs that."""
        return self.dataset in (None, address)

    def contradicts(self, other: Delegation) -> bool:
        """Whether the key has said two things of one dataset."""
        is_about_same = None in (self.dataset, other.dataset) or self.dataset == other.dataset
        return self.key == other.key and is_about_same and self != other


def delegate(identity: Identity, dataset: Address | None, start: int, successor: bytes) -> Delegation:
    """Make and sign a delegation."""
    unsigned = Delegation(identity.public_key, dataset, start, successor, b"")
    return replace(unsigned, signature=identity.sign(signed_bytes(DOMAIN, DELEGATION_TYPE, unsigned.payload)))


@lru_cache(maxsize=1024)  # the same ones stand in head after head
def verify_delegation(delegation: Delegation, signature: bytes) -> None:
    """Raise IntegrityError unless the key has signed it."""
    verify_signature(delegation.key, signed_bytes(DOMAIN, DELEGATION_TYPE, delegation.payload), signature)


@dataclass(frozen=True, slots=True)
class Head:
    """What one signed head says.

    sequence    rises by at least 1 with every head of a dataset
    time_ms     when it was signed, by the publisher's clock, in milliseconds since 1970
    expires_ms  from when on its publisher does not stand for it any more; None: it says nothing of that
    delegations  from the key that the address names to the one that has signed it; none if that is the same
    envelope    the signed bytes, from which all else was read
    """

    address: Address
    sequence: int
    manifest: Cid
    time_ms: int
    expires_ms: int | None
    delegations: tuple[Delegation, ...]
    envelope: bytes

    @property
    def signer(self) -> bytes:
        """The public key that has signed it."""
        return self.delegations[-1].successor if self.delegations else public_key_of(self.address.publisher)

    def is_disowned_by(self, said: Iterable[Delegation]) -> bool:
        """Whether it goes against what keys have said: signed by one that was replaced, or on behalf of another."""
        return any(
            (word.key == self.signer and word.covers(self.address) and self.sequence >= word.start)
            or any(word.contradicts(other) for other in self.delegations)
            for word in said
        )

    def contradicts(self, other: Head) -> bool:
        """Whether this head and another one of its dataset prove that somebody with a key of its publisher lies."""
        is_fork = self.sequence == other.sequence and self.manifest != other.manifest
        return is_fork or self.is_disowned_by(other.delegations) or other.is_disowned_by(self.delegations)


def sign_head(
    identity: Identity,
    name: str,
    sequence: int,
    manifest: Cid,
    time_ms: int,
    expires_ms: int | None = None,
    delegations: Sequence[Delegation] = (),
) -> Head:
    """Make and sign a head; with delegations, for the dataset of the key that the first one is from."""
    fields = {"dataset": name, "manifest": cbor.Link(manifest), "sequence": sequence, "time": time_ms}
    if expires_ms is not None:
        fields["expires"] = expires_ms
    if delegations:
        fields["delegations"] = [[one.key, one.dataset is None, one.start, one.signature] for one in delegations]
    payload = cbor.encode(fields)
    envelope = seal(identity, DOMAIN, PAYLOAD_TYPE, payload)
    address = Address(peer_id_of(delegations[0].key) if delegations else identity.peer_id, name)
    return Head(address, sequence, manifest, time_ms, expires_ms, tuple(delegations), envelope)


@lru_cache(maxsize=1024)  # a head is opened again for every query, and verifying takes longer than answering
def open_head(envelope: bytes) -> Head:
    """The head in an envelope, its signature verified. Raises IntegrityError."""
    if len(envelope) > HEAD_BYTES_MAX:
        raise IntegrityError(f"a head of {len(envelope)} bytes; at most {HEAD_BYTES_MAX} are read")
    public_key, payload = unseal(envelope, DOMAIN, PAYLOAD_TYPE)
    body = cbor.decode(payload)
    if not isinstance(body, dict) or not _FIELDS <= body.keys() <= _FIELDS | {"expires", "delegations"}:
        raise IntegrityError("a head with other fields than it has")
    name, sequence, time_ms = body["dataset"], body["sequence"], body["time"]
    expires_ms = body.get("expires")
    if type(body["manifest"]) is not cbor.Link or type(name) is not str:
        raise IntegrityError("a head with a field of the wrong type")
    for number in (sequence, time_ms, body.get("expires", 0)):
        if type(number) is not int or not 0 <= number < 2**53:
            raise IntegrityError("a head with a number out of range")
    if expires_ms is not None and expires_ms <= time_ms:
        raise IntegrityError("a head that expires before it was signed")
    try:
        check_name(name, "a dataset")
    except UsageError as error:
        raise IntegrityError(f"a head of {error}") from None
    delegations: tuple[Delegation, ...] = ()
    if "delegations" in body:
        delegations = _read_delegations(body["delegations"], name, sequence, public_key)
    address = Address(peer_id_of(delegations[0].key if delegations else public_key), name)
    return Head(address, sequence, bytes(body["manifest"]), time_ms, expires_ms, delegations, envelope)


def _read_delegations(links: Any, name: str, sequence: int, signer: bytes) -> tuple[Delegation, ...]:
    """The delegations in a head, each verified: from its publisher's key to the one that has signed it."""
    if type(links) is not list or not 0 < len(links) <= DELEGATIONS_MAX or not all(map(_is_link, links)):
        raise IntegrityError("a head with delegations that are none")
    keys = [*(link[0] for link in links), signer]
    if len(set(keys)) < len(keys):
        raise IntegrityError("a head with delegations in a circle")
    address = Address(peer_id_of(keys[0]), name)
    found = []
    for (key, is_all, start, signature), successor in zip(links, keys[1:], strict=True):
        if sequence < start:
            raise IntegrityError("a head signed by a key before it is its turn")
        delegation = Delegation(key, None if is_all else address, start, successor, signature)
        verify_delegation(delegation, signature)
        found.append(delegation)
    return tuple(found)


def _is_link(link: Any) -> bool:
    if type(link) is not list or [type(part) for part in link] != [bytes, bool, int, bytes]:
        return False
    key, _, start, signature = link
    return len(key) == 32 and len(signature) == 64 and 0 <= start < 2**53
