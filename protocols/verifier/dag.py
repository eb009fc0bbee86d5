"""Values, their bytes and their names, as block/1 has them; and DAG-JSON, in which the vectors show values."""

import base64
import binascii
import hashlib
import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, Union

from .errors import Mismatch, Refused

MAX_NODE: Final = 65_536
MAX_MANIFEST: Final = 65_536
MAX_RECORD: Final = 1_048_576
MAX_DEPTH: Final = 64
MAX_COUNT: Final = 2**53 - 1

# --- Names -------------------------------------------------------------------------------------------------

CID_PREFIX: Final = bytes.fromhex("01711220")
_CID_TEXT: Final = re.compile(r"bafyrei[a-z2-7]{52}")


def sha256(data: bytes) -> bytes:
    """The digest by which everything here is named."""
    return hashlib.sha256(data).digest()


@dataclass(frozen=True, repr=False)
class Cid:
    """The name of a block, and as a value a link to it. There is one kind only, so a digest says it all."""

    digest: bytes

    def __bytes__(self) -> bytes:
        return CID_PREFIX + self.digest

    def __repr__(self) -> str:
        return "b" + base64.b32encode(bytes(self)).decode("ascii").lower().rstrip("=")


def cid_of(data: bytes) -> Cid:
    """The name of a block."""
    return Cid(sha256(data))


def read_cid(data: bytes) -> Cid:
    """A CID from its 36 bytes."""
    if len(data) != 36 or not data.startswith(CID_PREFIX):
        raise Refused("not a CIDv1 of dag-cbor and sha2-256")
    return Cid(data[4:])


def read_cid_text(text: str) -> Cid:
    """A CID from its 59 letters. Bits left over at the end must be zero, so that a CID has one text."""
    if not _CID_TEXT.fullmatch(text):
        raise Refused("not the text of a CIDv1 of dag-cbor and sha2-256")
    cid = read_cid(base64.b32decode(text[1:].upper() + "=" * 6))
    if str(cid) != text:
        raise Refused("the text of a CID with bits left over")
    return cid


# --- Values ------------------------------------------------------------------------------------------------

Value: TypeAlias = Union[bool, int, float, str, bytes, Cid, list["Value"], dict[str, "Value"], None]  # noqa: UP007

_MAJOR_BYTES, _MAJOR_TEXT, _MAJOR_LIST, _MAJOR_MAP, _MAJOR_TAG, _MAJOR_OTHER = 2, 3, 4, 5, 6, 7
_LINK_TAG: Final = 42
_SIMPLE: Final[dict[int, bool | None]] = {20: False, 21: True, 22: None}


def encode(value: object) -> bytes:
    """The one DAG-CBOR encoding of a value."""
    out = bytearray()
    _write(value, out)
    return bytes(out)


def _write(value: object, out: bytearray) -> None:
    if value is None or isinstance(value, bool):
        out.append(0xF6 if value is None else 0xF5 if value else 0xF4)
    elif isinstance(value, int):
        _write_head(0 if value >= 0 else 1, value if value >= 0 else -1 - value, out)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise Refused("a float that is not finite")
        out += b"\xfb" + struct.pack(">d", value + 0.0)  # negative zero plus zero is zero
    elif isinstance(value, str):
        data = utf8(value)
        _write_head(_MAJOR_TEXT, len(data), out)
        out += data
    elif isinstance(value, bytes):
        _write_head(_MAJOR_BYTES, len(value), out)
        out += value
    elif isinstance(value, Cid):
        _write_head(_MAJOR_TAG, _LINK_TAG, out)
        _write(b"\x00" + bytes(value), out)
    elif isinstance(value, Mapping):
        _write_map(value, out)
    elif isinstance(value, Sequence):
        _write_head(_MAJOR_LIST, len(value), out)
        for item in value:
            _write(item, out)
    else:
        raise Refused(f"not a value: {type(value).__name__}")


def _write_map(value: Mapping[object, object], out: bytearray) -> None:
    items: list[tuple[int, bytes, object]] = []
    for key, item in value.items():
        if not isinstance(key, str):
            raise Refused("a map's key that is no text")
        data = utf8(key)
        items.append((len(data), data, item))
    _write_head(_MAJOR_MAP, len(items), out)
    for length, data, item in sorted(items, key=lambda entry: entry[:2]):
        _write_head(_MAJOR_TEXT, length, out)
        out += data
        _write(item, out)


def _write_head(major: int, argument: int, out: bytearray) -> None:
    if argument < 24:
        out.append(major << 5 | argument)
        return
    for power in range(4):
        if argument < 1 << (8 << power):
            out.append(major << 5 | 24 + power)
            out += argument.to_bytes(1 << power, "big")
            return
    raise Refused("an integer beyond 64 bits")


def utf8(text: str) -> bytes:
    """Text as bytes; half a surrogate pair is none."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise Refused("text that is not Unicode") from error


def decode(data: bytes) -> Value:
    """The value that bytes are the one encoding of."""
    value, end = _read(data, 0, 0)
    if end != len(data):
        raise Refused("bytes behind the value")
    return value


def _read(data: bytes, start: int, depth: int) -> tuple[Value, int]:
    if depth > MAX_DEPTH:
        raise Refused("values nested too deep")
    major, info, argument, at = _read_head(data, start)
    if major == _MAJOR_OTHER:
        return _read_other(info, argument), at
    if major < _MAJOR_BYTES:
        return (-1 - argument if major else argument), at
    if major in (_MAJOR_BYTES, _MAJOR_TEXT):
        body = _take(data, at, argument)
        return (body if major == _MAJOR_BYTES else read_utf8(body)), at + argument
    if major == _MAJOR_LIST:
        items: list[Value] = []
        for _ in range(argument):
            item, at = _read(data, at, depth + 1)
            items.append(item)
        return items, at
    if major == _MAJOR_MAP:
        return _read_map(data, at, argument, depth)
    return _read_link(data, at, argument)


def _read_head(data: bytes, at: int) -> tuple[int, int, int, int]:
    """Of a data item: its major type, what its first byte adds, the argument, and where its content begins."""
    first = _take(data, at, 1)[0]
    major, info = first >> 5, first & 31
    if info < 24:
        return major, info, info, at + 1
    if info > 27:
        raise Refused("an indefinite or reserved length")
    size = 1 << info - 24
    argument = int.from_bytes(_take(data, at + 1, size), "big")
    if major != _MAJOR_OTHER and argument < (24 if size == 1 else 1 << 4 * size):
        raise Refused("an integer or a length that is not in its shortest form")
    return major, info, argument, at + 1 + size


def _read_other(info: int, argument: int) -> Value:
    if info in _SIMPLE:
        return _SIMPLE[info]
    if info != 27:
        raise Refused("a simple value that is none of these, or a float that has not 64 bits")
    number: float = struct.unpack(">d", argument.to_bytes(8, "big"))[0]
    if not math.isfinite(number) or (number == 0 and argument != 0):
        raise Refused("a float that is not finite, or negative zero")
    return number


def _read_map(data: bytes, at: int, length: int, depth: int) -> tuple[Value, int]:
    result: dict[str, Value] = {}
    last: tuple[int, bytes] | None = None
    for _ in range(length):
        major, _, argument, at = _read_head(data, at)
        if major != _MAJOR_TEXT:
            raise Refused("a map's key that is no text")
        key = _take(data, at, argument)
        if last is not None and (argument, key) <= last:
            raise Refused("a map's keys out of order, or one twice")
        last = argument, key
        result[read_utf8(key)], at = _read(data, at + argument, depth + 1)
    return result, at


def _read_link(data: bytes, at: int, tag: int) -> tuple[Value, int]:
    major, _, length, at = _read_head(data, at)
    if tag != _LINK_TAG or major != _MAJOR_BYTES or length != 37:
        raise Refused("a tag that is no link")
    body = _take(data, at, length)
    if body[0] != 0:
        raise Refused("a link without its leading zero")
    return read_cid(body[1:]), at + length


def _take(data: bytes, at: int, length: int) -> bytes:
    if at + length > len(data):
        raise Refused("bytes that end too early")
    return data[at : at + length]


def read_utf8(data: bytes) -> str:
    """Bytes as text."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused("text that is not UTF-8") from error


# --- Forms: what is read is of the kind that is expected, or refused ----------------------------------------


def as_bool(value: Value, what: str) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise Refused(f"{what}: neither true nor false")
    return value


def as_int(value: Value, what: str, low: int = 0, high: int = MAX_COUNT) -> int:
    """An integer in its bounds. Neither true nor 1.0 is one."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise Refused(f"{what}: not an integer from {low} to {high}")
    return value


def as_text(value: Value, what: str) -> str:
    """Text."""
    if not isinstance(value, str):
        raise Refused(f"{what}: not text")
    return value


def as_bytes(value: Value, what: str, low: int = 0, high: int = MAX_RECORD) -> bytes:
    """Bytes of a length within its bounds."""
    if not isinstance(value, bytes) or not low <= len(value) <= high:
        raise Refused(f"{what}: not {low} to {high} bytes")
    return value


def as_link(value: Value, what: str) -> Cid:
    """A link."""
    if not isinstance(value, Cid):
        raise Refused(f"{what}: not a link")
    return value


def as_list(value: Value, what: str, low: int = 0, high: int = MAX_COUNT) -> list[Value]:
    """A list of a length within its bounds."""
    if not isinstance(value, list) or not low <= len(value) <= high:
        raise Refused(f"{what}: not a list of {low} to {high}")
    return value


def as_map(value: Value, what: str) -> dict[str, Value]:
    """A map."""
    if not isinstance(value, dict):
        raise Refused(f"{what}: not a map")
    return value


def as_fields(value: Value, what: str, names: Sequence[str]) -> list[Value]:
    """The values of a map that has exactly these fields."""
    fields = as_map(value, what)
    if set(fields) != set(names):
        raise Refused(f"{what}: a field that is missing or unknown")
    return [fields[name] for name in names]


# --- DAG-JSON ----------------------------------------------------------------------------------------------


def from_dag_json(json: object) -> Value:
    """The value that a vector shows as DAG-JSON, of which JSON's own syntax has been read."""
    if json is None or isinstance(json, bool | int | float | str):
        return json
    if isinstance(json, list):
        return [from_dag_json(item) for item in json]
    if not isinstance(json, dict):
        raise Mismatch(f"not JSON: {type(json).__name__}")
    if "/" not in json:
        return {str(key): from_dag_json(item) for key, item in json.items()}
    inner = json["/"]
    if len(json) == 1 and isinstance(inner, str):
        return read_cid_text(inner)
    if len(json) == 1 and isinstance(inner, dict) and list(inner) == ["bytes"] and isinstance(inner["bytes"], str):
        return _from_base64(inner["bytes"])
    raise Mismatch('not DAG-JSON: a map with the name "/"')


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise Mismatch(f"not base64: {text}") from error
