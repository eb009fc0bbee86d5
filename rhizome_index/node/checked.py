"""Rows that carry a check of their own: one that damage has changed is none.

What is fetched is named by its digest and checked so; what a home has found out
itself nobody could bring back, and nothing else would tell.
"""

from __future__ import annotations

from hashlib import sha256

_CHECK_BYTES = 8


def check_of(data: bytes) -> bytes:
    """What tells data from what damage makes of them."""
    return sha256(data).digest()[:_CHECK_BYTES]


def with_check(body: bytes, key: bytes = b"") -> bytes:
    """A row's value; it belongs to the key."""
    return check_of(key + body) + body


def without_check(data: bytes, key: bytes = b"") -> bytes | None:
    """What was to be kept; None if it is damaged, or another key's."""
    check, body = data[:_CHECK_BYTES], data[_CHECK_BYTES:]
    return body if check == check_of(key + body) else None
