"""`/rhizome/trust/1`: what a peer has found out about a head.

If it knows a fraud proof against the head, that is the answer: its blocks, in order. The
asker judges them as they come. A proof that does not convict, or convicts another
head, is a lie of the peer. Else it attests those indexes of a collection that it has
made itself: its own word only, since whose word is passed on has no network to show.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from rhizome_index.blocks import cbor
from rhizome_index.blocks.cid import Cid
from rhizome_index.errors import IntegrityError, UsageError
from rhizome_index.index.address import Address
from rhizome_index.index.schema import check_name
from rhizome_index.limits import INDEXES_MAX
from rhizome_index.trust.attest import Attestation, open_attestation
from rhizome_index.trust.evidence import Fraud, Judging
from rhizome_index.wire import message as m

PROTOCOL = "/rhizome/trust/1"


@dataclass(frozen=True, slots=True)
class About:
    """A request: a head, by its dataset and its manifest; and a collection, to have its indexes attested."""

    address: Address
    manifest: Cid
    collection: str | None = None

    def fields(self) -> dict[str, Any]:
        manifest = cbor.Link(self.manifest)
        return {"collection": self.collection, "dataset": str(self.address), "manifest": manifest}

    @classmethod
    def read(cls, fields: Any) -> About:
        """Raises IntegrityError for a request that is none."""
        dataset, manifest, collection = m.read_fields(
            fields, dataset=m.is_text, manifest=m.is_link, collection=m.optional(m.is_text)
        )
        try:
            name = None if collection is None else check_name(collection, "a collection")
            return cls(Address.parse(dataset), bytes(manifest), name)
        except UsageError as error:
            raise IntegrityError(str(error)) from None


def answer(number: int, fraud: Fraud | None, attestations: Iterable[Attestation] = ()) -> Iterator[bytes]:
    """The frames that answer a request: of a head that is convicted nothing is attested."""
    packer = m.BlockPacker(number)
    for block in fraud.blocks if fraud is not None else ():
        yield from packer.add(block)
    yield from packer.flush()
    said = () if fraud is not None else attestations
    yield m.encode_end(number, {"attestations": [one.envelope for one in said]})


class AskingTrust:
    """One request from the asker's side.

    fraud         the proof, judged, if there is one
    attestations  what the peer says itself of indexes of the collection, verified: what they are of is not looked at
    """

    def __init__(self, about: About, peer_id: str) -> None:
        self.fraud: Fraud | None = None
        self.attestations: tuple[Attestation, ...] = ()
        self.failure: m.Failure | None = None
        self.is_over = False
        self._about = about
        self._peer_id = peer_id
        self._judging: Judging | None = None

    def take(self, reply: m.Reply) -> None:
        """Take one reply. Raises IntegrityError for anything that an honest peer does not send."""
        if self.is_over:
            raise IntegrityError("an answer that goes on behind its end")
        if isinstance(reply, m.Failure):
            self.failure, self.is_over = reply, True
        elif isinstance(reply, m.Blocks):
            self._judging = self._judging or Judging()
            for block in reply.plain():
                if block is None:
                    raise IntegrityError("a fraud proof with a gap")
                self._judging.feed(block)
        elif isinstance(reply, m.End):
            self._take_attestations(reply.fields)
            if self._judging is not None:
                self.fraud = self._accept(self._judging.close())
            self.is_over = True
        else:
            raise IntegrityError("an answer that opens where none does")

    def _take_attestations(self, fields: Any) -> None:
        (envelopes,) = m.read_fields(fields, attestations=m.list_of(m.is_bytes, INDEXES_MAX + 1))
        if envelopes and (self._judging is not None or self._about.collection is None):
            raise IntegrityError("attestations where none belong")
        self.attestations = tuple(map(open_attestation, envelopes))
        if any(one.peer_id != self._peer_id for one in self.attestations):
            raise IntegrityError("the attestation of another peer")
        if len({one.derivation.given for one in self.attestations}) < len(self.attestations):
            raise IntegrityError("two attestations of one index")

    def _accept(self, fraud: Fraud) -> Fraud:
        head = fraud.heads[0]
        if len(fraud.heads) != 1 or (head.address, head.manifest) != (self._about.address, self._about.manifest):
            raise IntegrityError("a fraud proof against another head")
        return fraud
