"""The simulated network: bytes whole and in order, at the speed and after the latency that it says, and nothing across
a cut. In virtual time, whatever the seed."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from rhizome_index.errors import UnavailableError, UsageError
from rhizome_index.limits import (
    DIAL_TIMEOUT_SECONDS,
    IDLE_TIMEOUT_SECONDS,
    PING_INTERVAL_SECONDS,
    PING_TIMEOUT_SECONDS,
    STREAM_WINDOW_BYTES_MAX,
    STREAMS_PER_PEER_MAX,
    WRITE_TIMEOUT_SECONDS,
)
from rhizome_index.node.swarm import Stream
from rhizome_index.simulation.disks import Disk
from rhizome_index.simulation.network import Host, Place, SimNetwork, Weather
from rhizome_index.simulation.swarm import SimSwarm
from rhizome_index.simulation.world import World

PROTOCOL = "/test/1"
STILL = Weather(jitter=0.0)
RTT = 2 * (0.010 + 2 * 0.002)  # within Europe


class Net:
    """A world with some hosts, each with a peer, all of whom answer with what they are sent."""

    def __init__(self, world: World, weather: Weather, nursery: trio.Nursery) -> None:
        self.world = world
        self.nursery = nursery
        self.network = SimNetwork(world, weather)
        self.received: dict[str, bytes] = {}

    def add(self, name: str, place: Place | None = None) -> tuple[Host, SimSwarm]:
        disk = Disk(lambda: self.world.now, self.world.chance(name))
        host = self.network.add(name, f"12D3KooW{name}", place or Place(), disk)
        swarm = SimSwarm(self.network, host, self.nursery)
        swarm.handle(PROTOCOL, self.take)
        return host, swarm

    async def take(self, stream: Stream) -> None:
        """Take everything, then say how much it was."""
        data = b""
        while part := await stream.receive():
            data += part
            self.received[stream.peer_id] = data
            await stream.send(b"%d;" % len(data))


def run(main: Callable[[Net], Awaitable[Any]], seed: int = 1, weather: Weather = STILL) -> tuple[Any, str]:
    """What a function over a Net gives, and the trace of its world."""
    world = World(seed)

    async def inside() -> Any:
        async with trio.open_nursery() as nursery:
            found = await main(Net(world, weather, nursery))
            nursery.cancel_scope.cancel()
            return found

    return world.run(inside), world.trace.digest


async def pair(net: Net, one: Place | None = None, other: Place | None = None) -> tuple[SimSwarm, Host, Stream]:
    """Two connected hosts and a stream from the first to the second."""
    _, swarm = net.add("one", one)
    host, _ = net.add("other", other)
    peer = await swarm.dial(host.address, timeout_seconds=DIAL_TIMEOUT_SECONDS)
    return swarm, host, await swarm.open_stream(peer, PROTOCOL, timeout_seconds=5)


@given(
    parts=st.lists(st.binary(min_size=1, max_size=200_000), min_size=1, max_size=6),
    loss=st.sampled_from([0.0, 0.05, 0.3]),
    jitter=st.sampled_from([0.0, 0.5, 3.0]),
    seed=st.integers(0, 1000),
)
def test_bytes_arrive_whole_and_in_order(parts: list[bytes], loss: float, jitter: float, seed: int) -> None:
    async def main(net: Net) -> bytes:
        swarm, host, stream = await pair(net)
        for part in parts:
            await stream.send(part)
        while len(net.received.get(swarm.peer_id, b"")) < sum(map(len, parts)):
            assert await stream.receive()
        assert host.counts.bytes_received == sum(map(len, parts))
        assert swarm.tally.peers[host.peer_id].bytes_received > 0
        assert sum(swarm.tally.bytes_sent.values()) == sum(map(len, parts))
        return net.received[swarm.peer_id]

    assert run(main, seed, Weather(jitter, loss))[0] == b"".join(parts)


def test_one_seed_is_one_trace_and_another_is_another() -> None:
    async def main(net: Net) -> None:
        _, _, stream = await pair(net)
        for _ in range(20):
            await stream.send(b"x" * 1000)

    windy = Weather(jitter=0.5, loss=0.1)
    assert run(main, 1, windy) == run(main, 1, windy)
    assert run(main, 1, windy) != run(main, 2, windy)


def test_a_dial_takes_four_round_trips_and_a_stream_one() -> None:
    async def main(net: Net) -> list[float]:
        _, swarm = net.add("one")
        host, _ = net.add("other")
        times = [trio.current_time()]
        peer = await swarm.dial(host.address, timeout_seconds=5)
        times.append(trio.current_time())
        stream = await swarm.open_stream(peer, PROTOCOL, timeout_seconds=5)
        times.append(trio.current_time())
        await stream.send(b"x")
        await stream.receive()
        times.append(trio.current_time())
        assert swarm.latency_seconds(peer) == pytest.approx(RTT)
        return [later - earlier for earlier, later in pairwise(times)]

    assert run(main)[0] == pytest.approx([4 * RTT, RTT, RTT], abs=1e-5)


@pytest.mark.parametrize("streams", [1, 4])
@pytest.mark.parametrize(("up", "down"), [(1e6, 1e8), (1e8, 1e6)])
def test_bandwidth_holds_and_is_shared(streams: int, up: float, down: float) -> None:
    """However many streams share it: a megabyte takes a second, and all end at about the same time."""
    ended: list[float] = []

    async def main(net: Net) -> float:
        swarm, host, first = await pair(
            net, Place(up_bytes_per_second=up), Place(down_bytes_per_second=down, up_bytes_per_second=1e9)
        )
        all_streams = [first]
        for _ in range(streams - 1):
            all_streams.append(await swarm.open_stream(host.peer_id, PROTOCOL, timeout_seconds=5))
        started = trio.current_time()

        async def push(stream: Stream) -> None:
            size = 1_000_000 // streams
            for at in range(0, size, 50_000):
                await stream.send(b"x" * min(50_000, size - at))
            answer = b""
            while f"{size};".encode() not in answer:
                answer += await stream.receive()
            ended.append(trio.current_time() - started)

        async with trio.open_nursery() as nursery:
            for stream in all_streams:
                nursery.start_soon(push, stream)
        return trio.current_time() - started

    seconds, _ = run(main)
    assert 1.0 <= seconds < 1.25
    assert min(ended) > 0.8 * max(ended)


def test_a_cut_stops_everything_and_heals() -> None:
    async def main(net: Net) -> None:
        swarm, host, stream = await pair(net)
        await stream.send(b"before")
        await stream.receive()
        number = net.network.cut([host])
        await stream.send(b"across")
        await trio.sleep(5)
        assert net.received[swarm.peer_id] == b"before"
        with pytest.raises(UnavailableError, match="timed out"):
            await net.add("third")[1].dial(host.address, timeout_seconds=3)
        net.network.heal(number)
        await stream.receive()
        assert net.received[swarm.peer_id] == b"beforeacross"
        await net.add("fourth")[1].dial(host.address, timeout_seconds=3)

    run(main)


def test_a_connection_across_a_cut_dies() -> None:
    async def main(net: Net) -> None:
        swarm, host, stream = await pair(net)
        net.network.cut([host])
        await trio.sleep(PING_TIMEOUT_SECONDS - 0.1)
        assert swarm.connected_peers == (host.peer_id,)
        with pytest.raises(UnavailableError):
            await stream.receive()
        assert trio.current_time() < PING_TIMEOUT_SECONDS + PING_INTERVAL_SECONDS + 1
        assert swarm.connected_peers == () and host.connections == {}

    run(main)


def test_one_way_is_one_way() -> None:
    async def main(net: Net) -> None:
        swarm, host, stream = await pair(net)
        net.network.cut([host], one_way=True)
        await stream.send(b"there")
        await trio.sleep(2)
        assert net.received[swarm.peer_id] == b"there"
        with trio.move_on_after(2) as scope:
            await stream.receive()
        assert scope.cancelled_caught

    run(main)


def test_who_cannot_be_dialled_can_dial() -> None:
    async def main(net: Net) -> None:
        behind, swarm = net.add("behind", Place(is_dialable=False))
        host, other = net.add("open")
        assert swarm.addresses == () and other.addresses == (host.address,)
        with pytest.raises(UnavailableError, match="timed out"):
            await other.dial(behind.address, timeout_seconds=2)
        await swarm.dial(host.address, timeout_seconds=2)
        assert await other.dial(behind.address, timeout_seconds=2) == behind.peer_id  # they are connected
        stream = await other.open_stream(behind.peer_id, PROTOCOL, timeout_seconds=2)
        await stream.send(b"x")
        assert await stream.receive() == b"1;"

    run(main)


def test_who_does_not_run_refuses_and_who_stops_is_missed() -> None:
    async def main(net: Net) -> None:
        swarm, host, stream = await pair(net)
        net.network.leave(host)
        with pytest.raises(UnavailableError):
            await stream.receive()
        assert trio.current_time() < 1 and swarm.connected_peers == ()
        with pytest.raises(UnavailableError, match="refused"):
            await swarm.dial(host.address, timeout_seconds=5)
        with pytest.raises(UnavailableError, match="not connected"):
            await swarm.open_stream(host.peer_id, PROTOCOL, timeout_seconds=5)

    run(main)


def test_addresses_that_are_none() -> None:
    async def main(net: Net) -> None:
        host, swarm = net.add("one")
        for address in ("", "/ip4/10.0.0.1/tcp/1", f"nowhere/p2p/{host.peer_id}", host.address):
            with pytest.raises(UsageError):
                await swarm.dial(address, timeout_seconds=5)
        with pytest.raises(UnavailableError):
            await swarm.dial("/ip4/10.9.9.9/tcp/1/p2p/12D3KooWnobody", timeout_seconds=5)

    run(main)


def test_a_protocol_that_is_not_spoken() -> None:
    async def main(net: Net) -> None:
        swarm, host, _ = await pair(net)
        with pytest.raises(UnavailableError, match="does not speak"):
            await swarm.open_stream(host.peer_id, "/other/1", timeout_seconds=5)

    run(main)


def test_who_does_not_read_holds_up_the_sender_and_loses_the_connection() -> None:
    async def main(net: Net) -> None:
        swarm, host, _ = await pair(net)

        async def ignore(stream: Stream) -> None:
            await trio.sleep(60)

        net_swarm = SimSwarm(net.network, host, net.nursery)
        net_swarm.handle(PROTOCOL, ignore)
        stream = await swarm.open_stream(host.peer_id, PROTOCOL, timeout_seconds=5)
        started, sent = trio.current_time(), 0
        with pytest.raises(UnavailableError):
            while True:
                await stream.send(b"x" * 60_000)
                sent += 60_000
        assert sent <= STREAM_WINDOW_BYTES_MAX
        assert WRITE_TIMEOUT_SECONDS <= trio.current_time() - started < WRITE_TIMEOUT_SECONDS + 2
        assert swarm.connected_peers == ()

    run(main)


def test_silence_ends_a_stream() -> None:
    async def main(net: Net) -> None:
        _, _, stream = await pair(net)
        await stream.send(b"x")
        await stream.receive()
        said = trio.current_time()
        with suppress(UnavailableError):  # either end may be the first to notice
            assert await stream.receive() == b""
        assert trio.current_time() - said == pytest.approx(IDLE_TIMEOUT_SECONDS, abs=1)

    run(main)


def test_a_stream_that_is_meant_to_last_may_be_silent() -> None:
    async def main(net: Net) -> None:
        _, swarm = net.add("one")
        host, other = net.add("other")
        other.handle(PROTOCOL, net.take, lasting=True)
        peer = await swarm.dial(host.address, timeout_seconds=DIAL_TIMEOUT_SECONDS)
        stream = await swarm.open_stream(peer, PROTOCOL, timeout_seconds=DIAL_TIMEOUT_SECONDS, lasting=True)
        await trio.sleep(10 * IDLE_TIMEOUT_SECONDS)
        await stream.send(b"still there?")
        assert await stream.receive() == b"12;"

    run(main)


def test_who_watches_is_told_of_each_peer() -> None:
    async def main(net: Net) -> None:
        told: list[tuple[str, str]] = []
        (_, one), (host, other) = net.add("one"), net.add("other")
        one.watch(lambda peer: told.append(("one", peer)))
        other.watch(lambda peer: told.append(("other", peer)))
        for _ in range(2):
            await one.dial(host.address, timeout_seconds=DIAL_TIMEOUT_SECONDS)
        assert told == [("one", other.peer_id), ("other", one.peer_id)]
        net.network.leave(host)
        await trio.sleep(1)
        swarm = SimSwarm(net.network, host, net.nursery)  # its next life, which nobody watches
        await one.dial(host.address, timeout_seconds=DIAL_TIMEOUT_SECONDS)
        assert told[2:] == [("one", swarm.peer_id)]

    run(main)


@pytest.mark.parametrize("count", [STREAMS_PER_PEER_MAX, STREAMS_PER_PEER_MAX + 1])
def test_streams_of_one_peer_are_capped(count: int) -> None:
    async def main(net: Net) -> bool:
        swarm, host, _ = await pair(net)
        for _ in range(count - 2):
            await swarm.open_stream(host.peer_id, PROTOCOL, timeout_seconds=5)
        try:
            stream = await swarm.open_stream(host.peer_id, PROTOCOL, timeout_seconds=5)
            await stream.send(b"x")
            return bool(await stream.receive())
        except UnavailableError:
            return False

    assert run(main)[0] is (count <= STREAMS_PER_PEER_MAX)


def test_what_was_sent_before_a_close_arrives_and_a_reset_is_an_end() -> None:
    async def main(net: Net) -> None:
        swarm, host, stream = await pair(net)
        await stream.send(b"x" * 100_000)
        await stream.close()
        await stream.close()
        await trio.sleep(1)
        assert len(net.received[swarm.peer_id]) == 100_000
        with pytest.raises(UnavailableError):
            await stream.send(b"more")
        other = await swarm.open_stream(host.peer_id, PROTOCOL, timeout_seconds=5)
        await other.reset()
        await other.reset()
        with pytest.raises(UnavailableError):
            await other.send(b"more")

    run(main)


def test_a_send_cancelled_midway_resets_the_stream() -> None:
    async def main(net: Net) -> None:
        swarm, _, stream = await pair(net, Place(up_bytes_per_second=10_000))
        with trio.move_on_after(1) as scope:
            await stream.send(b"x" * 100_000)
        assert scope.cancelled_caught
        with pytest.raises(UnavailableError):
            await stream.send(b"y")
        await trio.sleep(20)
        assert 0 < len(net.received[swarm.peer_id]) < 100_000 and b"y" not in net.received[swarm.peer_id]

    run(main)


def test_connections_break_by_themselves() -> None:
    async def main(net: Net) -> bool:
        swarm, _, _ = await pair(net)
        await trio.sleep(3600)
        return swarm.connected_peers == ()

    assert run(main, weather=Weather(0.0, 0.0, breaks_per_hour=50))[0]
    assert not run(main)[0]


def test_a_busy_disk_holds_up_what_its_host_sends() -> None:
    async def main(net: Net) -> float:
        _, host, stream = await pair(net)
        host.disk.work(2.0)
        started = trio.current_time()
        await stream.send(b"x")
        await stream.receive()
        return trio.current_time() - started

    assert run(main)[0] == pytest.approx(2.0 + RTT / 2, abs=0.001)


def test_no_real_time_passes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour of talk, with every real clock but the scheduler's forbidden; threads of others may go on."""
    here = threading.get_ident()

    def forbid(real: Callable[..., Any]) -> Callable[..., Any]:
        def forbidden(*args: object) -> Any:
            assert threading.get_ident() != here, "real time"
            return real(*args)

        return forbidden

    for name in ("time", "monotonic", "sleep"):
        monkeypatch.setattr(time, name, forbid(getattr(time, name)))

    async def main(net: Net) -> float:
        _, _, stream = await pair(net)
        for _ in range(200):
            await trio.sleep(18)
            await stream.send(b"x")
            await stream.receive()
        return trio.current_time()

    assert run(main)[0] == pytest.approx(3600 + 205 * RTT, abs=0.01)
