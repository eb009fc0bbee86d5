"""Volunteering as a relay: circuits over the real network, and the bounds of each in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import base58
import pytest
import trio
from multiaddr import Multiaddr
from trio.testing import MockClock

from rhizome_index.api import open_node
from rhizome_index.errors import UnavailableError, UsageError
from rhizome_index.limits import CIRCUIT_MESSAGE_BYTES_MAX, CIRCUIT_MESSAGE_SECONDS
from rhizome_index.node import relay
from rhizome_index.node.libp2p_swarm import Libp2pSwarm, open_swarm
from rhizome_index.node.relay import Relay
from rhizome_index.node.swarm import Stream
from rhizome_index.wire.circuit import HOP, STOP, Status
from rhizome_index.wire.frame import FrameReader, encode_frame
from rhizome_index.wire.protobuf import bytes_of, field, fields
from tests.node.memory_swarm import MemoryStream, MemorySwarm

LIMIT_SECONDS = 10
LOOPBACK = "/ip4/127.0.0.1/tcp/0"
NOW = 1_800_000_000.0
ONE, TWO, FAR = (base58.b58encode(bytes([0, 4]) + name).decode() for name in (b"one!", b"two!", b"far!"))
RESERVE = encode_frame(field(1, 0))
ACCEPT = encode_frame(field(1, 1) + field(4, Status.OK))
DECLINE = encode_frame(field(1, 1) + field(4, Status.CONNECTION_FAILED))


def connect(peer_id: str) -> bytes:
    return encode_frame(field(1, 1) + field(2, field(1, base58.b58decode(peer_id))))


async def read_message(stream: Stream) -> dict[int, int | bytes]:
    reader = FrameReader(CIRCUIT_MESSAGE_BYTES_MAX)
    while True:
        data = await stream.receive()
        assert data, "the stream ended before its message"
        for body in reader.feed(data):
            return dict(fields(body))


async def echo(stream: Stream) -> None:
    """A peer behind a relay: takes every circuit, and says what it hears."""
    said = await read_message(stream)
    assert said[1] == 0
    await stream.send(ACCEPT)
    while data := await stream.receive():
        await stream.send(data)


class Relayed:
    """A relay whose peers are functions: all are connected; the ones behind it answer like `behind`."""

    def __init__(self, nursery: trio.Nursery, behind: Callable[[Stream], Awaitable[None]] = echo) -> None:
        self.swarm = MemorySwarm(nursery, behind)
        self.swarm.connected_peers = (ONE, TWO, FAR)  # type: ignore[assignment]
        self.swarm.addresses = (f"/ip4/192.0.2.1/tcp/4711/p2p/{FAR}",)  # type: ignore[assignment]
        Relay(self.swarm, lambda: NOW).start()

    async def ask(self, peer_id: str, request: bytes) -> tuple[MemoryStream, dict[int, int | bytes]]:
        stream = self.swarm.accept(peer_id, HOP)
        await stream.send(request)
        return stream, await read_message(stream)

    async def status(self, peer_id: str, request: bytes) -> int:
        stream, said = await self.ask(peer_id, request)
        assert said[1] == 2
        await stream.close()
        status = said[5]
        assert isinstance(status, int)
        return status


async def test_what_a_reservation_says(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    _, said = await Relayed(nursery).ask(ONE, RESERVE)
    assert said[1] == 2 and said[5] == Status.OK
    reservation = dict(fields(bytes_of(said[3])))
    assert reservation[1] == NOW + relay.RESERVATION_SECONDS
    assert Multiaddr(reservation[2]) == Multiaddr(f"/ip4/192.0.2.1/tcp/4711/p2p/{FAR}")
    assert dict(fields(bytes_of(said[4]))) == {1: relay.CIRCUIT_SECONDS_MAX, 2: relay.CIRCUIT_BYTES_MAX}


async def test_who_has_no_place_is_not_reached(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """Nor once its time is over, or its connection."""
    relayed = Relayed(nursery)
    assert await relayed.status(ONE, connect(TWO)) == Status.NO_RESERVATION
    assert await relayed.status(TWO, RESERVE) == Status.OK
    await trio.sleep(relay.RESERVATION_SECONDS - 1)
    assert await relayed.status(ONE, connect(TWO)) == Status.OK
    await trio.sleep(1)
    assert await relayed.status(ONE, connect(TWO)) == Status.NO_RESERVATION
    assert await relayed.status(TWO, RESERVE) == Status.OK
    relayed.swarm.connected_peers = (ONE,)  # type: ignore[assignment]
    assert await relayed.status(ONE, connect(TWO)) == Status.NO_RESERVATION


async def test_places_are_bounded(
    autojump_clock: MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is kept is no new one; one whose peer has gone is free."""
    monkeypatch.setattr(relay, "RESERVATIONS_MAX", 2)
    relayed = Relayed(nursery)
    for peer in (ONE, TWO, ONE):
        assert await relayed.status(peer, RESERVE) == Status.OK
    assert await relayed.status(FAR, RESERVE) == Status.RESERVATION_REFUSED
    relayed.swarm.connected_peers = (ONE, FAR)  # type: ignore[assignment]
    assert await relayed.status(FAR, RESERVE) == Status.OK


@pytest.mark.parametrize("bound", ["CIRCUITS_MAX", "CIRCUITS_PER_PEER_MAX"])
async def test_circuits_are_bounded(
    autojump_clock: MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setattr(relay, bound, 2)
    relayed = Relayed(nursery)
    await relayed.status(TWO, RESERVE)
    open_ones = []
    for _ in range(2):
        stream, said = await relayed.ask(ONE, connect(TWO))
        assert said[5] == Status.OK
        open_ones.append(stream)
    assert await relayed.status(FAR, connect(TWO)) == Status.LIMIT_EXCEEDED
    await open_ones[0].close()
    await trio.testing.wait_all_tasks_blocked()
    assert await relayed.status(FAR, connect(TWO)) == Status.OK


@pytest.mark.parametrize("more", [0, 1])
async def test_a_circuit_has_its_bytes(
    autojump_clock: MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, more: int
) -> None:
    monkeypatch.setattr(relay, "CIRCUIT_BYTES_MAX", 5000)
    relayed = Relayed(nursery)
    await relayed.status(TWO, RESERVE)
    stream, _ = await relayed.ask(ONE, connect(TWO))
    await stream.send(bytes(4000))
    await stream.send(bytes(1000 + more))
    heard = 0
    with trio.move_on_after(1) as going_on:
        with suppress(UnavailableError):
            while data := await stream.receive():
                heard += len(data)
    assert going_on.cancelled_caught == (not more)
    assert heard <= 4000 if more else heard == 5000


async def test_a_circuit_has_its_time(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    relayed = Relayed(nursery)
    await relayed.status(TWO, RESERVE)
    stream, _ = await relayed.ask(ONE, connect(TWO))
    started = trio.current_time()
    assert not await stream.receive()
    assert trio.current_time() - started == pytest.approx(relay.CIRCUIT_SECONDS_MAX)


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(encode_frame(b"\xff"), id="no protobuf"),
        pytest.param(encode_frame(field(2, b"")), id="no type"),
        pytest.param(encode_frame(field(1, 2) + field(5, 100)), id="a status"),
        pytest.param(encode_frame(field(1, 1)), id="no peer"),
        pytest.param(encode_frame(field(1, 1) + field(2, field(1, b""))), id="a peer without an id"),
        pytest.param(encode_frame(field(1, 1) + field(2, field(1, bytes(65)))), id="an id that is too long"),
        pytest.param(encode_frame(bytes(CIRCUIT_MESSAGE_BYTES_MAX + 1)), id="a message that is too long"),
    ],
)
async def test_what_no_honest_peer_asks(autojump_clock: MockClock, nursery: trio.Nursery, request_: bytes) -> None:
    assert await Relayed(nursery).status(ONE, request_) == Status.MALFORMED


async def test_who_asks_nothing_is_not_waited_for(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    stream = Relayed(nursery).swarm.accept(ONE, HOP)
    started = trio.current_time()
    with pytest.raises(UnavailableError):
        await stream.receive()
    assert trio.current_time() - started == pytest.approx(CIRCUIT_MESSAGE_SECONDS)


async def _says(stream: Stream, what: bytes) -> None:
    await read_message(stream)
    await stream.send(what)
    await stream.receive()


@pytest.mark.parametrize("what", [DECLINE, encode_frame(b"\xff"), encode_frame(field(1, 0)), b"\x05"])
async def test_a_peer_behind_us_that_does_not_accept(
    autojump_clock: MockClock, nursery: trio.Nursery, what: bytes
) -> None:
    relayed = Relayed(nursery, lambda stream: _says(stream, what))
    await relayed.status(TWO, RESERVE)
    assert await relayed.status(ONE, connect(TWO)) == Status.CONNECTION_FAILED


async def test_a_node_without_listeners_is_no_relay(tmp_path: object) -> None:
    with pytest.raises(UsageError, match="has to be reached"):
        async with open_node(str(tmp_path), as_relay=True):
            pass


@asynccontextmanager
async def joined(seed: int, *listen: str) -> AsyncIterator[Libp2pSwarm]:
    async with open_swarm(bytes([seed]) * 32, listen) as swarm:
        yield swarm


async def test_a_circuit_over_the_real_network(tmp_path: object) -> None:
    """Between two peers that listen nowhere, through a node."""
    with trio.fail_after(LIMIT_SECONDS):
        async with (
            open_node(str(tmp_path), listen=[LOOPBACK], as_relay=True) as node,
            joined(1) as behind,
            joined(2) as asking,
        ):
            behind.handle(STOP, echo, lasting=True)
            for swarm in (behind, asking):
                await swarm.dial(node.addresses[0], timeout_seconds=LIMIT_SECONDS)
            hop = await behind.open_stream(node.peer_id, HOP, timeout_seconds=LIMIT_SECONDS)
            await hop.send(RESERVE)
            said = await read_message(hop)
            assert said[5] == Status.OK
            assert str(Multiaddr(dict(fields(bytes_of(said[3])))[2])) == node.addresses[0]
            circuit = await asking.open_stream(node.peer_id, HOP, timeout_seconds=LIMIT_SECONDS)
            await circuit.send(connect(behind.peer_id))
            assert (await read_message(circuit))[5] == Status.OK
            await circuit.send(b"x" * 300_000)
            heard = b""
            while len(heard) < 300_000:
                heard += await circuit.receive()
            assert heard == b"x" * 300_000
            await circuit.close()
