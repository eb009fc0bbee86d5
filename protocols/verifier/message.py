"""message/1: frames, requests and replies."""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from .dag import MAX_NODE, Value, as_bytes, as_int, as_list, as_map, as_text, cid_of, decode, encode
from .errors import Refused
from .harness import Case, Groups, Vectors, each, expect, expect_values, none
from .head import read_uvarint, uvarint

MAX_FRAME: Final = 65_536
MAX_BLOCK: Final = 1_048_576
MAX_NUMBER: Final = 2**32 - 1
MAX_ERROR_TEXT: Final = 500
CODES: Final = ("unknown", "missing", "refused", "malformed", "busy")

# --- Frames ------------------------------------------------------------------------------------------------


def frame(body: bytes) -> bytes:
    """A message's bytes as a frame."""
    if not 1 <= len(body) <= MAX_FRAME:
        raise Refused("a frame that is empty or too long")
    return uvarint(len(body)) + body


def read_frames(stream: bytes) -> Iterator[bytes]:
    """The bodies of the frames that a stream carries."""
    at = 0
    while at < len(stream):
        length, at = read_uvarint(stream, at, 3)
        if not 1 <= length <= MAX_FRAME:
            raise Refused("a frame that is empty or too long")
        if at + length > len(stream):
            raise Refused("a frame that ends too early")
        yield stream[at : at + length]
        at += length


# --- Requests ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Request:
    """A request: its number, and fields that its protocol reads."""

    number: int
    fields: dict[str, Value]


def read_request(body: bytes) -> Request:
    """The request that a frame's body is."""
    number, fields = as_list(decode(body), "request", 2, 2)
    return Request(_read_number(number), as_map(fields, "fields"))


def _read_number(value: Value) -> int:
    return as_int(value, "number", 0, MAX_NUMBER)


# --- Replies -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Open:
    """The opening of an answer."""

    fields: dict[str, Value]


@dataclass(frozen=True)
class Blocks:
    """Blocks, in order; null is one that is not there. They may have come packed."""

    blocks: list[bytes | None]
    packed: bool = False


@dataclass(frozen=True)
class End:
    """The end of an answer."""

    fields: dict[str, Value]


@dataclass(frozen=True)
class Failure:
    """The end of a request that is not answered."""

    code: str
    text: str


Event = Open | Blocks | End | Failure


class Replies:
    """The replies to one request, read one after another."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._parts = b""
        self._ended = False

    def read(self, body: bytes) -> Event | None:
        """What a frame's body says: nothing yet, if it is the part of a block."""
        message = as_list(decode(body), "reply", 2, 4)
        number, kind, rest = _read_number(message[0]), as_text(message[1], "kind"), message[2:]
        if number != self._number or self._ended:
            raise Refused("a reply to no request that is under way")
        if len(rest) != (2 if kind == "error" else 1):
            raise Refused("a reply with too many parts, or too few")
        if kind == "part":
            self._take_part(as_bytes(rest[0], "part", 1, MAX_NODE))
            return None
        if kind == "blocks":
            return Blocks(self._whole_blocks(rest[0]))
        if kind == "packed":
            return Blocks(self._whole_blocks(decode(_inflate(as_bytes(rest[0], "packed")))), packed=True)
        if kind == "error":
            self._ended = True
            return _read_failure(rest)
        if kind not in ("open", "end"):
            raise Refused("an unknown kind of reply")
        if self._parts:
            raise Refused("an opening or an end within a block")
        fields = as_map(rest[0], "fields")
        self._ended = kind == "end"
        return End(fields) if kind == "end" else Open(fields)

    def _take_part(self, part: bytes) -> None:
        self._parts += part
        if len(self._parts) > MAX_BLOCK:
            raise Refused("parts of too many bytes")

    def _whole_blocks(self, value: Value) -> list[bytes | None]:
        items = as_list(value, "blocks", 1)
        blocks = [None if item is None else as_bytes(item, "block") for item in items]
        if self._parts:
            if blocks[0] is None:
                raise Refused("null behind a part")
            blocks[0] = self._parts + blocks[0]
            self._parts = b""
            as_bytes(blocks[0], "block", 0, MAX_BLOCK)
        return blocks


def _inflate(data: bytes) -> bytes:
    inflating = zlib.decompressobj(wbits=-15)
    try:
        found = inflating.decompress(data, MAX_FRAME + 1)
    except zlib.error:
        raise Refused("packed blocks that do not inflate") from None
    if len(found) > MAX_FRAME or not inflating.eof or inflating.unused_data:
        raise Refused("packed blocks of too many bytes, or with another end")
    return found


def _read_failure(rest: Sequence[Value]) -> Failure:
    code, text = as_text(rest[0], "code"), as_text(rest[1], "text")
    if code not in CODES or len(text) > MAX_ERROR_TEXT:
        raise Refused("an error with an unknown code, or with too long a text")
    return Failure(code, text)


def shown_request(case: Case) -> Request:
    """The request that an exchange begins with, as a frame."""
    bodies = list(read_frames(case.hex("request")))
    expect("requests", len(bodies), 1)
    return read_request(bodies[0])


def shown_replies(case: Case, request: Request) -> Iterator[Event]:
    """What the replies of an exchange say, each of which is a frame."""
    replies = Replies(request.number)
    for stream in case.hexes("replies"):
        for body in read_frames(stream):
            event = replies.read(body)
            if event is not None:
                yield event


# --- Vectors -----------------------------------------------------------------------------------------------


def _check_frame(_: Vectors, case: Case) -> None:
    body, stream = case.hex("body"), case.hex("frame")
    expect("frame", frame(body), stream)
    expect("bodies", list(read_frames(stream * 2)), [body, body])


def _check_not_frame(_: Vectors, case: Case) -> None:
    list(read_frames(case.hex("stream")))


def _check_request(_: Vectors, case: Case) -> None:
    stream = case.hex("frame")
    requests = [read_request(body) for body in read_frames(stream)]
    expect("requests", len(requests), 1)
    expect("number", requests[0].number, case.integer("number"))
    expect_values("fields", requests[0].fields, case.value("fields"))
    expect("frame", frame(encode([requests[0].number, requests[0].fields])), stream)


def _check_not_request(_: Vectors, case: Case) -> None:
    read_request(case.hex("body"))


def _check_blocks(_: Vectors, case: Case) -> None:
    case.text("large")
    bodies = [body for stream in case.hexes("frames") for body in read_frames(stream)]
    replies = Replies(as_int(as_list(decode(bodies[0]), "reply", 2)[0], "number"))
    found: list[bytes | None] = []
    for event in map(replies.read, bodies):
        expect("blocks or parts of them", event is None or isinstance(event, Blocks), True)
        if isinstance(event, Blocks):
            found += event.blocks
    shown = [None if item.is_null() else item.as_hex() for item in case.items("blocks")]
    # A block that is too large for one frame is shown by its CID.
    named = [bytes(cid_of(data)) if data is not None and len(data) > MAX_FRAME else data for data in found]
    expect("blocks", named, shown)


def _check_packed(_: Vectors, case: Case) -> None:
    event = Replies(7).read(case.hex("body"))
    shown = [None if item.is_null() else item.as_hex() for item in case.items("blocks")]
    expect("packed blocks", event, Blocks(shown, packed=True))


def _check_not_replies(_: Vectors, case: Case) -> None:
    replies = Replies(7)  # the number of the request, in all these cases
    for body in case.hexes("bodies"):
        replies.read(body)


GROUPS: Final[Groups] = {
    "frames": each(_check_frame),
    "not_frames": none(_check_not_frame),
    "requests": each(_check_request),
    "not_requests": none(_check_not_request),
    "blocks": each(_check_blocks),
    "packed": each(_check_packed),
    "not_replies": none(_check_not_replies),
}
