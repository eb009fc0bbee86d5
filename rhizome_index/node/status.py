"""What a running node says of itself, for `status` and `top`.

Its lists are cut at STATUS_ITEMS_MAX; the numbers beside them are of all there is.
Durations are in seconds, sizes in bytes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import trio

from rhizome_index import __version__
from rhizome_index.errors import IntegrityError, StoreError
from rhizome_index.index.head import Head
from rhizome_index.limits import ADDRESS_BYTES_MAX, ERROR_TEXT_MAX, STATUS_ITEMS_MAX
from rhizome_index.node.collector import Progress as CollectorProgress
from rhizome_index.node.follow import FollowState
from rhizome_index.node.part import standing_of
from rhizome_index.node.peer import Peer
from rhizome_index.node.register import Follow
from rhizome_index.node.room import Room
from rhizome_index.node.sync import Progress
from rhizome_index.node.tally import PeerTally

SYNCING, FAILING, KEPT, WAITING = "syncing", "failing", "kept", "waiting"


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """A connected peer. `address` is where it was met, if we know that; `is_local`: it was heard on this network;
    `is_relayed`: its connection goes through a relay."""

    peer: str
    address: str | None
    latency_seconds: float | None
    bytes_received: int
    bytes_sent: int
    answers: int
    is_local: bool
    is_relayed: bool


@dataclass(frozen=True, slots=True)
class FollowStatus:
    """A dataset that is followed.

    proof    how much is proven of what is held, such as "L5"; empty if nothing is
    state    SYNCING; FAILING: `problem` says why; KEPT: all of it is here; WAITING: nothing is yet
    head     sequence of the head that is held; `age_seconds` is how long ago that was signed
    behind   how many heads it is behind the newest heard of
    checked_seconds  how long ago that was asked for
    phase, entries_done, entries_total, bytes_fetched  of the sync under way, or the last one
    """

    address: str
    keeps: str
    proof: str
    state: str
    head: int | None
    age_seconds: float | None
    behind: int
    checked_seconds: float | None
    problem: str
    phase: str
    entries_done: int
    entries_total: int
    bytes_fetched: int


@dataclass(frozen=True, slots=True)
class RoomStatus:
    """What the store takes, in bytes of blocks, as the last collection has found it; `cached_bytes` as it is now.

    file_bytes         of the store's file, that are in use now
    others_bytes       of those, for what is kept of others: also what came of a sync that has not ended, and pages that
                       are half empty; as long as nothing was collected what is ours counts, too
    quota_bytes        that what is kept of others may take of that; None: there is none
    collected_seconds  how long ago the last collection ended; None: there was none, and nothing is known
    freed_bytes        by that
    is_collecting      one is under way; `is_waiting` for another process of this home to end
    """

    own_bytes: int | None
    followed_bytes: int | None
    pinned_bytes: int | None
    cached_bytes: int
    file_bytes: int
    others_bytes: int
    quota_bytes: int | None
    collected_seconds: float | None
    freed_bytes: int
    is_collecting: bool
    is_waiting: bool


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """A node, its peers and its follows.

    answers  by protocol and how they ended
    room     None where the store cannot be read
    """

    peer_id: str
    pid: int
    version: str
    addresses: list[str]
    uptime_seconds: float
    problem: str
    room: RoomStatus | None
    bytes_received: int
    bytes_sent: int
    answers: dict[str, dict[str, int]]
    connected: int
    peers: list[PeerStatus]
    followed: int
    follows: list[FollowStatus]

    @property
    def answers_given(self) -> int:
        return sum(sum(ended.values()) for ended in self.answers.values())

    def fields(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> NodeStatus:
        """Raises IntegrityError for what another version of this program says."""
        try:
            peers = [PeerStatus(**item) for item in fields["peers"]]
            follows = [FollowStatus(**item) for item in fields["follows"]]
            room = fields["room"] and RoomStatus(**fields["room"])
            return cls(**{**fields, "peers": peers, "follows": follows, "room": room})
        except (TypeError, KeyError):
            raise IntegrityError("the running node is another version of this program", hint="restart it") from None


def status_of(peer: Peer, started_at: float) -> NodeStatus:
    """What there is to say of a peer that has joined a swarm, and when: by trio's clock."""
    swarm, local = peer.joined().swarm, peer.joined().directory.local
    met: dict[str, str] = {}
    with suppress(StoreError):  # what the store says is missing then
        met = {peer_id: address for address, peer_id in reversed(peer.register.peers())}
    follows = _follows(peer)
    connected, tally = swarm.connected_peers, swarm.tally
    answers: dict[str, dict[str, int]] = {}
    for (protocol, how), count in sorted(tally.answers.items()):
        answers.setdefault(protocol, {})[how] = count
    peers = []
    for name in connected[:STATUS_ITEMS_MAX]:
        address = met.get(name)
        counted = tally.peers.get(name) or PeerTally()
        peers.append(
            PeerStatus(
                peer=name,
                address=address and address[:ADDRESS_BYTES_MAX],
                latency_seconds=swarm.latency_seconds(name),
                bytes_received=counted.bytes_received,
                bytes_sent=counted.bytes_sent,
                answers=counted.answers,
                is_local=name in local,
                is_relayed=swarm.is_relayed(name),
            )
        )
    return NodeStatus(
        peer_id=swarm.peer_id,
        pid=os.getpid(),
        version=__version__,
        addresses=[address[:ADDRESS_BYTES_MAX] for address in swarm.addresses[:STATUS_ITEMS_MAX]],
        uptime_seconds=trio.current_time() - started_at,
        problem=peer.store.problem[:ERROR_TEXT_MAX],
        room=room_of(peer),
        bytes_received=tally.bytes_received.total(),
        bytes_sent=tally.bytes_sent.total(),
        answers=answers,
        connected=len(connected),
        peers=peers,
        followed=len(follows),
        follows=[_follow_status(peer, follow) for follow in follows[:STATUS_ITEMS_MAX]],
    )


def room_of(peer: Peer) -> RoomStatus | None:
    """What the store of a peer takes; None where that cannot be told."""
    progress = peer.joined().collector.progress
    with suppress(StoreError):
        return room_status(Room(peer.store), peer.clock(), progress)
    return None


def room_status(room: Room, now: float, progress: CollectorProgress | None = None) -> RoomStatus:
    """What a store takes, at a time in seconds since 1970. Raises StoreError."""
    measured = room.measured
    return RoomStatus(
        own_bytes=None if measured is None else measured.own,
        followed_bytes=None if measured is None else measured.followed,
        pinned_bytes=None if measured is None else measured.pinned,
        cached_bytes=room.cached_bytes,
        file_bytes=room.file_bytes(),
        others_bytes=room.others_bytes(),
        quota_bytes=room.quota,
        collected_seconds=None if measured is None else max(0.0, now - measured.at_ms / 1000),
        freed_bytes=0 if measured is None else measured.freed_bytes + measured.evicted_bytes,
        is_collecting=progress is not None,
        is_waiting=progress is not None and progress.is_waiting,
    )


def follow_statuses(peer: Peer) -> list[FollowStatus]:
    """Of what a peer follows, at most STATUS_ITEMS_MAX."""
    return [_follow_status(peer, follow) for follow in _follows(peer)[:STATUS_ITEMS_MAX]]


def _follows(peer: Peer) -> list[Follow]:
    with suppress(StoreError):
        return peer.register.follows()
    return []


def _proof(peer: Peer, held: Head, follow: Follow) -> str:
    with suppress(StoreError):
        return str(standing_of(peer.store, held, follow.policy))
    return ""


def _follow_status(peer: Peer, follow: Follow) -> FollowStatus:
    state = peer.joined().follower.states.get(follow.address) or FollowState(follow)
    held = None
    with suppress(StoreError):
        held = peer.store.held_head(follow.address)
    head = held.sequence if held is not None else 0
    if state.is_syncing:
        word = SYNCING
    elif state.problem:
        word = FAILING
    else:
        word = KEPT if held is not None else WAITING
    now = peer.clock()
    progress: Progress = state.progress
    return FollowStatus(
        address=str(follow.address),
        keeps=str(follow.policy)[:ERROR_TEXT_MAX],
        proof="" if held is None else _proof(peer, held, follow),
        state=word,
        head=None if held is None else head,
        age_seconds=None if held is None else max(0.0, now - held.time_ms / 1000),
        behind=max(0, (state.newest or head) - head),
        checked_seconds=None if state.checked_at is None else max(0.0, now - state.checked_at),
        problem=state.problem[:ERROR_TEXT_MAX],
        phase=progress.phase,
        entries_done=progress.entries_done,
        entries_total=progress.entries_total,
        bytes_fetched=progress.bytes_received,
    )
