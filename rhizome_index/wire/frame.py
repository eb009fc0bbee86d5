"""Frames: a uvarint length, then that many bytes. The size is checked before anything is kept.

Rules: a frame has at least 1 byte, and at most FRAME_BYTES_MAX unless both sides
have agreed on more; its length is in shortest form.
"""

from __future__ import annotations

from collections.abc import Generator

from rhizome_index.blocks.varint import read_uvarint, uvarint
from rhizome_index.errors import IntegrityError
from rhizome_index.limits import FRAME_BYTES_MAX


def encode_frame(body: bytes, bytes_max: int = FRAME_BYTES_MAX) -> bytes:
    """A frame around a message."""
    assert 0 < len(body) <= bytes_max, len(body)
    return uvarint(len(body)) + body


class FrameReader:
    """Cuts a stream of bytes into frames. Holds one incomplete frame at most."""

    def __init__(self, bytes_max: int = FRAME_BYTES_MAX) -> None:
        self._buffer = bytearray()
        self._bytes_max = bytes_max
        self._length_bytes_max = len(uvarint(bytes_max))

    @property
    def is_between_frames(self) -> bool:
        return not self._buffer

    def take_rest(self) -> bytes:
        """What has come behind the last frame that was taken from `feed`, where something else begins."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def feed(self, data: bytes) -> Generator[bytes]:
        """The frames that `data` completes. Raises IntegrityError at the first byte that cannot be right.

        Closed before its end, it leaves the others for the next call.
        """
        self._buffer += data
        at = 0
        try:
            while at < len(self._buffer):
                length = read_uvarint(self._buffer, at, self._length_bytes_max)
                if length is None:
                    break
                size, start = length
                if not 0 < size <= self._bytes_max:
                    raise IntegrityError(f"a frame of {size} bytes; 1 to {self._bytes_max} are read")
                if start + size > len(self._buffer):
                    break
                at = start + size
                yield bytes(self._buffer[start:at])
        finally:
            del self._buffer[:at]
