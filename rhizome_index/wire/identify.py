"""What a peer says of itself and of us, by libp2p's identify: of all of it, where it listens and where it sees us.

Rules: one protobuf message behind its length as a uvarint, of at most IDENTIFY_BYTES_MAX, sent unasked to whoever
opens the stream. Both are hearsay: nothing signs them.

Source: https://github.com/libp2p/specs/blob/master/identify/README.md
"""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

from rhizome_index.errors import IntegrityError
from rhizome_index.limits import ADDRESS_BYTES_MAX, UPGRADE_ADDRESSES_MAX
from rhizome_index.wire.multiaddr import RELAYED, decode_multiaddr
from rhizome_index.wire.protobuf import bytes_of, fields

PROTOCOL = "/ipfs/id/1.0.0"

_LISTENS, _OBSERVED = 2, 4


class Identified(NamedTuple):
    """Addresses without a peer's id at the end.

    listens   where the peer listens, at most UPGRADE_ADDRESSES_MAX, without ways through relays
    observed  where it sees us, if it says so
    """

    listens: tuple[str, ...]
    observed: str | None = None


def read_identify(body: bytes) -> Identified:
    """Raises IntegrityError for what is no such message. Addresses of kinds unknown here are passed over."""
    listens: dict[str, None] = {}
    observed = None
    for number, value in fields(body):
        if number not in (_LISTENS, _OBSERVED):
            continue
        data = bytes_of(value)
        with suppress(IntegrityError):
            text = decode_multiaddr(data) if len(data) <= ADDRESS_BYTES_MAX else RELAYED
            if RELAYED in text:
                continue
            if number == _OBSERVED:
                observed = text
            elif len(listens) < UPGRADE_ADDRESSES_MAX:
                listens[text] = None
    return Identified(tuple(listens), observed)
