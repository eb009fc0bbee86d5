"""What an answer, or a sync, has cost so far."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Cost:
    """Counted as it happens. Times in seconds, sizes in bytes."""

    entries_scanned: int = 0
    blocks_local: int = 0
    blocks_remote: int = 0
    bytes_received: int = 0
    round_trips: int = 0
    peers: list[str] = field(default_factory=list)
    connect_seconds: float = 0.0
    seconds: float = 0.0

    def add(self, other: Cost) -> None:
        """What something has cost that went on meanwhile: everything but its time and its round trips."""
        self.entries_scanned += other.entries_scanned
        self.blocks_local += other.blocks_local
        self.blocks_remote += other.blocks_remote
        self.bytes_received += other.bytes_received
        self.peers += [peer for peer in other.peers if peer not in self.peers]

    def note_received(self, size: int) -> None:
        """So many bytes have come. Not `bytes_received += await …`: that takes up the sum before it waits, and loses
        what others add meanwhile."""
        self.bytes_received += size

    def note_request(self, peer: str) -> None:
        """A request goes out, which takes a round trip."""
        self.round_trips += 1
        if peer not in self.peers:
            self.peers.append(peer)
