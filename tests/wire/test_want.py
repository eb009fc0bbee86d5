"""Wants at their limits, and one past each."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rhizome_index.blocks.cid import cid_of
from rhizome_index.errors import IntegrityError
from rhizome_index.limits import KEY_BYTES_MAX, WANTS_MAX
from rhizome_index.wire import message as m
from rhizome_index.wire import want
from rhizome_index.wire.want import Want, Wanting
from tests.driving import replies

CID = cid_of(b"")


def test_wants_at_the_limit_and_one_past_it() -> None:
    for root in (None, CID):
        names = (CID,) * (WANTS_MAX + 1)
        assert Want.read(Want(root, names[:-1]).fields()).names == names[:-1]
        for wrong in (names, ()):
            with pytest.raises(IntegrityError):
                Want.read(Want(root, wrong).fields())


def test_a_wanted_key_at_the_limit_and_one_past_it() -> None:
    most = bytes(KEY_BYTES_MAX)
    assert Want.read(Want(CID, (most,)).fields()).names == (most,)
    with pytest.raises(IntegrityError):
        Want.read(Want(CID, (most + b"\0",)).fields())


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("budget", "sent"), [(0, 1), (299, 2), (300, 3), (301, 3)])
def test_blocks_within_the_budget_and_always_one(budget: int, sent: int, packed: bool) -> None:
    blocks = {cid_of(bytes([n]) * 100): bytes([n]) * 100 for n in range(3)}
    request = Want.read(Want(None, tuple(blocks), budget, packed).fields())
    assert (request.budget, request.packed) == (budget, packed)
    answered = replies(want.answer(1, request, lambda _, name: blocks[name]))
    wanting = Wanting(request, list(blocks))
    for reply in answered:
        wanting.take(reply)
    assert wanting.blocks == list(blocks.values())[:sent] and wanting.is_over
    greedy = Wanting(replace(request, budget=99), list(blocks))
    if sent > 1:
        with pytest.raises(IntegrityError, match="more bytes than were asked for"):
            for reply in answered:
                greedy.take(reply)


def test_packed_blocks_are_taken_where_they_are_asked_for() -> None:
    blocks = {cid_of(bytes(500)): bytes(500)}
    request = Want(None, tuple(blocks), packed=True)
    answered = replies(want.answer(1, request, lambda _, name: blocks[name]))
    assert [reply.were_packed for reply in answered if isinstance(reply, m.Blocks)] == [True]
    with pytest.raises(IntegrityError, match="packed blocks that nobody asked for"):
        Wanting(replace(request, packed=False), list(blocks)).take(answered[0])
