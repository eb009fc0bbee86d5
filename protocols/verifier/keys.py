"""keys/1: values as bytes that sort as the values do."""

import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple, TypeGuard

from .dag import Value, decode, encode, read_utf8, utf8
from .errors import Refused
from .harness import Case, Groups, Vectors, each, expect, expect_values, none, whole

MAX_KEY: Final = 1_024
MIN_INT64: Final = -(2**63)
MAX_INT64: Final = 2**63 - 1

_NULL, _FALSE, _TRUE, _NUMBER, _TEXT, _BYTES, _NESTED = 0x10, 0x18, 0x19, 0x20, 0x30, 0x38, 0x48
_END: Final = b"\x00\x01"
_ESCAPED_ZERO: Final = b"\x00\xff"
_DESCENDING: Final = 0x80
_INVERTED: Final = bytes(255 - byte for byte in range(256))

# --- Components --------------------------------------------------------------------------------------------


def inverted(data: bytes) -> bytes:
    """255 minus each byte."""
    return data.translate(_INVERTED)


def component(value: Value, descending: bool = False) -> bytes:
    """A value as the component of a key."""
    return inverted(_ascending(value)) if descending else _ascending(value)


def _ascending(value: Value) -> bytes:
    if value is None:
        return bytes([_NULL])
    if isinstance(value, bool):
        return bytes([_TRUE if value else _FALSE])
    if isinstance(value, int | float):
        return bytes([_NUMBER]) + _number(value)
    if isinstance(value, str):
        return bytes([_TEXT]) + _escaped(utf8(value))
    if isinstance(value, bytes):
        return bytes([_BYTES]) + _escaped(value)
    if isinstance(value, list | dict):
        return bytes([_NESTED]) + _escaped(encode(value))
    raise Refused("a link in a key")


def _escaped(data: bytes) -> bytes:
    return data.replace(b"\x00", _ESCAPED_ZERO) + _END


def _number(value: int | float) -> bytes:
    if isinstance(value, int):
        if not MIN_INT64 <= value <= MAX_INT64:
            raise Refused("an integer beyond 64 bits in a key")
        below = float(value)
        if below > value:  # Python compares integers and floats exactly
            below = math.nextafter(below, -math.inf)
    else:
        if not math.isfinite(value):
            raise Refused("a float in a key that is not finite")
        below = value + 0.0
    bits = struct.pack(">d", below)
    bits = inverted(bits) if bits[0] & 0x80 else bytes([bits[0] | 0x80]) + bits[1:]
    return bits + (int(value) - int(below)).to_bytes(2, "big") if _has_rest(below) else bits


def _has_rest(number: float) -> bool:
    return 2**53 <= number < 2**63 or -(2**63) <= number <= -(2**53)


# --- Reading -----------------------------------------------------------------------------------------------


class Component(NamedTuple):
    """A component that was read. Of a number only the value is known, not whether it was an integer or a float."""

    value: Value
    descending: bool


def read_key(key: bytes) -> list[Component]:
    """The components of a key."""
    if len(key) > MAX_KEY:
        raise Refused("a key of too many bytes")
    found: list[Component] = []
    at = 0
    while at < len(key):
        descending = bool(key[at] & _DESCENDING)
        rest = inverted(key[at:]) if descending else key[at:]
        value, length = _read_component(rest)
        if _ascending(value) != rest[:length]:
            raise Refused("a component that is not written as its value is")
        found.append(Component(value, descending))
        at += length
    return found


def component_end(key: bytes, at: int) -> int:
    """The place behind the component of a key that begins at a place."""
    rest = inverted(key[at:]) if key[at] & _DESCENDING else key[at:]
    return at + _read_component(rest)[1]


def _read_component(data: bytes) -> tuple[Value, int]:
    """The value of the component that bytes begin with, and how many they are."""
    kind = data[0]
    if kind == _NULL:
        return None, 1
    if kind in (_FALSE, _TRUE):
        return kind == _TRUE, 1
    if kind == _NUMBER:
        return _read_number(data)
    if kind not in (_TEXT, _BYTES, _NESTED):
        raise Refused("an unknown type of component")
    body, length = _read_escaped(data)
    if kind == _TEXT:
        return read_utf8(body), length
    if kind == _BYTES:
        return body, length
    nested = decode(body)
    if not isinstance(nested, list | dict):
        raise Refused("neither a list nor a map where one is said to be")
    return nested, length


def _read_number(data: bytes) -> tuple[Value, int]:
    bits = data[1:9]
    if len(bits) < 8:
        raise Refused("a number that ends too early")
    bits = bytes([bits[0] & 0x7F]) + bits[1:] if bits[0] & 0x80 else inverted(bits)
    number: float = struct.unpack(">d", bits)[0]
    if not math.isfinite(number):
        raise Refused("a number that is not finite")
    if not _has_rest(number):
        return number, 9
    rest = data[9:11]
    if len(rest) < 2:
        raise Refused("a number without its rest")
    return int(number) + int.from_bytes(rest, "big"), 11


def _read_escaped(data: bytes) -> tuple[bytes, int]:
    body = bytearray()
    at = 1
    while True:
        zero = data.find(b"\x00", at)
        if zero < 0 or zero + 1 == len(data):
            raise Refused("a missing end")
        body += data[at:zero]
        at = zero + 2
        mark = data[zero:at]
        if mark == _END:
            return bytes(body), at
        if mark != _ESCAPED_ZERO:
            raise Refused("an escape that is none")
        body.append(0)


# --- Ranges ------------------------------------------------------------------------------------------------


def following(prefix: bytes) -> bytes | None:
    """The least string behind all that begin with a prefix, if there is one."""
    trimmed = prefix.rstrip(b"\xff")
    return trimmed[:-1] + bytes([trimmed[-1] + 1]) if trimmed else None


class Range(NamedTuple):
    """The keys from `low` up to, not including, `high`; without a `high`, all from `low`."""

    low: bytes
    high: bytes | None

    def holds(self, key: bytes) -> bool:
        """Whether a key lies in the range."""
        return self.low <= key and (self.high is None or key < self.high)

    def is_empty(self) -> bool:
        """Whether no key can lie in it."""
        return self.high is not None and self.low >= self.high


EVERYTHING: Final = Range(b"", None)


@dataclass(frozen=True)
class Cut:
    """A place between keys: before some bytes and all that begin with them, or behind these."""

    at: bytes
    behind: bool

    def bound(self, prefix: bytes = b"") -> bytes | None:
        """The least key behind the cut."""
        return following(prefix + self.at) if self.behind else prefix + self.at

    def turned(self) -> "Cut":
        """The same cut among descending components."""
        return Cut(inverted(self.at), not self.behind)


ORDERINGS: Final = ("<", "<=", ">", ">=", "starts with")


def cuts(operator: str, value: Value) -> tuple[Cut, Cut]:
    """Where the range of the ascending components begins and ends that meet a comparison."""
    own = component(value)
    if operator == "!=" and value is None:
        return Cut(bytes([_FALSE]), False), Cut(bytes([_NESTED]), True)
    first, last = (bytes([_FALSE]), bytes([_TRUE])) if isinstance(value, bool) else (own[:1], own[:1])
    if operator == "starts with":
        if not isinstance(value, str):
            raise Refused("a beginning that is no text")
        return Cut(own[:-2], False), Cut(own[:-2], True)
    if operator not in ("=", "<", "<=", ">", ">="):
        raise Refused(f"{operator}: no operator that has a range")
    low = Cut(own, operator == ">") if operator in ("=", ">", ">=") else Cut(first, False)
    high = Cut(own, operator != "<") if operator in ("=", "<", "<=") else Cut(last, True)
    return low, high


def key_range(conditions: Iterable[tuple[str, Value]], prefix: bytes, descending: bool) -> Range:
    """The range of the keys whose component behind a prefix meets all of some comparisons."""
    pairs = [cuts(operator, value) for operator, value in conditions]
    low = max((pair[0] for pair in pairs), key=_lower_bound)
    high = min((pair[1] for pair in pairs), key=_lower_bound)
    if descending:
        low, high = high.turned(), low.turned()
    bound = low.bound(prefix)
    return Range(b"" if bound is None else bound, high.bound(prefix))


def _lower_bound(cut: Cut) -> bytes:
    bound = cut.bound()
    if bound is None:
        raise Refused("a cut behind everything")  # no type byte is ff
    return bound


def meets(operator: str, own: bytes, value: Value) -> bool:
    """Whether a value, given as its ascending component, meets one of the comparisons that have ranges."""
    return key_range([(operator, value)], b"", False).holds(own)


# --- Vectors -----------------------------------------------------------------------------------------------


def is_number(value: Value) -> TypeGuard[int | float]:
    """Whether a value is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _same(what: str, found: Value, shown: Value) -> None:
    """Two values of one component: numbers by their values."""
    if is_number(found) and is_number(shown):
        expect(what, found == shown, True)
    else:
        expect_values(what, found, shown)


def _check_in_order(_: Vectors, case: Case) -> None:
    values = [item.as_value() for item in case.items()]
    for descending in (False, True):
        keys = [component(value, descending) for value in values]
        if descending:
            keys.reverse()
        for (lower, higher), value in zip(pairwise(keys), values, strict=False):
            expect(f"{value!r} and the next in order, whatever follows", lower + b"\xff" * 20 < higher, True)


def _check_component(_: Vectors, case: Case) -> None:
    value, descending, key = case.value("value"), case.flag("descending"), case.hex("key")
    expect("component", component(value, descending), key)
    found = read_key(key)
    expect("components", len(found), 1)
    expect("direction", found[0].descending, descending)
    _same("value", found[0].value, value)


def _check_key(_: Vectors, case: Case) -> None:
    values = [item.as_value() for item in case.items("values")]
    directions = [item.as_flag() for item in case.items("descending")]
    key = b"".join(component(value, descending) for value, descending in zip(values, directions, strict=True))
    expect("key", key, case.hex("key"))
    found = read_key(key)
    expect("directions", [one.descending for one in found], directions)
    for one, value in zip(found, values, strict=True):
        _same("value", one.value, value)


def _check_not_key(_: Vectors, case: Case) -> None:
    read_key(case.hex("key"))


def _check_next(_: Vectors, case: Case) -> None:
    expect("next", following(case.hex("prefix")), case.hex_or_null("next"))


def _check_range(_: Vectors, case: Case) -> None:
    conditions: list[tuple[str, Value]] = []
    for item in case.items("conditions"):
        parts = list(item.items())
        expect("parts of a condition", len(parts), 2)
        conditions.append((parts[0].as_text(), parts[1].as_value()))
    expect("conditions", bool(conditions), True)
    prefix, descending = case.hex("prefix"), case.flag("descending")
    found = key_range(conditions, prefix, descending)
    expect("low", found.low, case.hex("low"))
    expect("high", found.high, case.hex_or_null("high"))
    for operator, value in conditions:
        # The value of a condition lies in the range exactly if it meets all conditions.
        met = all(meets(other, component(value), limit) for other, limit in conditions)
        expect(f"{operator} {value!r} in the range", found.holds(prefix + component(value, descending)), met)


GROUPS: Final[Groups] = {
    "in_order": whole(_check_in_order),
    "components": each(_check_component),
    "keys": each(_check_key),
    "not_keys": none(_check_not_key),
    "next": each(_check_next),
    "ranges": each(_check_range),
}
