"""An answer that comes in parts, whatever makes it pause, is the whole answer."""

from __future__ import annotations

import io
import random
from dataclasses import replace

import pytest
from hypothesis import strategies as st
from pyrsistent import pmap

from rhizome_index.errors import IntegrityError, UnavailableError, UsageError
from rhizome_index.index.address import Address
from rhizome_index.index.condition import And, Compare
from rhizome_index.index.head import Head, Identity, sign_head
from rhizome_index.index.manifest import Manifest, encode_manifest
from rhizome_index.index.schema import Collection
from rhizome_index.node.archive import verify
from rhizome_index.node.saved import write_answer
from rhizome_index.query.answer import Answer
from rhizome_index.query.choose import choose
from rhizome_index.query.combine import Choice, all_candidates
from rhizome_index.query.expr import COUNT, Query
from rhizome_index.query.plan import Plan
from rhizome_index.query.proof import Replay
from rhizome_index.wire import ask as ask_protocol
from rhizome_index.wire import message
from rhizome_index.wire.ask import Ask, Asking
from tests.driving import MemorySource, answer_directly, replies
from tests.properties import records as made
from tests.properties.effort import quickly, thoroughly
from tests.properties.test_answers import wanted_rows
from tests.query.oracle import result

IDENTITY = Identity(b"p" * 32)
ADDRESS = Address(IDENTITY.peer_id, "main")
PART_BYTES_MIN = 40_000  # a way down the tree and one record fit in any part


class Peer(MemorySource):
    """A peer that answers from memory."""

    def __init__(self, source: MemorySource, collection: Collection) -> None:
        super().__init__(source.store)
        self.manifest = Manifest(made.RULE, pmap({collection.name: collection}))
        cid, self.manifest_bytes = encode_manifest(self.manifest)
        self.head = sign_head(IDENTITY, "main", 1, cid, 0)

    def snapshot(self, address: Address, manifest: bytes | None) -> tuple[Head, bytes, Manifest]:
        assert address == ADDRESS and manifest in (None, self.head.manifest)
        return self.head, self.manifest_bytes, self.manifest

    def choose(self, query: Query, manifest: Manifest, *, allow_scan: bool) -> Choice:
        chosen: Choice = self.run(choose(query, manifest.collection(query.collection), allow_scan=allow_scan)).candidate
        return chosen


def converse(asking: Asking, peer: Peer) -> Asking:
    """One request and its answer, by way of frames."""
    for reply in replies(ask_protocol.answer(7, Ask.read(asking.ask.fields()), peer)):
        asking.take(reply)
    assert asking.is_over and asking.failure is None
    return asking


def answer_in_parts(
    query: Query, peer: Peer, plan: Plan | None, budget: int
) -> tuple[list[made.Record], Asking, list[tuple[bytes, bytes]]]:
    """The rows in the order in which they became certain, the last part, and all blocks."""
    asking = converse(Asking(Ask(ADDRESS, query, None, False, plan, None, query.limit, budget, True)), peer)
    rows, blocks = [], []
    while True:
        answer, opening = asking.answer, asking.opening
        assert answer is not None and opening is not None and asking.replay is not None
        rows += [row.record for row in answer.rows()]
        blocks += [block for block in asking.replay.blocks if block not in blocks]
        if answer.is_complete:
            return rows, asking, blocks
        plan = answer.candidate.plan
        ask = Ask(ADDRESS, query, opening.head.manifest, True, plan, answer.position, answer.left, budget)
        asking = converse(Asking(ask, opening, answer), peer)


def check_parts(seed: int) -> None:
    random_ = random.Random(seed)
    records = made.some_records(random_, random_.choice([0, 3, 30, 90, 200]))
    for record in records.values():
        if random_.random() < 0.3:
            record["large"] = random_.randbytes(random_.choice([2100, 9000, 30_000]))
    source, collection = made.built(made.an_empty_collection(random_), records)
    peer = Peer(source, collection)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ask_protocol, "ASK_ROWS_MAX", random_.choice([1, 2, 64, 1000]))
        patch.setattr(ask_protocol, "ASK_ENTRIES_MAX", random_.choice([1, 7, 64, 20_000]))
        for _ in range(2):
            query = made.a_query(random_)
            budget = random_.choice([PART_BYTES_MIN, 2 * PART_BYTES_MIN, 10**6])
            plans = [None, *(candidate.plan for candidate in all_candidates(query, collection))]
            for plan in plans:
                check_plan(query, peer, plan, budget, wanted_rows(query, collection, records))


def check_plan(query: Query, peer: Peer, plan: Plan | None, budget: int, wanted: list[made.Record]) -> None:
    rows, asking, blocks = answer_in_parts(query, peer, plan, budget)
    answer, opening = asking.answer, asking.opening
    assert answer is not None and opening is not None
    if query.kind == COUNT:
        assert answer.count == len(wanted) and not rows
    else:
        assert rows == result(query, wanted)[: query.limit], (query, plan)
    file = io.BytesIO()
    try:
        write_answer(file, opening, answer, None, blocks)
    except UnavailableError:  # what is saved holds; not everything can be saved
        assert answer.candidate.residual and answer.candidate.ordered and query.limit
        return
    file.seek(0)
    verified = verify(file)
    assert [row.record for row in verified.rows] == rows and verified.answer.count == answer.count


def check_cuts(seed: int) -> None:
    """Each answer may end in the middle, and the next one goes on there: the rows are the same."""
    random_ = random.Random(seed)
    records = made.some_records(random_, random_.choice([3, 30, 90]))
    source, collection = made.built(made.an_empty_collection(random_), records)
    peer, query = Peer(source, collection), made.a_query(random_)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(message, "FRAME_PAYLOAD_BYTES", random_.choice([100, 1000, 5000]))  # many frames
        for candidate in all_candidates(query, collection):
            plan, rows = candidate.plan, list[made.Record]()
            ask, opening, answer = Ask(ADDRESS, query, None, False, plan, None, query.limit), None, None
            while answer is None or not answer.is_complete:
                asking = Asking(ask, opening, answer)
                sent = list(replies(ask_protocol.answer(7, Ask.read(ask.fields()), peer)))
                for reply in sent[: random_.randint(0, len(sent))]:
                    asking.take(reply)
                is_of_use = asking.is_over or asking.cut_off()
                opening, answer = asking.opening, asking.answer
                if answer is not None:
                    assert is_of_use == (answer.is_complete or answer.position != ask.after)
                    rows += [row.record for row in answer.rows()]
                    ask = Ask(ADDRESS, query, peer.head.manifest, True, plan, answer.position, answer.left)
            if query.kind == COUNT:
                assert answer.count == len(wanted_rows(query, collection, records))
            else:
                assert rows == result(query, wanted_rows(query, collection, records))[: query.limit]


SEEDS = st.integers(0, 2**32)
test_answers_that_are_cut_off_are_gone_on_with = quickly(check_cuts, SEEDS, cases=10)
test_many_answers_that_are_cut_off_are_gone_on_with = thoroughly(check_cuts, SEEDS, cases=1000)
test_answers_in_parts_are_whole = quickly(check_parts, SEEDS, cases=10)
test_many_answers_in_parts_are_whole = thoroughly(check_parts, SEEDS, cases=1000)


def things(count: int, large_bytes: int = 0) -> Peer:
    rows = {}
    for number in range(count):
        record = {"id": number, "n": number % 7, "tags": ["a"]}
        if large_bytes:
            record["large"] = b"%06d" % number * (large_bytes // 6)
        rows[made.primary_key(record, ("id",))] = record
    empty = made.an_empty_collection(random.Random(1), 0)
    empty = replace(empty, order=(), indexes=made.an_empty_collection(random.Random(1), len(made.INDEXES)).indexes)
    return Peer(*made.built(empty, rows))


def in_parts(query: Query, peer: Peer, budget: int = ask_protocol.PROOF_BYTES_MAX) -> list[int]:
    return [record["id"] for record in answer_in_parts(query, peer, None, budget)[0]]


@pytest.mark.parametrize("count", [999, 1000, 1001, 1024])
def test_a_limit_of_rows_that_is_the_limit_of_a_part(count: int) -> None:
    """A peer that paused at its 1,000th row called an answer of just so many incomplete, and seemed to lie."""
    peer = things(1100)
    assert in_parts(Query("things", limit=count), peer) == list(range(count))
    assert in_parts(Query("things"), things(count)) == list(range(count))


def test_a_few_rows_in_an_order_that_no_index_has() -> None:
    """All must be seen: the rows wanted do not get fewer by those seen so far, and never negative."""
    peer = things(1300)
    where = Compare("=", "tags", "a")
    query = Query("things", where, (made.SortPath("n", True), made.SortPath("a.b"), made.SortPath("id", True)), 3)
    by_n = sorted(range(1300), key=lambda number: (number % 7, number), reverse=True)
    assert in_parts(query, peer) == by_n[:3]


def test_records_too_large_for_a_batch_in_one_part() -> None:
    """64 records of 100 kB are more than a part may have: the part ends within the batch."""
    peer = things(70, 100_000)
    assert in_parts(Query("things"), peer) == list(range(70))
    assert in_parts(Query("things", Compare("=", "n", 3), limit=5), peer) == [3, 10, 17, 24, 31]
    assert in_parts(Query("things", And((Compare("=", "tags", "a"),))), peer, 150_000) == list(range(70))


def test_direct_answers_are_the_same() -> None:
    peer = things(300)
    query = Query("things", Compare(">", "n", 3), limit=50)
    collection = peer.manifest.collection("things")
    for candidate in all_candidates(query, collection):
        rows, _ = answer_directly(Answer(query, collection, candidate), peer)
        assert [row.record for row in rows] == answer_in_parts(query, peer, candidate.plan, PART_BYTES_MIN)[0]


def test_what_has_come_of_a_batch_counts_where_an_answer_is_cut_off() -> None:
    peer = things(30, 30_000)
    asking = Asking(Ask(ADDRESS, Query("things")))
    sent = replies(ask_protocol.answer(7, Ask.read(asking.ask.fields()), peer))
    blocks = [reply for reply in sent if isinstance(reply, message.Blocks)]
    for reply in sent[: len(sent) - 3]:
        asking.take(reply)
    assert len(blocks) > 10 and asking.cut_off() and asking.answer is not None and asking.replay is not None
    came = [row.record["id"] for row in asking.answer.rows()]
    assert 20 < len(came) < 30 and came == list(range(len(came)))
    assert not asking.cut_off()


def test_records_that_make_no_sense_are_the_peers_lie_where_an_answer_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(replay: Replay) -> None:
        raise UsageError("no record")

    peer, asking = things(30, 30_000), Asking(Ask(ADDRESS, Query("things")))
    for reply in replies(ask_protocol.answer(7, Ask.read(asking.ask.fields()), peer))[:5]:
        asking.take(reply)
    monkeypatch.setattr(Replay, "pause", fail)
    with pytest.raises(IntegrityError, match="no record"):
        asking.cut_off()
