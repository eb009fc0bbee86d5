"""providers/1: keys of datasets, places of peers, and messages of Kademlia."""

from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from . import protobuf
from .errors import Refused
from .harness import Case, Groups, Vectors, each, expect, none
from .head import Address, peer_id, read_address, read_uvarint

KINDS: Final = (2, 3, 4)
MAX_KEY: Final = 80
MAX_ID: Final = 64
MAX_PEERS: Final = 20
MAX_ADDRESSES: Final = 4
PEER_PREFIX: Final = bytes.fromhex("002408011220")

# --- Keys --------------------------------------------------------------------------------------------------


def key_of(address: Address) -> bytes:
    """The key of a dataset."""
    return b"\x12\x20" + sha256(f"rhizome:{peer_id(address.key)}/{address.name}".encode()).digest()


# --- Messages ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Peer:
    """A peer's id, and multiaddrs."""

    name: bytes
    addresses: list[bytes]


def read_peer(value: int | bytes) -> Peer:
    """A peer in a message."""
    fields = list(protobuf.read(_content(value)))
    name = protobuf.content(fields, 1)
    if not 0 < len(name) <= MAX_ID:
        raise Refused("a peer without a name, or with too long a one")
    return Peer(name, [_content(inner) for number, inner in fields if number == 2][:MAX_ADDRESSES])


def read_request(data: bytes) -> tuple[int, bytes, list[Peer], list[Peer]]:
    """Type, key, closer peers and providers."""
    fields = list(protobuf.read(data))
    kind = dict(fields).get(1, 0)
    key = protobuf.content(fields, 2)
    if not isinstance(kind, int) or kind not in KINDS or not 0 < len(key) <= MAX_KEY:
        raise Refused("a type that is not spoken, or no key, or too long a one")
    closer, providers = ([read_peer(value) for number, value in fields if number == wanted] for wanted in (8, 9))
    return kind, key, closer[:MAX_PEERS], providers[:MAX_PEERS]


def _content(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise Refused("a number where bytes belong")
    return value


def text_of(address: bytes) -> str:
    """A multiaddr of the kinds that are in the vectors."""
    text, at = "", 0
    while at < len(address):
        code, at = read_uvarint(address, at, 4)
        if code == 4:
            text, at = f"{text}/ip4/{IPv4Address(address[at : at + 4])}", at + 4
        elif code == 41:
            text, at = f"{text}/ip6/{IPv6Address(address[at : at + 16])}", at + 16
        elif code == 6:
            text, at = f"{text}/tcp/{int.from_bytes(address[at : at + 2], 'big')}", at + 2
        elif code == 54:
            length, at = read_uvarint(address, at, 4)
            text, at = f"{text}/dns4/{address[at : at + length].decode()}", at + length
        elif code in (477, 478):
            text += "/ws" if code == 477 else "/wss"
        else:
            raise Refused("an address of an unknown kind")
    return text


# --- Vectors -----------------------------------------------------------------------------------------------


def _check_key(_: Vectors, case: Case) -> None:
    key = key_of(read_address(case.text("address")))
    expect("key", key, case.hex("key"))
    expect("place", sha256(key).digest(), case.hex("place"))


def _check_place(_: Vectors, case: Case) -> None:
    key = read_address(f"rhizome:{case.text('peer')}/x").key
    expect("place", sha256(PEER_PREFIX + key).digest(), case.hex("place"))


def _check_message(_: Vectors, case: Case) -> None:
    kind, key, closer, providers = read_request(case.hex("message"))
    expect("type", kind, case.integer("type"))
    expect("key", key, case.hex("key"))
    for name, peers in (("closer", closer), ("providers", providers)):
        shown = [
            (item.text("peer"), [address.as_text() for address in item.items("addresses")]) for item in case.items(name)
        ]
        found = []
        for peer in peers:
            who = peer_id(peer.name[len(PEER_PREFIX) :])
            found.append((who, [f"{text_of(address)}/p2p/{who}" for address in peer.addresses]))
        expect(name, found, shown)


def _check_not_request(_: Vectors, case: Case) -> None:
    read_request(case.hex("message"))


GROUPS: Final[Groups] = {
    "keys": each(_check_key),
    "places": each(_check_place),
    "messages": each(_check_message),
    "not_requests": none(_check_not_request),
}
