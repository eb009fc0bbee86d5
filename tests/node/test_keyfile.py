"""The file of private keys: what was sealed opens with its passphrase and no other, and what is damaged says so."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhizome_index.errors import IntegrityError, RhizomeError, StoreError, UsageError
from rhizome_index.index.head import Identity
from rhizome_index.limits import (
    KEYS_MAX,
    PASSPHRASE_BYTES_MAX,
    SCRYPT_BYTES_MAX,
    SCRYPT_LOG2_N_RANGE,
    SCRYPT_P_MAX,
    SCRYPT_R_MAX,
)
from rhizome_index.node import keyfile
from rhizome_index.node.keyfile import Hardness, check_passphrase, encode_open, encode_sealed, open_keys, public_keys

KEYS = [Identity(bytes([number]) * 32) for number in range(3)]
SECRET = "correct horse"
GOLDEN = bytes.fromhex(  # what this program wrote once, and must always open
    "7268697a6f6d652d6b657973010e08011fd82c5bd0754c4354104473e1b243becb26fc48e9ef4f65231010c5023b6a27bcce"
    "b6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da298a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d9412"
    "1bf3748801b40f6f5c31081b8bd17836e05d180c33d0e9d43d6ac4420cae3077348aad689204a30d0450348f2a75dd758480"
    "e827c78046afe5c3ae05fdf26f2ae8f9628617736ed0729a33771d570f89a215616d56a69cec64b57e992a785b2933"
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyfile, "SCRYPT_LOG2_N_RANGE", (1, SCRYPT_LOG2_N_RANGE[1]))
    monkeypatch.setattr(keyfile, "HARDNESS", Hardness(1))


def seeds(keys: tuple[Identity, ...]) -> list[bytes]:
    return [key.seed for key in keys]


def checked(data: bytes) -> bytes:
    """A file without its last 8 bytes, with them."""
    return data + sha256(data).digest()[:8]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_keys_come_back_in_their_order(count: int) -> None:
    keys = KEYS[:count]
    public = tuple(key.public_key for key in keys)
    for data, passphrase in ((encode_open(keys), None), (encode_sealed(keys, SECRET), SECRET)):
        assert public_keys(data) == public
        assert seeds(open_keys(data, passphrase)) == seeds(tuple(keys))


def test_a_file_of_old_opens() -> None:
    assert seeds(open_keys(GOLDEN, SECRET)) == seeds(tuple(KEYS[:2]))


def test_a_sealed_file_holds_no_seed_and_is_never_the_same_twice() -> None:
    one, two = encode_sealed(KEYS, SECRET), encode_sealed(KEYS, SECRET)
    assert not any(key.seed in one for key in KEYS)
    assert one[16:32] != two[16:32] and one[32:44] != two[32:44]  # salt and nonce


def test_as_many_keys_as_a_file_holds_and_one_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyfile, "KEYS_MAX", 2)
    assert len(public_keys(encode_open(KEYS[:2]))) == 2
    with pytest.raises(IntegrityError):
        public_keys(encode_open(KEYS))
    assert KEYS_MAX == 255


@given(st.text(min_size=1, max_size=40), st.text(max_size=40))
def test_no_other_passphrase_opens(right: str, wrong: str) -> None:
    try:
        data = encode_sealed(KEYS[:1], right)
        is_same = check_passphrase(wrong) == check_passphrase(right)
    except UsageError:
        return
    if is_same:
        assert seeds(open_keys(data, wrong)) == seeds(tuple(KEYS[:1]))
    else:
        with pytest.raises(UsageError, match="the passphrase is wrong"):
            open_keys(data, wrong)


def test_a_passphrase_is_the_same_however_its_letters_are_composed() -> None:
    assert check_passphrase("caf\u00e9") == check_passphrase("cafe\u0301")


def test_passphrases_at_the_limit_and_one_past_it() -> None:
    assert len(check_passphrase("x" * PASSPHRASE_BYTES_MAX)) == PASSPHRASE_BYTES_MAX
    for wrong in ("x" * (PASSPHRASE_BYTES_MAX + 1), "é" * PASSPHRASE_BYTES_MAX, "", "\udcff"):
        with pytest.raises(UsageError):
            check_passphrase(wrong)


def test_flipped_bits_are_noticed_before_a_passphrase_is_asked_for() -> None:
    for data in (encode_sealed(KEYS[:2], SECRET), encode_open(KEYS[:2])):
        for place in range(len(data)):
            for bit in (0, 7):
                with pytest.raises(IntegrityError):
                    public_keys(data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :])
        for size in range(len(data)):
            if size % 68 or keyfile.is_sealed(data):
                with pytest.raises(IntegrityError):
                    public_keys(data[:size])
        with pytest.raises(IntegrityError):
            public_keys(data + b"\0")


def test_everything_is_sealed_that_says_what_the_seeds_are() -> None:
    """Whoever can write the file can make its last 8 bytes right, but then no passphrase opens it."""
    data = encode_sealed(KEYS[:2], SECRET)[:-8]
    assert seeds(open_keys(checked(data), SECRET)) == seeds(tuple(KEYS[:2]))
    for place in range(13, len(data)):
        changed = checked(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises((UsageError, IntegrityError)):
            open_keys(changed, SECRET)


def test_a_seed_under_somebody_elses_public_key_is_not_opened() -> None:
    class Liar(Identity):
        def __init__(self) -> None:
            super().__init__(KEYS[0].seed)
            self.public_key = KEYS[1].public_key

    for data, passphrase in ((encode_open([Liar()]), None), (encode_sealed([Liar()], SECRET), SECRET)):
        with pytest.raises(IntegrityError, match="is damaged"):
            open_keys(data, passphrase)


def test_hardness_at_its_limits_and_one_past_them(monkeypatch: pytest.MonkeyPatch) -> None:
    sealed = encode_sealed(KEYS[:1], SECRET)[:-8]
    monkeypatch.undo()
    low, high = SCRYPT_LOG2_N_RANGE
    for right in (Hardness(), Hardness(low), Hardness(high, 8), Hardness(low, SCRYPT_R_MAX, SCRYPT_P_MAX)):
        right.check()
    assert 128 * 8 << high == SCRYPT_BYTES_MAX
    beyond = [(low - 1, 8, 1), (high + 1, 1, 1), (high, 9, 1), (low, SCRYPT_R_MAX + 1, 1), (low, 8, SCRYPT_P_MAX + 1)]
    for wrong in (*beyond, (low, 0, 1), (low, 8, 0), (255, 255, 255)):
        with pytest.raises(IntegrityError):
            Hardness(*wrong).check()
        with pytest.raises(IntegrityError):
            public_keys(checked(sealed[:13] + bytes(wrong) + sealed[16:]))


@pytest.mark.parametrize("fault", [MemoryError, ValueError])
def test_too_little_memory_is_said(monkeypatch: pytest.MonkeyPatch, fault: type[Exception]) -> None:
    def fail(*_: object) -> bytes:
        raise fault

    data = encode_sealed(KEYS[:1], SECRET)
    monkeypatch.setattr("Crypto.Protocol.KDF.scrypt", fail)
    with pytest.raises(StoreError, match="no memory"):
        open_keys(data, SECRET)


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_opened_or_refused_and_no_error_repeats_them(tail: bytes, is_sealed: bool) -> None:
    data = checked(b"rhizome-keys\x01" + tail) if is_sealed else tail
    try:
        open_keys(data, SECRET)
    except RhizomeError as error:
        assert isinstance(error, IntegrityError | UsageError)
        said = repr(error) + str(error) + error.hint
        assert SECRET not in said and (len(tail) < 8 or repr(tail)[2:-1] not in said)


def test_a_key_does_not_show_its_seed() -> None:
    for key in KEYS:
        said = f"{key} {key!r} {[key]} {vars(type(key))}"
        assert key.seed.hex() not in said and repr(key.seed) not in said and key.peer_id in said
