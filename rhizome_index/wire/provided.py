"""Who has announced what, as one peer keeps it for the others: until it expires, and no more than there is room for.

Only a peer itself announces that it provides something. Where there is no room,
the oldest record of whoever has most of them makes it.
"""

from __future__ import annotations

from rhizome_index.limits import KAD_PEERS_MAX, KAD_RECORD_SECONDS, KAD_RECORDS_MAX
from rhizome_index.wire.kad import Contact


class Provided:
    """Provider records. Time, in seconds of any clock that goes forward, is an argument."""

    def __init__(self) -> None:
        self._by_key: dict[bytes, dict[str, tuple[Contact, float]]] = {}
        self._by_peer: dict[str, dict[bytes, None]] = {}  # the oldest first
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, key: bytes, contact: Contact, now: float) -> None:
        """A peer announces that it provides something."""
        self._remove(key, contact.peer_id)
        records = self._by_key.get(key, {})
        if len(records) >= KAD_PEERS_MAX:
            self._remove(key, next(iter(records)))
        if self._count >= KAD_RECORDS_MAX:
            greedy = max(self._by_peer, key=lambda peer: len(self._by_peer[peer]))
            self._remove(next(iter(self._by_peer[greedy])), greedy)
        self._by_key.setdefault(key, {})[contact.peer_id] = contact, now + KAD_RECORD_SECONDS
        self._by_peer.setdefault(contact.peer_id, {})[key] = None
        self._count += 1

    def providers(self, key: bytes, now: float) -> tuple[Contact, ...]:
        """Who provides it, whoever has announced it last first."""
        for peer in [peer for peer, (_, until) in self._by_key.get(key, {}).items() if until <= now]:
            self._remove(key, peer)
        return tuple(contact for contact, _ in reversed(self._by_key.get(key, {}).values()))

    def expire(self, now: float) -> None:
        """Forget whatever has not been announced again."""
        for key in list(self._by_key):
            self.providers(key, now)

    def _remove(self, key: bytes, peer_id: str) -> None:
        if self._by_key.get(key, {}).pop(peer_id, None) is None:
            return
        self._count -= 1
        del self._by_peer[peer_id][key]
        if not self._by_peer[peer_id]:
            del self._by_peer[peer_id]
        if not self._by_key[key]:
            del self._by_key[key]
