"""Neighbours: whom of those heard on the local network we connect to, in virtual time."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from rhizome_index.errors import RemoteError, UnavailableError
from rhizome_index.index.head import Identity
from rhizome_index.limits import MDNS_AGAIN_SECONDS, MDNS_DIALS_AT_ONCE, MDNS_LOOK_SECONDS, MDNS_TRIES_MAX
from rhizome_index.node import mdns
from rhizome_index.node.directory import Directory
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.link import Links
from rhizome_index.node.mdns import Neighbours
from rhizome_index.node.register import Register
from rhizome_index.node.tally import Tally
from rhizome_index.wire.mdns import encode_text
from rhizome_index.wire.pick import Picker

US, ONE, TWO = (Identity(name * 32).peer_id for name in (b"u", b"1", b"2"))
HERE, THERE = f"/ip4/127.0.0.1/tcp/4711/p2p/{US}", f"/ip4/192.0.2.9/tcp/4711/p2p/{US}"


def at(peer: str, port: int = 1) -> str:
    return f"/ip4/192.0.2.1/tcp/{port}/p2p/{peer}"


class Air:
    """Says what it is told to; notes what is announced, and when it was left again."""

    def __init__(self) -> None:
        self.announced: list[tuple[str, ...]] = []
        self.left = 0
        self.is_missing = False
        self._say, self._texts = trio.open_memory_channel[bytes](10_000)

    def say(self, *addresses: str) -> None:
        self._say.send_nowait(encode_text(addresses))

    def say_bytes(self, data: bytes) -> None:
        self._say.send_nowait(data)

    @asynccontextmanager
    async def open(self, name: str, addresses: Sequence[str]) -> AsyncIterator[Air]:
        if self.is_missing:
            raise UnavailableError("no multicast")
        self.announced.append(tuple(addresses))
        try:
            yield self
        finally:
            self.left += 1

    async def wait_texts(self) -> list[bytes]:
        return [await self._texts.receive()]


class Swarm:
    """Peers that are there or not; a dial of one that is not takes its time."""

    peer_id = US

    def __init__(self, *present: str) -> None:
        self.addresses: tuple[str, ...] = (THERE,)
        self.present = set(present)
        self.connected_peers: tuple[str, ...] = ()
        self.dialled: list[tuple[float, str]] = []
        self.dialling = self.most = 0
        self.tally = Tally()

    async def dial(self, address: str, *, timeout_seconds: float) -> str:
        peer = address.rpartition("/p2p/")[2]
        self.dialled.append((trio.current_time(), peer))
        self.dialling += 1
        self.most = max(self.most, self.dialling)
        try:
            await trio.sleep(0.1 if peer in self.present else timeout_seconds)
        finally:
            self.dialling -= 1
        if peer not in self.present:
            raise UnavailableError(f"cannot reach {address}")
        self.connected_peers = (*self.connected_peers, peer)
        return peer

    async def disconnect(self, peer_id: str, *, for_cause: bool = False) -> None:
        self.connected_peers = tuple(peer for peer in self.connected_peers if peer != peer_id)

    def latency_seconds(self, peer_id: str) -> float | None:
        return None


class World:
    """Neighbours under test. `strangers` speak nothing of ours."""

    def __init__(
        self, store: DiskStore, monkeypatch: pytest.MonkeyPatch, *present: str, loopback: bool = False
    ) -> None:
        self.air, self.swarm = Air(), Swarm(*present)
        self.strangers: set[str] = set()
        swarm: Any = self.swarm

        async def converse(links: Links, peer: str, *_: object, **__: object) -> int:
            if peer in self.strangers:
                raise RemoteError(peer, "speaks nothing of ours")
            return 0

        monkeypatch.setattr(Links, "converse", converse)
        links = Links(swarm, None, Picker(random.Random(1).random))  # type: ignore[arg-type]
        self.directory = Directory(swarm, links, Register(store), lambda: 0.0)
        chance = random.Random(2)
        self.neighbours = Neighbours(swarm, self.directory, chance, self.air.open, on_loopback=loopback)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DiskStore]:
    made = DiskStore(tmp_path / "store", make=True)
    yield made
    made.close()


@pytest.fixture
def world(store: DiskStore, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(store, monkeypatch, ONE)


async def test_who_is_heard_is_connected(world: World, autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    nursery.start_soon(world.neighbours.run)
    world.air.say(at(ONE))
    await trio.sleep(1)
    assert world.swarm.connected_peers == (ONE,) and list(world.directory.local) == [ONE]
    assert world.air.announced == [(THERE,)]


async def test_ourselves_nonsense_and_who_is_there_already_are_not_dialled(
    world: World, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    world.swarm.connected_peers = (TWO,)
    nursery.start_soon(world.neighbours.run)
    world.air.say(THERE)
    world.air.say(at(TWO))
    world.air.say()
    world.air.say_bytes(b"\xff")
    await trio.sleep(10 * MDNS_AGAIN_SECONDS)
    assert not world.swarm.dialled and list(world.directory.local) == [TWO]


async def test_who_left_is_tried_again_and_found_when_it_comes_back(
    world: World, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    nursery.start_soon(world.neighbours.run)
    world.air.say(at(ONE))
    await trio.sleep(1)
    await world.swarm.disconnect(ONE)
    await trio.sleep(MDNS_AGAIN_SECONDS + MDNS_LOOK_SECONDS)
    assert world.swarm.connected_peers == (ONE,) and len(world.swarm.dialled) == 2


async def test_who_is_not_there_is_tried_less_and_less_and_then_forgotten(
    world: World, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    nursery.start_soon(world.neighbours.run)
    world.air.say(at(TWO))
    await trio.sleep(100 * MDNS_AGAIN_SECONDS)
    times = [time for time, _ in world.swarm.dialled]
    assert len(times) == MDNS_TRIES_MAX
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert all(gap >= MDNS_AGAIN_SECONDS * 2**number for number, gap in enumerate(gaps))
    world.swarm.present.add(TWO)
    world.air.say(at(TWO))
    await trio.sleep(1)
    assert world.swarm.connected_peers == (TWO,)


async def test_who_speaks_nothing_of_ours_is_let_go(
    world: World, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    world.strangers.add(ONE)
    nursery.start_soon(world.neighbours.run)
    world.air.say(at(ONE))
    await trio.sleep(1)
    assert not world.swarm.connected_peers and len(world.swarm.dialled) == 1


async def test_false_announcements_cost_a_few_dials_at_a_time_and_keep_nobody_out(
    world: World, autojump_clock: MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many: what is remembered is bounded, and who is there gets his turn."""
    monkeypatch.setattr(mdns, "MDNS_KNOWN_MAX", 20)
    nursery.start_soon(world.neighbours.run)
    for number in range(200):
        world.air.say(at(Identity(number.to_bytes(32, "big")).peer_id))
    await wait_all_tasks_blocked()
    world.air.say(at(ONE))
    await wait_all_tasks_blocked()
    assert len(world.neighbours._known) == 20
    await trio.sleep(100 * MDNS_AGAIN_SECONDS)
    assert world.swarm.connected_peers == (ONE,)
    assert world.swarm.most == MDNS_DIALS_AT_ONCE
    assert len(world.swarm.dialled) <= 22 * MDNS_TRIES_MAX


@pytest.mark.parametrize("more", [0, 1])
async def test_so_many_are_connected_for_having_been_heard(
    world: World, autojump_clock: MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, more: int
) -> None:
    monkeypatch.setattr(mdns, "MDNS_PEERS_MAX", 3)
    monkeypatch.setattr(mdns, "MDNS_DIALS_AT_ONCE", 1)
    peers = [Identity(bytes([number]) * 32).peer_id for number in range(3 + more)]
    world.swarm.present.update(peers)
    nursery.start_soon(world.neighbours.run)
    for peer in peers:
        world.air.say(at(peer))
    await trio.sleep(10)
    assert len(world.swarm.connected_peers) == 3
    await world.swarm.disconnect(world.swarm.connected_peers[0])
    await trio.sleep(2 * MDNS_AGAIN_SECONDS)
    assert len(world.swarm.connected_peers) == 3


async def test_other_addresses_of_ours_are_announced_anew(
    world: World, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    nursery.start_soon(world.neighbours.run)
    await trio.sleep(1)
    moved = THERE.replace("192.0.2.9", "198.51.100.9")
    world.swarm.addresses = (moved,)
    await trio.sleep(3 * MDNS_LOOK_SECONDS)
    assert world.air.announced == [(THERE,), (moved,)] and world.air.left == 1


@pytest.mark.parametrize("loopback", [False, True])
async def test_on_loopback_alone_we_are_there_only_if_we_are_told_to(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, nursery: trio.Nursery, loopback: bool
) -> None:
    world = World(store, monkeypatch, loopback=loopback)
    world.swarm.addresses = (HERE,)
    nursery.start_soon(world.neighbours.run)
    await trio.sleep(100)
    assert world.air.announced == ([(HERE,)] if loopback else [])
    world.swarm.addresses = (HERE, THERE)
    await trio.sleep(3 * MDNS_LOOK_SECONDS)
    assert world.air.announced[-1] == (THERE,)


async def test_where_there_is_no_multicast_it_is_said_once_and_tried_again(
    world: World, autojump_clock: MockClock, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "rhizome_index")
    world.air.is_missing = True
    nursery.start_soon(world.neighbours.run)
    await trio.sleep(5 * MDNS_LOOK_SECONDS)
    assert [record.event for record in caplog.records] == ["local_network_unavailable"]  # type: ignore[attr-defined]
    world.air.is_missing = False
    await trio.sleep(2 * MDNS_LOOK_SECONDS)
    assert world.air.announced == [(THERE,)]
