"""Connections through a relay, over the real network: three peers, and relays that lie, go away or allow little."""

from __future__ import annotations

import random
from base64 import b85encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest
import trio
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.stream_muxer.exceptions import MuxedStreamEOF, MuxedStreamReset
from trio.testing import MockClock

from rhizome_index.api import Node, open_node
from rhizome_index.errors import RhizomeError, UnavailableError, UsageError
from rhizome_index.index.address import Address
from rhizome_index.index.head import Identity
from rhizome_index.limits import CIRCUIT_EARLY_SECONDS, CIRCUIT_MESSAGE_BYTES_MAX, CIRCUIT_WRITE_BYTES
from rhizome_index.node import libp2p_arrivals, libp2p_upgrade, relay, reserve
from rhizome_index.node.framed import receive_message
from rhizome_index.node.libp2p_arrivals import arrivals
from rhizome_index.node.libp2p_circuits import Circuit, Circuits
from rhizome_index.node.libp2p_swarm import Libp2pSwarm, open_swarm
from rhizome_index.node.relay import Relay
from rhizome_index.node.reserve import Reservations
from rhizome_index.node.swarm import SpentError, Stream
from rhizome_index.wire import want
from rhizome_index.wire.circuit import (
    HOP,
    STOP,
    UNLIMITED,
    Limit,
    Status,
    hop_connected,
    hop_refusal,
    is_accepted,
    stop_connect,
)
from rhizome_index.wire.frame import FrameReader, encode_frame
from tests.node.test_libp2p_swarm import ECHO, LOOPBACK, echo, exchange, free_port

LIMIT_SECONDS = 20
NOBODY = Identity(b"n" * 32).peer_id


@pytest.fixture(autouse=True)
def no_upgrades(monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes through a relay stays there, as long as these tests take."""
    monkeypatch.setattr(libp2p_upgrade, "UPGRADE_DELAY_SECONDS", 600.0)


def swarm_of(name: bytes, *listen: str) -> Any:
    return open_swarm(name * 32, listen)


@asynccontextmanager
async def behind(nursery: trio.Nursery, relay_address: str, *listen: str) -> AsyncIterator[Libp2pSwarm]:
    """A peer that has a place at a relay, and echoes."""
    async with swarm_of(b"b", *listen) as swarm:
        swarm.handle(ECHO, echo)
        problem = await nursery.start(Reservations(swarm, trio.current_time).keep, relay_address)
        assert not problem
        yield swarm


@asynccontextmanager
async def relaying(listen: str = LOOPBACK) -> AsyncIterator[Libp2pSwarm]:
    async with swarm_of(b"r", listen) as swarm:
        Relay(swarm, trio.current_time).start()
        yield swarm


def through(swarm: Libp2pSwarm) -> str:
    """Where a peer is reached through its relay."""
    (address,) = (address for address in swarm.addresses if "/p2p-circuit/" in address)
    return address


async def dial(swarm: Libp2pSwarm, address: str) -> str:
    return await swarm.dial(address, timeout_seconds=LIMIT_SECONDS)


async def until(is_so: Callable[[], object]) -> None:
    with trio.fail_after(LIMIT_SECONDS):
        while not is_so():  # noqa: ASYNC110  the library has no event for it
            await trio.sleep(0.005)


@pytest.mark.parametrize("kind", ["", "/ws"])
async def test_a_peer_that_listens_nowhere_is_reached_through_a_relay(nursery: trio.Nursery, kind: str) -> None:
    async with relaying(LOOPBACK + kind) as middle, behind(nursery, middle.addresses[0]) as far:
        assert far.addresses == (f"{middle.addresses[0]}/p2p-circuit/p2p/{far.peer_id}",)
        async with swarm_of(b"a") as asking:
            assert await dial(asking, through(far)) == far.peer_id
            assert asking.is_relayed(far.peer_id) and not asking.is_relayed(middle.peer_id)
            data = bytes(range(256)) * 4096
            await exchange(asking, far.peer_id, data)
            assert far.is_relayed(asking.peer_id)
            asking.handle(ECHO, echo)
            await exchange(far, asking.peer_id, data)
            # What passes is counted once, as what it is.
            assert set(asking.tally.bytes_received) == {ECHO, HOP} and asking.tally.bytes_received[HOP] < 1000
        await until(lambda: asking.peer_id not in far.connected_peers)


async def test_a_relay_that_was_dialled_for_a_circuit_alone_is_let_go_with_it(nursery: trio.Nursery) -> None:
    async with relaying() as middle, behind(nursery, middle.addresses[0]) as far, swarm_of(b"a") as asking:
        await dial(asking, through(far))
        await asking.disconnect(far.peer_id)
        await until(lambda: not asking.connected_peers)
        with pytest.raises(UnavailableError, match="does not know the peer"):
            await dial(asking, through(far).replace(far.peer_id, NOBODY))
        await until(lambda: not asking.connected_peers)
        await dial(asking, middle.addresses[0])
        await dial(asking, through(far))
        await asking.disconnect(far.peer_id)
        await exchange_nothing(asking, middle)
        assert asking.connected_peers == (middle.peer_id,)


async def exchange_nothing(swarm: Libp2pSwarm, other: Libp2pSwarm) -> None:
    """A question and its answer, after which whatever was to be tidied up has been."""
    with pytest.raises(UnavailableError, match="does not speak"):
        await swarm.open_stream(other.peer_id, "/rhizome/none/1", timeout_seconds=LIMIT_SECONDS)


async def test_a_direct_connection_is_preferred_and_can_be_had_beside_one_through_a_relay(
    nursery: trio.Nursery,
) -> None:
    async with relaying() as middle, behind(nursery, middle.addresses[0], LOOPBACK) as far, swarm_of(b"a") as asking:
        await dial(asking, through(far))
        assert asking.is_relayed(far.peer_id)
        await dial(asking, far.addresses[0])
        assert not asking.is_relayed(far.peer_id)
        before = asking._network.get_connections()
        await dial(asking, through(far))
        assert len(asking._network.get_connections()) == len(before)
        await exchange(asking, far.peer_id)
        assert asking.connected_peers.count(far.peer_id) == 1


async def test_a_relay_that_goes_takes_its_circuits_along_and_is_found_again(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reserve, "RELAY_WATCH_SECONDS", 0.01)
    monkeypatch.setattr(reserve, "RELAY_AGAIN_SECONDS", 0.01)
    listen = f"/ip4/127.0.0.1/tcp/{free_port()}"
    async with swarm_of(b"b") as far, swarm_of(b"a") as asking:
        far.handle(ECHO, echo)
        async with relaying(listen) as middle:
            await nursery.start(Reservations(far, trio.current_time).keep, middle.addresses[0])
            address = through(far)
            await dial(asking, address)
        await until(lambda: not asking.connected_peers and not far.addresses)
        with pytest.raises(UnavailableError, match="refused"):
            await dial(asking, address)
        async with relaying(listen):
            await until(lambda: far.addresses)
            await dial(asking, address)
            await exchange(asking, far.peer_id)


async def test_a_circuit_ends_with_what_the_relay_allows_it(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "CIRCUIT_BYTES_MAX", 100_000)
    monkeypatch.setattr(relay, "_LIMIT", Limit(60, 100_000))
    async with relaying() as middle, behind(nursery, middle.addresses[0]) as far, swarm_of(b"a") as asking:
        await dial(asking, through(far))
        await exchange(asking, far.peer_id, bytes(20_000))
        stream = await asking.open_stream(far.peer_id, ECHO, timeout_seconds=LIMIT_SECONDS)
        with trio.fail_after(LIMIT_SECONDS), pytest.raises(UnavailableError):
            await stream.send(bytes(100_000))
            while await stream.receive():
                pass
            raise UnavailableError("it has ended")
        await until(lambda: far.peer_id not in asking.connected_peers)
        assert asking.tally.bytes_sent[ECHO] <= 100_000


async def test_nobody_comes_through_a_relay_that_we_did_not_ask() -> None:
    async with swarm_of(b"r", LOOPBACK) as liar, swarm_of(b"b") as victim:
        await dial(victim, liar.addresses[0])
        stream = await liar.open_stream(victim.peer_id, STOP, timeout_seconds=LIMIT_SECONDS)
        await stream.send(stop_connect(NOBODY, UNLIMITED))
        assert not is_accepted(await receive_message(stream, FrameReader(CIRCUIT_MESSAGE_BYTES_MAX)))
        assert victim.connected_peers == (liar.peer_id,)


@pytest.mark.parametrize("said", [encode_frame(b"\xff"), encode_frame(bytes(CIRCUIT_MESSAGE_BYTES_MAX + 1)), b""])
async def test_a_relay_that_tells_nonsense_opens_nothing(said: bytes) -> None:
    async with swarm_of(b"r", LOOPBACK) as liar, swarm_of(b"b") as victim:
        victim.listen_through(await dial(victim, liar.addresses[0]), [liar.addresses[0]])
        stream = await liar.open_stream(victim.peer_id, STOP, timeout_seconds=LIMIT_SECONDS)
        await stream.send(said or encode_frame(b"\x08\x01"))
        assert not is_accepted(await receive_message(stream, FrameReader(CIRCUIT_MESSAGE_BYTES_MAX)))
        assert victim.connected_peers == (liar.peer_id,)


async def test_a_circuit_on_which_nothing_is_said_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a connection is: a relay can open many."""
    async with swarm_of(b"r", LOOPBACK) as liar, swarm_of(b"b") as victim:
        victim.listen_through(await dial(victim, liar.addresses[0]), [liar.addresses[0]])
        monkeypatch.setattr(libp2p_arrivals, "HANDSHAKE_TIMEOUT_SECONDS", 0.05)
        stream = await liar.open_stream(victim.peer_id, STOP, timeout_seconds=LIMIT_SECONDS, lasting=True)
        await stream.send(stop_connect(NOBODY, UNLIMITED))
        assert is_accepted(await receive_message(stream, FrameReader(CIRCUIT_MESSAGE_BYTES_MAX)))
        assert [arrival.origin for arrival in arrivals()._present if not arrival.is_at("finished")] == [
            f"relay {liar.peer_id}"
        ]
        with trio.fail_after(LIMIT_SECONDS):
            while await stream.receive():  # what the handshake begins with
                pass
        assert victim.connected_peers == (liar.peer_id,)


async def _says(stream: Stream, what: bytes) -> None:
    await receive_message(stream, FrameReader(CIRCUIT_MESSAGE_BYTES_MAX))
    await stream.send(what)
    while await stream.receive():
        pass


@pytest.mark.parametrize(
    ("what", "says", "stays"),
    [
        (hop_refusal(Status.NO_RESERVATION), "does not know the peer", None),
        (hop_refusal(Status.NO_RESERVATION), "does not know the peer", True),
        (encode_frame(b"\xff"), "answers nonsense", False),
        (encode_frame(bytes(CIRCUIT_MESSAGE_BYTES_MAX + 1)), "answers nonsense", False),
        (hop_connected(UNLIMITED) + b"\x13/multistream/1.0.0\n" + bytes(1000), "no libp2p peer", None),
        (hop_connected(UNLIMITED) + bytes(100), "no libp2p peer", True),
        (b"", "timed out", None),
    ],
)
async def test_a_relay_that_lies_costs_itself_and_one_dial(what: bytes, says: str, stays: bool | None) -> None:
    """`stays`: whether it is connected afterwards, if it was before."""
    async with swarm_of(b"r", LOOPBACK) as liar, swarm_of(b"a") as asking:
        liar.handle(HOP, lambda stream: _says(stream, what), lasting=True)
        if stays is not None:
            await dial(asking, liar.addresses[0])
        with pytest.raises(UnavailableError, match=says):
            await asking.dial(
                f"{liar.addresses[0]}/p2p-circuit/p2p/{NOBODY}", timeout_seconds=LIMIT_SECONDS if what else 0.5
            )
        await until(lambda: asking.connected_peers == ((liar.peer_id,) if stays else ()))


async def test_a_relay_cannot_pass_itself_off_as_the_peer_behind_it() -> None:
    async with swarm_of(b"r", LOOPBACK) as liar, swarm_of(b"a") as asking, swarm_of(b"m", LOOPBACK) as impostor:

        async def join(stream: Stream) -> None:
            """Connects whoever asks to a peer of the relay's own, over TCP."""
            await receive_message(stream, FrameReader(CIRCUIT_MESSAGE_BYTES_MAX))
            await stream.send(hop_connected(UNLIMITED))
            port = int(impostor.addresses[0].split("/")[4])
            other = await trio.open_tcp_stream("127.0.0.1", port)
            async with other, trio.open_nursery() as nursery:

                async def back() -> None:
                    async for data in other:
                        await stream.send(data)
                    nursery.cancel_scope.cancel()

                nursery.start_soon(back)
                while data := await stream.receive():
                    await other.send_all(data)
                nursery.cancel_scope.cancel()

        liar.handle(HOP, join, lasting=True)
        with pytest.raises(UnavailableError, match="another peer answers there"):
            await dial(asking, f"{liar.addresses[0]}/p2p-circuit/p2p/{NOBODY}")
        await until(lambda: not asking.connected_peers)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        (f"/ip4/127.0.0.1/tcp/1/p2p-circuit/p2p/{NOBODY}", "through its relay"),
        (f"/ip4/127.0.0.1/tcp/1/p2p/{NOBODY}/p2p-circuit", "whose it is"),
        (f"/ip4/127.0.0.1/tcp/1/p2p/{NOBODY}/p2p-circuit/p2p/x", "not a peer's address"),
        (f"/ip4/127.0.0.1/tcp/1/p2p/{NOBODY}/p2p-circuit/p2p-circuit/p2p/{NOBODY}", "whose it is"),
        (f"/ip4/127.0.0.1/udp/1/p2p/{NOBODY}/p2p-circuit/p2p/{NOBODY}", "only TCP and WebSocket"),
    ],
)
async def test_what_is_no_way_through_a_relay_is_refused(address: str, says: str) -> None:
    async with swarm_of(b"a") as asking:
        with pytest.raises(UsageError, match=says):
            await dial(asking, address)


@asynccontextmanager
async def node_behind(tmp_path: Path, records: list[dict[str, Any]]) -> AsyncIterator[tuple[Node, str]]:
    """A node that publishes these things behind a relay, and where it is reached through that."""
    async with (
        open_node(tmp_path / "relay", listen=[LOOPBACK], as_relay=True) as middle,
        open_node(tmp_path / "behind", listen=[LOOPBACK], relays=middle.addresses) as far,
    ):
        things = far.collection("things")
        await things.create()
        await things.put_many(records)
        (address,) = (text for text in far.addresses if "/p2p-circuit/" in text)
        yield far, address


async def test_a_node_behind_a_relay_answers_queries(tmp_path: Path) -> None:
    """Three nodes: the relay, the one behind it, and one that asks."""
    records = [{"id": f"{number}", "text": "x" * 1000} for number in range(300)]
    with trio.fail_after(LIMIT_SECONDS):
        async with (
            node_behind(tmp_path, records) as (far, address),
            open_node(tmp_path / "asking", peers=[address]) as asking,
        ):
            assert asking.peers == (far.peer_id,)
            rows = [row async for row in asking.query("all things", Address(far.peer_id, "main"))]
            assert len(rows) == 300
            assert asking.peer.joined().swarm.is_relayed(far.peer_id)


class Counted:
    """How many circuits were opened, how many bytes each may carry, and whom nobody can dial directly."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.number = 0
        self._monkeypatch = monkeypatch
        open_circuit, dial = Circuits.dial, Libp2pSwarm.dial

        async def counted(*arguments: Any) -> None:
            self.number += 1
            await open_circuit(*arguments)

        async def dial_relays(swarm: Libp2pSwarm, address: str, *, timeout_seconds: float) -> str:
            if address.endswith(self.hidden) and "/p2p-circuit/" not in address:
                raise UnavailableError("behind a router")
            return await dial(swarm, address, timeout_seconds=timeout_seconds)

        monkeypatch.setattr(Circuits, "dial", counted)
        monkeypatch.setattr(Libp2pSwarm, "dial", dial_relays)
        self.hidden = "nobody"

    def allow(self, data_bytes: int, seconds: int = 120) -> None:
        self._monkeypatch.setattr(relay, "CIRCUIT_BYTES_MAX", data_bytes)
        self._monkeypatch.setattr(relay, "_LIMIT", Limit(seconds, data_bytes))


@pytest.fixture
def circuits(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


def large_records(count: int, text_bytes: int = 1000, seed: int = 1) -> list[dict[str, Any]]:
    """They do not get shorter when they are deflated."""
    text = b85encode(random.Random(seed).randbytes(count * text_bytes * 4 // 5)).decode()
    return [{"id": f"{n:05}", "n": n, "text": text[n * text_bytes :][:text_bytes]} for n in range(count)]


LIMITED_BYTES = 131_072  # what the relays of go-libp2p and js-libp2p allow, unless they are told otherwise


@pytest.mark.parametrize(
    ("query", "rows"), [("all things", 300), ("count things where n > 99", 0), ("all things order by text", 300)]
)
async def test_an_answer_goes_on_over_another_circuit(tmp_path: Path, circuits: Counted, query: str, rows: int) -> None:
    """A relay of go-libp2p's or js-libp2p's ends a circuit after 128 KiB: what has come by then counts."""
    circuits.allow(LIMITED_BYTES)
    records = large_records(300)
    with trio.fail_after(LIMIT_SECONDS):
        async with (
            node_behind(tmp_path, records) as (far, address),
            open_node(tmp_path / "asking", peers=[address]) as asking,
        ):
            circuits.hidden = far.peer_id
            results = asking.query(query, Address(far.peer_id, "main"), scan=True)
            found = [row async for row in results]
            expected = sorted(records, key=itemgetter("text")) if "order" in query else records
            assert found == expected[:rows]
            assert not asking.peer.joined().swarm.tally.bytes_sent[want.PROTOCOL]  # it went on by itself
            if not rows:
                assert (await results.page()).count == 200
            # Of each at least one frame of 64 KiB is of use.
            assert 3 <= circuits.number <= 1 + 400_000 // 65_536
            assert asking.peer.joined().swarm.is_relayed(far.peer_id)


async def test_an_answer_goes_on_where_the_connections_are_a_running_nodes(tmp_path: Path, circuits: Counted) -> None:
    """Another process of its home is not told of the relay's limit, but keeps what has come, and asks on."""
    circuits.allow(LIMITED_BYTES)
    records = large_records(300)
    with trio.fail_after(LIMIT_SECONDS):
        async with (
            node_behind(tmp_path, records) as (far, address),
            open_node(tmp_path / "asking", listen=[LOOPBACK], peers=[address]),
            open_node(tmp_path / "asking", join=True) as asking,
        ):
            assert asking.peer.running is not None
            circuits.hidden = far.peer_id
            assert [row async for row in asking.query("all things", Address(far.peer_id, "main"))] == records
            assert circuits.number >= 3


async def test_a_following_goes_on_over_another_circuit(tmp_path: Path, circuits: Counted) -> None:
    """A first copy, which comes as chunks, and what has changed, which comes as changes."""
    circuits.allow(LIMITED_BYTES)
    with trio.fail_after(LIMIT_SECONDS):
        async with (
            node_behind(tmp_path, large_records(300)) as (far, address),
            open_node(tmp_path / "asking", peers=[address]) as asking,
        ):
            circuits.hidden, dataset = far.peer_id, Address(far.peer_id, "main")
            tally = asking.peer.joined().swarm.tally
            asking.follow(dataset)
            for changed in ([], large_records(130, 2500, seed=2)):
                if changed:
                    await far.collection("things").put_many(changed)
                before, wants = circuits.number, tally.bytes_sent[want.PROTOCOL]
                head = await asking.sync(dataset)
                assert (tally.bytes_sent[want.PROTOCOL] == wants) == bool(changed)
                assert head == far.peer.catalog[dataset]
                assert 2 <= circuits.number - before <= 1 + 500_000 // 65_536
            assert asking.peer.joined().swarm.is_relayed(far.peer_id)


@pytest.mark.parametrize("data_bytes", [LIMITED_BYTES, 8000])
async def test_what_passes_through_no_circuit_is_given_up(tmp_path: Path, circuits: Counted, data_bytes: int) -> None:
    """A record that is larger than what the relay allows; or it allows so little that nothing passes."""
    circuits.allow(data_bytes)
    records = [*large_records(20), {"id": "x", "text": large_records(1, 180_000)[0]["text"]}]
    with trio.fail_after(LIMIT_SECONDS):
        async with (
            node_behind(tmp_path, records) as (far, address),
            open_node(tmp_path / "asking", peers=[address]) as asking,
        ):
            circuits.hidden, dataset = far.peer_id, Address(far.peer_id, "main")
            found = []
            with pytest.raises(RhizomeError, match=f"its relay allows one {data_bytes:,} bytes") as given_up:
                async for row in asking.query("all things", dataset):
                    found.append(row)
            assert "directly" in given_up.value.hint
            assert found == (records[:20] if data_bytes == LIMITED_BYTES else [])
            asking.follow(dataset)
            with pytest.raises(UnavailableError):
                await asking.sync(dataset)
            assert circuits.number < 30


async def test_who_is_disconnected_is_not_connected_to_again(nursery: trio.Nursery, circuits: Counted) -> None:
    """But whom a relay's limit has parted from us is, by whoever asks next."""
    circuits.allow(100_000)
    async with relaying() as middle, behind(nursery, middle.addresses[0]) as far, swarm_of(b"a") as asking:
        await dial(asking, through(far))
        stream = await asking.open_stream(far.peer_id, ECHO, timeout_seconds=LIMIT_SECONDS)
        with pytest.raises(SpentError, match="100,000 bytes"):
            await stream.send(bytes(200_000))
        await until(lambda: far.peer_id not in asking.connected_peers)
        await exchange(asking, far.peer_id)
        assert circuits.number == 2 and middle.peer_id in asking.connected_peers
        stream = await asking.open_stream(far.peer_id, ECHO, timeout_seconds=LIMIT_SECONDS)
        with pytest.raises(SpentError):
            await stream.send(bytes(200_000))
        await asking.disconnect(far.peer_id)
        with pytest.raises(UnavailableError, match="not connected"):
            await asking.open_stream(far.peer_id, ECHO, timeout_seconds=LIMIT_SECONDS)
        assert circuits.number == 2


async def test_who_only_asks_needs_no_relay(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="who only asks"):
        async with open_node(tmp_path, relays=[f"/ip4/127.0.0.1/tcp/1/p2p/{NOBODY}"]):
            pass


class Muxed:
    """Stands for a stream of the muxer, on which these pieces come; then it ends, or nothing more does."""

    def __init__(self, *pieces: bytes, ends: Exception | None = None) -> None:
        self.pieces = list(pieces)
        self.ends = ends
        self.written = b""
        self.is_closed = False

    async def read(self, n: int) -> bytes:
        await trio.lowlevel.checkpoint()
        if self.pieces:
            return self.pieces.pop(0)
        if self.ends is None:
            await trio.sleep_forever()
        raise self.ends or AssertionError

    async def write(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        if self.ends is not None:
            raise self.ends
        self.written += data

    def disregard(self) -> None:
        pass

    async def close(self) -> None:
        self.is_closed = True


def circuit_of(
    stream: Muxed, rest: bytes = b"", limit: Limit = UNLIMITED, closed: Any = None, spent: Any = lambda: None
) -> Circuit:
    return Circuit(stream, "relay", rest, limit, closed, spent)  # type: ignore[arg-type]


@pytest.mark.parametrize("ends", [MuxedStreamEOF("end"), MuxedStreamReset("reset")])
async def test_a_circuit_gives_as_many_bytes_as_are_asked_for(ends: Exception) -> None:
    circuit = circuit_of(Muxed(b"cd", b"e", b"fgh", ends=ends), b"ab")
    assert await circuit.read(5) == b"abcde"
    assert await circuit.read(2) == b"fg"
    assert await circuit.read(9) == b"h"
    assert await circuit.read(1) == b"" and await circuit.read(None) == b""
    with pytest.raises(MuxedStreamEOF if isinstance(ends, MuxedStreamEOF) else ConnectionClosedError):
        await circuit.write(b"x")


@pytest.mark.parametrize("more", [0, 1])
async def test_a_circuit_takes_as_many_bytes_as_it_may_and_none_past_it(more: int) -> None:
    stream = Muxed()
    circuit = circuit_of(stream, limit=Limit(0, 100))
    await circuit.write(bytes(60))
    if more:
        with pytest.raises(ConnectionClosedError):
            await circuit.write(bytes(41))
        assert len(stream.written) == 60
    else:
        await circuit.write(bytes(40))
        assert len(stream.written) == 100


async def test_a_circuit_ends_when_its_time_is_over(autojump_clock: MockClock) -> None:
    circuit = circuit_of(Muxed(b"ab"), limit=Limit(60, 0))
    started = trio.current_time()
    assert await circuit.read(3) == b"ab" and trio.current_time() == started + 60
    assert await circuit.read(1) == b""
    with pytest.raises(ConnectionClosedError):
        await circuit.write(b"x")


async def test_that_a_circuit_is_closed_is_told_once() -> None:
    told: list[bool] = []
    stream = Muxed()
    circuit = circuit_of(stream, closed=lambda: told.append(stream.is_closed))
    await circuit.close()
    await circuit.close()
    assert told == [True]


@pytest.mark.parametrize(
    ("limit", "received", "sent", "seconds", "is_spent"),
    [
        (UNLIMITED, 10**6, 10**6, 10**6, False),
        (Limit(0, 200_000), 100_000, 200_000 - 100_000 - CIRCUIT_WRITE_BYTES, 0, False),
        (Limit(0, 200_000), 100_000, 200_000 - 100_000 - CIRCUIT_WRITE_BYTES + 1, 0, True),
        (Limit(60, 0), 10**6, 0, 60 - CIRCUIT_EARLY_SECONDS - 1, False),
        (Limit(60, 0), 0, 0, 60 - CIRCUIT_EARLY_SECONDS, True),
    ],
)
async def test_it_is_told_when_a_limit_explains_an_end(
    autojump_clock: MockClock, limit: Limit, received: int, sent: int, seconds: float, is_spent: bool
) -> None:
    told: list[bool] = []
    stream = Muxed(bytes(received) if received else b"x")
    circuit = circuit_of(stream, limit=limit, spent=lambda: told.append(True))
    await circuit.read(1)
    await circuit.write(bytes(sent))
    await trio.sleep(seconds)
    stream.ends = MuxedStreamEOF("end")
    assert not told
    while await circuit.read(10**6):
        pass
    assert bool(told) == is_spent
