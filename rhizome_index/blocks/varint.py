"""Unsigned varints as multiformats has them: seven bits a byte, low bits first, shortest form only.

Source: https://github.com/multiformats/unsigned-varint
"""

from __future__ import annotations

from rhizome_index.errors import IntegrityError


def append_uvarint(target: bytearray, value: int) -> None:
    """Append the encoding of `value` (0 or more)."""
    while value > 0x7F:
        target.append(value & 0x7F | 0x80)
        value >>= 7
    target.append(value)


def uvarint(value: int) -> bytes:
    """The encoding of `value`."""
    target = bytearray()
    append_uvarint(target, value)
    return bytes(target)


def read_uvarint(data: bytes | bytearray, start: int, bytes_max: int) -> tuple[int, int] | None:
    """The number at `start` and the offset after it; None while its end is not there yet.

    Raises IntegrityError for more than `bytes_max` bytes, or a longer form than needed.
    """
    value = shift = 0
    for offset in range(start, min(len(data), start + bytes_max)):
        byte = data[offset]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if shift and not byte:
                raise IntegrityError("a varint in a longer form than needed")
            return value, offset + 1
        shift += 7
    if len(data) - start >= bytes_max:
        raise IntegrityError("a varint with no end")
    return None
