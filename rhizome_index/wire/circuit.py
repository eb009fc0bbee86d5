"""Circuit relay v2: what is asked of a relay and what it says to both ends, written and read.

A peer that cannot be dialled reserves a place at a relay (HOP: reserve). Whoever
wants to reach it asks the relay for a circuit (HOP: connect), and the relay asks
that peer (STOP: connect). When both have been told OK, the two streams are one, and
what is said on it is for the ends alone to understand.

Rules: a message is protobuf behind its length as a uvarint, of at most
CIRCUIT_MESSAGE_BYTES_MAX; one that no honest peer sends is an IntegrityError. This
does not know streams, nor who holds a reservation.

Source: https://github.com/libp2p/specs/blob/master/relay/circuit-v2.md
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum

import base58

from rhizome_index.errors import IntegrityError
from rhizome_index.limits import CIRCUIT_MESSAGE_BYTES_MAX, CIRCUIT_PEER_BYTES_MAX, RESERVATION_ADDRESSES_MAX
from rhizome_index.wire.frame import encode_frame
from rhizome_index.wire.multiaddr import decode_multiaddr
from rhizome_index.wire.protobuf import bytes_of, field, fields, number_of

HOP = "/libp2p/circuit/relay/0.2.0/hop"
STOP = "/libp2p/circuit/relay/0.2.0/stop"

_HOP_RESERVE, _HOP_CONNECT, _HOP_STATUS = 0, 1, 2
_STOP_CONNECT, _STOP_STATUS = 0, 1
# Fields of a message to the relay, of one to the peer behind it, and of what is inside of both.
_HOP_TYPE, _HOP_PEER, _HOP_RESERVATION, _HOP_LIMIT, _HOP_CODE = 1, 2, 3, 4, 5
_STOP_TYPE, _STOP_PEER, _STOP_LIMIT, _STOP_CODE = 1, 2, 3, 4
_PEER_ID = 1
_RESERVATION_EXPIRES, _RESERVATION_ADDRESS = 1, 2
_LIMIT_SECONDS, _LIMIT_BYTES = 1, 2


class Status(IntEnum):
    """How a request went."""

    OK = 100
    RESERVATION_REFUSED = 200
    LIMIT_EXCEEDED = 201
    PERMISSION_DENIED = 202
    CONNECTION_FAILED = 203
    NO_RESERVATION = 204
    MALFORMED = 400
    UNEXPECTED = 401


@dataclass(frozen=True, slots=True)
class Reserve:
    """A place is wanted."""


@dataclass(frozen=True, slots=True)
class Connect:
    """A circuit to a peer is wanted, named by its id in base58."""

    peer_id: str


@dataclass(frozen=True, slots=True)
class Limit:
    """What one circuit may take: seconds in all, bytes in each direction; 0: as much as it likes."""

    seconds: int
    data_bytes: int

    def __str__(self) -> str:
        parts = [f"{self.data_bytes:,} bytes"] * bool(self.data_bytes) + [f"{self.seconds} s"] * bool(self.seconds)
        return " and ".join(parts)

    @classmethod
    def read(cls, data: bytes) -> Limit:
        """Raises IntegrityError."""
        found = dict(fields(data))
        return cls(number_of(found.get(_LIMIT_SECONDS, 0)), number_of(found.get(_LIMIT_BYTES, 0)))

    def encode(self) -> bytes:
        return field(_LIMIT_SECONDS, self.seconds) + field(_LIMIT_BYTES, self.data_bytes)


UNLIMITED = Limit(0, 0)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a relay says to a request.

    status     a Status, or another number that it may know
    expires    until when a place is held, in seconds since 1970; 0 if none is
    addresses  where the relay can be reached, as it says itself
    limit      of circuits, or of this one
    """

    status: int
    expires: int = 0
    addresses: tuple[str, ...] = ()
    limit: Limit = UNLIMITED

    @property
    def reason(self) -> str:
        """Why it refuses, in a few words."""
        return _REASONS.get(self.status, f"the relay refuses ({self.status})")


_REASONS: dict[int, str] = {
    Status.RESERVATION_REFUSED: "the relay has no place left",
    Status.LIMIT_EXCEEDED: "the relay has too much to do",
    Status.PERMISSION_DENIED: "the relay does not let us",
    Status.CONNECTION_FAILED: "the relay cannot reach the peer behind it",
    Status.NO_RESERVATION: "the relay does not know the peer",
}


def hop_reserve() -> bytes:
    """The frame that asks for a place."""
    return _framed(field(_HOP_TYPE, _HOP_RESERVE))


def hop_connect(peer_id: str) -> bytes:
    """The frame that asks for a circuit to a peer."""
    return _framed(
        field(_HOP_TYPE, _HOP_CONNECT) + field(_HOP_PEER, field(_PEER_ID, base58.b58decode(peer_id))),
    )


def read_answer(body: bytes) -> Answer:
    """What a relay says to a request. Raises IntegrityError for what is no answer.

    Of its addresses those of kinds unknown here are passed over, and more than RESERVATION_ADDRESSES_MAX.
    """
    found = dict(fields(body))
    if number_of(found.get(_HOP_TYPE, b"")) != _HOP_STATUS:
        raise IntegrityError("no answer of a relay")
    expires, addresses = 0, list[str]()
    for number, value in fields(bytes_of(found.get(_HOP_RESERVATION, b""))):
        if number == _RESERVATION_EXPIRES:
            expires = number_of(value)
        elif number == _RESERVATION_ADDRESS and len(addresses) < RESERVATION_ADDRESSES_MAX:
            with suppress(IntegrityError):
                addresses.append(decode_multiaddr(bytes_of(value)))
    limit = Limit.read(bytes_of(found.get(_HOP_LIMIT, b"")))
    return Answer(number_of(found.get(_HOP_CODE, 0)), expires, tuple(addresses), limit)


def read_stop(body: bytes) -> tuple[str, Limit]:
    """The peer that wants to reach us, as the relay says, and what the circuit may take. Raises IntegrityError."""
    found = dict(fields(body))
    if number_of(found.get(_STOP_TYPE, _STOP_CONNECT)) != _STOP_CONNECT:  # the first of them, which may be left out
        raise IntegrityError("no connection is told of")
    return _read_peer(found.get(_STOP_PEER, 0)), Limit.read(bytes_of(found.get(_STOP_LIMIT, b"")))


def stop_answer(status: Status) -> bytes:
    """The frame that takes a circuit, or does not."""
    return _framed(field(_STOP_TYPE, _STOP_STATUS) + field(_STOP_CODE, status))


def read_hop(body: bytes) -> Reserve | Connect:
    """What a peer asks of the relay. Raises IntegrityError."""
    found = dict(fields(body))
    kind = number_of(found.get(_HOP_TYPE, b""))
    if kind == _HOP_RESERVE:
        return Reserve()
    if kind != _HOP_CONNECT:
        raise IntegrityError("neither a reservation nor a connection is asked for")
    return Connect(_read_peer(found.get(_HOP_PEER, 0)))


def _read_peer(value: int | bytes) -> str:
    peer = bytes_of(dict(fields(bytes_of(value))).get(_PEER_ID, 0))
    if not 0 < len(peer) <= CIRCUIT_PEER_BYTES_MAX:
        raise IntegrityError("a peer id that is none")
    return base58.b58encode(peer).decode()


def hop_refusal(status: Status) -> bytes:
    """The frame that refuses what a peer asked of the relay."""
    return _framed(field(_HOP_TYPE, _HOP_STATUS) + field(_HOP_CODE, status))


def hop_reserved(expires: int, addresses: Sequence[bytes], limit: Limit) -> bytes:
    """The frame that grants a place until `expires` (seconds since 1970), at these addresses of the relay."""
    reservation = field(_RESERVATION_EXPIRES, expires)
    reservation += b"".join(field(_RESERVATION_ADDRESS, address) for address in addresses)
    said = field(_HOP_RESERVATION, reservation) + field(_HOP_LIMIT, limit.encode())
    return _framed(field(_HOP_TYPE, _HOP_STATUS) + said + field(_HOP_CODE, Status.OK))


def hop_connected(limit: Limit) -> bytes:
    """The frame behind which the circuit begins."""
    return _framed(
        field(_HOP_TYPE, _HOP_STATUS) + field(_HOP_LIMIT, limit.encode()) + field(_HOP_CODE, Status.OK),
    )


def stop_connect(peer_id: str, limit: Limit) -> bytes:
    """The frame that tells the peer behind the relay who wants to reach it."""
    peer = field(_PEER_ID, base58.b58decode(peer_id))
    return _framed(
        field(_STOP_TYPE, _STOP_CONNECT) + field(_STOP_PEER, peer) + field(_STOP_LIMIT, limit.encode()),
    )


def is_accepted(body: bytes) -> bool:
    """Whether the peer behind the relay takes the circuit. Raises IntegrityError for what is no answer."""
    found = dict(fields(body))
    if number_of(found.get(_STOP_TYPE, b"")) != _STOP_STATUS:
        raise IntegrityError("no answer to a connection")
    return number_of(found.get(_STOP_CODE, 0)) == Status.OK


def _framed(body: bytes) -> bytes:
    return encode_frame(body, CIRCUIT_MESSAGE_BYTES_MAX)
