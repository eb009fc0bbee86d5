"""Frames: a uvarint length, then that many bytes. The size is checked before anything is kept.

Rules: a frame has at least 1 and at most FRAME_BYTES_MAX bytes; its length is in
shortest form.
"""

from __future__ import annotations

from collections.abc import Iterator

from rhizome_index.blocks.varint import read_uvarint, uvarint
from rhizome_index.errors import IntegrityError
from rhizome_index.limits import FRAME_BYTES_MAX

_LENGTH_BYTES_MAX = len(uvarint(FRAME_BYTES_MAX))


def encode_frame(body: bytes) -> bytes:
    """A frame around a message."""
    assert 0 < len(body) <= FRAME_BYTES_MAX, len(body)
    return uvarint(len(body)) + body


class FrameReader:
    """Cuts a stream of bytes into frames. Holds one incomplete frame at most."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def is_between_frames(self) -> bool:
        return not self._buffer

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The frames that `data` completes. Raises IntegrityError at the first byte that cannot be right."""
        self._buffer += data
        at = 0
        try:
            while at < len(self._buffer):
                length = read_uvarint(self._buffer, at, _LENGTH_BYTES_MAX)
                if length is None:
                    break
                size, start = length
                if not 0 < size <= FRAME_BYTES_MAX:
                    raise IntegrityError(f"a frame of {size} bytes; 1 to {FRAME_BYTES_MAX} are read")
                if start + size > len(self._buffer):
                    break
                at = start + size
                yield bytes(self._buffer[start:at])
        finally:
            del self._buffer[:at]
