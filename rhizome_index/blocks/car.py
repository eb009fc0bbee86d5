"""CAR files, version 1: a header that names the roots, then blocks with their names.

Reading is a stream in bounded memory: each section's size is checked before it
is read, each block against its name. Order is kept, because the order of a
proof's blocks is part of the proof.

Source: https://ipld.io/specs/transport/car/carv1/
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import BinaryIO

from rhizome_index.blocks import cbor
from rhizome_index.blocks.cid import CID_BYTES, Cid, check_block, is_cid
from rhizome_index.blocks.varint import append_uvarint, uvarint
from rhizome_index.errors import IntegrityError
from rhizome_index.limits import CAR_HEADER_BYTES_MAX, RECORD_BYTES_MAX

_SECTION_BYTES_MAX = CID_BYTES + RECORD_BYTES_MAX


def write_car(file: BinaryIO, roots: Iterable[Cid], blocks: Iterable[tuple[Cid, bytes]]) -> int:
    """Write a CAR file and return how many blocks it holds."""
    header = cbor.encode({"roots": [cbor.Link(root) for root in roots], "version": 1})
    file.write(uvarint(len(header)) + header)
    count = 0
    for cid, data in blocks:
        section = bytearray()
        append_uvarint(section, len(cid) + len(data))
        file.write(bytes(section) + cid + data)
        count += 1
    return count


def read_car(file: BinaryIO) -> tuple[list[Cid], Iterator[tuple[Cid, bytes]]]:
    """The roots of a CAR file and its blocks, in order, each checked as it is read.

    Raises IntegrityError for a file that is no CAR file, is cut short, or holds
    a block that does not match its name.
    """
    try:
        header = cbor.decode(_read_section(file, CAR_HEADER_BYTES_MAX) or b"")
    except IntegrityError:
        header = None
    if not isinstance(header, dict) or header.keys() != {"roots", "version"} or header["version"] != 1:
        raise IntegrityError("not a CAR file of version 1, or cut off within its header")
    roots = header["roots"]
    if not isinstance(roots, list) or not all(isinstance(root, cbor.Link) for root in roots):
        raise IntegrityError("the CAR file's roots are not CIDs of Rhizome blocks")
    return [bytes(root) for root in roots], _read_blocks(file)


def _read_blocks(file: BinaryIO) -> Iterator[tuple[Cid, bytes]]:
    while (section := _read_section(file, _SECTION_BYTES_MAX)) is not None:
        cid, data = section[:CID_BYTES], section[CID_BYTES:]
        if not is_cid(cid):
            raise IntegrityError("the CAR file holds a block that is not dag-cbor under SHA-256")
        check_block(cid, data)
        yield cid, data


def _read_section(file: BinaryIO, bytes_max: int) -> bytes | None:
    size = shift = 0
    while True:
        byte = file.read(1)
        if not byte:
            if shift:
                raise IntegrityError("the CAR file ends in the middle of a length")
            return None
        size |= (byte[0] & 0x7F) << shift
        shift += 7
        if byte[0] < 0x80:
            break
        if shift > 28:
            raise IntegrityError("the CAR file has a length that no block has")
    if shift > 7 and not byte[0]:
        raise IntegrityError("the CAR file has a length in a longer form than needed")
    if not 0 < size <= bytes_max:
        raise IntegrityError(f"the CAR file has a section of {size} bytes; at most {bytes_max} are read")
    section = file.read(size)
    if len(section) != size:
        raise IntegrityError("the CAR file ends in the middle of a block")
    return section
