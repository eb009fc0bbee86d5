"""Who publishes, and what it is called: peer ids of Ed25519 keys, and dataset addresses.

An address is `rhizome:<peer id>/<name>`. A peer id is the base58 of the identity
multihash of the publisher's public key in libp2p's protobuf form, so that the
key can be read back from it.

Source: https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import base58

from rhizome_index.errors import UsageError
from rhizome_index.index.schema import check_name

_KEY_HEADER = bytes.fromhex("08011220")  # protobuf: type Ed25519, 32 bytes of key
_ID_HEADER = bytes.fromhex("0024") + _KEY_HEADER  # multihash: identity, 36 bytes


def peer_id_of(public_key: bytes) -> str:
    """The peer id of a 32-byte Ed25519 public key."""
    return base58.b58encode(_ID_HEADER + public_key).decode()


@lru_cache(1024)  # as of `Address.parse`
def public_key_of(peer_id: str) -> bytes:
    """The 32-byte Ed25519 public key in a peer id. Raises UsageError if there is none."""
    try:
        data = base58.b58decode(peer_id)
    except ValueError:
        data = b""
    if len(data) != 38 or not data.startswith(_ID_HEADER) or peer_id_of(data[6:]) != peer_id:
        raise UsageError(f"not the peer id of a publisher: {peer_id[:80]!r}", hint="they look like 12D3KooW...")
    return data[6:]


def marshal_public_key(public_key: bytes) -> bytes:
    """An Ed25519 public key in libp2p's protobuf form."""
    return _KEY_HEADER + public_key


def unmarshal_public_key(data: bytes) -> bytes | None:
    """The 32 bytes of an Ed25519 public key in libp2p's protobuf form, or None for anything else."""
    return data[4:] if len(data) == 36 and data.startswith(_KEY_HEADER) else None


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """A dataset: its publisher's peer id and its name."""

    publisher: str
    name: str

    @classmethod
    @lru_cache(1024)  # most come again and again, and base58 is slow
    def parse(cls, text: str) -> Address:
        """From `rhizome:<peer id>/<name>`. Raises UsageError."""
        body = text.removeprefix("rhizome:")
        publisher, slash, name = body.partition("/")
        if body == text or not slash:
            raise UsageError(f"not an address: {text[:200]!r}", hint="addresses look like rhizome:12D3KooW.../posts")
        public_key_of(publisher)
        return cls(publisher, check_name(name, "a dataset"))

    def __str__(self) -> str:
        return f"rhizome:{self.publisher}/{self.name}"
