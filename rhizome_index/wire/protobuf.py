"""As much of protobuf as other people's protocols need of us: fields with numbers, bytes and texts in them.

What is read may hold fields that are not known here; they are passed over, as
protobuf has it. What is written has its fields in the order of their numbers.

Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator

from rhizome_index.blocks.varint import append_uvarint, read_uvarint
from rhizome_index.errors import IntegrityError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_VARINT_BYTES = 10  # of 64 bits
_FIXED_BYTES = {_FIXED64: 8, _FIXED32: 4}


def field(number: int, value: int | bytes | str) -> bytes:
    """One field: a number, bytes, or a text."""
    target = bytearray()
    if isinstance(value, int):
        append_uvarint(target, number << 3 | _VARINT)
        append_uvarint(target, value)
    else:
        data = value.encode() if isinstance(value, str) else value
        append_uvarint(target, number << 3 | _BYTES)
        append_uvarint(target, len(data))
        target += data
    return bytes(target)


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message, in their order: numbers and bytes; others are passed over. Raises IntegrityError."""
    at = 0
    while at < len(data):
        key, at = _read(data, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _read(data, at)
            yield number, value
        elif kind == _BYTES:
            size, at = _read(data, at)
            if at + size > len(data):
                raise IntegrityError("a protobuf message that ends too early")
            yield number, data[at : at + size]
            at += size
        elif kind in _FIXED_BYTES:
            at += _FIXED_BYTES[kind]
        else:
            raise IntegrityError("not a protobuf message")
    if at != len(data):
        raise IntegrityError("a protobuf message that ends too early")


def text_of(value: int | bytes) -> str:
    """A field's text. Raises IntegrityError."""
    try:
        return bytes_of(value).decode()
    except UnicodeDecodeError:
        raise IntegrityError("a text that is none") from None


def bytes_of(value: int | bytes) -> bytes:
    """A field's bytes. Raises IntegrityError."""
    if isinstance(value, int):
        raise IntegrityError("a number where bytes belong")
    return value


def number_of(value: int | bytes) -> int:
    """A field's number. Raises IntegrityError."""
    if not isinstance(value, int):
        raise IntegrityError("bytes where a number belongs")
    return value


def _read(data: bytes, at: int) -> tuple[int, int]:
    found = read_uvarint(data, at, _VARINT_BYTES)
    if found is None:
        raise IntegrityError("a protobuf message that ends too early")
    return found
