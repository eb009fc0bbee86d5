"""The bytes of the file with a home's private keys: open, or sealed with a passphrase.

open    for each key `08 01 12 40`, its 32-byte seed and its 32-byte public key, as libp2p writes them
sealed  `rhizome-keys`, the version (a byte), scrypt's log2 n, r and p (a byte each), 16 bytes of salt, 12 of nonce,
        how many keys (a byte), their public keys, their seeds encrypted with AES-256-GCM, its 16-byte tag, and the
        first 8 bytes of the SHA-256 of all that

The first key is the peer's own. Whose keys they are can be read without the passphrase;
the tag covers that, too. The last 8 bytes tell a damaged file from a wrong passphrase.

Sources: RFC 7914 (scrypt), NIST SP 800-38D (GCM).
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from rhizome_index.errors import IntegrityError, StoreError, UsageError
from rhizome_index.index.head import Identity
from rhizome_index.limits import (
    KEYS_MAX,
    PASSPHRASE_BYTES_MAX,
    SCRYPT_BYTES_MAX,
    SCRYPT_LOG2_N,
    SCRYPT_LOG2_N_RANGE,
    SCRYPT_P,
    SCRYPT_P_MAX,
    SCRYPT_R,
    SCRYPT_R_MAX,
)

if TYPE_CHECKING:
    from Crypto.Cipher._mode_gcm import GcmMode

KEY_FILE_BYTES_MAX = 68 * KEYS_MAX  # open; sealed it is shorter, from the second key on

_OPEN = bytes.fromhex("08011240")  # protobuf: type Ed25519, 64 bytes: seed and public key
_OPEN_BYTES = 68
_SEALED = b"rhizome-keys"
_VERSION = 1
_HEADER_BYTES = len(_SEALED) + 4 + 16 + 12 + 1
_TAG_BYTES, _CHECK_BYTES = 16, 8


@dataclass(frozen=True, slots=True)
class Hardness:
    """What a guess of the passphrase costs: scrypt's parameters."""

    log2_n: int = SCRYPT_LOG2_N
    r: int = SCRYPT_R
    p: int = SCRYPT_P

    def check(self) -> None:
        """Raise IntegrityError for what would be no protection, or would not come to an end."""
        low, high = SCRYPT_LOG2_N_RANGE
        fits = low <= self.log2_n <= high and 1 <= self.r <= SCRYPT_R_MAX and 1 <= self.p <= SCRYPT_P_MAX
        if not fits or 128 * self.r << self.log2_n > SCRYPT_BYTES_MAX:
            raise IntegrityError("is sealed in a way that this program does not open")


HARDNESS = Hardness()  # of what is sealed from now on


def check_passphrase(text: str) -> bytes:
    """A passphrase as the bytes that it stands for, however it was typed. Raises UsageError."""
    try:
        data = unicodedata.normalize("NFC", text).encode()
    except UnicodeEncodeError:
        raise UsageError("a passphrase must be text in UTF-8") from None
    if not data:
        raise UsageError("a passphrase must not be empty")
    if len(data) > PASSPHRASE_BYTES_MAX:
        raise UsageError(f"a passphrase has at most {PASSPHRASE_BYTES_MAX} bytes")
    return data


def encode_open(keys: Sequence[Identity]) -> bytes:
    """The file that whoever can read it can use."""
    return b"".join(_OPEN + key.seed + key.public_key for key in keys)


def encode_sealed(keys: Sequence[Identity], passphrase: str) -> bytes:
    """The file that only the passphrase opens. Salt and nonce are new each time. Raises UsageError, StoreError."""
    hardness = HARDNESS
    salt, nonce = os.urandom(16), os.urandom(12)
    header = _SEALED + bytes([_VERSION, hardness.log2_n, hardness.r, hardness.p]) + salt + nonce
    header += bytes([len(keys)]) + b"".join(key.public_key for key in keys)
    cipher = _cipher(_derived(passphrase, salt, hardness), nonce, header)
    sealed, tag = cipher.encrypt_and_digest(b"".join(key.seed for key in keys))
    data: bytes = header + sealed + tag
    return data + sha256(data).digest()[:_CHECK_BYTES]


def is_sealed(data: bytes) -> bool:
    return data.startswith(_SEALED)


def public_keys(data: bytes) -> tuple[bytes, ...]:
    """Whose keys stand in a file, its own first. Raises IntegrityError, whose text goes on with "the file"."""
    if not is_sealed(data):
        return tuple(key.public_key for key in _open(data))
    if data[12:13] not in (b"", bytes([_VERSION])):
        raise IntegrityError("is sealed in a way that this program does not open")
    count = data[_HEADER_BYTES - 1] if len(data) >= _HEADER_BYTES else 0
    if not count or len(data) != _HEADER_BYTES + 64 * count + _TAG_BYTES + _CHECK_BYTES:
        raise IntegrityError("is not a private key")
    if sha256(data[:-_CHECK_BYTES]).digest()[:_CHECK_BYTES] != data[-_CHECK_BYTES:]:
        raise IntegrityError("is damaged")
    _hardness(data).check()
    return tuple(data[at : at + 32] for at in range(_HEADER_BYTES, _HEADER_BYTES + 32 * count, 32))


def open_keys(data: bytes, passphrase: str | None) -> tuple[Identity, ...]:
    """The keys in a file. Raises IntegrityError as `public_keys` does, UsageError for a wrong passphrase."""
    public = public_keys(data)
    if not is_sealed(data):
        return _open(data)
    assert passphrase is not None
    at = _HEADER_BYTES + 32 * len(public)
    salt, nonce = data[_HEADER_BYTES - 29 : _HEADER_BYTES - 13], data[_HEADER_BYTES - 13 : _HEADER_BYTES - 1]
    cipher = _cipher(_derived(passphrase, salt, _hardness(data)), nonce, data[:at])
    try:
        seeds: bytes = cipher.decrypt_and_verify(
            data[at : at + 32 * len(public)], data[-_TAG_BYTES - _CHECK_BYTES : -_CHECK_BYTES]
        )
    except ValueError:
        raise UsageError("the passphrase is wrong", hint="nothing was changed; try again") from None
    keys = tuple(Identity(seeds[place : place + 32]) for place in range(0, len(seeds), 32))
    if tuple(key.public_key for key in keys) != public:
        raise IntegrityError("is damaged")
    return keys


def _open(data: bytes) -> tuple[Identity, ...]:
    parts = [data[at : at + _OPEN_BYTES] for at in range(0, len(data), _OPEN_BYTES)]
    is_whole = 0 < len(parts) <= KEYS_MAX and len(data) % _OPEN_BYTES == 0
    if not is_whole or not all(part.startswith(_OPEN) for part in parts):
        raise IntegrityError("is not a private key")
    keys = tuple(Identity(part[4:36]) for part in parts)
    if any(key.public_key != part[36:] for key, part in zip(keys, parts, strict=True)):
        raise IntegrityError("is damaged")
    return keys


def _hardness(data: bytes) -> Hardness:
    return Hardness(*data[13:16])


def _derived(passphrase: str, salt: bytes, hardness: Hardness) -> bytes:
    from Crypto.Protocol.KDF import scrypt

    try:
        return scrypt(check_passphrase(passphrase), salt, 32, 1 << hardness.log2_n, hardness.r, hardness.p)
    except (MemoryError, ValueError):
        needed = 128 * hardness.r << hardness.log2_n
        raise StoreError(
            f"no memory for the passphrase: opening the private key takes {needed // 2**20} MiB",
            hint="close something else and try again",
        ) from None


def _cipher(key: bytes, nonce: bytes, header: bytes) -> GcmMode:
    from Crypto.Cipher import AES

    cipher = AES.new(key, AES.MODE_GCM, nonce=nonce, mac_len=_TAG_BYTES)
    cipher.update(header)
    return cipher
