"""The signed head: a publisher's statement of what its dataset is now.

A head is `{"dataset", "manifest", "sequence", "time"}` in DAG-CBOR inside a
libp2p signed envelope with a domain and a payload type of our own. It may say, too,
when it expires. Its publisher is the key of the envelope. Verification raises; it
never returns a bool to forget.

Source: https://github.com/libp2p/specs/blob/master/RFC/0002-signed-envelopes.md
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from rhizome_index.blocks import cbor
from rhizome_index.blocks.cid import Cid
from rhizome_index.blocks.varint import append_uvarint, read_uvarint, uvarint
from rhizome_index.errors import IntegrityError, UsageError
from rhizome_index.index.address import Address, marshal_public_key, peer_id_of, unmarshal_public_key
from rhizome_index.index.schema import check_name
from rhizome_index.limits import HEAD_BYTES_MAX

DOMAIN = b"rhizome-head"
PAYLOAD_TYPE = b"/rhizome/head/1"

_FIELDS = frozenset(("dataset", "manifest", "sequence", "time"))


class Keys(Protocol):
    """A peer's private keys, which need not be opened before one of them is needed."""

    @property
    def peer_id(self) -> str:
        """Whose keys they are."""

    def key(self, peer_id: str) -> Identity:
        """The one with this peer id. Raises UsageError if it is not here, or cannot be opened."""


class Identity:
    """An Ed25519 key that signs heads. Its 32-byte seed is the only secret there is."""

    def __init__(self, seed: bytes) -> None:
        from Crypto.PublicKey import ECC

        self.seed = seed
        self._key = ECC.construct(curve="Ed25519", seed=seed)
        self.public_key: bytes = self._key.public_key().export_key(format="raw")
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
        from Crypto.Signature import eddsa

        return eddsa.new(self._key, "rfc8032").sign(message)


def verify_signature(public_key: bytes, message: bytes, signature: bytes) -> None:
    """Raise IntegrityError unless the key signed the message."""
    from Crypto.Signature import eddsa

    try:
        eddsa.new(eddsa.import_public_key(public_key), "rfc8032").verify(message, signature)
    except ValueError:
        raise IntegrityError("a signature that does not match") from None


@dataclass(frozen=True, slots=True)
class Head:
    """What one signed head says.

    sequence    rises by at least 1 with every head of a dataset
    time_ms     when it was signed, by the publisher's clock, in milliseconds since 1970
    expires_ms  from when on its publisher does not stand for it any more; None: it says nothing of that
    envelope    the signed bytes, from which all else was read
    """

    address: Address
    sequence: int
    manifest: Cid
    time_ms: int
    expires_ms: int | None
    envelope: bytes


def sign_head(
    identity: Identity, name: str, sequence: int, manifest: Cid, time_ms: int, expires_ms: int | None = None
) -> Head:
    """Make and sign a head."""
    fields = {"dataset": name, "manifest": cbor.Link(manifest), "sequence": sequence, "time": time_ms}
    payload = cbor.encode(fields if expires_ms is None else fields | {"expires": expires_ms})
    signature = identity.sign(_signed_bytes(payload))
    parts = ((1, marshal_public_key(identity.public_key)), (2, PAYLOAD_TYPE), (3, payload), (5, signature))
    envelope = b"".join(uvarint(number << 3 | 2) + uvarint(len(part)) + part for number, part in parts)
    return Head(Address(identity.peer_id, name), sequence, manifest, time_ms, expires_ms, envelope)


@lru_cache(maxsize=1024)  # a head is opened again for every query, and verifying takes longer than answering
def open_head(envelope: bytes) -> Head:
    """The head in an envelope, its signature verified. Raises IntegrityError."""
    if len(envelope) > HEAD_BYTES_MAX:
        raise IntegrityError(f"a head of {len(envelope)} bytes; at most {HEAD_BYTES_MAX} are read")
    key_bytes, payload_type, payload, signature = _open_envelope(envelope)
    public_key = unmarshal_public_key(key_bytes)
    if public_key is None or payload_type != PAYLOAD_TYPE:
        raise IntegrityError("an envelope that holds no head")
    verify_signature(public_key, _signed_bytes(payload), signature)
    body = cbor.decode(payload)
    if not isinstance(body, dict) or not _FIELDS <= body.keys() <= _FIELDS | {"expires"}:
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
    return Head(Address(peer_id_of(public_key), name), sequence, bytes(body["manifest"]), time_ms, expires_ms, envelope)


def _signed_bytes(payload: bytes) -> bytes:
    target = bytearray()
    for part in (DOMAIN, PAYLOAD_TYPE, payload):
        append_uvarint(target, len(part))
        target += part
    return bytes(target)


def _open_envelope(envelope: bytes) -> list[bytes]:
    """The four fields of an envelope, which must stand in order, once each, in shortest form."""
    parts = []
    at = 0
    for number in (1, 2, 3, 5):
        size_at = at + 1
        size = read_uvarint(envelope, size_at, 2) if envelope[at:size_at] == bytes([number << 3 | 2]) else None
        if size is None or size[1] + size[0] > len(envelope):
            raise IntegrityError("not a signed envelope")
        parts.append(envelope[size[1] : size[1] + size[0]])
        at = size[1] + size[0]
    if at != len(envelope):
        raise IntegrityError("not a signed envelope: bytes follow it")
    return parts
