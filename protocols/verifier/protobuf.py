"""Protobuf messages, as far as the protocols of others that are used here need them."""

from collections.abc import Iterator
from typing import Final

from .errors import Refused
from .head import read_uvarint, uvarint

_VARINT: Final = 0
_FIXED: Final = {1: 8, 5: 4}
_CONTENT: Final = 2
_MOST_BYTES: Final = 10

Fields = list[tuple[int, int | bytes]]


def write(fields: Fields) -> bytes:
    """A message with these fields, in this order."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += uvarint(number << 3 | _VARINT) + uvarint(value)
        else:
            out += uvarint(number << 3 | _CONTENT) + uvarint(len(value)) + value
    return out


def read(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message, in their order; those of fixed size, which nobody here needs, are passed over."""
    at = 0
    while at < len(data):
        tag, at = read_uvarint(data, at, _MOST_BYTES)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = read_uvarint(data, at, _MOST_BYTES)
            yield number, value
        elif kind == _CONTENT:
            length, at = read_uvarint(data, at, _MOST_BYTES)
            yield number, data[at : at + length]
            at += length
        elif kind in _FIXED:
            at += _FIXED[kind]
        else:
            raise Refused("a field of an unknown kind")
    if at > len(data):
        raise Refused("a message that ends too early")


def content(fields: Fields, number: int) -> bytes:
    """What stands in a field that is bytes; of several of one number the last counts; empty if there is none."""
    value: int | bytes = dict(fields).get(number, b"")
    if isinstance(value, int):
        raise Refused("a number where bytes belong")
    return value
