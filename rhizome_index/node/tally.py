"""What a peer has done since it joined, counted: for `status`, `top` and metrics.

Promises: counting costs next to nothing and never more memory than the peers and
protocols there are. Numbers only rise. It does not know how they are shown.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from rhizome_index.wire.counted import make_room

IN, OUT = "in", "out"
DONE, FAILED, REFUSED = "done", "failed", "refused"
GONE, MALFORMED = "gone", "malformed"  # beside DONE and the codes of `wire.message`: how an answer may end


@dataclass(slots=True)
class PeerTally:
    """What has passed between one peer and us: bytes of streams, and answers given to it."""

    bytes_received: int = 0
    bytes_sent: int = 0
    answers: int = 0


class _Peers(dict[str, PeerTally]):
    """By peer id. Of more than PEERS_COUNTED_MAX the first is forgotten."""

    def __missing__(self, peer_id: str) -> PeerTally:
        make_room(self)
        made = self[peer_id] = PeerTally()
        return made


@dataclass(slots=True)
class Durations:
    """How long something took, each time.

    counts   how many took at most each of BOUNDS, and not at most the one before; the last: longer than all
    seconds  all together
    """

    BOUNDS = (0.001, 0.01, 0.1, 1.0, 10.0)
    counts: list[int] = field(default_factory=lambda: [0] * (len(Durations.BOUNDS) + 1))
    seconds: float = 0.0

    def note(self, seconds: float) -> None:
        self.counts[bisect_left(self.BOUNDS, seconds)] += 1
        self.seconds += seconds


class Tally:
    """Everything that is counted.

    bytes_received, bytes_sent  on streams, by protocol
    streams                     by protocol and who has opened them: IN or OUT
    count_open_streams          gives how many are open now; the network that has them sets it
    answers                     given, by protocol and how they ended
    waits                       of requests, until their answer began
    answering                   from there to its end
    upgrades                    addresses dialled to replace a connection through a relay: DONE, FAILED
    dials, syncs, collections   by how they ended: DONE, FAILED, and for syncs REFUSED
    freed_*, evicted_*          by collections: what nothing needed, and what only queries had left
    """

    def __init__(self) -> None:
        self.peers = _Peers()
        self.bytes_received: Counter[str] = Counter()
        self.bytes_sent: Counter[str] = Counter()
        self.streams: Counter[tuple[str, str]] = Counter()
        self.count_open_streams: Callable[[], int] = lambda: 0
        self.answers: Counter[tuple[str, str]] = Counter()
        self.waits = Durations()
        self.answering = Durations()
        self.upgrades: Counter[str] = Counter()
        self.dials: Counter[str] = Counter()
        self.syncs: Counter[str] = Counter()
        self.collections: Counter[str] = Counter()
        self.freed_blocks = self.freed_bytes = self.evicted_blocks = self.evicted_bytes = 0

    def note_received(self, peer_id: str, protocol: str, count: int) -> None:
        """A stream has delivered bytes."""
        self.peers[peer_id].bytes_received += count
        self.bytes_received[protocol] += count

    def note_sent(self, peer_id: str, protocol: str, count: int) -> None:
        """A stream has taken bytes."""
        self.peers[peer_id].bytes_sent += count
        self.bytes_sent[protocol] += count

    def note_answer(self, peer_id: str, protocol: str, outcome: str) -> None:
        """An answer has ended."""
        self.peers[peer_id].answers += 1
        self.answers[protocol, outcome] += 1
