"""Kademlia's two parts that decide whom to ask: a table of peers that are there, and a lookup through them.

The distance between a key and a peer is the xor of their SHA-256 digests. What peers
say of others is hearsay: only those that have answered us, or asked, come into the table, and
a lookup asks a bounded number of peers, last those that were named by somebody
whose other names led nowhere.

No sockets and no clock: a lookup says whom to ask next, and is told how that went.

Source: P. Maymounkov, D. Mazières, Kademlia, IPTPS 2002, as
https://github.com/libp2p/specs/tree/master/kad-dht has it.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256
from itertools import islice

import base58

from rhizome_index.limits import KAD_ASKED_MAX, KAD_BUCKET_MAX, KAD_HEARD_MAX
from rhizome_index.wire.kad import Contact

CLOSEST = KAD_BUCKET_MAX  # peers that are told of a provider, and that a lookup wants to hear
NEIGHBOURS = 8  # peers that know whoever has just come: others hear of it from them
_BLAMED = 3  # names that led nowhere, after which who gave them is believed last


@lru_cache(16_384)
def place_of(key: bytes) -> int:
    """Where a key stands."""
    return int.from_bytes(sha256(key).digest(), "big")


@lru_cache(16_384)
def place_of_peer(peer_id: str) -> int:
    """Where a peer stands."""
    return place_of(base58.b58decode(peer_id))


class Table:
    """Peers that have answered us or asked, in buckets by distance: many that are near, a few of those far away."""

    def __init__(self, own_id: str) -> None:
        self._own_id = own_id
        self._own = place_of_peer(own_id)
        self._buckets: dict[int, dict[str, Contact]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._buckets.values()))

    def __contains__(self, peer_id: str) -> bool:
        return peer_id in self._bucket(peer_id)

    def has_room(self, peer_id: str) -> bool:
        """Whether a peer is in the table, or would be if it answered."""
        return peer_id in self or len(self._bucket(peer_id)) < KAD_BUCKET_MAX

    def note(self, contact: Contact) -> bool:
        """A peer has answered; whether it is in the table from now on. Who has long been there stays."""
        bucket = self._bucket(contact.peer_id)
        if contact.peer_id == self._own_id or not contact.addresses:
            return False
        if contact.peer_id not in bucket and len(bucket) >= KAD_BUCKET_MAX:
            return False
        bucket[contact.peer_id] = contact
        self._buckets[self._index(contact.peer_id)] = bucket
        return True

    def drop(self, peer_id: str) -> None:
        """A peer does not answer."""
        self._bucket(peer_id).pop(peer_id, None)

    def closest(self, place: int, count: int = CLOSEST) -> list[Contact]:
        """The peers nearest to a place, the nearest first."""
        known = [contact for bucket in self._buckets.values() for contact in bucket.values()]
        return sorted(known, key=lambda contact: place_of_peer(contact.peer_id) ^ place)[:count]

    def _index(self, peer_id: str) -> int:
        return (place_of_peer(peer_id) ^ self._own).bit_length()

    def _bucket(self, peer_id: str) -> dict[str, Contact]:
        return self._buckets.get(self._index(peer_id), {})


class Lookup:
    """A search for the peers nearest to a place, from those known at first. `own_id` is not asked.

    enough  how many of the nearest have to answer
    """

    def __init__(self, place: int, known: Iterable[Contact], own_id: str, enough: int = CLOSEST) -> None:
        self._place = place
        self._own_id = own_id
        self._enough = enough
        self._heard: dict[str, Contact] = {}
        self._nearest: list[tuple[int, str]] = []  # all that were heard of, with their distances
        self._namer: dict[str, str] = {}
        self._blame: Counter[str] = Counter()
        self._asked: set[str] = set()
        self._failed: set[str] = set()
        self._answered: set[str] = set()
        for contact in known:
            self._hear(contact, "")

    def next(self) -> Contact | None:
        """Whom to ask next, if anybody: until the nearest have answered."""
        if len(self._asked) >= KAD_ASKED_MAX:
            return None
        near = (peer for peer in self._ranked() if peer not in self._failed)
        for peer in islice(near, self._enough):
            if peer not in self._asked:
                self._asked.add(peer)
                return self._heard[peer]
        return None

    def take(self, peer_id: str, closer: Iterable[Contact]) -> None:
        """A peer that was asked has answered, and names others."""
        self._answered.add(peer_id)
        for contact in closer:
            if contact.addresses:
                self._hear(contact, peer_id)

    def fail(self, peer_id: str) -> None:
        """A peer that was asked has not answered."""
        self._failed.add(peer_id)
        self._blame[self._namer.get(peer_id, "")] += 1

    def nearest(self) -> list[Contact]:
        """The nearest of those that have answered."""
        found = sorted(self._answered, key=lambda peer: place_of_peer(peer) ^ self._place)
        return [self._heard[peer] for peer in found[:CLOSEST]]

    def _hear(self, contact: Contact, namer: str) -> None:
        peer = contact.peer_id
        if peer != self._own_id and peer not in self._heard and len(self._heard) < KAD_HEARD_MAX:
            self._heard[peer] = contact
            self._namer[peer] = namer
            insort(self._nearest, (place_of_peer(peer) ^ self._place, peer))

    def _ranked(self) -> Iterable[str]:
        """All that were heard of, the nearest first; last whom somebody has named whose names led nowhere."""
        order = [peer for _, peer in self._nearest]
        return sorted(order, key=self._blame_of) if self._blame else order

    def _blame_of(self, peer: str) -> int:
        namer = self._namer[peer]
        return self._blame[namer] // _BLAMED if namer and peer not in self._answered else 0
