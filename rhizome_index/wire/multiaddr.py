"""Multiaddrs as bytes, as Kademlia's messages carry them: the kinds of which addresses of peers here are made.

Source: https://github.com/multiformats/multiaddr and its protocols.csv
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import base58

from rhizome_index.blocks.varint import append_uvarint, read_uvarint
from rhizome_index.errors import IntegrityError

RELAYED = "/p2p-circuit"  # in an address: what stands before it is a relay, behind it whoever is reached there

_CODES = {
    "ip4": 4, "tcp": 6, "ip6": 41, "dns": 53, "dns4": 54, "dns6": 55, "dnsaddr": 56,
    "udp": 273, "p2p-circuit": 290, "p2p": 421, "tls": 448, "ws": 477, "wss": 478,
}  # fmt: skip
_NAMES = {code: name for name, code in _CODES.items()}
_SIZES = {"ip4": 4, "ip6": 16, "tcp": 2, "udp": 2, "p2p-circuit": 0, "tls": 0, "ws": 0, "wss": 0}  # others say theirs
_NUMBER_BYTES = 4  # of codes and sizes
_NETWORK_BITS = {4: 16, 6: 32}  # about what one holder of addresses is given


def some_of(addresses: Iterable[str]) -> list[str]:
    """Of a peer's addresses as many as others need: two direct ones and a way through a relay, in this order."""
    known = list(addresses)
    direct = [text for text in known if RELAYED not in text]
    return direct[:2] + [text for text in known if RELAYED in text][:1]


def encode_multiaddr(text: str) -> bytes:
    """The bytes of a multiaddr. Raises IntegrityError for what is none, or of kinds unknown here."""
    target = bytearray()
    parts = iter(text.removeprefix("/").split("/")) if text.startswith("/") else iter(())
    for name in parts:
        if name not in _CODES:
            raise IntegrityError(f"not a multiaddr that is known here: {text[:100]!r}")
        append_uvarint(target, _CODES[name])
        if _SIZES.get(name) == 0:
            continue
        try:
            value = _encode_value(name, next(parts, ""))
        except ValueError:
            raise IntegrityError(f"not a multiaddr: {text[:100]!r}") from None
        if name not in _SIZES:
            append_uvarint(target, len(value))
        target += value
    if not target:
        raise IntegrityError(f"not a multiaddr: {text[:100]!r}")
    return bytes(target)


def decode_multiaddr(data: bytes) -> str:
    """The text of a multiaddr. Raises IntegrityError for what is none, or of kinds unknown here."""
    text, at = "", 0
    while at < len(data):
        code, at = _read(data, at)
        name = _NAMES.get(code)
        if name is None:
            raise IntegrityError("a multiaddr of a kind unknown here")
        text += f"/{name}"
        size = _SIZES.get(name)
        if size == 0:
            continue
        if size is None:
            size, at = _read(data, at)
        if at + size > len(data):
            raise IntegrityError("a multiaddr that ends too early")
        text += f"/{_decode_value(name, data[at : at + size])}"
        at += size
    if not text:
        raise IntegrityError("an empty multiaddr")
    return text


def tcp_place(text: str) -> tuple[str, int] | None:
    """The IP address and the port of an address that is plain TCP; None for any other."""
    match text.split("/"):
        case ["", "ip4" | "ip6" as kind, ip, "tcp", number]:
            try:
                address, port = ip_address(ip), int(number)
            except ValueError:
                return None
            is_one = address.version == int(kind[-1]) and number.isdecimal() and 0 < port < 2**16
            return (str(address), port) if is_one else None
    return None


def network_of(addresses: Iterable[str]) -> str | None:
    """The network of a peer that was reached at these addresses: 16 bits of an IPv4 address, 32 of an IPv6 address.

    None if it was reached by name only, or through a relay: names cost nothing, and the relay's network is not its own.
    """
    for address in addresses:
        _, _, host, *rest = f"{address}//".split("/")
        if "p2p-circuit" in rest:
            continue
        try:
            ip = ip_address(host.partition("%")[0])
        except ValueError:
            continue
        ip = (ip.ipv4_mapped if isinstance(ip, IPv6Address) else None) or ip
        return str(ip_network((ip, _NETWORK_BITS[ip.version]), strict=False))
    return None


def _encode_value(name: str, value: str) -> bytes:
    if name == "ip4":
        return IPv4Address(value).packed
    if name == "ip6":
        return IPv6Address(value.partition("%")[0]).packed
    if name in ("tcp", "udp"):
        if not value.isascii() or not value.isdecimal() or not 0 <= int(value) < 65536:
            raise ValueError(value)
        return int(value).to_bytes(2, "big")
    if not value:
        raise ValueError(value)
    return base58.b58decode(value) if name == "p2p" else value.encode()


def _decode_value(name: str, value: bytes) -> str:
    if name == "ip4":
        return str(IPv4Address(value))
    if name == "ip6":
        return str(IPv6Address(value))
    if name in ("tcp", "udp"):
        return str(int.from_bytes(value, "big"))
    if name == "p2p" and value:
        return base58.b58encode(value).decode()
    try:
        text = value.decode("ascii")
    except UnicodeDecodeError:
        text = ""
    if not text or "/" in text or not text.isprintable():
        raise IntegrityError("a name in a multiaddr that is none")
    return text


def _read(data: bytes, at: int) -> tuple[int, int]:
    found = read_uvarint(data, at, _NUMBER_BYTES)
    if found is None:
        raise IntegrityError("a multiaddr that ends too early")
    return found
