"""The streams that gossip goes over: with each peer one on which we speak, and one on which we listen.

A peer that connects is greeted a little later, so that its first question does not
wait; one that speaks to us first is answered at once. What a peer sends is read no
faster than anybody needs, and who does not read what we send is left alone for a
while. What is said is not known here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

import trio

from rhizome_index.errors import IntegrityError, UnavailableError
from rhizome_index.limits import (
    DIAL_TIMEOUT_SECONDS,
    FRAME_PAYLOAD_BYTES,
    GOSSIP_AGAIN_SECONDS,
    GOSSIP_BYTES_AT_ONCE,
    GOSSIP_BYTES_PER_SECOND,
    GOSSIP_QUEUE_MAX,
    IDENTIFY_DELAY_SECONDS,
)
from rhizome_index.node.later import Later
from rhizome_index.node.link import Links
from rhizome_index.node.swarm import Stream, Swarm
from rhizome_index.wire.allowance import Allowance
from rhizome_index.wire.frame import FrameReader, encode_frame
from rhizome_index.wire.gossip import PROTOCOL, Rpc


class GossipStreams:
    """Speaks with every connected peer that speaks gossipsub.

    on_meet  told of a peer to which something can be said from now on
    on_part  told when that is over
    on_rpc   told what a peer says; raises IntegrityError if no honest peer does, which costs it its connection
    """

    def __init__(
        self,
        swarm: Swarm,
        links: Links,
        on_meet: Callable[[str], None],
        on_part: Callable[[str], None],
        on_rpc: Callable[[str, Rpc], None],
    ) -> None:
        self._swarm = swarm
        self._links = links
        self._on_meet = on_meet
        self._on_part = on_part
        self._on_rpc = on_rpc
        self._speakers: dict[str, _Speaker] = {}
        self._listeners: dict[str, trio.CancelScope] = {}
        self._nursery: trio.Nursery | None = None
        self._later: Later | None = None

    def start(self) -> None:
        """Begin to listen."""
        self._swarm.handle(PROTOCOL, self._listen, lasting=True)
        self._swarm.watch(lambda peer: self._greet_later(peer, IDENTIFY_DELAY_SECONDS))

    async def run(self) -> None:
        """Speak, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery, self._later = nursery, Later(nursery)
            try:
                for peer in self._swarm.connected_peers:
                    self._speak(peer)
                await trio.sleep_forever()
            finally:
                self._nursery = self._later = None

    def send(self, peer: str, rpc: Rpc) -> None:
        """Say something to a peer as soon as it reads; nothing to one that is not spoken with."""
        speaker = self._speakers.get(peer)
        if speaker is not None:
            speaker.add(rpc)

    # --- speaking ---

    def _greet_later(self, peer: str, seconds: float) -> None:
        if self._later is not None:
            self._later.after(seconds, partial(self._greet, peer))

    def _greet(self, peer: str) -> None:
        if peer in self._swarm.connected_peers:
            self._speak(peer)

    def _speak(self, peer: str) -> _Speaker | None:
        """Whoever speaks with a peer; None if we do not speak at all."""
        speaker = self._speakers.get(peer)
        if speaker is None and self._nursery is not None:
            speaker = self._speakers[peer] = _Speaker()
            self._nursery.start_soon(self._keep_speaking, peer, speaker)
        return speaker

    async def _keep_speaking(self, peer: str, speaker: _Speaker) -> None:
        try:
            stream = await self._swarm.open_stream(peer, PROTOCOL, timeout_seconds=DIAL_TIMEOUT_SECONDS, lasting=True)
        except UnavailableError:  # it speaks no gossipsub, or has gone
            del self._speakers[peer]
            speaker.is_decided.set()
            return
        try:
            self._on_meet(peer)
            speaker.is_decided.set()
            await speaker.run(stream)
        except* UnavailableError:
            pass
        finally:
            del self._speakers[peer]
            self._on_part(peer)
            with trio.CancelScope(shield=True):
                await stream.reset()
        if peer in self._listeners:
            self._listeners[peer].cancel()  # what it said before is forgotten: it has to begin anew
        if peer in self._swarm.connected_peers:
            self._greet_later(peer, GOSSIP_AGAIN_SECONDS)

    # --- listening ---

    async def _listen(self, stream: Stream) -> None:
        """Take what a peer says, on its newest stream only."""
        peer = stream.peer_id
        if peer in self._listeners:
            self._listeners[peer].cancel()
        with trio.CancelScope() as scope:
            self._listeners[peer] = scope
            try:
                await self._take(peer, stream)
            except IntegrityError:
                await self._links.drop(peer)
            except UnavailableError:
                pass
            finally:
                if self._listeners.get(peer) is scope:
                    del self._listeners[peer]

    async def _take(self, peer: str, stream: Stream) -> None:
        speaker = self._speak(peer)
        if speaker is None:
            return
        await speaker.is_decided.wait()
        frames, allowance = FrameReader(), Allowance(GOSSIP_BYTES_PER_SECOND, GOSSIP_BYTES_AT_ONCE)
        while data := await stream.receive():
            for body in frames.feed(data):
                self._on_rpc(peer, Rpc.read(body))
            if wait := allowance.owe(len(data), trio.current_time()):
                await trio.sleep(wait)


class _Speaker:
    """What is to be said to one peer. `is_decided` once it is known whether that can be done at all."""

    def __init__(self) -> None:
        self.is_decided = trio.Event()
        self._queue: deque[Rpc] = deque()
        self._added = trio.Event()
        self._scope = trio.CancelScope()

    def add(self, rpc: Rpc) -> None:
        """Say something more; too much, and it is over with this peer: it does not read."""
        self._queue.append(rpc)
        self._added.set()
        if len(self._queue) > GOSSIP_QUEUE_MAX:
            self._scope.cancel()

    async def run(self, stream: Stream) -> None:
        """Say it, until the peer is gone or does not read."""

        async def watch() -> None:
            """Nothing is ever answered on this stream: it ends."""
            await stream.receive()
            self._scope.cancel()

        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch)
                while True:
                    await self._added.wait()
                    self._added = trio.Event()
                    while self._queue:
                        await stream.send(self._next())

    def _next(self) -> bytes:
        """As much as goes well into one frame of the stream."""
        data = b""
        while self._queue and len(data) < FRAME_PAYLOAD_BYTES // 2:
            data += encode_frame(self._queue.popleft().encode())
        return data
