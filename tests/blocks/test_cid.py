"""Names of blocks: one per content, one kind only, and text that comes back."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhizome_index.blocks.cid import (
    CID_BYTES,
    check_block,
    cid_of,
    cid_of_digest,
    digest_of,
    format_cid,
    is_cid,
    parse_cid,
)
from rhizome_index.errors import IntegrityError, UsageError

EMPTY_MAP = "bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua"  # the CID of {} everywhere in IPLD


def test_a_name_known_to_everybody() -> None:
    assert format_cid(cid_of(b"\xa0")) == EMPTY_MAP
    assert parse_cid(EMPTY_MAP) == cid_of(b"\xa0")


@given(st.binary(max_size=50))
def test_names_come_back(data: bytes) -> None:
    cid = cid_of(data)
    assert is_cid(cid) and len(cid) == CID_BYTES
    assert parse_cid(format_cid(cid)) == cid
    assert cid_of_digest(digest_of(cid)) == cid
    check_block(cid, data)
    with pytest.raises(IntegrityError) as caught:
        check_block(cid, data + b"\0")
    assert caught.value.cid == cid


@given(st.text(max_size=80) | st.text("abcdefghijklmnopqrstuvwxyz234567", max_size=70).map("b".__add__))
def test_any_text_is_a_cid_or_refused(text: str) -> None:
    with suppress(UsageError):
        cid = parse_cid(text)
        assert is_cid(cid) and format_cid(cid) == text


def test_a_name_has_one_text() -> None:
    for text in (EMPTY_MAP.replace("g", "G", 1), EMPTY_MAP.upper(), EMPTY_MAP[:-1] + "b", f"f{cid_of(b'').hex()}"):
        with pytest.raises(UsageError):
            parse_cid(text)


@pytest.mark.parametrize("change", [(0, 0), (1, 0x55), (2, 0x13), (3, 0x1F)])
def test_other_codecs_and_hashes_are_no_names(change: tuple[int, int]) -> None:
    cid = bytearray(cid_of(b""))
    cid[change[0]] = change[1]
    assert not is_cid(bytes(cid))
    assert not is_cid(bytes(cid_of(b"")[:-1])) and not is_cid(cid_of(b"") + b"\0") and not is_cid(None)
