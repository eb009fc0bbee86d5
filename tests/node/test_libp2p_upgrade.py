"""From a relayed connection to a direct one, over the real network; and peers that lie about where they are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from rhizome_index.api import open_node
from rhizome_index.errors import UnavailableError
from rhizome_index.index.address import Address
from rhizome_index.limits import (
    CIRCUIT_MESSAGE_BYTES_MAX,
    RETIRE_BYTES,
    RETIRE_LOOK_SECONDS,
    RETIRE_SECONDS_MAX,
    UPGRADE_ADDRESSES_MAX,
    UPGRADE_ANSWERS_MAX,
)
from rhizome_index.node import libp2p_opening, libp2p_upgrade
from rhizome_index.node.framed import receive_message
from rhizome_index.node.libp2p_swarm import Libp2pSwarm
from rhizome_index.node.libp2p_upgrade import Upgrader
from rhizome_index.node.swarm import Stream
from rhizome_index.node.tally import DONE, FAILED
from rhizome_index.wire import dcutr, identify
from rhizome_index.wire.frame import FrameReader, encode_frame
from rhizome_index.wire.multiaddr import encode_multiaddr
from rhizome_index.wire.protobuf import field
from tests.node.memory_swarm import MemorySwarm
from tests.node.test_libp2p_circuits import behind, dial, node_behind, relaying, swarm_of, through, until
from tests.node.test_libp2p_swarm import LOOPBACK, exchange, free_port

LIMIT_SECONDS = 20


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libp2p_upgrade, "UPGRADE_DELAY_SECONDS", 0.0)
    monkeypatch.setattr(libp2p_upgrade, "UPGRADE_TURN_SECONDS", 0.0)
    monkeypatch.setattr(libp2p_upgrade, "RETIRE_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(libp2p_opening, "UPGRADE_TURN_SECONDS", 0.05)


@asynccontextmanager
async def three(
    nursery: trio.Nursery, listening: tuple[str, ...] = (LOOPBACK,), asking_listens: tuple[str, ...] = ()
) -> AsyncIterator[tuple[Libp2pSwarm, Libp2pSwarm]]:
    """A peer behind a relay, which may be reached directly as well, and one that asks."""
    async with (
        relaying() as middle,
        behind(nursery, middle.addresses[0], *listening) as far,
        swarm_of(b"a", *asking_listens) as asking,
    ):
        yield far, asking


def ways(swarm: Libp2pSwarm, other: Libp2pSwarm) -> list[bool]:
    """Of each connection with a peer whether it goes through a relay."""
    return [
        connection.muxed_conn.is_relayed
        for connection in swarm._network.get_connections()
        if str(connection.muxed_conn.peer_id) == other.peer_id
    ]


@pytest.mark.parametrize(
    ("listening", "asking_listens"), [((LOOPBACK,), ()), ((), (LOOPBACK,)), ((LOOPBACK + "/ws",), (LOOPBACK,))]
)
async def test_where_one_of_two_can_be_dialled_a_direct_connection_comes_of_it_and_the_relayed_one_ends(
    nursery: trio.Nursery,
    monkeypatch: pytest.MonkeyPatch,
    listening: tuple[str, ...],
    asking_listens: tuple[str, ...],
) -> None:
    """One, and not two: whoever was reached dials only if the other has not come to anything."""
    monkeypatch.setattr(libp2p_upgrade, "UPGRADE_TURN_SECONDS", 5.0 if listening else 0.0)
    async with three(nursery, listening, asking_listens) as (far, asking):
        await dial(asking, through(far))
        for swarm, other in ((asking, far), (far, asking)):
            await until(lambda swarm=swarm, other=other: set(ways(swarm, other)) == {False})
        await exchange(asking, far.peer_id)
        assert asking.tally.upgrades[DONE] + far.tally.upgrades[DONE] == 1


async def test_where_neither_can_be_dialled_the_relayed_connection_stays(nursery: trio.Nursery) -> None:
    async with three(nursery, ()) as (far, asking):
        await dial(asking, through(far))
        await exchange(asking, far.peer_id)
        await until(lambda: dcutr.PROTOCOL in asking.tally.bytes_received)
        await exchange(asking, far.peer_id)
        assert ways(asking, far) == [True]


class Retired:
    """Stands for a connection through a relay, over which so many bytes go a second for so long."""

    def __init__(self, bytes_per_second: int, seconds: float) -> None:
        self._rate, self._seconds = bytes_per_second, seconds
        self._began = trio.current_time()
        self.muxed_conn = self
        self.closed_after: float | None = None

    @property
    def moved_bytes(self) -> int:
        return int(self._rate * min(trio.current_time() - self._began, self._seconds))

    async def close(self) -> None:
        self.closed_after = trio.current_time() - self._began


@pytest.mark.parametrize(
    ("bytes_per_second", "seconds", "after"),
    [
        (0, 0, RETIRE_LOOK_SECONDS),
        (RETIRE_BYTES // RETIRE_LOOK_SECONDS - 1, 1000, RETIRE_LOOK_SECONDS),
        (RETIRE_BYTES, 3 * RETIRE_LOOK_SECONDS, 4 * RETIRE_LOOK_SECONDS),
        (RETIRE_BYTES, 1000, RETIRE_SECONDS_MAX),
    ],
)
async def test_a_relayed_connection_ends_when_it_is_quiet_or_has_had_its_time(
    autojump_clock: MockClock,
    nursery: trio.Nursery,
    monkeypatch: pytest.MonkeyPatch,
    bytes_per_second: int,
    seconds: float,
    after: float,
) -> None:
    monkeypatch.setattr(libp2p_upgrade, "RETIRE_LOOK_SECONDS", RETIRE_LOOK_SECONDS)
    swarm: Any = MemorySwarm(nursery)
    connection = Retired(int(bytes_per_second), seconds)
    await Upgrader(swarm, None, nursery)._retire("peer", connection)
    assert connection.closed_after == pytest.approx(after)


async def _says(stream: Stream, *frames: bytes) -> None:
    await receive_message(stream, FrameReader(CIRCUIT_MESSAGE_BYTES_MAX))
    for frame in frames:
        await stream.send(frame)
    while await stream.receive():
        pass


@pytest.mark.parametrize(
    "said",
    [encode_frame(b"\xff"), encode_frame(field(1, 300)), encode_frame(bytes(CIRCUIT_MESSAGE_BYTES_MAX + 1)), b""],
)
async def test_nonsense_upgrades_nothing_and_harms_nothing(nursery: trio.Nursery, said: bytes) -> None:
    async with three(nursery, ()) as (far, asking):
        heard = trio.Event()

        async def lie(stream: Stream) -> None:
            heard.set()
            await _says(stream, said)

        asking.handle(dcutr.PROTOCOL, lie)
        await dial(asking, through(far))
        with trio.fail_after(LIMIT_SECONDS):
            await heard.wait()
        await exchange(asking, far.peer_id)
        assert ways(far, asking) == [True] and not far.tally.upgrades


async def test_false_addresses_cost_so_many_dials_and_harm_nothing(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libp2p_opening, "UPGRADE_DIAL_SECONDS", 0.1)
    monkeypatch.setattr(libp2p_opening, "UPGRADE_STAGGER_SECONDS", 0.0)
    async with three(nursery, ()) as (far, asking):
        places = [f"/ip4/127.0.0.1/tcp/{free_port()}" for _ in range(UPGRADE_ADDRESSES_MAX + 1)]
        frames = encode_frame(field(1, 100) + b"".join(field(2, dcutr.encode_multiaddr(place)) for place in places))
        asking.handle(dcutr.PROTOCOL, lambda stream: _says(stream, frames))
        await dial(asking, through(far))
        await until(lambda: far.tally.upgrades[FAILED] == UPGRADE_ADDRESSES_MAX)
        await exchange(asking, far.peer_id)
        assert ways(far, asking) == [True]


@pytest.mark.parametrize(
    "seen",
    [
        encode_multiaddr("/ip4/127.0.0.1/tcp/4711"),
        encode_multiaddr("/ip4/127.0.0.1/tcp/4711/ws"),
        encode_multiaddr("/ip4/11.0.0.1/tcp/4711"),  # not of our own machine, which is where we are heard
        encode_multiaddr("/ip6/::1/tcp/4711"),
        encode_multiaddr("/dns/localhost/tcp/4711"),
        b"",
        b"\xff",
        None,
    ],
)
async def test_where_a_relay_sees_us_is_said_to_the_peer_alone_if_it_can_be(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, seen: bytes | None
) -> None:
    monkeypatch.setattr(libp2p_upgrade, "UPGRADE_VIEW_SECONDS", 0.2)
    told: list[tuple[str, ...]] = []

    async def see(stream: Stream) -> None:
        if seen is None:
            await trio.sleep_forever()
        else:
            await stream.send(encode_frame(field(4, seen)))

    async def note_it(stream: Stream) -> None:
        told.append(dcutr.read_connect(await receive_message(stream, FrameReader(CIRCUIT_MESSAGE_BYTES_MAX))))
        await stream.reset()

    async with (
        relaying() as middle,
        behind(nursery, middle.addresses[0], LOOPBACK) as far,
        swarm_of(b"a", LOOPBACK) as asking,
    ):
        middle.handle(identify.PROTOCOL, see)
        asking.handle(dcutr.PROTOCOL, note_it)
        await dial(asking, through(far))
        await until(lambda: told)
        listens, _ = far.addresses[0].split("/p2p/")
        is_possible = seen == encode_multiaddr("/ip4/127.0.0.1/tcp/4711")
        assert told == [("/ip4/127.0.0.1/tcp/4711", listens) if is_possible else (listens,)]
        assert not any("/4711" in address for swarm in (far, asking, middle) for address in swarm.addresses)


async def test_who_falls_silent_is_dialled_where_it_says_it_listens_by_identify(nursery: trio.Nursery) -> None:
    """As js-libp2p's peers do when they are told of no address that they would dial."""
    async with three(nursery, (), (LOOPBACK,)) as (far, asking):
        asking.handle(dcutr.PROTOCOL, lambda stream: stream.reset())
        await dial(asking, through(far))
        await until(lambda: set(ways(far, asking)) == {False})
        assert far.tally.upgrades[DONE] == 1


async def test_who_has_said_where_it_is_and_falls_silent_is_dialled_there(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libp2p_upgrade, "UPGRADE_DELAY_SECONDS", 600.0)
    async with three(nursery) as (far, asking):
        await dial(asking, through(far))
        stream = await far.open_stream(asking.peer_id, dcutr.PROTOCOL, timeout_seconds=LIMIT_SECONDS)
        await stream.send(dcutr.encode_connect([far.addresses[0].partition("/p2p/")[0]]))
        await receive_message(stream, FrameReader(CIRCUIT_MESSAGE_BYTES_MAX))
        assert ways(far, asking) == [True]
        await stream.close()
        await until(lambda: set(ways(asking, far)) == {False})
        assert asking.tally.upgrades[DONE] == 1


async def test_a_peer_has_us_dial_a_few_times_for_each_connection(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libp2p_upgrade, "UPGRADE_DELAY_SECONDS", 600.0)
    frames = dcutr.encode_connect([f"/ip4/127.0.0.1/tcp/{free_port()}/ws"]) + dcutr.encode_sync()
    async with three(nursery, ()) as (far, asking):
        for _ in range(2):  # connections
            await dial(asking, through(far))
            answers = 0
            for _ in range(UPGRADE_ANSWERS_MAX + 1):
                stream = await far.open_stream(asking.peer_id, dcutr.PROTOCOL, timeout_seconds=LIMIT_SECONDS)
                await stream.send(frames)
                with suppress(UnavailableError):  # it is reset, the last time
                    while part := await stream.receive():
                        answers += bool(part)
            assert answers == UPGRADE_ANSWERS_MAX
            await asking.disconnect(far.peer_id)
            await until(lambda: asking.peer_id not in far.connected_peers)
        assert asking.tally.upgrades == {FAILED: 2 * UPGRADE_ANSWERS_MAX}


async def test_nobody_upgrades_what_is_direct(nursery: trio.Nursery) -> None:
    async with swarm_of(b"s", LOOPBACK) as server, swarm_of(b"c") as client:
        await dial(client, server.addresses[0])
        stream = await client.open_stream(server.peer_id, dcutr.PROTOCOL, timeout_seconds=LIMIT_SECONDS)
        await stream.send(dcutr.encode_connect([]))
        with pytest.raises(UnavailableError):
            assert not await stream.receive()
            raise UnavailableError("it has ended")
        assert not server.tally.bytes_sent[dcutr.PROTOCOL]


async def test_so_many_upgrades_are_under_way_at_once(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libp2p_upgrade, "UPGRADES_AT_ONCE_MAX", 0)
    async with three(nursery) as (far, asking):
        await dial(asking, through(far))
        await exchange(asking, far.peer_id)
        assert dcutr.PROTOCOL not in far.tally.bytes_sent and ways(asking, far) == [True]


async def test_requests_move_over_to_the_direct_connection(tmp_path: Path) -> None:
    with trio.fail_after(LIMIT_SECONDS):
        async with (
            node_behind(tmp_path, [{"id": "x"}]) as (far, address),
            open_node(tmp_path / "asking", peers=[address]) as asking,
        ):
            place, swarm = Address(far.peer_id, "main"), asking.peer.joined().swarm
            assert isinstance(swarm, Libp2pSwarm)
            for _ in range(2):
                assert [row async for row in asking.query("all things", place)] == [{"id": "x"}]
                await until(lambda: not swarm.relayed_connections(far.peer_id))
            assert far.peer_id in swarm.connected_peers and not swarm.is_relayed(far.peer_id)
