"""Hostile peers, many in one process: `python -m tests.benchmarks.attack PEER DATASET COUNT` until it is ended.

Each has a source address of its own in 127.1.0.0/16, does one thing, and comes back half a second after it was thrown
out. What they send is made to cost the node as much as it can be made to, and themselves little.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import partial
from typing import Any

import trio
from libp2p.peer.id import ID

from rhizome_index.index.address import Address
from rhizome_index.node.libp2p_swarm import Libp2pSwarm, open_swarm
from rhizome_index.node.libp2p_yamux import Session
from rhizome_index.node.libp2p_yamux_stream import DATA, HEADER, PING, STREAM_FRAME_BYTES, SYN, WINDOW
from rhizome_index.query.parse import parse
from rhizome_index.wire import ask, sync, want
from rhizome_index.wire import message as m
from tests.benchmarks.nodes import dialled

BACK_SECONDS = 0.5
_ORIGIN: ContextVar[str | None] = ContextVar("origin", default=None)
_open_tcp_stream = trio.open_tcp_stream


async def _open_from_origin(host: str, port: int, **options: Any) -> trio.SocketStream:
    return await _open_tcp_stream(host, port, **(options | {"local_address": _ORIGIN.get()}))


class Attacker:
    """One hostile peer's way to the node."""

    def __init__(self, peer: str, address: Address) -> None:
        self.peer = peer
        self.address = address

    # --- before any handshake ---

    async def be_silent_at_once(self) -> None:
        """Connect, and say nothing."""
        async with await self._connect() as stream:
            await stream.receive_some()  # its greeting
            while await stream.receive_some():
                pass

    async def greet_slowly(self) -> None:
        """Say what is right, a byte a second."""
        async with await self._connect() as stream:
            for byte in b"\x13/multistream/1.0.0\n\x07/noise\n" * 1000:
                await stream.send_all(bytes([byte]))
                await trio.sleep(1)

    async def talk_nonsense(self) -> None:
        """Send bytes that are no handshake."""
        async with await self._connect() as stream:
            await stream.send_all(b"\x13/multistream/1.0.0\n\x07/noise\n" + os.urandom(65536))
            while await stream.receive_some():
                pass

    async def _connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream(*dialled(self.peer))

    # --- behind it ---

    async def be_silent_later(self) -> None:
        """Open streams, and say nothing on them."""
        async with open_swarm(os.urandom(32), []) as swarm:
            peer_id = await swarm.dial(self.peer, timeout_seconds=10)
            for _ in range(30):
                await swarm.open_stream(peer_id, ask.PROTOCOL, timeout_seconds=10)
            await _session(swarm, peer_id).event_closed.wait()

    async def read_nothing(self) -> None:
        """Ask for much, and read nothing of it."""
        async with open_swarm(os.urandom(32), []) as swarm:
            peer_id = await swarm.dial(self.peer, timeout_seconds=10)
            for _ in range(8):
                stream = await swarm.open_stream(peer_id, ask.PROTOCOL, timeout_seconds=10)
                for number in range(4):
                    fields = ask.Ask(self.address, parse("first 1000 posts", 0)[0], limit=1000).fields()
                    await stream.send(m.encode_request(number, fields))
            await _session(swarm, peer_id).event_closed.wait()

    async def flood(self) -> None:
        """Send past the receive window."""
        async with open_swarm(os.urandom(32), []) as swarm:
            peer_id = await swarm.dial(self.peer, timeout_seconds=10)
            stream = await swarm.open_stream(peer_id, want.PROTOCOL, timeout_seconds=10)
            await stream.send(b"\xff\xff\x03")  # the length of a request that stays unread
            session, number = _session(swarm, peer_id), stream._stream.stream_id
            body = bytes(STREAM_FRAME_BYTES)
            while not session.is_closed:
                await session.write_frame(HEADER.pack(0, DATA, 0, number, len(body)) + body)

    async def send_malformed(self) -> None:
        """Send requests that are none."""
        await self._say(b"\x10" + os.urandom(16))

    async def send_oversized(self) -> None:
        """Announce a request of gigabytes, and begin with it."""
        await self._say(b"\xff\xff\xff\xff\x0f" + bytes(60_000))

    async def _say(self, data: bytes) -> None:
        async with open_swarm(os.urandom(32), []) as swarm:
            peer_id = await swarm.dial(self.peer, timeout_seconds=10)
            for protocol in (ask.PROTOCOL, sync.PROTOCOL):
                stream = await swarm.open_stream(peer_id, protocol, timeout_seconds=10)
                await stream.send(data)
            await _session(swarm, peer_id).event_closed.wait()

    async def open_thousands(self) -> None:
        """Open streams as fast as may be, say a byte on each, and ping in between."""
        async with open_swarm(os.urandom(32), []) as swarm:
            peer_id = await swarm.dial(self.peer, timeout_seconds=10)
            session = _session(swarm, peer_id)
            number = 1001
            while not session.is_closed:
                frames = [
                    HEADER.pack(0, WINDOW, SYN, number + 2 * i, 0)
                    + HEADER.pack(0, DATA, 0, number + 2 * i, 1)
                    + b"\x13"
                    + HEADER.pack(0, PING, SYN, 0, i)
                    for i in range(500)
                ]
                number += 1000
                await session.write_frame(b"".join(frames))


KINDS: list[Callable[[Attacker], Awaitable[None]]] = [
    Attacker.be_silent_at_once,
    Attacker.greet_slowly,
    Attacker.talk_nonsense,
    Attacker.be_silent_later,
    Attacker.read_nothing,
    Attacker.flood,
    Attacker.send_malformed,
    Attacker.send_oversized,
    Attacker.open_thousands,
]


def _session(swarm: Libp2pSwarm, peer_id: str) -> Session:
    session = swarm._session(ID.from_string(peer_id))
    if session is None:
        raise ConnectionError("thrown out already")
    return session


async def attack(peer: str, address: Address, count: int) -> None:
    """Until cancelled."""
    vars(trio)["open_tcp_stream"] = _open_from_origin
    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(_attack_again, KINDS[number % len(KINDS)], Attacker(peer, address), number)


async def _attack_again(kind: Callable[[Attacker], Awaitable[None]], attacker: Attacker, number: int) -> None:
    _ORIGIN.set(f"127.1.{number // 250}.{number % 250 + 1}")
    while True:
        try:
            await kind(attacker)
        except* Exception:
            pass  # it was thrown out
        await trio.sleep(BACK_SECONDS)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    trio.run(partial(attack, sys.argv[1], Address.parse(sys.argv[2]), int(sys.argv[3])))
