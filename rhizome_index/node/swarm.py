"""What a node needs of a network: dial peers, open streams, answer streams.

The node, its tests and the simulator meet the network only through these
protocols. `libp2p_swarm.py` is the real one. Peer ids are base58 texts, as
libp2p prints them; addresses are multiaddr texts.

A stream is a reliable, ordered pair of byte flows. Its methods either finish or
raise `UnavailableError` (peer gone, deadline passed); whatever else goes wrong
below is translated to that at this door. Cancelling any of them is always safe.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from rhizome_index.errors import UnavailableError
from rhizome_index.node.tally import Tally


class SpentError(UnavailableError):
    """A connection through a relay has had what the relay allows one. The next stream with the peer opens another."""

    def __init__(self, peer: str, limit: str) -> None:
        super().__init__(
            f"the connection with peer {peer} has ended: its relay allows one {limit}, which is too little for this",
            hint="name a peer that can be reached directly, or a way to this one through a relay that allows more",
        )
        self.peer = peer


class Stream(Protocol):
    """One bidirectional stream with one peer under one protocol."""

    @property
    def peer_id(self) -> str: ...

    async def send(self, data: bytes) -> None:
        """Send all of `data`. Raises UnavailableError when the peer is gone or does not read in time: that is
        SpentError, here and in `receive`, where a relay's limit is why, and known.

        Cancelled, it has sent nothing, or the stream is reset.
        """

    async def receive(self) -> bytes:
        """Some bytes (at most 256 KiB), or b"" once the peer has finished sending or reset the stream."""

    async def close(self) -> None:
        """Finish the stream in both directions. Never raises; safe to call twice."""

    async def reset(self) -> None:
        """Abandon the stream. Never raises; safe to call twice."""


StreamHandler = Callable[[Stream], Awaitable[None]]
Notice = Callable[[str], None]


class Swarm(Protocol):
    """The network as one peer sees it."""

    @property
    def peer_id(self) -> str: ...

    @property
    def addresses(self) -> tuple[str, ...]:
        """Full addresses this peer listens on, each ending in /p2p/<peer id>. Empty when it only dials."""

    @property
    def connected_peers(self) -> tuple[str, ...]: ...

    @property
    def tally(self) -> Tally:
        """What is counted: here the bytes of streams, and how many were opened."""

    def handle(self, protocol: str, handler: StreamHandler, *, lasting: bool = False) -> None:
        """Answer streams opened by others under `protocol`. The stream is closed when the handler returns.

        lasting  nothing may be said on them for as long as the connection lives
        """

    def watch(self, notice: Notice) -> None:
        """Have `notice` called with a peer's id whenever one has connected, or been connected to."""

    async def dial(self, address: str, *, timeout_seconds: float) -> str:
        """Connect to a full address, perhaps through a relay, and return its peer id.

        A connected peer is not dialled again; one that is connected through a relay is, directly.
        """

    async def dial_relay(self, address: str, *, timeout_seconds: float) -> str:
        """The same for a relay, if it can be from the port that we listen on: it sees where others might reach us."""

    async def open_stream(
        self, peer_id: str, protocol: str, *, timeout_seconds: float, lasting: bool = False
    ) -> Stream:
        """Open a stream with a connected peer; `lasting` as above. Raises UnavailableError if it does not speak
        `protocol`.

        A peer whose connection through a relay that we dialled has just been ended by the relay's limit is connected
        to once more, in the same way.
        """

    async def disconnect(self, peer_id: str, *, for_cause: bool = False) -> None:
        """Drop all connections with a peer. Never raises.

        for_cause  the peer broke a protocol, or lied: it comes in again less easily than others, for a while
        """

    def listen_through(self, relay: str, addresses: Sequence[str]) -> None:
        """Let peers reach us through a relay that keeps a place for us, and can be reached at these full addresses.

        They are among `addresses` from now on. None: no longer.
        """

    def is_relayed(self, peer_id: str) -> bool:
        """Whether a connected peer is reached through a relay: what passes is bounded, and spends another's line."""

    def latency_seconds(self, peer_id: str) -> float | None:
        """The round trip measured with a connected peer, in seconds. None while nothing is known."""
