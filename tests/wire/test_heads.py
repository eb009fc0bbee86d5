"""Heads at their limits, and one past each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from rhizome_index.blocks.cid import cid_of
from rhizome_index.errors import IntegrityError
from rhizome_index.index.address import Address
from rhizome_index.index.head import Identity, delegate, sign_head
from rhizome_index.limits import ADDRESS_BYTES_MAX, HEADS_DATASETS_MAX, PROVIDERS_MAX
from rhizome_index.wire import heads
from rhizome_index.wire import message as m
from rhizome_index.wire.heads import AskingHeads, DatasetHeads
from tests.driving import replies

PUBLISHER = Identity(b"p" * 32)
CID = cid_of(b"")


def addresses(count: int) -> list[Address]:
    return [Address(PUBLISHER.peer_id, f"d{number}") for number in range(count)]


def test_datasets_asked_about_at_the_limit_and_one_past_it() -> None:
    most = addresses(HEADS_DATASETS_MAX)
    assert heads.read_request(heads.request_fields(most)) == tuple(most)
    with pytest.raises(IntegrityError):
        heads.read_request(heads.request_fields(addresses(HEADS_DATASETS_MAX + 1)))


def told(known: Sequence[DatasetHeads], about: Sequence[Address] = ()) -> AskingHeads:
    asking = AskingHeads(about)
    for reply in replies(heads.answer(1, known)):
        asking.take(reply)
    assert asking.is_over
    return asking


def test_datasets_told_at_the_limit_and_one_past_it() -> None:
    """Over several frames, with as many providers as there may be."""
    providers = tuple("p" * 200 for _ in range(PROVIDERS_MAX))
    signed = [
        DatasetHeads(place, (sign_head(PUBLISHER, place.name, 1, CID, 0),), providers)
        for place in addresses(HEADS_DATASETS_MAX + 1)
    ]
    assert list(told(signed[:-1]).known) == [item.address for item in signed[:-1]]
    with pytest.raises(IntegrityError, match="heads that cannot be read"):
        told(signed)


def entry(providers: Any) -> m.Open:
    return m.Open(1, {"datasets": [[str(addresses(1)[0]), [], providers]]})


def test_providers_at_the_limits_and_one_past_each() -> None:
    most = ["p" * ADDRESS_BYTES_MAX] * PROVIDERS_MAX
    asking = AskingHeads(())
    asking.take(entry(most))
    assert asking.known[addresses(1)[0]].providers == tuple(most)
    for wrong in ([*most, "p"], ["p" * (ADDRESS_BYTES_MAX + 1)]):
        with pytest.raises(IntegrityError, match="heads that cannot be read"):
            AskingHeads(()).take(entry(wrong))
    many = DatasetHeads(addresses(1)[0], (), (*most, "one more"))
    assert told([many]).known[addresses(1)[0]].providers == tuple(most)  # we name no more ourselves


def test_a_key_that_signs_after_it_was_replaced_is_shown() -> None:
    place, new = addresses(1)[0], Identity(b"n" * 32)
    word = delegate(PUBLISHER, None, 3, new.public_key)
    head = sign_head(new, place.name, 4, CID, 0, None, [word])
    for sequence, is_evidence in ((2, False), (3, True), (9, True)):
        both = (head, sign_head(PUBLISHER, place.name, sequence, CID, 0))
        if is_evidence:
            assert told([DatasetHeads(place, both)]).known[place].heads == both
        else:
            with pytest.raises(IntegrityError, match="two heads that do not contradict each other"):
                told([DatasetHeads(place, both)])


def test_heads_that_contradict_each_other_are_two() -> None:
    place = addresses(1)[0]
    three = tuple(sign_head(PUBLISHER, place.name, 1, cid_of(bytes([n])), 0) for n in range(3))
    assert told([DatasetHeads(place, three[:2])]).known[place].heads == three[:2]
    with pytest.raises(IntegrityError):
        told([DatasetHeads(place, three)])
