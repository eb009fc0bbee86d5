"""Direct connection upgrade through relay: what two peers say to each other before they dial directly.

The peer behind the relay, having been reached, says where it can be reached (CONNECT);
the other answers the same; then the first says "now" (SYNC), and both dial.

Rules: a message is protobuf behind its length as a uvarint, of at most
CIRCUIT_MESSAGE_BYTES_MAX. Addresses are hearsay.

Source: https://github.com/libp2p/specs/blob/master/relay/DCUtR.md
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from rhizome_index.errors import IntegrityError
from rhizome_index.limits import ADDRESS_BYTES_MAX, CIRCUIT_MESSAGE_BYTES_MAX, UPGRADE_ADDRESSES_MAX
from rhizome_index.wire.frame import encode_frame
from rhizome_index.wire.multiaddr import RELAYED, decode_multiaddr, encode_multiaddr
from rhizome_index.wire.protobuf import bytes_of, field, fields, number_of

PROTOCOL = "/libp2p/dcutr"

_TYPE, _ADDRESS = 1, 2
_CONNECT, _SYNC = 100, 300


def encode_connect(addresses: Iterable[str]) -> bytes:
    """The frame that says where a peer can be reached: without its id, and as many as are read."""
    data = field(_TYPE, _CONNECT)
    for address in list(addresses)[:UPGRADE_ADDRESSES_MAX]:
        with suppress(IntegrityError):  # of a kind that others need not know
            data += field(_ADDRESS, encode_multiaddr(address))
    return encode_frame(data, CIRCUIT_MESSAGE_BYTES_MAX)


def encode_sync() -> bytes:
    """The frame that says: now."""
    return encode_frame(field(_TYPE, _SYNC), CIRCUIT_MESSAGE_BYTES_MAX)


def read_connect(body: bytes) -> tuple[str, ...]:
    """The addresses in a message, at most UPGRADE_ADDRESSES_MAX. Raises IntegrityError for what is no such message.

    Those of kinds unknown here are passed over, and ways through relays.
    """
    _check_type(body, _CONNECT)
    found: dict[str, None] = {}
    for number, value in fields(body):
        if number == _ADDRESS and len(found) < UPGRADE_ADDRESSES_MAX:
            data = bytes_of(value)
            with suppress(IntegrityError):
                text = decode_multiaddr(data) if len(data) <= ADDRESS_BYTES_MAX else RELAYED
                if RELAYED not in text:
                    found[text] = None
    return tuple(found)


def check_sync(body: bytes) -> None:
    """Raises IntegrityError for what is not "now"."""
    _check_type(body, _SYNC)


def _check_type(body: bytes, kind: int) -> None:
    if number_of(dict(fields(body)).get(_TYPE, 0)) != kind:
        raise IntegrityError("out of turn in a direct connection upgrade")
