"""Messages: what every protocol here has in common.

A request is `[number, {fields}]`. Its answer is any number of

    [number, "open", {fields}]      once, first, where the protocol has it
    [number, "part", bytes]         the beginning of a block too large for one frame
    [number, "blocks", [bytes...]]  blocks in order; the first completes the parts before it; null: not there
    [number, "packed", bytes]       the same, deflated (`packed`); only to a request that takes it

and one of these two, which end it:

    [number, "end", {fields}]
    [number, "error", code, text]

Numbers are chosen by who asks, and are free again once answered. Fields are
checked one by one: none may be missing, none unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rhizome_index.blocks import cbor
from rhizome_index.blocks.cid import Cid
from rhizome_index.errors import IntegrityError
from rhizome_index.limits import (
    BUDGET_COUNTED_MIN,
    ERROR_TEXT_MAX,
    FRAME_PAYLOAD_BYTES,
    IN_FLIGHT_BYTES_MAX,
    PROOF_BYTES_MAX,
    RECORD_BYTES_MAX,
)
from rhizome_index.wire.frame import FrameReader, encode_frame
from rhizome_index.wire.packed import pack, unpack

# Why a peer does not answer. The text beside it is for people.
UNKNOWN = "unknown"  # it does not know the dataset, or not that head of it
MISSING = "missing"  # it lacks a block that the answer needs
REFUSED = "refused"  # it will not: the query costs too much, or makes no sense here
MALFORMED = "malformed"  # the request breaks the protocol
BUSY = "busy"  # ask somebody else, or later
CODES = (UNKNOWN, MISSING, REFUSED, MALFORMED, BUSY)

_NUMBERS = 2**32  # of requests: 0 to this


@dataclass(frozen=True, slots=True)
class Request:
    number: int
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Open:
    number: int
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Blocks:
    """Whole blocks, put together again; None where the peer has it not."""

    number: int
    blocks: tuple[bytes | None, ...]
    were_packed: bool = False

    def plain(self) -> tuple[bytes | None, ...]:
        """Them, where no packed ones are taken. Raises IntegrityError."""
        if self.were_packed:
            raise IntegrityError("packed blocks that nobody asked for")
        return self.blocks


@dataclass(frozen=True, slots=True)
class End:
    number: int
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Failure:
    number: int
    code: str
    text: str


Reply = Open | Blocks | End | Failure


def encode_request(number: int, fields: Mapping[str, Any]) -> bytes:
    """The frame of a request."""
    return encode_frame(cbor.encode([number, dict(fields)]))


def decode_request(body: bytes) -> Request:
    """Raises IntegrityError for anything but a request."""
    value = cbor.decode(body)
    if type(value) is not list or len(value) != 2 or type(value[1]) is not dict:
        raise IntegrityError("a request must be [number, fields]")
    return Request(_number(value[0]), value[1])


def weight(fields: Mapping[str, Any]) -> int:
    """What a request counts among those under way: the bytes of blocks that it may bring."""
    budget = fields.get("budget", PROOF_BYTES_MAX)
    return min(max(budget, BUDGET_COUNTED_MIN), PROOF_BYTES_MAX) if is_natural(budget) else PROOF_BYTES_MAX


def encode_open(number: int, fields: Mapping[str, Any]) -> bytes:
    return encode_frame(cbor.encode([number, "open", dict(fields)]))


def encode_end(number: int, fields: Mapping[str, Any]) -> bytes:
    return encode_frame(cbor.encode([number, "end", dict(fields)]))


def encode_failure(number: int, code: str, text: str) -> bytes:
    return encode_frame(cbor.encode([number, "error", code, text[:ERROR_TEXT_MAX]]))


def outcome(frame: bytes) -> str | None:
    """The code of a failure, if the last frame of an answer of our own is one."""
    reader = ReplyReader()
    for body in FrameReader().feed(frame):
        reply = reader.read(body)
        if isinstance(reply, Failure):
            return reply.code
    return None


class BlockPacker:
    """Packs blocks into frames, as many into each as fit.

    deflates  where that makes a frame shorter
    """

    def __init__(self, number: int, *, deflates: bool = False) -> None:
        self._number = number
        self._deflates = deflates
        self._waiting: list[bytes | None] = []
        self._size = 0

    def add(self, block: bytes | None) -> Iterator[bytes]:
        """The frames that are full now."""
        size = 8 + len(block or b"")
        if self._waiting and self._size + size > FRAME_PAYLOAD_BYTES:
            yield from self.flush()
        if block is not None and size > FRAME_PAYLOAD_BYTES:
            while len(block) > FRAME_PAYLOAD_BYTES:
                yield encode_frame(cbor.encode([self._number, "part", block[:FRAME_PAYLOAD_BYTES]]))
                block = block[FRAME_PAYLOAD_BYTES:]
            size = 8 + len(block)
        self._waiting.append(block)
        self._size += size

    def flush(self) -> Iterator[bytes]:
        """The frame of what is left, if anything is."""
        if self._waiting:
            bodies = [cbor.encode([self._number, "blocks", self._waiting])]
            if self._deflates:
                bodies.append(cbor.encode([self._number, "packed", pack(self._waiting)]))
            yield encode_frame(min(bodies, key=len))
            self._waiting, self._size = [], 0


class ReplyReader:
    """Reads the answers on one stream, putting large blocks together.

    number  of the answer that the last frame was of

    It holds one unfinished block for each number, all together no more than the budgets of what may be under way.
    """

    def __init__(self) -> None:
        self._parts: dict[int, bytearray] = {}
        self._parts_bytes = 0
        self.number = -1

    def read(self, body: bytes) -> Reply | None:
        """The message in a frame, or None where more parts must follow. Raises IntegrityError for anything else."""
        value = cbor.decode(body)
        if type(value) is not list or len(value) < 3 or type(value[1]) is not str:
            raise IntegrityError("an answer must be [number, kind, content]")
        number, kind, content = _number(value[0]), value[1], value[2]
        self.number = number
        if kind == "error" and len(value) == 4 and content in CODES and type(value[3]) is str:
            return Failure(number, content, value[3][:ERROR_TEXT_MAX])
        if len(value) == 3 and kind in ("open", "end") and type(content) is dict:
            if number in self._parts:
                raise IntegrityError("an answer that ends within a block")
            return Open(number, content) if kind == "open" else End(number, content)
        if len(value) == 3 and kind == "part" and type(content) is bytes and content:
            begun = self._parts.setdefault(number, bytearray())
            if len(begun) + len(content) > RECORD_BYTES_MAX:
                raise IntegrityError("a block larger than any may be")
            self._parts_bytes += len(content)
            if self._parts_bytes > IN_FLIGHT_BYTES_MAX:
                raise IntegrityError("parts of blocks beyond all budgets")
            begun += content
            return None
        if len(value) == 3 and kind == "packed" and type(content) is bytes:
            return Blocks(number, self._whole(number, unpack(content)), were_packed=True)
        if len(value) == 3 and kind == "blocks":
            return Blocks(number, self._whole(number, content))
        raise IntegrityError(f"an answer of an unknown kind: {kind[:40]!r}")

    def _whole(self, number: int, content: Any) -> tuple[bytes | None, ...]:
        """Some blocks, of which the first completes the parts before it."""
        if type(content) is not list or not content:
            raise IntegrityError("blocks that are none")
        if not all(block is None or type(block) is bytes for block in content):
            raise IntegrityError("a block that is not bytes")
        if number in self._parts:
            if content[0] is None:
                raise IntegrityError("an answer that ends within a block")
            content[0] = bytes(self._take_parts(number) + content[0])
        return tuple(content)

    def forget(self, number: int) -> None:
        """An answer has ended."""
        self._take_parts(number)

    def _take_parts(self, number: int) -> bytearray:
        begun = self._parts.pop(number, bytearray())
        self._parts_bytes -= len(begun)
        return begun


def read_fields(fields: Any, **checks: Callable[[Any], bool]) -> list[Any]:
    """The values of fields in the order of `checks`. Raises IntegrityError for a missing, unknown or wrong one."""
    if not isinstance(fields, dict):
        raise IntegrityError("a message whose fields are no map")
    if fields.keys() != checks.keys():
        raise IntegrityError("a message with missing or unknown fields")
    for name, check in checks.items():
        if not check(fields[name]):
            raise IntegrityError(f"a message with a wrong {name!r}")
    return [fields[name] for name in checks]


def is_text(value: Any) -> bool:
    return type(value) is str


def is_bytes(value: Any) -> bool:
    return type(value) is bytes


def is_natural(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**53


def is_flag(value: Any) -> bool:
    return type(value) is bool


def is_link(value: Any) -> bool:
    return type(value) is cbor.Link


def is_anything(value: Any) -> bool:
    return True


def optional(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """The same check, or null."""
    return lambda value: value is None or check(value)


def list_of(check: Callable[[Any], bool], size_max: int, size_min: int = 0) -> Callable[[Any], bool]:
    """A list of a bounded number of such values."""
    return lambda value: type(value) is list and size_min <= len(value) <= size_max and all(map(check, value))


def links(cids: Iterable[Cid]) -> list[cbor.Link]:
    """CIDs as links in a message."""
    return [cbor.Link(cid) for cid in cids]


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value < _NUMBERS:
        raise IntegrityError("a message with a number out of range")
    return value
