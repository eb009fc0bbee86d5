"""Ed25519 (RFC 8032) in pure Python: slow, and not constant in time, so for verification and for vectors only.

A signature holds if [S]B = R + [k]A, where S is less than the order of the group, and A and R are encoded canonically
and not of small order: the stricter of the two equations that the RFC allows.
"""

import hashlib
from typing import Final, NamedTuple

from .errors import Refused

_P: Final = 2**255 - 19
_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
_D: Final = -121665 * pow(121666, -1, _P) % _P
_ROOT: Final = pow(2, (_P - 1) // 4, _P)


class _Point(NamedTuple):
    """A point in extended coordinates: x = X/Z, y = Y/Z, xy = T/Z."""

    x: int
    y: int
    z: int
    t: int


_NEUTRAL: Final = _Point(0, 1, 1, 0)


def _add(p: _Point, q: _Point) -> _Point:
    a, b = (p.y - p.x) * (q.y - q.x) % _P, (p.y + p.x) * (q.y + q.x) % _P
    c, d = 2 * p.t * q.t * _D % _P, 2 * p.z * q.z % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return _Point(e * f % _P, g * h % _P, f * g % _P, e * h % _P)


def _times(scalar: int, point: _Point) -> _Point:
    result = _NEUTRAL
    while scalar:
        if scalar & 1:
            result = _add(result, point)
        point = _add(point, point)
        scalar >>= 1
    return result


def _encode(point: _Point) -> bytes:
    inverse = pow(point.z, -1, _P)
    x, y = point.x * inverse % _P, point.y * inverse % _P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _decode(data: bytes) -> _Point:
    number = int.from_bytes(data, "little")
    sign, y = number >> 255, number & (1 << 255) - 1
    if len(data) != 32 or y >= _P:
        raise Refused("not a point of the curve in canonical form")
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    if (x * x - square) % _P:
        x = x * _ROOT % _P
    if (x * x - square) % _P or (x == 0 and sign):
        raise Refused("not a point of the curve")
    if x & 1 != sign:
        x = _P - x
    return _Point(x, y, 1, x * y % _P)


_BASE: Final = _decode((4 * pow(5, -1, _P) % _P).to_bytes(32, "little"))


def _hash(*parts: bytes) -> int:
    return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little")


def _secret(seed: bytes) -> tuple[int, bytes]:
    digest = hashlib.sha512(seed).digest()
    scalar = int.from_bytes(digest[:32], "little")
    return scalar & (1 << 254) - 8 | 1 << 254, digest[32:]


def public_key(seed: bytes) -> bytes:
    """The public key of a seed."""
    return _encode(_times(_secret(seed)[0], _BASE))


def sign(seed: bytes, message: bytes) -> bytes:
    """The signature of a message."""
    scalar, prefix = _secret(seed)
    nonce = _hash(prefix, message) % _ORDER
    point = _encode(_times(nonce, _BASE))
    challenge = _hash(point, public_key(seed), message) % _ORDER
    return point + ((nonce + challenge * scalar) % _ORDER).to_bytes(32, "little")


def verify(key: bytes, message: bytes, signature: bytes) -> None:
    """Refuse a signature that is not that of a message by a key."""
    if len(signature) != 64:
        raise Refused("a signature that has not 64 bytes")
    own, point = _decode(key), _decode(signature[:32])
    if any(_encode(_times(8, one)) == _encode(_NEUTRAL) for one in (own, point)):
        raise Refused("a point of small order")
    scalar = int.from_bytes(signature[32:], "little")
    if scalar >= _ORDER:
        raise Refused("a signature whose number is too large")
    challenge = _hash(signature[:32], key, message) % _ORDER
    if _encode(_times(scalar, _BASE)) != _encode(_add(point, _times(challenge, own))):
        raise Refused("a wrong signature")
