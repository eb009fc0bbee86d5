"""Signed envelopes of libp2p: a payload, its type, and the key that has signed both for one purpose.

Source: https://github.com/libp2p/specs/blob/master/RFC/0002-signed-envelopes.md
"""

from __future__ import annotations

from typing import Protocol

from rhizome_index.blocks.varint import append_uvarint, read_uvarint, uvarint
from rhizome_index.errors import IntegrityError
from rhizome_index.index.address import marshal_public_key, unmarshal_public_key


class Signer(Protocol):
    """An Ed25519 key."""

    public_key: bytes

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature of a message."""


def verify_signature(public_key: bytes, message: bytes, signature: bytes) -> None:
    """Raise IntegrityError unless the key signed the message."""
    from nacl.exceptions import CryptoError
    from nacl.signing import VerifyKey

    try:
        VerifyKey(public_key).verify(message, signature)
    except (CryptoError, ValueError):  # or of another size
        raise IntegrityError("a signature that does not match") from None


def signed_bytes(domain: bytes, payload_type: bytes, payload: bytes) -> bytes:
    """What is signed of a payload."""
    target = bytearray()
    for part in (domain, payload_type, payload):
        append_uvarint(target, len(part))
        target += part
    return bytes(target)


def seal(signer: Signer, domain: bytes, payload_type: bytes, payload: bytes) -> bytes:
    """An envelope around a payload."""
    signature = signer.sign(signed_bytes(domain, payload_type, payload))
    parts = ((1, marshal_public_key(signer.public_key)), (2, payload_type), (3, payload), (5, signature))
    return b"".join(uvarint(number << 3 | 2) + uvarint(len(part)) + part for number, part in parts)


def unseal(envelope: bytes, domain: bytes, payload_type: bytes) -> tuple[bytes, bytes]:
    """The public key and the payload of an envelope, whose signature is verified. Raises IntegrityError."""
    key_bytes, found_type, payload, signature = _fields(envelope)
    public_key = unmarshal_public_key(key_bytes)
    if public_key is None or found_type != payload_type:
        raise IntegrityError(f"an envelope that holds no {payload_type.decode()}")
    verify_signature(public_key, signed_bytes(domain, payload_type, payload), signature)
    return public_key, payload


def _fields(envelope: bytes) -> list[bytes]:
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
