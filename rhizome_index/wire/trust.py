"""`/rhizome/trust/1`: what a peer has found out about a head.

If it knows a fraud proof against the head, that is the answer: its blocks, in order. The
asker judges them as they come. A proof that does not convict, or convicts another
head, is a lie of the peer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rhizome_index.blocks import cbor
from rhizome_index.blocks.cid import Cid
from rhizome_index.errors import IntegrityError, UsageError
from rhizome_index.index.address import Address
from rhizome_index.trust.evidence import Fraud, Judging
from rhizome_index.wire import message as m

PROTOCOL = "/rhizome/trust/1"


@dataclass(frozen=True, slots=True)
class About:
    """A request: a head, by its dataset and its manifest."""

    address: Address
    manifest: Cid

    def fields(self) -> dict[str, Any]:
        return {"dataset": str(self.address), "manifest": cbor.Link(self.manifest)}

    @classmethod
    def read(cls, fields: Any) -> About:
        """Raises IntegrityError for a request that is none."""
        dataset, manifest = m.read_fields(fields, dataset=m.is_text, manifest=m.is_link)
        try:
            return cls(Address.parse(dataset), bytes(manifest))
        except UsageError as error:
            raise IntegrityError(str(error)) from None


def answer(number: int, fraud: Fraud | None) -> Iterator[bytes]:
    """The frames that answer a request."""
    packer = m.BlockPacker(number)
    for block in fraud.blocks if fraud is not None else ():
        yield from packer.add(block)
    yield from packer.flush()
    yield m.encode_end(number, {})


class AskingTrust:
    """One request from the asker's side. `fraud` is the proof, judged, if there is one."""

    def __init__(self, about: About) -> None:
        self.fraud: Fraud | None = None
        self.failure: m.Failure | None = None
        self.is_over = False
        self._about = about
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
            m.read_fields(reply.fields)
            if self._judging is not None:
                self.fraud = self._accept(self._judging.close())
            self.is_over = True
        else:
            raise IntegrityError("an answer that opens where none does")

    def _accept(self, fraud: Fraud) -> Fraud:
        head = fraud.heads[0]
        if len(fraud.heads) != 1 or (head.address, head.manifest) != (self._about.address, self._about.manifest):
            raise IntegrityError("a fraud proof against another head")
        return fraud
