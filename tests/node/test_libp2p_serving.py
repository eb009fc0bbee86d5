"""The real network: it serves many, one after another and at once, and survives what handlers and peers do."""

from __future__ import annotations

import subprocess
import sys

import pytest
import trio

from rhizome_index.errors import UnavailableError, UsageError
from rhizome_index.index.head import Identity
from rhizome_index.node.libp2p_swarm import Libp2pSwarm, open_swarm
from rhizome_index.node.swarm import Stream

LISTEN = ("/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/0/ws")
ECHO = "/test/echo/1"


async def echo_and_fail(stream: Stream) -> None:
    """Send everything back, then raise what no handler should."""
    while data := await stream.receive():
        await stream.send(data)
    raise RuntimeError("a handler's own fault")


async def exchange(swarm: Libp2pSwarm, peer_id: str, size: int = 200_000) -> None:
    stream = await swarm.open_stream(peer_id, ECHO, timeout_seconds=5)
    await stream.send(b"x" * size)
    received = 0
    while received < size:
        received += len(await stream.receive())
    await stream.close()


async def serve_many(count: int, at_once: int) -> None:
    async with open_swarm(b"s" * 32, LISTEN) as server:
        server.handle(ECHO, echo_and_fail)

        async def visit(number: int) -> None:
            async with open_swarm(number.to_bytes(32, "big"), ()) as visitor:
                address = server.addresses[number % len(server.addresses)]
                await exchange(visitor, await visitor.dial(address, timeout_seconds=10))

        for start in range(1, count, at_once):
            async with trio.open_nursery() as nursery:
                for number in range(start, start + at_once):
                    nursery.start_soon(visit, number)


async def test_a_handler_that_raises_brings_nothing_down() -> None:
    await serve_many(4, 2)


@pytest.mark.slow
async def test_a_listener_outlives_its_first_250_connections() -> None:
    await serve_many(280, 20)


async def test_a_cancelled_exchange_leaves_the_connection_good() -> None:
    async with open_swarm(b"s" * 32, LISTEN) as server, open_swarm(b"c" * 32, ()) as client:
        server.handle(ECHO, echo_and_fail)
        peer_id = await client.dial(server.addresses[0], timeout_seconds=5)
        for steps in range(12):
            with trio.CancelScope() as scope:
                stream = await client.open_stream(peer_id, ECHO, timeout_seconds=5)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(stream.send, b"y" * 300_000)
                    for _ in range(steps):
                        await trio.lowlevel.checkpoint()
                    scope.cancel()
            await stream.reset()
        with trio.fail_after(5):
            await exchange(client, peer_id)


@pytest.mark.parametrize(
    "address", ["", "x", "/ip4/127.0.0.1", "/ip4/127.0.0.1/udp/4", "/ip4/203.0.113.9/tcp/4711", "/ip4/127.0.0.1/tcp/x"]
)
async def test_an_address_that_cannot_be_listened_on(address: str) -> None:
    with pytest.raises(UsageError, match="listen"):
        async with open_swarm(b"s" * 32, [address]):
            raise AssertionError


async def test_a_port_in_use_is_named() -> None:
    async with open_swarm(b"s" * 32, LISTEN[:1]) as server:
        port = server.addresses[0].split("/")[4]
        with pytest.raises(UsageError, match=f"{port} is already in use"):
            async with open_swarm(b"t" * 32, [f"/ip4/127.0.0.1/tcp/{port}"]):
                raise AssertionError


async def test_a_protocol_that_nobody_speaks() -> None:
    async with open_swarm(b"s" * 32, LISTEN) as server, open_swarm(b"c" * 32, ()) as client:
        peer_id = await client.dial(server.addresses[0], timeout_seconds=5)
        with pytest.raises(UnavailableError):
            await client.open_stream(peer_id, "/test/nothing/1", timeout_seconds=5)
        wrong = server.addresses[0].replace(peer_id, Identity(b"w" * 32).peer_id)
        with pytest.raises(UnavailableError):
            await client.dial(wrong, timeout_seconds=5)


def test_commands_without_a_network_do_not_import_libp2p() -> None:
    code = (
        "import sys, rhizome_index.cli.local, rhizome_index.cli.network, rhizome_index.api; "
        "assert not any(name.split('.')[0] == 'libp2p' for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
