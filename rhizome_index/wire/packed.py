"""Blocks deflated together: what fits in one frame, in fewer bytes.

Chunks of a tree have keys that begin alike, and records have words: they deflate to some three fifths. Blocks that
lie far apart, as those of an audit do, are mostly waited for; so it is worth its time there, where it is asked for.

Raw DEFLATE (RFC 1951), whatever its bytes are: who reads them looks at what comes out, and that is bounded first.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

from rhizome_index.blocks import cbor
from rhizome_index.errors import IntegrityError
from rhizome_index.limits import FRAME_BYTES_MAX

_LEVEL = 1  # more takes longer than it saves: values are digests, which do not deflate at all
_RAW = -zlib.MAX_WBITS


def pack(blocks: Sequence[bytes | None]) -> bytes:
    """Blocks, and null for what is not there, in DAG-CBOR and deflated."""
    deflating = zlib.compressobj(_LEVEL, wbits=_RAW)
    return deflating.compress(cbor.encode(list(blocks))) + deflating.flush()


def unpack(data: bytes) -> Any:
    """The value that was packed. Raises IntegrityError for what is no such thing, or is more than a frame may hold."""
    inflating = zlib.decompressobj(wbits=_RAW)
    try:
        found = inflating.decompress(data, FRAME_BYTES_MAX + 1)
    except zlib.error as error:
        raise IntegrityError(f"packed blocks that cannot be inflated: {error}") from None
    if len(found) > FRAME_BYTES_MAX:
        raise IntegrityError(f"packed blocks of more than {FRAME_BYTES_MAX} bytes")
    if not inflating.eof or inflating.unused_data:
        raise IntegrityError("packed blocks that end too early, or go on behind their end")
    return cbor.decode(found)
