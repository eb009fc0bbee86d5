"""The fraud proofs that a home keeps: heads that are refused, and why.

A contradiction lies in what a manifest leads to, so a head is convicted by its manifest,
whatever its sequence. Two heads that contradict each other need no proof beside
themselves: they stand among the heads.
"""

from __future__ import annotations

from contextlib import suppress

from rhizome_index.blocks.cid import Cid
from rhizome_index.errors import IntegrityError
from rhizome_index.index.address import Address
from rhizome_index.index.head import Head
from rhizome_index.node.attested import Attestations
from rhizome_index.node.disk import DiskStore
from rhizome_index.trust.evidence import Fraud, accuse_of_two, decode_fraud


class Frauds:
    """Fraud proofs over a store."""

    def __init__(self, store: DiskStore) -> None:
        self._store = store
        self._attestations = Attestations(store)

    def keep(self, fraud: Fraud) -> None:
        """Keep a proof for good; the first one of a manifest is enough. Who has attested what it disproves lies too."""
        if (derivation := fraud.derivation) is not None:
            words = self._attestations.about(derivation.given)
            fraud = fraud.with_attestations(word.attestation for word in words)
        with self._store.transaction():
            for one in fraud.attestations:
                self._attestations.distrust(one.peer_id, fraud.heads[0].manifest)
            for head in fraud.heads:
                self._store.put_head(head, is_heard=True)
            if fraud.claim is not None:
                (head,) = fraud.heads
                self._store.execute(
                    "insert or ignore into frauds values (?, ?, ?, ?, ?)",
                    (head.manifest, str(head.address), head.sequence, fraud.verdict, fraud.encode()),
                )

    def of(self, manifest: Cid) -> Fraud | None:
        """The proof against a manifest, judged again; None if there is none."""
        rows = self._store.execute("select cast(proof as blob) from frauds where manifest = ?", (manifest,))
        with suppress(IntegrityError):  # damaged
            return decode_fraud(rows[0][0] or b"") if rows else None
        return None

    def known(self) -> list[Fraud]:
        """All that can be proven, by dataset and sequence: two heads that contradict each other too."""
        rows = self._store.execute("select cast(manifest as blob) from frauds order by dataset, sequence")
        found = [fraud for (manifest,) in rows if (fraud := self.of(manifest or b"")) is not None]
        for (dataset,) in self._store.execute("select distinct cast(dataset as blob) from heads"):
            heads = self._store.equivocation(Address.parse(str(dataset or b"", "utf-8", "replace")))
            found += [accuse_of_two(*heads)] if heads is not None else []
        return sorted(found, key=lambda fraud: (fraud.heads[0].address, fraud.heads[0].sequence))

    def check(self, head: Head) -> None:
        """Raise IntegrityError if a head is convicted."""
        rows = self._store.execute("select cast(verdict as blob) from frauds where manifest = ?", (head.manifest,))
        if rows:
            raise refused(head, str(rows[0][0] or b"", "utf-8", "replace"))


def refused(head: Head, verdict: str) -> IntegrityError:
    """Why a head that is convicted is not used."""
    return IntegrityError(
        f"head {head.sequence} of {head.address} is refused: {verdict}",
        hint="the proof is kept here: rhizome evidence",
    )
