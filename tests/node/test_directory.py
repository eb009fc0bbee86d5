"""Dialling: several at a time, and not more; and nobody who has somebody to ask waits for those who are gone."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from rhizome_index.errors import UnavailableError
from rhizome_index.index.address import Address
from rhizome_index.index.head import Identity
from rhizome_index.limits import (
    ABSENT_SECONDS,
    DIAL_TIMEOUT_SECONDS,
    DIALS_AT_ONCE_MAX,
    DRAWN_AMONG,
    DRAWN_SECONDS,
    NOTED_SECONDS,
    PROVIDERS_WANTED,
    REACH_SECONDS,
    RELAY_HEAD_START_SECONDS,
    RETRY_SECONDS,
)
from rhizome_index.node.cost import Cost
from rhizome_index.node.directory import CONNECTED, DHT, PEERS, REMEMBERED, Directory
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.link import Links
from rhizome_index.node.register import Register
from rhizome_index.node.tally import Tally
from rhizome_index.wire.heads import DatasetHeads
from rhizome_index.wire.pick import Picker

DATASET = Address(Identity(b"d" * 32).peer_id, "main")


class SlowSwarm:
    """Every dial takes a second; those at odd addresses fail."""

    def __init__(self) -> None:
        self.dialling = self.most = 0
        self.tally = Tally()

    async def dial(self, address: str, *, timeout_seconds: float) -> str:
        self.dialling += 1
        self.most = max(self.most, self.dialling)
        await trio.sleep(1)
        self.dialling -= 1
        if int(address) % 2:
            raise UnavailableError(f"cannot reach {address}")
        return f"peer {address}"


async def test_dials_at_the_limit_and_one_past_it(tmp_path: Path, autojump_clock: Any) -> None:
    store = DiskStore(tmp_path / "store", make=True)
    for count, seconds in ((DIALS_AT_ONCE_MAX, 1), (DIALS_AT_ONCE_MAX + 1, 2), (3 * DIALS_AT_ONCE_MAX, 3)):
        swarm: Any = SlowSwarm()
        started = trio.current_time()
        directory = Directory(swarm, None, Register(store), lambda: 0.0)  # type: ignore[arg-type]
        found, failed = await directory.connect(map(str, range(count)))
        assert found == [f"peer {number}" for number in range(0, count, 2)] and len(failed) == count // 2
        assert swarm.most == min(count, DIALS_AT_ONCE_MAX) and trio.current_time() - started == seconds
    store.close()


class Places:
    """A swarm of providers: how long each takes to be dialled, in seconds; for ever, where nobody is any more."""

    peer_id = "us"
    addresses = ()

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = seconds
        self.connected_peers: tuple[str, ...] = ()
        self.dialled: list[str] = []
        self.tally = Tally()

    async def dial(self, address: str, *, timeout_seconds: float) -> str:
        peer = address.rpartition("/p2p/")[2]
        self.dialled.append(peer)
        with trio.move_on_after(timeout_seconds) as scope:
            await trio.sleep(self.seconds.get(peer, 1e9))
        if scope.cancelled_caught:
            raise UnavailableError(f"cannot reach {address}")
        self.connected_peers = (*self.connected_peers, peer)
        return peer


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DiskStore]:
    with_heads = DiskStore(tmp_path / "store", make=True)
    yield with_heads
    with_heads.close()


def directory_of(store: DiskStore, swarm: Any, providers: list[str], chance: int = 1) -> Directory:
    """A directory that has heard of these providers."""
    register = Register(store)
    for peer in providers:
        register.note_provider(DATASET, peer, 0.0)
        register.note_hearsay(f"/ip4/10.0.0.1/tcp/1/p2p/{peer}", peer)
    links = Links(swarm, None, Picker(random.Random(chance).random))  # type: ignore[arg-type]
    return Directory(swarm, links, register, lambda: 0.0)


async def test_who_has_somebody_to_ask_does_not_wait_long_for_others(
    store: DiskStore, autojump_clock: MockClock
) -> None:
    swarm = Places({"near": 0.1, "far": 0.5})
    directory = directory_of(store, swarm, ["near", "gone", "far", "lost"])
    started = trio.current_time()
    assert sorted(await directory.providers(DATASET)) == ["far", "near"]
    assert trio.current_time() == pytest.approx(started + 0.1 + REACH_SECONDS)


async def test_who_was_not_there_is_not_dialled_again_for_a_while(store: DiskStore, autojump_clock: MockClock) -> None:
    swarm = Places({"near": 0.1})
    directory = directory_of(store, swarm, ["near", "gone"])
    await directory.providers(DATASET)
    swarm.dialled.clear()
    started = trio.current_time()
    assert await directory.providers(DATASET) == ["near"]
    assert not swarm.dialled and trio.current_time() == started
    await trio.sleep(ABSENT_SECONDS)
    await directory.providers(DATASET)
    assert swarm.dialled == ["gone"] and trio.current_time() <= started + ABSENT_SECONDS + REACH_SECONDS


async def test_who_has_nobody_waits_and_dials_everybody_again(store: DiskStore, autojump_clock: MockClock) -> None:
    swarm = Places({"far": DIAL_TIMEOUT_SECONDS - 1})
    directory = directory_of(store, swarm, ["gone", "far"])
    assert await directory.providers(DATASET) == ["far"]
    swarm.connected_peers = ()
    swarm.dialled.clear()
    assert await directory.providers(DATASET) == ["far"]
    assert sorted(swarm.dialled) == ["far", "gone"]


async def test_whom_everybody_meets_first_is_drawn_no_more_often_than_others(
    store: DiskStore, autojump_clock: MockClock
) -> None:
    """A crowd of newcomers, each connected to one peer that names many others."""
    others = [f"other {number}" for number in range(15)]
    drawn: Counter[str] = Counter()
    for number in range(200):
        swarm = Places(dict.fromkeys(others, 0.1))
        swarm.connected_peers = ("first",)
        directory = directory_of(store, swarm, ["first", *others], chance=number)
        order = await directory.providers(DATASET)
        assert PROVIDERS_WANTED <= len(order) <= 2 * PROVIDERS_WANTED + 1
        drawn.update(order[:PROVIDERS_WANTED])
    fair = 200 * PROVIDERS_WANTED / 16
    assert 0.5 * fair < drawn["first"] < 1.5 * fair and set(drawn) == {"first", *others}


async def test_who_was_drawn_stays_for_a_while_and_is_asked_before_others(
    store: DiskStore, autojump_clock: MockClock
) -> None:
    peers = [f"peer {number}" for number in range(12)]
    swarm = Places(dict.fromkeys(peers, 0.1))
    swarm.connected_peers = tuple(peers)
    directory = directory_of(store, swarm, peers)
    drawn = set((await directory.providers(DATASET))[:PROVIDERS_WANTED])
    for _ in range(10):
        order = await directory.providers(DATASET)
        assert set(order[:PROVIDERS_WANTED]) == drawn and sorted(order) == sorted(peers)
    lost = min(drawn)
    swarm.connected_peers = tuple(peer for peer in peers if peer != lost)
    after = set((await directory.providers(DATASET))[:PROVIDERS_WANTED])
    assert after > drawn - {lost} and len(after) == PROVIDERS_WANTED
    met = set[str]()
    for _ in range(20):
        await trio.sleep(DRAWN_SECONDS)
        met |= set((await directory.providers(DATASET))[:PROVIDERS_WANTED])
    assert len(met) >= len(peers) - 1


async def test_who_was_seen_long_ago_is_not_drawn_while_others_were_seen_since(
    store: DiskStore, autojump_clock: MockClock
) -> None:
    """Of those that are not connected: whoever lives long has heard of thousands that are gone."""
    swarm = Places({"here": 0.1})
    swarm.connected_peers = ("here",)
    directory = directory_of(store, swarm, ["here"])
    register = Register(store)
    for number in range(DRAWN_AMONG + 1):
        register.note_provider(DATASET, f"peer {number}", 1.0 + number)
    assert set(directory._likely(DATASET, ["here"])) == {
        "here",
        *(f"peer {number + 1}" for number in range(DRAWN_AMONG)),
    }


async def test_who_is_not_reached_counts_as_seen_long_ago(store: DiskStore, autojump_clock: MockClock) -> None:
    swarm = Places({})
    swarm.connected_peers = ("here",)
    directory = directory_of(store, swarm, ["here"])
    register = Register(store)
    register.note_provider(DATASET, "gone", 9.0)
    register.note_hearsay("/ip4/10.0.0.1/tcp/1/p2p/gone", "gone")
    register.note_provider(DATASET, "here", 8.0)
    assert register.providers(DATASET)[0] == "gone"
    await directory.providers(DATASET)
    assert register.providers(DATASET) == ["here", "gone"]


async def test_how_a_provider_was_heard_of_is_what_was_heard_first(
    store: DiskStore, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def at(*peers: str) -> tuple[str, ...]:
        return tuple(f"/ip4/10.0.0.1/tcp/1/p2p/{peer}" for peer in peers)

    async def converse(links: Links, peer: str, protocol: str, fields: Any, asking: Any, **_: Any) -> int:
        asking.known[DATASET] = DatasetHeads(DATASET, (), at("gone", "found", "asked", "named"))
        return 0

    async def search(address: Address, take: Callable[[Sequence[str]], None]) -> None:
        take(at("found", "gone"))
        await trio.sleep_forever()

    monkeypatch.setattr(Links, "converse", converse)
    directory = directory_of(store, Places({"found": 0.1}), ["gone"])
    directory.search = search
    assert await directory.providers(DATASET, 1) == ["found"]
    await directory.ask("asked", [DATASET], Cost())
    heard = {peer: directory.how_heard(DATASET, peer) for peer in ("gone", "found", "asked", "named", "other")}
    assert heard == {"gone": REMEMBERED, "found": DHT, "asked": CONNECTED, "named": PEERS, "other": REMEMBERED}
    again = directory_of(store, Places({}), [])
    await again.ask("asked", [DATASET], Cost())
    assert {again.how_heard(DATASET, peer) for peer in heard} == {REMEMBERED}


async def test_who_could_not_help_is_asked_ever_more_seldom_unless_we_insist(
    store: DiskStore, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    async def converse(links: Links, peer: str, protocol: str, fields: Any, asking: Any, **_: Any) -> int:
        asked.append(trio.current_time() - started)
        return 0

    monkeypatch.setattr(Links, "converse", converse)
    swarm = Places({})
    swarm.connected_peers = ("stranger",)
    directory = directory_of(store, swarm, [])
    started = trio.current_time()
    for _ in range(100):
        await directory.introduce(DATASET)
        await trio.sleep(RETRY_SECONDS)
    seconds = [0, 1, 3, 7, 15, 31]
    assert asked == pytest.approx([second * RETRY_SECONDS for second in seconds] + [61.0, 91.0])
    await directory.introduce(DATASET)
    assert len(asked) == 8
    await directory.introduce(DATASET, insists=True)
    assert len(asked) == 9


async def test_what_was_noted_is_not_written_again_for_a_while(
    store: DiskStore, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = ["/ip4/10.0.0.1/tcp/1/p2p/one"]

    async def converse(links: Links, peer: str, protocol: str, fields: Any, asking: Any, **_: Any) -> int:
        asking.known[DATASET] = DatasetHeads(DATASET, (), tuple(named))
        return 0

    monkeypatch.setattr(Links, "converse", converse)
    directory = directory_of(store, Places({}), [])

    async def writes() -> bool:
        before = store.version()
        await directory.ask("peer", [DATASET], Cost())
        return store.version() != before

    assert await writes() and not await writes()
    await trio.sleep(NOTED_SECONDS - 1)
    assert not await writes()
    named.append("/ip4/10.0.0.2/tcp/1/p2p/two")
    assert await writes() and Register(store).providers(DATASET) == ["one", "two"]
    await trio.sleep(1)
    assert await writes() and not await writes()


@pytest.mark.parametrize("is_there", [True, False])
async def test_a_relay_is_troubled_only_when_direct_addresses_take_their_time(
    store: DiskStore, autojump_clock: MockClock, is_there: bool
) -> None:
    class Ways(Places):
        async def dial(self, address: str, *, timeout_seconds: float) -> str:
            self.dialled.append(address)
            await trio.sleep(0.1 if is_there or "/p2p-circuit" in address else timeout_seconds)
            if not is_there and "/p2p-circuit" not in address:
                raise UnavailableError("gone")
            self.connected_peers = ("far",)
            return "far"

    relayed = "/ip4/10.0.0.9/tcp/1/p2p/relay/p2p-circuit/p2p/far"
    swarm = Ways({})
    directory = directory_of(store, swarm, ["far"])
    Register(store).note_hearsay(relayed, "far")
    started = trio.current_time()
    assert await directory.providers(DATASET) == ["far"]
    assert (relayed in swarm.dialled) == (not is_there)
    assert trio.current_time() - started <= RELAY_HEAD_START_SECONDS + REACH_SECONDS + 0.2
    swarm.connected_peers = ()
    swarm.dialled.clear()
    with trio.move_on_after(RELAY_HEAD_START_SECONDS):
        await directory.connect([relayed, "/ip4/10.0.0.1/tcp/1/p2p/far"], is_hearsay=True)
    assert swarm.dialled == ["/ip4/10.0.0.1/tcp/1/p2p/far"]
