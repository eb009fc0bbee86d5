"""What a node says of itself: true, cut where it would be too long, and refused from another version."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from rhizome_index.errors import IntegrityError, StoreError, UnavailableError
from rhizome_index.limits import ADDRESS_BYTES_MAX, CONTROL_ANSWER_BYTES_MAX, ERROR_TEXT_MAX, STATUS_ITEMS_MAX
from rhizome_index.node import status as status_module
from rhizome_index.node.follow import FollowState
from rhizome_index.node.register import INDEX, WHERE, Follow, Policy
from rhizome_index.node.status import FAILING, KEPT, SYNCING, WAITING, NodeStatus, status_of
from rhizome_index.wire import control
from rhizome_index.wire.frame import FrameReader
from tests.node.test_asking import publish
from tests.node.test_following import a_pair


def passed_on(status: NodeStatus) -> NodeStatus:
    """The same, as another process reads it."""
    (body,) = FrameReader(CONTROL_ANSWER_BYTES_MAX).feed(control.encode_end(status.fields()))
    answer = control.decode_answer(body)
    assert isinstance(answer, control.End)
    return NodeStatus.read(answer.fields)


async def test_a_node_tells_of_its_peers_and_follows(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as (publisher, reader, address):
        started_at = trio.current_time() - 60
        reader.follow(address)
        await reader.sync(address)
        follower = reader.peer.membership.follower
        async with follower.states[address].lock:  # nothing changes meanwhile
            status = status_of(reader.peer, started_at)
            assert passed_on(status) == status
        assert status.peer_id == reader.peer_id and status.addresses == list(reader.addresses)
        assert 60 <= status.uptime_seconds < 120 and (status.connected, status.followed) == (1, 1)
        (peer,) = status.peers
        assert (peer.peer, peer.address) == (publisher.peer_id, publisher.addresses[0])
        assert status.bytes_received == peer.bytes_received > status.bytes_sent == peer.bytes_sent > 0
        (follow,) = status.follows
        assert (follow.address, follow.keeps, follow.state) == (str(address), "all of it", KEPT)
        assert (follow.head, follow.behind, follow.problem) == (publisher.catalog[address].sequence, 0, "")
        assert follow.entries_done == follow.entries_total > 0 and follow.bytes_fetched > 0
        await reader.query("first 1 posts", address).page()
        served = status_of(publisher.peer, started_at)
        assert served.answers_given == served.peers[0].answers >= 2 and "/rhizome/heads/1" in served.answers
        await publish(publisher)
        follower.states[address].newest = publisher.catalog[address].sequence
        assert status_of(reader.peer, started_at).follows[0].behind == follower.states[address].newest - follow.head


async def test_the_words_for_how_a_follow_does(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as (publisher, reader, address):
        follower = reader.peer.membership.follower
        follow = Follow(address, Policy(INDEX, "posts", "by_tag"))
        for changes, word in (
            ({}, WAITING),
            ({"is_syncing": True}, SYNCING),
            ({"error": UnavailableError("nobody")}, FAILING),
            ({"error": UnavailableError("nobody"), "is_syncing": True}, SYNCING),
        ):
            follower.states[address] = FollowState(follow, **changes)
            found = status_module._follow_status(reader.peer, follow)
            assert (found.state, found.keeps) == (word, "index posts.by_tag")
        assert publisher.peer_id in found.address


async def test_a_store_that_cannot_be_read_is_no_reason_to_say_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_pair(tmp_path) as (publisher, reader, _):

        def fail(*_: Any) -> Any:
            raise StoreError("the disk fails")

        monkeypatch.setattr(reader.peer.store, "execute", fail)
        reader.peer.store.problem = "the disk fails"
        status = status_of(reader.peer, trio.current_time())
        assert status.problem == "the disk fails" and [peer.peer for peer in status.peers] == [publisher.peer_id]


async def test_what_is_too_long_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_pair(tmp_path) as (_, reader, address):
        names = tuple(f"{number:052}" for number in range(STATUS_ITEMS_MAX + 1))
        long = "𝄞" * 10_000
        follow = Follow(address, Policy(WHERE, query=long))
        swarm = SimpleNamespace(
            peer_id=reader.peer_id,
            connected_peers=names,
            tally=reader.peer.membership.swarm.tally,
            addresses=[long] * (STATUS_ITEMS_MAX + 1),
            latency_seconds=lambda name: 1.5,
            is_relayed=lambda peer: True,
        )
        state = FollowState(follow, error=UnavailableError(long))
        monkeypatch.setattr(reader.peer.membership, "swarm", swarm)
        monkeypatch.setattr(reader.peer.register, "follows", lambda: [follow] * (STATUS_ITEMS_MAX + 1))
        monkeypatch.setattr(reader.peer.register, "peers", lambda: [(long, name) for name in names])
        monkeypatch.setitem(reader.peer.membership.follower.states, address, state)
        reader.peer.store.problem = long
        status = passed_on(status_of(reader.peer, trio.current_time()))
        assert status.connected == status.followed == STATUS_ITEMS_MAX + 1
        assert len(status.peers) == len(status.follows) == len(status.addresses) == STATUS_ITEMS_MAX
        assert len(status.peers[0].address or "") == ADDRESS_BYTES_MAX
        assert len(status.follows[0].problem) == len(status.follows[0].keeps) == len(status.problem) == ERROR_TEXT_MAX


async def test_another_versions_status_is_refused(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as (_, reader, address):
        reader.follow(address)
        status = status_of(reader.peer, 0.0)
        assert status.peers and status.follows
        for wrong in (
            {},
            status.fields() | {"more": 1},
            {name: value for name, value in status.fields().items() if name != "pid"},
            status.fields() | {"peers": [{}]},
            status.fields() | {"peers": 1},
            status.fields() | {"follows": [status.fields()["follows"][0] | {"more": 1}]},
        ):
            with pytest.raises(IntegrityError, match="another version"):
                NodeStatus.read(wrong)
        assert NodeStatus.read(status.fields()) == replace(status)
        assert {field.name for field in fields(NodeStatus)} == status.fields().keys()
