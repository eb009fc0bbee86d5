"""Both sides dial at once: two peers that let in nobody but who was dialled, and who is the client of what comes."""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from trio.testing import MockClock

from rhizome_index.errors import UnavailableError
from rhizome_index.limits import UPGRADE_AGAIN_SECONDS, UPGRADE_DIAL_SECONDS, UPGRADE_STAGGER_SECONDS
from rhizome_index.node import libp2p_opening, libp2p_upgrade
from rhizome_index.node.libp2p_guards import BufferedTcpStream
from rhizome_index.node.libp2p_opening import Opened, Place, can_open, open_all, own_end, relay_of, take
from rhizome_index.node.libp2p_swarm import Libp2pSwarm
from rhizome_index.node.tally import DONE
from tests.node.test_libp2p_circuits import NOBODY, behind, dial, relaying, swarm_of, through, until
from tests.node.test_libp2p_swarm import ECHO, LOOPBACK, echo, exchange, free_port
from tests.node.test_libp2p_upgrade import ways

GREETING = b"\x13/multistream/1.0.0\n"
LIMIT_SECONDS = 20
HERE = "127.0.0.1"


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libp2p_upgrade, "UPGRADE_DELAY_SECONDS", 0.0)
    monkeypatch.setattr(libp2p_upgrade, "RETIRE_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(libp2p_opening, "UPGRADE_TURN_SECONDS", 0.1)


# --- two peers behind routers ---

DROP_ALL = struct.pack("HBBI", 0x06, 0, 0, 0)  # a socket filter of one instruction: return 0
SO_ATTACH_FILTER = 26


def shut(swarm: Libp2pSwarm) -> None:
    """As if a router stood before it: whoever dials its listener hears nothing."""
    code = ctypes.create_string_buffer(DROP_ALL)
    program = struct.pack("HL", 1, ctypes.addressof(code))
    for listener in swarm._network.listeners.values():
        for part in listener.listeners:
            part.socket.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


@pytest.mark.skipif(
    sys.platform != "linux",
    reason="a router is made of a socket filter of Linux; macOS dials from no port that is listened on",
)
async def test_two_peers_that_nobody_can_dial_get_a_direct_connection(nursery: trio.Nursery) -> None:
    async with (
        relaying() as middle,
        behind(nursery, middle.addresses[0], LOOPBACK) as far,
        swarm_of(b"a", LOOPBACK) as asking,
    ):
        asking.handle(ECHO, echo)
        for swarm, other in ((asking, far), (far, asking)):
            shut(other)
            with pytest.raises(UnavailableError, match="timed out"):
                await swarm.dial(other.addresses[0], timeout_seconds=0.1)
        await dial(asking, through(far))
        for swarm, other in ((asking, far), (far, asking)):
            await until(lambda swarm=swarm, other=other: ways(swarm, other) == [False])
            await exchange(swarm, other.peer_id)
            assert swarm.tally.upgrades == {DONE: 1}
        sides = [swarm.session(other.peer_id) for swarm, other in ((asking, far), (far, asking))]
        assert [side is not None and side.is_initiator for side in sides] == [True, False]


async def test_a_relay_is_dialled_from_the_port_that_is_listened_on_or_from_any() -> None:
    async with relaying() as middle, swarm_of(b"b", LOOPBACK) as near, swarm_of(b"c") as silent:
        for swarm in (near, silent):
            await swarm.dial_relay(middle.addresses[0], timeout_seconds=LIMIT_SECONDS)
        session = near.session(middle.peer_id)
        assert session is not None and relay_of(session) is None
        end = own_end(session)
        assert end is not None
        if sys.platform == "linux":  # others may not allow it
            assert f"/{end[0]}/tcp/{end[1]}/" in near.addresses[0]
        # At once again: the system remembers such a connection, and its port cannot be used for this.
        await near.disconnect(middle.peer_id)
        await near.dial_relay(middle.addresses[0], timeout_seconds=LIMIT_SECONDS)
        assert middle.peer_id in near.connected_peers and middle.peer_id in silent.connected_peers


async def test_the_end_of_a_connection_through_a_relay_is_none(nursery: trio.Nursery) -> None:
    async with relaying() as middle, behind(nursery, middle.addresses[0]) as far, swarm_of(b"a") as asking:
        await dial(asking, through(far))
        session = asking.session(far.peer_id)
        assert session is not None and own_end(session) is None and relay_of(session) == middle.peer_id


# --- which side is the client ---


async def opened(port: int, source: Place, *, as_client: bool) -> Opened:
    send, receive = trio.open_memory_channel[Opened](1)
    with trio.fail_after(LIMIT_SECONDS):
        await open_all([f"/ip4/{HERE}/tcp/{port}"], source, send, as_client=as_client)
    (result,) = [one async for one in receive]
    return result


@asynccontextmanager
async def saying(data: bytes, *, is_over: bool = False) -> AsyncIterator[int]:
    """The port of somebody who says this to whoever dials."""

    async def say(stream: trio.SocketStream) -> None:
        await stream.send_all(data)
        if not is_over:
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, say, 0)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("as_client", [True, False])
@pytest.mark.parametrize(
    ("said", "is_from_client"), [(b"", False), (GREETING, False), (GREETING + b"\x07/noise\n", True)]
)
async def test_who_is_not_to_be_the_client_is_it_where_nobody_else_begins(
    as_client: bool, said: bytes, is_from_client: bool
) -> None:
    async with saying(said) as port:
        source = (HERE, free_port())
        result = await opened(port, source, as_client=as_client)
        assert result.raw is not None and result.raw.is_initiator == (as_client or not is_from_client)
        stream: Any = result.raw.stream
        assert stream.stream.socket.getsockname() == source
        if is_from_client:
            assert await result.raw.read(len(said)) == said  # nothing is lost
        await result.raw.close()


async def test_who_ends_before_anything_is_said_has_failed() -> None:
    async with saying(GREETING, is_over=True) as port:
        assert (await opened(port, (HERE, free_port()), as_client=False)).raw is None


async def test_where_there_is_such_a_connection_already_it_is_dialled_from_another_port() -> None:
    async with saying(b"") as port:
        source = (HERE, free_port())
        first = await opened(port, source, as_client=True)
        second = await opened(port, source, as_client=True)
        ends = []
        for result in (first, second):
            assert result.raw is not None
            stream: Any = result.raw.stream
            ends.append(stream.stream.socket.getsockname())
            await result.raw.close()
        assert ends[0] == source != ends[1]


async def test_whoever_answers_in_the_place_of_a_peer_is_not_taken_for_it() -> None:
    async with swarm_of(b"s") as server, swarm_of(b"c") as client, trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host=HERE)
        place = f"/ip4/{HERE}/tcp/{listener.socket.getsockname()[1]}"
        nursery.start_soon(dial, client, f"{place}/p2p/{server.peer_id}")
        raw = RawConnection(BufferedTcpStream(await listener.accept()), False)
        with pytest.raises(ConnectionError, match="mismatch"):
            await take(server._network, Opened(place, raw), ID.from_string(NOBODY))
        assert not server.is_relayed(NOBODY) and NOBODY not in server.connected_peers
        await listener.aclose()


# --- how much it costs ---


@pytest.mark.parametrize("error", [ConnectionRefusedError(111, "refused"), None])
async def test_who_refuses_or_is_silent_is_dialled_a_few_times_for_a_few_seconds(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, error: OSError | None
) -> None:
    dials: list[tuple[str, float]] = []

    async def connect(place: Place, source: Place) -> trio.SocketStream:
        dials.append((place[0], trio.current_time() - began))
        if error is None:
            await trio.sleep_forever()
        raise error or AssertionError

    monkeypatch.setattr(libp2p_opening, "_connect", connect)
    send, receive = trio.open_memory_channel[Opened](2)
    began = trio.current_time()
    await open_all(["/ip4/10.0.0.1/tcp/1", "/ip4/10.0.0.2/tcp/1"], ("10.0.0.3", 1), send, as_client=False)
    assert trio.current_time() - began == pytest.approx(UPGRADE_DIAL_SECONDS + UPGRADE_STAGGER_SECONDS)
    results = [one async for one in receive]
    assert [one.reason for one in results] == 2 * ["timed out" if error is None else "connection refused"]
    expected = [0.0] if error is None else [UPGRADE_AGAIN_SECONDS * (2**number - 1) for number in range(5)]
    for place, after in (("10.0.0.1", 0.0), ("10.0.0.2", UPGRADE_STAGGER_SECONDS)):
        assert [at - after for to, at in dials if to == place] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("address", "source", "is_so"),
    [
        ("/ip4/11.0.0.1/tcp/1", "192.168.0.2", True),
        ("/ip4/192.168.0.3/tcp/1", "192.168.0.2", True),  # on the same network; plain dials go there too
        ("/ip4/127.0.0.1/tcp/1", "127.0.0.1", True),
        ("/ip6/2001:db8::1/tcp/1", "2001:db8::2", True),
        ("/ip6/2001:db8::1/tcp/1", "fe80::1%eth0", True),
        ("/ip4/127.0.0.1/tcp/1", "192.168.0.2", False),
        ("/ip4/11.0.0.1/tcp/1", "127.0.0.1", False),
        ("/ip6/2001:db8::1/tcp/1", "192.168.0.2", False),
        ("/ip4/224.0.0.1/tcp/1", "192.168.0.2", False),
        ("/ip4/0.0.0.0/tcp/1", "192.168.0.2", False),
        ("/ip4/169.254.169.254/tcp/1", "192.168.0.2", False),
        ("/ip4/11.0.0.1/tcp/1/ws", "192.168.0.2", False),
        ("/dns4/example.org/tcp/1", "192.168.0.2", False),
    ],
)
def test_what_can_be_dialled_from_an_end(address: str, source: str, is_so: bool) -> None:
    assert can_open(address, (source, 4711)) == is_so
