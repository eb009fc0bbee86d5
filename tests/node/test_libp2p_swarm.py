"""The real network: what `swarm` promises, over TCP and WebSocket."""

from __future__ import annotations

import math
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from rhizome_index.errors import UnavailableError, UsageError
from rhizome_index.limits import IDLE_TIMEOUT_SECONDS
from rhizome_index.node import libp2p_addresses, libp2p_guards, libp2p_stream
from rhizome_index.node.libp2p_stream import Libp2pStream
from rhizome_index.node.libp2p_swarm import Libp2pSwarm, _Watcher, open_swarm
from rhizome_index.node.swarm import Stream
from rhizome_index.node.tally import IN, OUT, PeerTally, Tally

ECHO = "/rhizome/echo/1"
LOOPBACK = "/ip4/127.0.0.1/tcp/0"
ADDRESSES = [LOOPBACK, LOOPBACK + "/ws"]
LIMIT_SECONDS = 5.0
NOBODY = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"  # the peer whose seed is all zeros


async def echo(stream: Stream) -> None:
    while data := await stream.receive():
        await stream.send(data)


async def exchange(swarm: Libp2pSwarm, peer_id: str, data: bytes = b"hello") -> None:
    """Send and get the same back, on a stream of its own."""
    stream = await swarm.open_stream(peer_id, ECHO, timeout_seconds=LIMIT_SECONDS)
    with trio.fail_after(LIMIT_SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send, data)
            found = b""
            while len(found) < len(data):
                part = await stream.receive()
                assert part, "the stream ended early"
                found += part
    assert found == data
    await stream.close()


@asynccontextmanager
async def pair(listen: str = LOOPBACK) -> AsyncIterator[tuple[Libp2pSwarm, Libp2pSwarm]]:
    """A peer that echoes, and one that is connected to it."""
    async with open_swarm(b"s" * 32, [listen]) as server, open_swarm(b"c" * 32, []) as client:
        server.handle(ECHO, echo)
        await client.dial(server.addresses[0], timeout_seconds=LIMIT_SECONDS)
        yield server, client


async def dial(client: Libp2pSwarm, server: Libp2pSwarm) -> None:
    await client.dial(server.addresses[0], timeout_seconds=LIMIT_SECONDS)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_one_host_serves_tcp_and_websocket_at_once() -> None:
    async with open_swarm(b"s" * 32, ADDRESSES) as server:
        server.handle(ECHO, echo)
        assert ["/ws" in address for address in server.addresses] == [False, True]
        for number, address in enumerate(server.addresses):
            async with open_swarm(bytes([number]) * 32, []) as client:
                assert await client.dial(address, timeout_seconds=LIMIT_SECONDS) == server.peer_id
                await exchange(client, server.peer_id)
                assert client.connected_peers == (server.peer_id,)


async def test_the_peer_id_follows_from_the_seed() -> None:
    async with open_swarm(b"\0" * 32, []) as swarm:
        assert swarm.peer_id == NOBODY
        assert swarm.addresses == ()


@pytest.mark.parametrize("listen", ADDRESSES)
async def test_much_data_goes_both_ways_at_once(listen: str) -> None:
    async with pair(listen) as (server, client):
        data = bytes(range(256)) * 4096
        await exchange(client, server.peer_id, data)
        for swarm, other, opener in ((client, server, OUT), (server, client, IN)):
            assert swarm.tally.peers == {other.peer_id: PeerTally(len(data), len(data))}
            assert swarm.tally.bytes_received == swarm.tally.bytes_sent == {ECHO: len(data)}
            assert swarm.tally.streams == {(ECHO, opener): 1}


async def test_a_connected_peer_is_not_dialled_again() -> None:
    async with pair() as (server, client):
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(dial, client, server)
        assert len(client._network.get_connections()) == 1


async def test_dialling_at_the_same_time_makes_one_connection() -> None:
    async with open_swarm(b"s" * 32, [LOOPBACK]) as server, open_swarm(b"c" * 32, []) as client:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(dial, client, server)
        assert len(client._network.get_connections()) == 1
        assert not client._dialling


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("nonsense", "not a peer's address"),
        ("", "does not say whose"),
        ("/ip4/127.0.0.1/tcp/4711", "does not say whose"),
        ("/ip4/127.0.0.1/tcp/4711/p2p/12D3Koo", "not a peer's address"),
        (f"/ip4/127.0.0.1/udp/4711/p2p/{NOBODY}", "only TCP and WebSocket"),
        (f"/p2p/{NOBODY}", "only TCP and WebSocket"),
    ],
)
async def test_what_is_no_address_of_a_peer_is_refused_with_a_hint(address: str, says: str) -> None:
    async with open_swarm(b"c" * 32, []) as client:
        with pytest.raises(UsageError, match=says) as caught:
            await client.dial(address, timeout_seconds=LIMIT_SECONDS)
        assert caught.value.hint


@pytest.mark.parametrize("kind", ["", "/ws"])
async def test_a_failed_dial_says_why(kind: str) -> None:
    async with pair(LOOPBACK + kind) as (server, client):
        address, _, _ = server.addresses[0].rpartition("/")
        with pytest.raises(UnavailableError, match="another peer answers there"):
            await client.dial(f"{address}/{NOBODY}", timeout_seconds=LIMIT_SECONDS)
        closed = f"/ip4/127.0.0.1/tcp/{free_port()}{kind}/p2p/{NOBODY}"
        with pytest.raises(UnavailableError, match="refused"):
            await client.dial(closed, timeout_seconds=LIMIT_SECONDS)


@pytest.mark.parametrize("kind", ["", "/ws"])
async def test_a_listener_that_says_nothing_is_given_up_in_time(kind: str) -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        address = f"/ip4/127.0.0.1/tcp/{mute.getsockname()[1]}{kind}"
        async with open_swarm(b"c" * 32, []) as client:
            with trio.fail_after(LIMIT_SECONDS), pytest.raises(UnavailableError, match="timed out"):
                await client.dial(f"{address}/p2p/{NOBODY}", timeout_seconds=0.05)


async def test_a_protocol_that_is_not_spoken_is_unavailable() -> None:
    async with pair() as (server, client):
        with pytest.raises(UnavailableError, match="does not speak"):
            await client.open_stream(server.peer_id, "/rhizome/none/1", timeout_seconds=LIMIT_SECONDS)
        with pytest.raises(UnavailableError, match="not connected"):
            await server.open_stream(server.peer_id, ECHO, timeout_seconds=LIMIT_SECONDS)
        await exchange(client, server.peer_id)


async def test_an_inbound_connection_serves_both_sides() -> None:
    async with pair() as (server, client):
        client.handle(ECHO, echo)
        await exchange(server, client.peer_id)


async def test_disconnecting_is_seen_by_both_and_dialling_again_works() -> None:
    async with pair() as (server, client):
        stream = await client.open_stream(server.peer_id, ECHO, timeout_seconds=LIMIT_SECONDS)
        await client.disconnect(server.peer_id)
        await client.disconnect(server.peer_id)
        assert client.connected_peers == ()
        with pytest.raises(UnavailableError):
            await stream.send(b"x")
        with pytest.raises(UnavailableError):
            await stream.receive()
        await stream.close()
        await stream.reset()
        await client.dial(server.addresses[0], timeout_seconds=LIMIT_SECONDS)
        await exchange(client, server.peer_id)


@pytest.mark.parametrize(
    ("listen", "says"),
    [
        ("nonsense", "not a multiaddr"),
        ("/ip4/127.0.0.1/tcp/70000", "port 70000 is too large"),
        ("/ip4/127.0.0.1/udp/0", "only TCP and WebSocket"),
        (f"/ip4/127.0.0.1/tcp/0/p2p/{NOBODY}", "only TCP and WebSocket"),
        ("/ip4/192.0.2.1/tcp/4711", "/ip4/192.0.2.1/tcp/4711: this machine has no such address"),
        ("/ip4/192.0.2.1/tcp/0/ws", "/ip4/192.0.2.1/tcp/0/ws: this machine has no such address"),
    ],
)
async def test_an_address_that_cannot_be_listened_on_is_refused(listen: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        async with open_swarm(b"s" * 32, [listen]):
            pass
    assert caught.value.hint


@pytest.mark.parametrize("listen", ["/ip4/192.0.2.1/tcp/0", "/ip4/192.0.2.1/tcp/0/ws"])
async def test_a_listener_that_failed_to_start_is_noticed(listen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libp2p_addresses, "_try_to_bind", lambda address: None)
    with pytest.raises(UsageError, match=r"192\.0\.2\.1"):
        async with open_swarm(b"s" * 32, [LOOPBACK, listen]):
            pass


@pytest.mark.parametrize("kind", ["", "/ws"])
async def test_a_port_that_is_taken_is_not_shared(kind: str) -> None:
    async with open_swarm(b"s" * 32, [LOOPBACK]) as server:
        port = server.addresses[0].split("/")[4]
        with pytest.raises(UsageError, match=f"port {port} is already in use"):
            async with open_swarm(b"t" * 32, [f"/ip4/127.0.0.1/tcp/{port}{kind}"]):
                pass
    async with open_swarm(b"t" * 32, [f"/ip4/127.0.0.1/tcp/{port}{kind}"]) as later:
        assert f"/tcp/{port}" in later.addresses[0]


async def test_tcp_and_websocket_do_not_share_a_port() -> None:
    """The library could do it, with a listener that none of the guards reaches."""
    port = free_port()
    with pytest.raises(UsageError, match="need a port each"):
        async with open_swarm(b"s" * 32, [f"/ip4/127.0.0.1/tcp/{port}", f"/ip4/127.0.0.1/tcp/{port}/ws"]):
            pass
    async with open_swarm(b"s" * 32, ADDRESSES) as server:
        assert len({address.split("/")[4] for address in server.addresses}) == 2


async def test_wildcards_are_announced_as_addresses_that_can_be_dialled() -> None:
    async with open_swarm(b"s" * 32, ["/ip4/0.0.0.0/tcp/0"]) as server:
        assert not any("0.0.0.0" in address for address in server.addresses)
        local = [address for address in server.addresses if address.startswith("/ip4/127.0.0.1/")]
        async with open_swarm(b"c" * 32, []) as client:
            assert await client.dial(local[0], timeout_seconds=LIMIT_SECONDS) == server.peer_id


async def test_what_the_body_raises_comes_through_unwrapped() -> None:
    with pytest.raises(UsageError, match="mine"):
        async with open_swarm(b"s" * 32, [LOOPBACK]):
            raise UsageError("mine")


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_leaving_ends_everything_even_when_it_is_cancelled(
    is_cancelled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libp2p_guards, "IDENTIFY_DELAY_SECONDS", 600.0)  # what is still to do is not waited for
    with trio.fail_after(LIMIT_SECONDS):
        async with open_swarm(b"s" * 32, [LOOPBACK]) as server:
            with trio.CancelScope() as scope:
                async with open_swarm(b"d" * 32, [LOOPBACK]) as swarm:
                    await dial(swarm, server)
                    listen, _, _ = swarm.addresses[0].partition("/p2p/")
                    if is_cancelled:
                        scope.cancel()
                        await trio.sleep_forever()
            assert scope.cancelled_caught == is_cancelled
            assert not swarm._network.connections and not swarm._network.listeners
            while server.connected_peers:  # noqa: ASYNC110  the library has no event for it
                await trio.sleep(0.002)
            async with open_swarm(b"e" * 32, [listen]):
                pass


async def test_disconnecting_goes_on_when_it_is_cancelled() -> None:
    async with pair() as (server, client):
        told: list[str] = []

        class Told(_Watcher):
            async def disconnected(self, network: object, conn: object) -> None:
                await trio.lowlevel.checkpoint()
                told.append("disconnected")

        client._network.register_notifee(Told(lambda peer: None))
        with trio.CancelScope() as scope:
            scope.cancel()
            await client.disconnect(server.peer_id)
        assert not client._network.connections and told == ["disconnected"]


async def test_nobody_dials_himself() -> None:
    async with open_swarm(b"s" * 32, [LOOPBACK]) as swarm:
        with pytest.raises(UsageError, match="our own address"):
            await swarm.dial(swarm.addresses[0], timeout_seconds=LIMIT_SECONDS)


class Slow:
    """Stands for a stream of the muxer on which one byte comes after a while, and then no more."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.is_abandoned = False

    async def write(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()

    async def read(self, n: int) -> bytes:
        await trio.sleep(self._seconds)
        self._seconds = math.inf
        return b"x"

    def abandon(self) -> None:
        self.is_abandoned = True


async def test_what_is_said_and_what_is_heard_keep_a_stream_from_being_idle(autojump_clock: MockClock) -> None:
    raw = Slow(IDLE_TIMEOUT_SECONDS * 2 / 3)
    stream = Libp2pStream(Tally(), raw, "peer", ECHO, lasting=False)  # type: ignore[arg-type]
    assert await stream.receive() == b"x"
    await trio.sleep(IDLE_TIMEOUT_SECONDS * 2 / 3)
    await stream.send(b"y")
    said_at = trio.current_time()
    assert said_at > IDLE_TIMEOUT_SECONDS
    with pytest.raises(UnavailableError, match="nothing was said"):
        await stream.receive()
    assert trio.current_time() == said_at + IDLE_TIMEOUT_SECONDS and raw.is_abandoned


async def test_a_stream_on_which_something_was_heard_is_idle_from_then_on(autojump_clock: MockClock) -> None:
    stream = Libp2pStream(Tally(), Slow(IDLE_TIMEOUT_SECONDS / 2), "peer", ECHO, lasting=False)  # type: ignore[arg-type]
    assert await stream.receive() == b"x"
    with pytest.raises(UnavailableError, match="nothing was said"):
        await stream.receive()
    assert trio.current_time() == 1.5 * IDLE_TIMEOUT_SECONDS


def run(script: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *options, "-c", script], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )


def test_the_interface_does_not_import_libp2p() -> None:
    done = run("import rhizome_index, rhizome_index.node.swarm, sys; print([n for n in sys.modules if 'libp2p' in n])")
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


@pytest.mark.slow
def test_nothing_is_printed_or_left_open() -> None:
    done = run(
        """
import gc, logging, trio
from rhizome_index.errors import UnavailableError
from tests.node.test_libp2p_swarm import *

async def main():
    for listen in ADDRESSES:
        async with pair(listen) as (server, client):
            async def broken(stream):
                raise ValueError("a handler's fault")
            server.handle("/rhizome/broken/1", broken)
            stream = await client.open_stream(server.peer_id, "/rhizome/broken/1", timeout_seconds=5)
            try:
                await stream.receive()
            except UnavailableError:
                pass
            try:
                await client.dial(f"/ip4/127.0.0.1/tcp/{free_port()}/p2p/{NOBODY}", timeout_seconds=5)
            except UnavailableError:
                pass
            await exchange(client, server.peer_id)
    gc.collect()
    assert not logging.getLogger().handlers

trio.run(main)
""",
        "-W",
        "default::ResourceWarning",
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


async def test_a_stream_that_is_meant_to_last_may_be_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libp2p_stream, "IDLE_TIMEOUT_SECONDS", 0.02)
    lasting = "/rhizome/lasting/1"
    async with pair() as (server, client):
        server.handle(lasting, echo, lasting=True)
        kept = await client.open_stream(server.peer_id, lasting, timeout_seconds=LIMIT_SECONDS, lasting=True)
        other = await client.open_stream(server.peer_id, ECHO, timeout_seconds=LIMIT_SECONDS)
        with trio.fail_after(LIMIT_SECONDS):
            with pytest.raises(UnavailableError, match="nothing was said"):
                await other.receive()
            await kept.send(b"still there?")
            assert await kept.receive() == b"still there?"


async def test_who_watches_is_told_of_each_peer_once_it_can_be_talked_to() -> None:
    async with open_swarm(b"s" * 32, [LOOPBACK]) as server, open_swarm(b"c" * 32, []) as client:
        server.handle(ECHO, echo)
        tell, told = trio.open_memory_channel[tuple[str, str]](10)
        server.watch(lambda peer: tell.send_nowait(("server", peer)))
        client.watch(lambda peer: tell.send_nowait(("client", peer)))
        await dial(client, server)
        with trio.fail_after(LIMIT_SECONDS):
            assert {await told.receive() for _ in range(2)} == {("server", client.peer_id), ("client", server.peer_id)}
        await exchange(client, server.peer_id)
