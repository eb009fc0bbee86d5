"""Tuple keys: values of several types as bytes that sort as the values do.

    null < false < true < numbers < text < bytes < lists and maps

Integers and floats share one exact order: 1 and 1.0 are one key, 2**53 + 1 and
2**53 are two. Text sorts by its UTF-8 bytes. Lists and maps sort by their
canonical bytes: equal or not is all that is promised of them. A component may be
descending: then each of its bytes is inverted, and its first bit says so.

A component is a type byte and a body:

    10 null    18 false    19 true
    20 number: the greatest binary64 not above it, big endian, with its sign bit
       flipped if positive and all bits inverted if negative; and, where binary64
       skips integers (2**53 <= |x| < 2**63, and -2**63), what is left, 2 bytes
    30 text, 38 bytes, 48 canonical DAG-CBOR: with 00 written as 00 ff; then 00 01

No component begins another one, so order and ranges hold whatever follows, in
either direction. (With an end of 00 alone, "a" would begin "a" and a zero.)

Source: the idea is that of the FoundationDB tuple layer, the end that of
CockroachDB's key encoding; the number format is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import nextafter
from struct import Struct
from typing import Any

from rhizome_index.blocks import cbor
from rhizome_index.errors import IntegrityError

NULL, FALSE, TRUE, NUMBER, TEXT, BYTES, OTHER = 0x10, 0x18, 0x19, 0x20, 0x30, 0x38, 0x48
INVERT = bytes(255 - byte for byte in range(256))

_DOUBLE = Struct(">d")
_TWO = Struct(">H")
_SIGN = 1 << 63
_ALL = (1 << 64) - 1
_EXACT = 2**53
_NUMBER = bytes([NUMBER])
_TEXT = bytes([TEXT])
_END = b"\0\1"
_ZERO = b"\x80" + bytes(7)


def encode_component(value: Any, *, descending: bool = False) -> bytes:
    """One component of a key. Raises ValueError for what records cannot hold."""
    kind = type(value)
    if kind is str:
        data = _encode_text(value)
    elif kind is int:
        data = _encode_int(value)
    elif kind is float:
        data = _NUMBER + _encode_double(value)
        if _has_rest(value):
            data += b"\0\0"
    elif value is None:
        data = b"\x10"
    elif kind is bool:
        data = b"\x19" if value else b"\x18"
    elif kind is bytes:
        data = b"\x38" + value.replace(b"\0", b"\0\xff") + _END
    else:
        data = b"\x48" + cbor.encode(value).replace(b"\0", b"\0\xff") + _END
    return data.translate(INVERT) if descending else data


def encode_key(values: Sequence[Any], descending: Sequence[bool] = ()) -> bytes:
    """A key of several components, each ascending unless said otherwise."""
    flags = descending or (False,) * len(values)
    return b"".join(encode_component(value, descending=flag) for value, flag in zip(values, flags, strict=True))


def decode_key(data: bytes) -> list[Any]:
    """The values of a key. Numbers come back as int where they are whole. Raises IntegrityError if it is none."""
    values = []
    at = 0
    while at < len(data):
        end = component_end(data, at)
        part = data[at:end]
        values.append(_decode_component(part.translate(INVERT) if part[0] & 0x80 else part))
        at = end
    return values


def component_end(data: bytes, start: int) -> int:
    """The offset behind the component that begins at `start`. Raises IntegrityError if there is none."""
    if start >= len(data):
        raise IntegrityError("a key with fewer components than it must have")
    first = data[start]
    flip = 0xFF if first & 0x80 else 0
    kind = first ^ flip
    if kind in (NULL, FALSE, TRUE):
        return start + 1
    if kind == NUMBER:
        body = data[start + 1 : start + 9]
        end = start + (11 if _body_has_rest(body.translate(INVERT) if flip else body) else 9)
    elif kind in (TEXT, BYTES, OTHER):
        stop, escape = (_END.translate(INVERT), b"\xff\0") if flip else (_END, b"\0\xff")
        at = start + 1
        while (at := data.find(stop[0], at)) >= 0 and data[at : at + 2] == escape:
            at += 2
        if at < 0 or data[at : at + 2] != stop:
            raise IntegrityError("a key whose text or bytes have no proper end")
        end = at + 2
    else:
        raise IntegrityError("a key with a component of no known type")
    if end > len(data):
        raise IntegrityError("a key that ends within a component")
    return end


def successor(prefix: bytes) -> bytes:
    """The least bytes behind everything that begins with `prefix`, which must not be all ff."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1])


@dataclass(frozen=True, slots=True)
class Interval:
    """A range of values of one type, as a range of ascending components.

    It begins before (or behind) everything that starts with `low`, and ends before (or behind)
    everything that starts with `high`.
    """

    low: bytes
    low_behind: bool
    high: bytes
    high_behind: bool

    def contains(self, component: bytes) -> bool:
        """Whether an ascending component lies in the range."""
        low, high = self.bounds(b"", descending=False)
        return low <= component < high

    def bounds(self, prefix: bytes, *, descending: bool) -> tuple[bytes, bytes]:
        """The keys (from, up to but not including) whose component behind `prefix` lies in the range."""
        if descending:
            low, low_behind = self.high.translate(INVERT), not self.high_behind
            high, high_behind = self.low.translate(INVERT), not self.low_behind
        else:
            low, low_behind, high, high_behind = self.low, self.low_behind, self.high, self.high_behind
        start, end = prefix + low, prefix + high
        return successor(start) if low_behind else start, successor(end) if high_behind else end

    def holds(self, other: Interval) -> bool:
        """Whether every value of another range lies in this one."""
        low, high = self.bounds(b"", descending=False)
        other_low, other_high = other.bounds(b"", descending=False)
        return low <= other_low and other_high <= high

    def intersect(self, other: Interval) -> Interval:
        """The values in both ranges."""
        low = max((self.low, self.low_behind), (other.low, other.low_behind), key=_cut)
        high = min((self.high, self.high_behind), (other.high, other.high_behind), key=_cut)
        return Interval(*low, *high)


def _cut(bound: tuple[bytes, bool]) -> bytes:
    return successor(bound[0]) if bound[1] else bound[0]


NOT_NULL = Interval(bytes([FALSE]), False, bytes([OTHER]), True)


def interval(operator: str, value: Any) -> Interval:
    """The values that meet `operator value`, for = < <= > >= and `starts with`. Other types never do."""
    data = encode_component(value)
    if operator == "=":
        return Interval(data, False, data, True)
    if operator == "starts with":
        start = data[: -len(_END)]
        return Interval(start, False, start, True)
    first, last = (bytes([FALSE]), bytes([TRUE])) if type(value) is bool else (data[:1], data[:1])
    return {
        "<": Interval(first, False, data, False),
        "<=": Interval(first, False, data, True),
        ">": Interval(data, True, last, True),
        ">=": Interval(data, False, last, True),
    }[operator]


@lru_cache(maxsize=8192)  # index keys repeat: tags, authors
def _encode_text(value: str) -> bytes:
    return _TEXT + value.encode().replace(b"\0", b"\0\xff") + _END


def _encode_int(value: int) -> bytes:
    if -_EXACT < value < _EXACT:
        return _NUMBER + _encode_double(value)
    if not -(2**63) <= value < 2**63:
        raise ValueError("an integer beyond 64 bits")
    below = float(value)
    if below > value:
        below = nextafter(below, float("-inf"))
    return _NUMBER + _encode_double(below) + _TWO.pack(value - int(below))


def _encode_double(value: float) -> bytes:
    """To negate is to flip the sign bit."""
    return _DOUBLE.pack(-value) if value > 0 else _ZERO if value == 0 else _DOUBLE.pack(value).translate(INVERT)


def _decode_double(data: bytes) -> float:
    bits = int.from_bytes(data, "big")
    value: float = _DOUBLE.unpack((bits ^ _SIGN if bits & _SIGN else bits ^ _ALL).to_bytes(8, "big"))[0]
    return value


def _has_rest(value: float) -> bool:
    return _EXACT <= value < 2.0**63 or -(2.0**63) <= value <= -_EXACT


def _body_has_rest(body: bytes) -> bool:
    """The same, told from the encoded number."""
    return _RESTS[0] <= body < _RESTS[1] or _RESTS[2] <= body <= _RESTS[3]


_RESTS = tuple(map(_encode_double, (2.0**53, 2.0**63, -(2.0**63), -(2.0**53))))


def _decode_component(data: bytes) -> Any:
    kind = data[0]
    if kind in (NULL, FALSE, TRUE):
        return {NULL: None, FALSE: False, TRUE: True}[kind]
    value: Any
    if kind == NUMBER:
        below = _decode_double(data[1:9])
        if below != below or below in (float("inf"), float("-inf")):
            raise IntegrityError("a key with a number that is not finite")
        value = int(below) if below == int(below) and -(2.0**63) <= below < 2.0**63 else below
        if len(data) > 9:
            value += _TWO.unpack(data[9:])[0]
    else:
        body = data[1 : -len(_END)].replace(b"\0\xff", b"\0")
        try:
            value = body if kind == BYTES else body.decode() if kind == TEXT else cbor.decode(body)
        except UnicodeDecodeError:
            raise IntegrityError("a key with text that is not UTF-8") from None
    try:
        if encode_component(value) == data:
            return value
    except ValueError:
        pass
    raise IntegrityError("a key with a component in another form than the canonical one")
