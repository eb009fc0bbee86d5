"""Asks and their proofs at their limits, and one past each."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pyrsistent import pmap

from rhizome_index.blocks.cid import cid_of
from rhizome_index.errors import IntegrityError
from rhizome_index.index.condition import TIME, Compare
from rhizome_index.index.head import sign_head
from rhizome_index.index.manifest import Manifest, encode_manifest
from rhizome_index.limits import KEY_BYTES_MAX, PROOF_BYTES_MAX
from rhizome_index.query.expr import NEWEST, Query
from rhizome_index.query.plan import encode_plan
from rhizome_index.wire import ask
from rhizome_index.wire import message as m
from rhizome_index.wire.ask import Ask, Asking
from rhizome_index.wire.sync import Sync
from rhizome_index.wire.want import Want
from tests.driving import replies
from tests.properties.test_conversations import ADDRESS, IDENTITY, things

CID = cid_of(b"")
QUERY = Query("things", limit=3)


@pytest.mark.parametrize("budget", [0, PROOF_BYTES_MAX - 1, PROOF_BYTES_MAX, PROOF_BYTES_MAX + 1, 2**53 - 1])
def test_nobody_is_sent_more_than_a_proof(budget: int) -> None:
    wanted = min(budget, PROOF_BYTES_MAX)
    assert Ask.read(Ask(ADDRESS, QUERY, budget=budget).fields()).budget == wanted
    assert Want.read(Want(None, (CID,), budget).fields()).budget == wanted
    assert Sync.read(Sync(ADDRESS, budget=budget).fields()).budget == wanted


def test_a_position_at_the_limit_and_one_past_it() -> None:
    most = bytes(KEY_BYTES_MAX)
    assert Ask.read(Ask(ADDRESS, QUERY, after=most).fields()).after == most
    with pytest.raises(IntegrityError, match="a position longer than any key"):
        Ask.read(Ask(ADDRESS, QUERY, after=most + b"\0").fields())
    behind = most + b"\0"  # where a delta goes on is behind a key
    assert Sync.read(Sync(ADDRESS, place=("a", behind)).fields()).place == ("a", behind)
    with pytest.raises(IntegrityError):
        Sync.read(Sync(ADDRESS, place=("a", behind + b"\0")).fields())


def test_a_proof_of_the_budget_and_one_byte_more() -> None:
    peer = things(300)
    query = Query("things")
    whole = replies(ask.answer(1, Ask(ADDRESS, query, scan=True), peer))
    size = sum(len(block or b"") for reply in whole if isinstance(reply, m.Blocks) for block in reply.blocks)
    for budget in (size, size - 1):
        asking = Asking(Ask(ADDRESS, query, budget=budget, scan=True))
        if budget == size:
            for reply in whole:
                asking.take(reply)
            assert asking.answer is not None and asking.answer.is_complete
        else:
            with pytest.raises(IntegrityError, match="larger than what was asked for"):
                for reply in whole:
                    asking.take(reply)
    cut = replies(ask.answer(1, Ask(ADDRESS, query, budget=size - 1, scan=True), peer))
    sent = sum(len(block or b"") for reply in cut if isinstance(reply, m.Blocks) for block in reply.blocks)
    assert sent < size and cut[-1] == m.End(1, {"complete": False})


def test_an_answer_to_what_makes_no_sense_there_is_the_peers_lie() -> None:
    """Whoever signs a manifest may leave out what a query speaks of; an honest peer then refuses."""
    peer = things(3)
    timeless = Manifest(peer.manifest.rule, pmap({"things": replace(peer.manifest.collection("things"), time=None)}))
    cid, data = encode_manifest(timeless)
    plan = encode_plan(peer.choose(QUERY, timeless, allow_scan=True).plan)
    fields = {"head": sign_head(IDENTITY, "main", 1, cid, 0).envelope, "manifest": data, "plan": plan}
    for query in (Query("things", order=NEWEST, limit=3), Query("things", Compare(">=", TIME, 0))):
        with pytest.raises(IntegrityError, match="has no time"):
            Asking(Ask(ADDRESS, query, scan=True)).take(m.Open(1, fields))
