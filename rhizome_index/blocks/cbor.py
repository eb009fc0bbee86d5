"""Canonical bytes: strict DAG-CBOR, where one value has exactly one encoding.

`decode` accepts a byte string only if `encode` of what it returns gives the same
bytes back, so nothing malleable gets past it: no trailing bytes, no long forms,
no unsorted or repeated keys, no NaN, no tag but 42. Negative zero is not in the
data model: it is encoded as zero and refused when read.

Two libraries do the work. libipld is fast, but gives links as plain bytes and
takes bytes that look like a CID for a link. So its results are used only where
no tag 42 can occur in the bytes, and cbor2, told exactly what to do, has the
other cases. cbor2 knows many tags of its own, among them shared values with which
200 bytes can spell more than memory holds: every tag but 42 is refused as it is
read. A link is a `Link`, never plain bytes.

Source: https://ipld.io/specs/codecs/dag-cbor/spec/
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import cbor2
import libipld

from rhizome_index.blocks.cid import is_cid
from rhizome_index.errors import IntegrityError

LINK_TAG = b"\xd8\x2a"
LINK_HEADER = b"\xd8\x2a\x58\x25\x00\x01\x71\x12\x20"


class Link(bytes):
    """The CID of a block as a value inside another block."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Link({self.hex()})"


def encode(value: Any) -> bytes:
    """The canonical bytes of a value. Raises ValueError for what DAG-CBOR cannot hold."""
    try:
        data: bytes = libipld.encode_dag_cbor(value)
    except (RecursionError, TypeError, ValueError, OverflowError) as error:
        return _encode_exactly(value, error)
    return data if LINK_TAG not in data else _encode_exactly(value, None)


def decode(data: bytes) -> Any:
    """The value of canonical bytes. Raises IntegrityError when they are anything else.

    The caller has bounded the size already.
    """
    if LINK_TAG not in data:
        try:
            value = libipld.decode_dag_cbor(data)
            if libipld.encode_dag_cbor(value) == data:
                return value
        except (RecursionError, ValueError) as error:
            raise IntegrityError(f"not canonical DAG-CBOR: {error}") from None
    try:
        value = cbor2.loads(data, tag_hook=_read_tag, semantic_decoders=_OTHER_TAGS, allow_indefinite=False)
        if _encode_exactly(value, None) == data:
            return value
    except (RecursionError, ValueError, TypeError, cbor2.CBORDecodeError, OverflowError) as error:
        raise IntegrityError(f"not canonical DAG-CBOR: {error}") from None
    raise IntegrityError("not canonical DAG-CBOR: encoding it again gives other bytes")


def decode_own(data: bytes) -> Any:
    """The value of bytes without links that `encode` has made, or `decode` has accepted, before."""
    return libipld.decode_dag_cbor(data)


def _read_tag(tag: cbor2.CBORTag, *_: object) -> Link:
    if tag.tag != 42 or not isinstance(tag.value, bytes) or tag.value[:1] != b"\0" or not is_cid(tag.value[1:]):
        raise ValueError("a tag that is not a link to a Rhizome block")
    return Link(tag.value[1:])


class _OtherTags(dict[int, Callable[[object], NoReturn]]):
    """Has a refusal for every tag, so that no decoder built into cbor2 is used; 42 is left to `_read_tag`."""

    def __missing__(self, tag: int) -> Callable[[object], NoReturn]:
        if tag == 42:
            raise KeyError(tag)
        return _refuse_tag


def _refuse_tag(_: object) -> NoReturn:
    raise ValueError("a tag that is not a link to a Rhizome block")


_OTHER_TAGS = _OtherTags()


def _encode_exactly(value: Any, cause: Exception | None) -> bytes:
    try:
        return cbor2.dumps(_for_cbor2(value, 0))
    except (RecursionError, TypeError, OverflowError, cbor2.CBOREncodeError) as error:
        raise ValueError(str(cause or error)) from None


def _for_cbor2(value: Any, depth: int) -> Any:
    """The same value with map keys in canonical order and links as tags."""
    kind = type(value)
    if kind is Link:
        return cbor2.CBORTag(42, b"\0" + value)
    if kind in (bytes, bool, type(None)):
        return value
    if kind is str:
        return value if _is_unicode(value) else _refuse("half of a surrogate pair")
    if kind is int:
        return value if -(2**64) <= value < 2**64 else _refuse("an integer beyond 64 bits")
    if kind is float:
        return _finite(value)
    if depth > 200:
        _refuse("nested too deeply")
    if kind is list:
        return [_for_cbor2(item, depth + 1) for item in value]
    if kind is dict:
        if any(type(key) is not str for key in value):
            _refuse("a map key that is not text")
        keys = sorted(value, key=lambda key: (len(key.encode()), key.encode()))
        return {key: _for_cbor2(value[key], depth + 1) for key in keys}
    return _refuse(f"a value of type {kind.__name__}")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _finite(value: float) -> float:
    if value != value or value in (float("inf"), float("-inf")):
        _refuse("a number that is not finite")
    return value + 0.0  # turns negative zero into zero


def _refuse(what: str) -> NoReturn:
    raise ValueError(f"{what} has no place in DAG-CBOR")


def encode_with_links(value: list[Any], links: int) -> bytes | None:
    """The fast encoding of a value whose `links` links, and nothing else in it, are CIDs as plain bytes.

    None when that cannot be told from the bytes alone; `encode` with `Link`s then decides.
    """
    data: bytes = libipld.encode_dag_cbor(value)
    return data if data.count(LINK_TAG) == links == data.count(LINK_HEADER) else None


def decode_with_links(data: bytes) -> tuple[Any, int] | None:
    """The fast decoding: the value, with links as plain bytes, and how many links it has.

    None when the bytes are not canonical, or when only `decode` can tell which of its values are links.
    """
    links = data.count(LINK_HEADER)
    if data.count(LINK_TAG) != links:
        return None
    try:
        value = libipld.decode_dag_cbor(data)
        return (value, links) if libipld.encode_dag_cbor(value) == data else None
    except (RecursionError, ValueError):
        return None
