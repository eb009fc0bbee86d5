"""What is counted: the right things, and never for more peers than are remembered."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from rhizome_index.api import open_node
from rhizome_index.blocks import cbor
from rhizome_index.limits import ANSWERS_AT_ONCE_MAX, PEERS_COUNTED_MAX, TURN_TIMEOUT_SECONDS
from rhizome_index.node.tally import DONE, FAILED, GONE, MALFORMED, REFUSED, Durations, Tally
from rhizome_index.wire import ask, heads, want
from rhizome_index.wire import message as m
from rhizome_index.wire.frame import encode_frame
from tests.node.test_asking import TCP, publish
from tests.node.test_following import a_pair
from tests.node.test_serving import BULKY, SMALL, replies, serving
from tests.node.test_serving import ask as request


@given(st.lists(st.floats(0, 100)))
def test_durations_fall_where_they_belong(seconds: list[float]) -> None:
    durations = Durations()
    for each in seconds:
        durations.note(each)
    assert sum(durations.counts) == len(seconds) and durations.seconds == pytest.approx(sum(seconds))
    for place, bound in enumerate(Durations.BOUNDS):
        assert sum(durations.counts[: place + 1]) == sum(each <= bound for each in seconds)


def test_as_many_peers_as_are_remembered_and_one_more() -> None:
    tally = Tally()
    for number in range(PEERS_COUNTED_MAX):
        tally.note_received(str(number), "p", 1)
        tally.note_sent(str(number), "p", 2)
    assert len(tally.peers) == PEERS_COUNTED_MAX
    tally.note_answer("one more", "p", DONE)
    assert len(tally.peers) == PEERS_COUNTED_MAX and "0" not in tally.peers and tally.peers["1"].bytes_sent == 2
    assert tally.bytes_received == {"p": PEERS_COUNTED_MAX} and tally.bytes_sent == {"p": 2 * PEERS_COUNTED_MAX}


def test_how_an_answer_ended_is_told_by_its_last_frame() -> None:
    assert m.outcome(m.encode_end(1, {"complete": True})) is None
    for code in m.CODES:
        assert m.outcome(m.encode_failure(1, code, "text")) == code


async def test_answers_are_counted_by_how_they_end(
    tmp_path: Path, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    with serving(tmp_path, nursery) as (server, swarm):
        stream = swarm.accept("one", want.PROTOCOL)
        await request(stream, 1, fields=SMALL)
        await replies(stream)
        await stream.send(encode_frame(cbor.encode("no request")))
        other = swarm.accept("other", ask.PROTOCOL)
        await other.send(m.encode_request(1, {}))
        impatient = swarm.accept("impatient", want.PROTOCOL)
        await request(impatient, 1, fields=BULKY)
        await trio.sleep(0.1)
        await impatient.reset()
        await trio.sleep(1)
        assert server.tally.answers == {
            (want.PROTOCOL, DONE): 1,
            (want.PROTOCOL, MALFORMED): 1,
            (ask.PROTOCOL, MALFORMED): 1,
            (want.PROTOCOL, GONE): 1,
        }
        assert {peer: counted.answers for peer, counted in server.tally.peers.items()} == {
            "one": 2,
            "other": 1,
            "impatient": 1,
        }
        assert sum(server.tally.waits.counts) == sum(server.tally.answering.counts) == 2


async def test_waiting_for_a_turn_is_measured(tmp_path: Path, autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    with serving(tmp_path, nursery) as (server, swarm):
        for number in range(ANSWERS_AT_ONCE_MAX):
            await server.places.take(f"peer {number}")
        late = swarm.accept("late", want.PROTOCOL)
        await request(late, 1, fields=SMALL)
        assert isinstance((await replies(late))[-1], m.Failure)
        await trio.testing.wait_all_tasks_blocked()
        assert server.tally.answers[want.PROTOCOL, m.BUSY] == 1
        assert server.tally.waits.seconds == pytest.approx(TURN_TIMEOUT_SECONDS)


async def test_dials_and_syncs_are_counted(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as (publisher, reader, address):
        tally = reader.peer.membership.swarm.tally
        assert (tally.dials[DONE], tally.dials[FAILED]) == (1, 0)
        reader.follow(address)
        await reader.sync(address)
        assert (tally.syncs[DONE], tally.syncs[FAILED], tally.syncs[REFUSED]) == (1, 0, 0)
        assert tally.bytes_received[heads.PROTOCOL] > 0
        assert publisher.peer.membership.swarm.tally.answers[heads.PROTOCOL, DONE] >= 1


async def test_a_failed_dial_is_counted(tmp_path: Path) -> None:
    async with open_node(tmp_path / "other", listen=[TCP]) as other:
        await publish(other)
        gone = other.addresses
    async with open_node(tmp_path / "node", peers=gone) as node:
        assert node.peer.membership is not None
        assert node.peer.membership.swarm.tally.dials == {FAILED: 1}
