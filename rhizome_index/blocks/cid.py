"""Names of blocks: CIDv1, dag-cbor, sha2-256, as 36 raw bytes.

Inside the program a CID is its binary form. The base32 text form (`bafyrei...`)
appears only where people or files read and write it. Other codecs and hash
functions are refused: one name per content is what makes equal things equal.

Source: https://github.com/multiformats/cid
"""

from __future__ import annotations

from hashlib import sha256

import libipld

from rhizome_index.errors import IntegrityError, UsageError

Cid = bytes

CID_PREFIX = b"\x01\x71\x12\x20"
CID_BYTES = 36
DIGEST_BYTES = 32

_TEXT_LETTERS = 59  # the prefix of base32, and 36 bytes in it


def cid_of(data: bytes) -> Cid:
    """The name of a block, from its bytes."""
    return CID_PREFIX + sha256(data).digest()


def cid_of_digest(digest: bytes) -> Cid:
    """The name of a block whose SHA-256 is known."""
    return CID_PREFIX + digest


def digest_of(cid: Cid) -> bytes:
    """The SHA-256 that a CID commits to."""
    return cid[4:]


def is_cid(value: object) -> bool:
    """Whether these are the bytes of a CID of the only kind in use here."""
    return isinstance(value, bytes) and len(value) == CID_BYTES and value.startswith(CID_PREFIX)


def check_block(cid: Cid, data: bytes) -> None:
    """Raise IntegrityError unless `data` is what `cid` names."""
    if sha256(data).digest() != cid[4:]:
        raise IntegrityError(f"bytes do not match the block {format_cid(cid)}", cid=cid)


def format_cid(cid: Cid) -> str:
    """The base32 text of a CID."""
    return str(libipld.encode_cid(cid))


def parse_cid(text: str) -> Cid:
    """A CID from its one text. Raises UsageError for anything that is not a dag-cbor sha2-256 CIDv1."""
    try:
        cid = bytes(libipld.decode_multibase(text)[1]) if len(text) == _TEXT_LETTERS else b""
    except ValueError:
        cid = b""
    if not is_cid(cid) or format_cid(cid) != text:  # the library takes other bases, and letters of either case
        raise UsageError(f"not the CID of a Rhizome block: {text[:80]}", hint="they look like bafyrei... (59 letters)")
    return cid
