"""Provider records: the key of a dataset, and the messages of libp2p's Kademlia that ask for and announce them.

Of Kademlia's messages we have the three that finding providers takes. Everything
in them is a hint. `kademlia` decides whom to ask; `node/dht.py` has the streams.

Source: https://github.com/libp2p/specs/tree/master/kad-dht
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

import base58

from rhizome_index.errors import IntegrityError
from rhizome_index.index.address import Address
from rhizome_index.limits import (
    ADDRESS_BYTES_MAX,
    KAD_ADDRESSES_MAX,
    KAD_KEY_BYTES_MAX,
    KAD_PEER_ID_BYTES_MAX,
    KAD_PEERS_MAX,
)
from rhizome_index.wire import protobuf
from rhizome_index.wire.multiaddr import decode_multiaddr, encode_multiaddr

PROTOCOL = "/rhizome/kad/1.0.0"
ADD_PROVIDER, GET_PROVIDERS, FIND_NODE = 2, 3, 4

_SHA256 = b"\x12\x20"  # multihash: sha2-256, 32 bytes
_CONTACTS_KEPT = 4096  # read and written: the same few hundred peers are named in message after message
_CONTACT_BYTES_KEPT = 512  # of one that is kept; who names larger ones has them read each time


def key_of(address: Address) -> bytes:
    """The key under which a dataset's providers are announced: the multihash of its address's text."""
    return _SHA256 + sha256(str(address).encode()).digest()


@dataclass(frozen=True, slots=True)
class Contact:
    """A peer and where it may be reached: its id, and full addresses, each ending in /p2p/<its id>."""

    peer_id: str
    addresses: tuple[str, ...] = ()

    @classmethod
    def at(cls, peer_id: str, addresses: Iterable[str]) -> Contact:
        """With as many of these addresses as a message carries."""
        known = dict.fromkeys(text for text in addresses if text.endswith(f"/p2p/{peer_id}"))
        return cls(peer_id, tuple(known)[:KAD_ADDRESSES_MAX])

    def encode(self) -> bytes:
        return _encode_contact(self)

    @classmethod
    def read(cls, data: bytes) -> Contact:
        """Raises IntegrityError for what is none. Addresses of unknown kinds are passed over, and too many."""
        return _read_again(data) if len(data) <= _CONTACT_BYTES_KEPT else _read_contact(data)


@lru_cache(_CONTACTS_KEPT)
def _encode_contact(contact: Contact) -> bytes:
    tail, parts = f"/p2p/{contact.peer_id}", [protobuf.field(1, base58.b58decode(contact.peer_id))]
    for text in contact.addresses[:KAD_ADDRESSES_MAX]:
        with suppress(IntegrityError):  # of a kind that others need not know
            parts.append(protobuf.field(2, encode_multiaddr(text.removesuffix(tail))))
    return b"".join(parts)


def _read_contact(data: bytes) -> Contact:
    name, addresses = b"", list[str]()
    for number, value in protobuf.fields(data):
        if number == 1:
            name = protobuf.bytes_of(value)
        elif number == 2 and len(addresses) < KAD_ADDRESSES_MAX:
            raw = protobuf.bytes_of(value)
            with suppress(IntegrityError):
                addresses.append(decode_multiaddr(raw) if len(raw) <= ADDRESS_BYTES_MAX else "")
    if not 0 < len(name) <= KAD_PEER_ID_BYTES_MAX:
        raise IntegrityError("a peer without a name")
    peer_id = base58.b58encode(name).decode()
    tail = f"/p2p/{peer_id}"
    return Contact(peer_id, tuple(text.removesuffix(tail) + tail for text in addresses if text))


_read_again = lru_cache(_CONTACTS_KEPT)(_read_contact)


@dataclass(frozen=True, slots=True)
class Message:
    """A request, or the answer to one.

    key        of providers; or a peer id's bytes, for FIND_NODE
    closer     peers whose ids are closer to the key; in a request whoever asks, if it takes part
    providers  peers that are said to have what the key stands for
    """

    kind: int
    key: bytes
    closer: tuple[Contact, ...] = ()
    providers: tuple[Contact, ...] = ()

    def encode(self) -> bytes:
        parts = [protobuf.field(1, self.kind), protobuf.field(2, self.key)]
        parts += [protobuf.field(8, contact.encode()) for contact in self.closer[:KAD_PEERS_MAX]]
        parts += [protobuf.field(9, contact.encode()) for contact in self.providers[:KAD_PEERS_MAX]]
        return b"".join(parts)

    @classmethod
    def read(cls, data: bytes) -> Message:
        """Raises IntegrityError for what is none. Unknown fields are passed over, and peers past KAD_PEERS_MAX."""
        kind, key = 0, b""
        peers: dict[int, list[Contact]] = {8: [], 9: []}
        for number, value in protobuf.fields(data):
            if number == 1:
                kind = protobuf.number_of(value)
            elif number == 2:
                key = protobuf.bytes_of(value)
            elif number in peers and len(peers[number]) < KAD_PEERS_MAX:
                peers[number].append(Contact.read(protobuf.bytes_of(value)))
        if len(key) > KAD_KEY_BYTES_MAX:
            raise IntegrityError("a key that is too long")
        return cls(kind, key, tuple(peers[8]), tuple(peers[9]))


def read_request(data: bytes) -> Message:
    """A request. Raises IntegrityError for what is none, has no key, or is of a kind that is not spoken here."""
    message = Message.read(data)
    if message.kind not in (ADD_PROVIDER, GET_PROVIDERS, FIND_NODE):
        raise IntegrityError("a kind of request that is not spoken here")
    if not message.key:
        raise IntegrityError("a request without a key")
    return message


def read_answer(data: bytes, request: Message) -> Message:
    """The answer to a request. Raises IntegrityError for the answer to another."""
    message = Message.read(data)
    if message.kind != request.kind:
        raise IntegrityError("the answer to another question")
    return message
