"""What peers attest of indexes, kept: whose word, from which network.

Rows are looked at again whenever they are needed, and envelopes verified: damage takes
attesters away and brings none.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from rhizome_index.blocks import cbor
from rhizome_index.blocks.cid import Cid
from rhizome_index.errors import IntegrityError
from rhizome_index.index.head import Head
from rhizome_index.limits import ATTESTATIONS_KEPT_MAX, ATTESTERS_MIN
from rhizome_index.node.checked import with_check, without_check
from rhizome_index.node.cost import Cost
from rhizome_index.node.disk import DiskStore
from rhizome_index.trust.attest import Attestation, open_attestation
from rhizome_index.trust.ladder import ATTESTED, PROVEN, Derivation, Standing


@dataclass(frozen=True, slots=True)
class Word:
    """An attestation, and the network that it came from, where that is known."""

    attestation: Attestation
    network: str | None


@dataclass(frozen=True, slots=True)
class Attested:
    """What peers say of an index as of a head.

    derivation  what the head's manifest says
    words       what peers say, by peer: of the same index, or of another one made of the same
    standing    what is proven of it, by their words or by other means
    """

    head: Head
    collection: str
    index: str
    derivation: Derivation
    words: tuple[Word, ...]
    standing: Standing
    cost: Cost


class Attestations:
    """Attestations over a store."""

    def __init__(self, store: DiskStore) -> None:
        self._store = store

    def keep(self, word: Word) -> None:
        """Keep a peer's word. What else it has said of the same is kept too, and disputes it. Raises StoreError."""
        said = word.attestation
        with self._store.transaction():
            self._store.execute(
                "insert or replace into attestations (given, peer_id, derivation, word) values (?, ?, ?, ?)",
                (said.derivation.given, said.peer_id, said.derivation.digest, _encode(word)),
            )
            self._store.execute(
                "delete from attestations where id <= (select max(id) from attestations) - ?", (ATTESTATIONS_KEPT_MAX,)
            )

    def about(self, given: bytes) -> list[Word]:
        """What peers say is made of the same, by peer; without those that are convicted."""
        rows = self._store.execute(
            "select cast(word as blob) from attestations where given = ? "
            "and peer_id not in (select peer_id from liars) order by peer_id, id",
            (given,),
        )
        found = (_decode(data or b"") for (data,) in rows)
        return [word for word in found if word is not None and word.attestation.derivation.given == given]

    def distrust(self, peer_id: str, manifest: Cid) -> None:
        """A peer is convicted, by the fraud proof against a manifest: none of its words counts any more."""
        self._store.execute("insert or ignore into liars values (?, ?)", (peer_id, manifest))

    def standing(self, derivation: Derivation) -> Standing:
        """What follows from it for an index: ATTESTED by as many as there are networks, or no more than PROVEN."""
        words = self.about(derivation.given)
        if any(word.attestation.derivation != derivation for word in words):
            return Standing(PROVEN, is_disputed=True)
        networks = {word.network for word in words if word.network is not None}
        return Standing(ATTESTED if len(networks) >= ATTESTERS_MIN else PROVEN, attesters=len(networks))


def _encode(word: Word) -> bytes:
    return with_check(cbor.encode([word.network, word.attestation.envelope]))


def _decode(data: bytes) -> Word | None:
    """What a row says; None if it is damaged."""
    with suppress(IntegrityError, ValueError, TypeError):
        if (body := without_check(data)) is not None:
            network, envelope = cbor.decode(body)
            return Word(open_attestation(envelope), network)
    return None
