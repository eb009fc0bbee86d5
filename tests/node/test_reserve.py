"""Keeping places at relays, in virtual time: renewed at half, tried again, announced only while they are held."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from rhizome_index.errors import UnavailableError, UsageError
from rhizome_index.index.head import Identity
from rhizome_index.limits import (
    CIRCUIT_MESSAGE_BYTES_MAX,
    CIRCUIT_MESSAGE_SECONDS,
    RELAY_ADDRESSES_MAX,
    RELAY_AGAIN_SECONDS,
    RELAY_AGAIN_SECONDS_MAX,
    RELAY_WATCH_SECONDS,
    RESERVATION_SECONDS,
    RESERVATION_SECONDS_MIN,
)
from rhizome_index.node.framed import receive_message
from rhizome_index.node.reserve import Reservations, places
from rhizome_index.node.swarm import Stream
from rhizome_index.wire.circuit import Answer, Limit, Status, hop_refusal, hop_reserved, read_hop
from rhizome_index.wire.frame import FrameReader, encode_frame
from rhizome_index.wire.multiaddr import encode_multiaddr
from rhizome_index.wire.protobuf import field
from tests.node.memory_swarm import MemorySwarm

NOW = 1_800_000_000.0
RELAY = Identity(b"r" * 32).peer_id
ADDRESS = f"/ip4/192.0.2.1/tcp/4711/p2p/{RELAY}"
LIMIT = Limit(600, 1 << 25)


class Swarm(MemorySwarm):
    """Knows one relay, which can be dialled unless it is away, and answers like `answer`."""

    def __init__(self, nursery: trio.Nursery, answer: Callable[[Stream], Awaitable[None]] | None = None) -> None:
        super().__init__(nursery, answer or self._grant)
        self.asked: list[float] = []
        self.seconds = RESERVATION_SECONDS
        self.is_away = False
        self.dials = 0

    async def dial(self, address: str, *, timeout_seconds: float) -> str:
        await trio.lowlevel.checkpoint()
        self.dials += 1
        if not address.startswith("/ip4/"):
            raise UsageError("no address")
        if self.is_away:
            raise UnavailableError("cannot reach it")
        self.connected_peers = (RELAY,)  # type: ignore[assignment]
        self.disconnected.clear()
        return RELAY

    async def _grant(self, stream: Stream) -> None:
        read_hop(await receive_message(stream, FrameReader(CIRCUIT_MESSAGE_BYTES_MAX)))
        self.asked.append(trio.current_time())
        end = int(NOW + trio.current_time() + self.seconds)
        await stream.send(hop_reserved(end, [encode_multiaddr(ADDRESS)], LIMIT))

    def lose(self) -> None:
        """The relay goes away."""
        self.is_away = True
        self.connected_peers = ()  # type: ignore[assignment]

    async def keep(self, nursery: trio.Nursery, address: str = ADDRESS) -> str:
        """What the first try comes to."""
        started = trio.current_time()
        reservations = Reservations(self, lambda: NOW + trio.current_time() - started)
        problem: str = await nursery.start(reservations.keep, address)
        return problem


async def test_a_place_is_announced_and_renewed_at_half_its_time(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    swarm = Swarm(nursery)
    assert not await swarm.keep(nursery)
    assert swarm.through == {RELAY: (ADDRESS,)}
    await trio.sleep(RESERVATION_SECONDS * 1.6)
    first, *others = swarm.asked
    assert [round(at - first) for at in others] == [
        pytest.approx(RESERVATION_SECONDS * half, abs=5) for half in (0.5, 1.0, 1.5)
    ]
    assert swarm.through == {RELAY: (ADDRESS,)}


async def test_a_relay_that_goes_is_tried_again_until_it_is_back(
    autojump_clock: MockClock, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "rhizome_index")
    swarm = Swarm(nursery)
    await swarm.keep(nursery)
    swarm.lose()
    await trio.sleep(2 * RELAY_WATCH_SECONDS)
    assert not swarm.through
    await trio.sleep(24 * 3600)
    assert swarm.dials < 24 * 3600 / RELAY_AGAIN_SECONDS_MAX + 10
    swarm.is_away = False
    await trio.sleep(RELAY_AGAIN_SECONDS_MAX + 1)
    assert swarm.through == {RELAY: (ADDRESS,)}
    events = [record.event for record in caplog.records]  # type: ignore[attr-defined]
    assert events == ["relay_reserved", "relay_failing", "relay_failing", "relay_reserved"]


async def test_a_relay_that_is_away_at_first_is_told_of_and_tried_again(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    swarm = Swarm(nursery)
    swarm.lose()
    assert await swarm.keep(nursery) == "cannot reach it"
    swarm.is_away = False
    await trio.sleep(RELAY_AGAIN_SECONDS + 1)
    assert swarm.through == {RELAY: (ADDRESS,)}


@pytest.mark.parametrize("seconds", [-(10**9), 0, 1, RESERVATION_SECONDS_MIN, 2**60])
async def test_a_relay_that_lies_about_time_is_asked_no_more_often_and_no_less(
    autojump_clock: MockClock, nursery: trio.Nursery, seconds: int
) -> None:
    swarm = Swarm(nursery)
    swarm.seconds = max(-NOW, seconds)
    await swarm.keep(nursery)
    await trio.sleep(RESERVATION_SECONDS - 10)
    most = RESERVATION_SECONDS / (RESERVATION_SECONDS_MIN / 2) + 1
    assert len(swarm.asked) == 2 if seconds > RESERVATION_SECONDS else most - 10 <= len(swarm.asked) <= most


@pytest.mark.parametrize(
    ("said", "says"),
    [
        (hop_refusal(Status.RESERVATION_REFUSED), "no place left"),
        (hop_refusal(Status.PERMISSION_DENIED), "does not let us"),
        (encode_frame(b"\xff"), "nonsense"),
        (encode_frame(field(1, 0)), "nonsense"),
        (encode_frame(bytes(CIRCUIT_MESSAGE_BYTES_MAX + 1)), "nonsense"),
        (b"", "says nothing more"),
    ],
)
async def test_what_is_no_place_is_not_announced(
    autojump_clock: MockClock, nursery: trio.Nursery, said: bytes, says: str
) -> None:
    async def answer(stream: Stream) -> None:
        await stream.send(said)

    swarm = Swarm(nursery, answer)
    assert says in await swarm.keep(nursery)
    assert not swarm.through
    assert swarm.disconnected == ([RELAY] if says == "nonsense" else [])


async def test_a_relay_that_says_nothing_is_not_waited_for(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    async def answer(stream: Stream) -> None:
        await trio.sleep_forever()

    swarm = Swarm(nursery, answer)
    started = trio.current_time()
    assert "does not answer" in await swarm.keep(nursery)
    assert trio.current_time() - started == pytest.approx(CIRCUIT_MESSAGE_SECONDS)


async def test_a_place_that_is_not_renewed_is_announced_no_longer(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    swarm = Swarm(nursery)
    await swarm.keep(nursery)

    async def refuse(stream: Stream) -> None:
        await stream.send(hop_refusal(Status.RESERVATION_REFUSED))

    swarm._answering = refuse
    await trio.sleep(RESERVATION_SECONDS)
    assert not swarm.through


async def test_who_keeps_no_place_any_more_announces_none(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    swarm = Swarm(nursery)
    async with trio.open_nursery() as inner:
        await swarm.keep(inner)
        assert swarm.through
        inner.cancel_scope.cancel()
    assert not swarm.through


@pytest.mark.parametrize("address", [f"{ADDRESS}/p2p-circuit", "nonsense"])
async def test_what_is_no_address_of_a_relay_is_refused(
    autojump_clock: MockClock, nursery: trio.Nursery, address: str
) -> None:
    with pytest.raises(UsageError):
        await Reservations(Swarm(nursery), lambda: NOW).keep(address)


def test_which_addresses_of_a_relay_are_announced() -> None:
    here = f"/ip4/127.0.0.1/tcp/4711/p2p/{RELAY}"
    other = f"/ip4/198.51.100.1/tcp/4711/p2p/{RELAY}"

    def chosen(address: str, *said: str) -> list[str]:
        return places(address, RELAY, Answer(Status.OK, 0, said))

    assert chosen(ADDRESS) == [ADDRESS]
    assert chosen(ADDRESS, here, other, ADDRESS) == [ADDRESS, other]
    assert chosen(here, other.removesuffix(f"/p2p/{RELAY}")) == [here, other]
    assert chosen(ADDRESS, f"{other}/p2p-circuit") == [ADDRESS]
    many = [f"/ip4/198.51.100.{number}/tcp/1/p2p/{RELAY}" for number in range(RELAY_ADDRESSES_MAX)]
    assert chosen(ADDRESS, *many) == [ADDRESS, *many][:RELAY_ADDRESSES_MAX]
