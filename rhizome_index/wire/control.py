"""What another process of the same home says to its running node, and hears from it.

A connection is one request and its answer. The request is one frame with

    [VERSION, kind, {fields}]

and what the node answers are frames with one of

    ["news", {fields}]           any number of them, where the request says so
    ["end", {fields}]            the last
    ["error", kind, text, hint]  the last, in the place of "end"

Behind the end that answers a `Borrow` the connection is the stream: what its peer
sends comes as it is, and ends where the peer ends it. To the peer go frames with
bytes each, and one with null to close the stream. Whoever just leaves, because he was
killed, say, abandons it.

Both sides are processes of one user, so what is bounded here is bounded against
mistakes; a process of another version is told so, and can do without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rhizome_index.blocks import cbor
from rhizome_index.errors import IntegrityError, QuotaError, RhizomeError, StoreError, UnavailableError, UsageError
from rhizome_index.limits import (
    CONTROL_ANSWER_BYTES_MAX,
    CONTROL_WAIT_MS_MAX,
    ERROR_TEXT_MAX,
    FRAME_PAYLOAD_BYTES,
)
from rhizome_index.wire.frame import encode_frame
from rhizome_index.wire.message import is_flag, is_text, read_fields

VERSION = 1


@dataclass(frozen=True, slots=True)
class WatchPeers:
    """Who is connected: at once, and as news whenever that changes. It has no end."""


@dataclass(frozen=True, slots=True)
class Dial:
    """Connect to a full address."""

    address: str
    timeout_ms: int


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Drop all connections with a peer."""

    peer_id: str


@dataclass(frozen=True, slots=True)
class Borrow:
    """A stream with a connected peer."""

    peer_id: str
    protocol: str
    timeout_ms: int


@dataclass(frozen=True, slots=True)
class Bring:
    """Bring what is followed of a dataset up to date; how far that is comes as news."""

    address: str


@dataclass(frozen=True, slots=True)
class Look:
    """Something else has been written to the store: what is followed, say."""


@dataclass(frozen=True, slots=True)
class Status:
    """How the node is doing: the end has it."""


@dataclass(frozen=True, slots=True)
class Collect:
    """Free what nothing needs, or only find out how much that is; how far it is comes as news."""

    is_trial: bool


Request = WatchPeers | Dial | Disconnect | Borrow | Bring | Look | Status | Collect


@dataclass(frozen=True, slots=True)
class News:
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class End:
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Failed:
    error: RhizomeError


Answer = News | End | Failed


def _is_wait(value: Any) -> bool:
    return type(value) is int and 0 < value <= CONTROL_WAIT_MS_MAX


_Checks = dict[str, Callable[[Any], bool]]
_KINDS: dict[str, tuple[type[Request], _Checks]] = {
    "peers": (WatchPeers, {}),
    "dial": (Dial, {"address": is_text, "timeout_ms": _is_wait}),
    "disconnect": (Disconnect, {"peer_id": is_text}),
    "borrow": (Borrow, {"peer_id": is_text, "protocol": is_text, "timeout_ms": _is_wait}),
    "bring": (Bring, {"address": is_text}),
    "look": (Look, {}),
    "status": (Status, {}),
    "collect": (Collect, {"is_trial": is_flag}),
}
_NAMES = {request: name for name, (request, _) in _KINDS.items()}

_ERRORS: dict[str, type[RhizomeError]] = {  # the first that fits
    "usage": UsageError,
    "quota": QuotaError,
    "store": StoreError,
    "unavailable": UnavailableError,
    "integrity": IntegrityError,
}


def encode_request(request: Request) -> bytes:
    """The frame of a request."""
    return encode_frame(cbor.encode([VERSION, _NAMES[type(request)], asdict(request)]))


def decode_request(body: bytes) -> Request:
    """Raises IntegrityError for anything but a request of this version."""
    value = cbor.decode(body)
    if type(value) is not list or len(value) != 3 or type(value[1]) is not str or type(value[2]) is not dict:
        raise IntegrityError("a request must be [version, kind, fields]")
    if value[0] != VERSION or value[1] not in _KINDS:
        raise IntegrityError(f"a request of another version of this program: {value[0]} {value[1][:40]!r}")
    request, checks = _KINDS[value[1]]
    return request(*read_fields(value[2], **checks))


def encode_news(fields: Mapping[str, Any]) -> bytes:
    return encode_frame(cbor.encode(["news", dict(fields)]), CONTROL_ANSWER_BYTES_MAX)


def encode_end(fields: Mapping[str, Any]) -> bytes:
    return encode_frame(cbor.encode(["end", dict(fields)]), CONTROL_ANSWER_BYTES_MAX)


def encode_error(error: RhizomeError) -> bytes:
    """The frame of an error: whose fault it is, what is wrong and what to do."""
    kind = next((name for name, known in _ERRORS.items() if isinstance(error, known)), "unavailable")
    return encode_frame(cbor.encode(["error", kind, str(error)[:ERROR_TEXT_MAX], error.hint[:ERROR_TEXT_MAX]]))


def decode_answer(body: bytes) -> Answer:
    """Raises IntegrityError for anything but a part of an answer."""
    value = cbor.decode(body)
    if type(value) is list and len(value) == 2 and type(value[1]) is dict:
        if value[0] == "news":
            return News(value[1])
        if value[0] == "end":
            return End(value[1])
    if type(value) is list and len(value) == 4 and value[0] == "error" and all(map(is_text, value)):
        _, kind, text, hint = value
        if kind in _ERRORS:
            return Failed(_ERRORS[kind](text, hint=hint))
    raise IntegrityError("an answer of an unknown kind")


def encode_bytes(data: bytes) -> Iterator[bytes]:
    """The frames of what a borrowed stream's peer is sent."""
    for start in range(0, len(data), FRAME_PAYLOAD_BYTES):
        yield encode_frame(cbor.encode(data[start : start + FRAME_PAYLOAD_BYTES]))


def encode_close() -> bytes:
    """The frame that closes a borrowed stream."""
    return encode_frame(cbor.encode(None))


def decode_bytes(body: bytes) -> bytes | None:
    """What a frame has for a borrowed stream's peer; None closes the stream. Raises IntegrityError."""
    value = cbor.decode(body)
    if value is not None and type(value) is not bytes:
        raise IntegrityError("what goes to a peer must be bytes")
    return value
