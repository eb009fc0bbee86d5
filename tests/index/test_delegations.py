"""Heads signed in the place of another key: believed if each key has said so of the next, and not otherwise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhizome_index.blocks import cbor
from rhizome_index.blocks.cid import cid_of
from rhizome_index.blocks.varint import uvarint
from rhizome_index.errors import IntegrityError
from rhizome_index.index.address import Address, marshal_public_key
from rhizome_index.index.envelope import signed_bytes
from rhizome_index.index.head import (
    DOMAIN,
    PAYLOAD_TYPE,
    Delegation,
    Head,
    Identity,
    delegate,
    open_head,
    sign_head,
)
from rhizome_index.limits import DELEGATIONS_MAX, HEAD_BYTES_MAX

KEYS = [Identity(bytes([number]) * 32) for number in range(DELEGATIONS_MAX + 2)]
MAIN, OTHER = Address(KEYS[0].peer_id, "main"), Address(KEYS[0].peer_id, "other")
ONE, TWO = cid_of(b"one"), cid_of(b"two")


def chain_of(scopes: list[Address | None], start: int = 5) -> list[Delegation]:
    """From the first key to the next ones, a sequence apart."""
    return [
        delegate(KEYS[place], scope, start + place, KEYS[place + 1].public_key) for place, scope in enumerate(scopes)
    ]


def signed(chain: list[Delegation], sequence: int, manifest: bytes = ONE, key: Identity | None = None) -> Head:
    return sign_head(key or KEYS[len(chain)], "main", sequence, manifest, 1_700_000_000_000, None, chain)


@given(st.lists(st.sampled_from([MAIN, None]), max_size=DELEGATIONS_MAX), st.integers(0, 3))
def test_a_head_comes_back_with_its_delegations(scopes: list[Address | None], later: int) -> None:
    chain = chain_of(scopes)
    head = signed(chain, 5 + len(chain) + later)
    assert open_head(head.envelope) == head and head.address == MAIN
    assert list(head.delegations) == chain and head.signer == KEYS[len(chain)].public_key


def test_as_many_delegations_as_there_may_be_and_one_more() -> None:
    name = "a" * 64
    place = Address(KEYS[0].peer_id, name)
    full = [delegate(KEYS[n], place, 2**53 - 1, KEYS[n + 1].public_key) for n in range(DELEGATIONS_MAX + 1)]
    last = sign_head(KEYS[-2], name, 2**53 - 1, ONE, 2**53 - 2, 2**53 - 1, full[:-1])
    assert open_head(last.envelope) == last and len(last.envelope) <= HEAD_BYTES_MAX
    one_more = sign_head(KEYS[-1], "m", 2**53 - 1, ONE, 0, None, full)
    with pytest.raises(IntegrityError):
        open_head(one_more.envelope)


def test_every_changed_byte_is_noticed() -> None:
    head = signed(chain_of([MAIN]), 9)
    for place in range(len(head.envelope)):
        changed = bytearray(head.envelope)
        changed[place] ^= 0x10
        with pytest.raises(IntegrityError):
            open_head(bytes(changed))


def test_a_head_before_it_is_its_keys_turn_and_at_it() -> None:
    open_head(signed(chain_of([None], start=5), 5).envelope)
    with pytest.raises(IntegrityError, match="before it is its turn"):
        open_head(signed(chain_of([None], start=5), 4).envelope)


def test_a_delegation_of_another_dataset_key_or_number_is_none() -> None:
    """Whatever is changed in a chain, one of its signatures is not of that any more."""
    chain = chain_of([MAIN, None])
    for place, word in enumerate(chain):
        for wrong in (
            replace(word, dataset=None if word.dataset else MAIN),
            replace(word, start=word.start - 1),
            replace(word, key=KEYS[5].public_key),
            replace(word, signature=chain[1 - place].signature),
        ):
            changed = [*chain[:place], wrong, *chain[place + 1 :]]
            with pytest.raises(IntegrityError):
                open_head(signed(changed, 9, key=KEYS[2]).envelope)
    for wrong_chain, key in ((chain, KEYS[3]), (chain[:1], KEYS[2]), (chain[::-1], KEYS[2]), (chain[1:], KEYS[0])):
        with pytest.raises(IntegrityError):
            open_head(signed(wrong_chain, 9, key=key).envelope)
    elsewhere = delegate(KEYS[0], OTHER, 5, KEYS[1].public_key)
    with pytest.raises(IntegrityError):
        open_head(signed([elsewhere], 9, key=KEYS[1]).envelope)


def test_keys_that_replace_each_other_in_a_circle() -> None:
    there, back = delegate(KEYS[0], None, 5, KEYS[1].public_key), delegate(KEYS[1], None, 6, KEYS[0].public_key)
    itself = delegate(KEYS[0], None, 5, KEYS[0].public_key)
    for chain, key in (([there, back], KEYS[0]), ([itself], KEYS[0]), ([there, back, there], KEYS[1])):
        with pytest.raises(IntegrityError, match="in a circle"):
            open_head(signed(chain, 9, key=key).envelope)


GOOD = delegate(KEYS[0], None, 5, KEYS[1].public_key)
LINK = [GOOD.key, True, 5, GOOD.signature]


WRONG_PARTS = (None, 1.0, "x", b"", -1, 2**53, cbor.Link(ONE))
WRONG_LINKS = [[*LINK[:at], wrong, *LINK[at + 1 :]] for at in range(4) for wrong in WRONG_PARTS]


@pytest.mark.parametrize(
    "links", [None, [], {}, [[]], [LINK[:3]], [[*LINK, 1]], [LINK, None], *([link] for link in WRONG_LINKS)]
)
def test_what_are_no_delegations(links: Any) -> None:
    head = sign_head(KEYS[1], "main", 9, ONE, 0, None, [GOOD])
    assert open_head(head.envelope).delegations == (GOOD,)
    body = {"dataset": "main", "manifest": cbor.Link(ONE), "sequence": 9, "time": 0, "delegations": links}
    with pytest.raises(IntegrityError):
        open_head(resigned(body))


def resigned(body: dict[str, Any]) -> bytes:
    """An envelope of the second key around any payload."""
    payload = cbor.encode(body)
    signature = KEYS[1].sign(signed_bytes(DOMAIN, PAYLOAD_TYPE, payload))
    parts = ((1, marshal_public_key(KEYS[1].public_key)), (2, PAYLOAD_TYPE), (3, payload), (5, signature))
    return b"".join(uvarint(number << 3 | 2) + uvarint(len(part)) + part for number, part in parts)


# --- contradictions ---


def test_two_words_of_one_key_contradict_each_other_if_they_are_about_one_dataset() -> None:
    def said(dataset: Address | None, successor: int = 1, start: int = 5, key: int = 0) -> Delegation:
        return delegate(KEYS[key], dataset, start, KEYS[successor].public_key)

    for one, other in (
        (said(None), said(None, successor=2)),
        (said(None), said(None, start=6)),
        (said(None), said(MAIN)),
        (said(MAIN), said(MAIN, successor=2)),
    ):
        assert one.contradicts(other) and other.contradicts(one)
    for one, other in (
        (said(None), said(None)),
        (said(MAIN), said(OTHER, successor=2)),
        (said(None), said(None, successor=3, key=1)),
    ):
        assert not one.contradicts(other) and not other.contradicts(one)


def test_heads_that_contradict_each_other() -> None:
    chain, thief = chain_of([None]), delegate(KEYS[0], None, 5, KEYS[2].public_key)
    later = chain_of([None, MAIN])
    for one, other in (
        (signed([], 3), signed([], 3, TWO)),
        (signed(chain, 7), signed(chain, 7, TWO)),
        (signed([], 5), signed(chain, 9)),
        (signed([], 99), signed(chain, 5)),
        (signed(chain, 6), signed(later, 9)),
        (signed(chain, 6), signed([thief], 8, key=KEYS[2])),
    ):
        assert one.contradicts(other) and other.contradicts(one)
    for one, other in (
        (signed([], 3), signed([], 3)),
        (signed([], 3), signed([], 4, TWO)),
        (signed([], 4), signed(chain, 5, TWO)),
        (signed(chain, 5), signed(later, 6, TWO)),
        (signed([], 4), signed(later, 6, TWO)),
    ):
        assert not one.contradicts(other) and not other.contradicts(one)
