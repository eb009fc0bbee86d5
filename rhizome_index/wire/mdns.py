"""What peers on one local network say of themselves: the text record of libp2p's mDNS.

A peer announces a service under a name that it draws anew at each start; beside it
stands a text record with an entry `dnsaddr=<full address>` for each of its addresses.
The specification is used as it is, so peers of other programs see ours, and we see theirs.

Rules: sizes first; a record speaks of one peer alone; what is said is hearsay. This
does not know DNS messages, nor who is on the network.

Source: https://github.com/libp2p/specs/blob/master/discovery/mdns.md
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from ipaddress import ip_address

from rhizome_index.errors import IntegrityError
from rhizome_index.limits import MDNS_ADDRESSES_MAX, MDNS_TEXT_BYTES_MAX
from rhizome_index.wire.multiaddr import RELAYED, encode_multiaddr

SERVICE = "_p2p._udp.local."

_KEY = b"dnsaddr="
_LONGEST = 255  # an entry's length has one byte
_NAME_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"
_NAME_LENGTH = 32  # the specification asks for 32 to 63


def name_of(seed: bytes) -> str:
    """The name of a peer's service, from 20 random bytes."""
    number, letters = int.from_bytes(seed, "big"), ""
    for _ in range(_NAME_LENGTH):
        number, digit = divmod(number, len(_NAME_LETTERS))
        letters += _NAME_LETTERS[digit]
    return f"{letters}.{SERVICE}"


def is_name(text: str) -> bool:
    """Whether a record's name is that of a peer's service."""
    return text.lower().endswith(f".{SERVICE}")


def announced(addresses: Iterable[str]) -> tuple[str, ...]:
    """Of full addresses those to tell a local network: not loopback, unless there is nothing else.

    Ways through a relay are not among them: whoever hears us can reach us without.
    """
    direct = [text for text in addresses if RELAYED not in text]
    return tuple(text for text in direct if not is_loopback(text)) or tuple(direct)


def is_loopback(address: str) -> bool:
    """Whether an address can be reached on its machine alone."""
    with suppress(ValueError):
        return ip_address(ip_of(address)).is_loopback
    return False


def ip_of(address: str) -> str:
    """The IP address that a multiaddr begins with; empty if it is another kind."""
    parts = address.split("/")
    return parts[2] if len(parts) > 2 and parts[1] in ("ip4", "ip6") else ""


def encode_text(addresses: Iterable[str]) -> bytes:
    """The text record of a peer: as many of its full addresses as there is room for."""
    data, count = b"", 0
    for address in addresses:
        entry = _KEY + address.encode()
        if len(entry) > _LONGEST or len(data) + 1 + len(entry) > MDNS_TEXT_BYTES_MAX:
            continue
        if count < MDNS_ADDRESSES_MAX:
            data += bytes([len(entry)]) + entry
            count += 1
    return data


def read_text(data: bytes) -> tuple[str, ...]:
    """The full addresses in a peer's text record, all of one peer, at most MDNS_ADDRESSES_MAX; perhaps none.

    Other entries are passed over, and addresses of kinds unknown here or through a relay. Raises IntegrityError for
    what no honest peer says.
    """
    if len(data) > MDNS_TEXT_BYTES_MAX:
        raise IntegrityError("a text record that is too long")
    found: dict[str, None] = {}
    at = 0
    while at < len(data):
        end = at + 1 + data[at]
        if end > len(data):
            raise IntegrityError("a text record that ends too early")
        entry, at = data[at + 1 : end], end
        if entry.startswith(_KEY) and len(found) < MDNS_ADDRESSES_MAX:
            with suppress(IntegrityError, UnicodeDecodeError):
                found[_full_address(entry.removeprefix(_KEY).decode("ascii"))] = None
    if len({text.rpartition("/p2p/")[2] for text in found}) > 1:
        raise IntegrityError("a text record of several peers")
    return tuple(found)


def _full_address(text: str) -> str:
    encode_multiaddr(text)
    place, _, peer_id = text.rpartition("/p2p/")
    if not place or "/" in peer_id or RELAYED in place:
        raise IntegrityError("an address that does not say whose it is, or a way through a relay")
    return text
