"""Fraud proofs: a claim, the head that it is about, and the blocks that the walk which judges it reads.

They travel and are kept as blocks in order, without names, as proofs of answers are:

    1. {"kind": "rhizome-fraud/1", "heads": [envelope], "claim": [kind, collection, index, key, number],
        "attestations": [envelope, ...]}
    2. the manifest of that head
    3. the blocks of the walk

or, where two heads contradict each other by themselves, the first block alone, with both
heads and null for the claim. Attestations are of peers who have vouched for the tree that
is proven wrong: what they signed is not so either. As a file they are a CAR of the same
blocks, whose root is the first.

Whoever reads one believes nothing: the signature is checked, and the walk is driven over
the blocks. So a proof that does not convict is a forgery, and its sender a liar.

Source: protocols/fraud/1/spec.md
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO

from rhizome_index.blocks import cbor
from rhizome_index.blocks.car import read_car, write_car
from rhizome_index.blocks.cid import Cid, check_block, cid_of
from rhizome_index.errors import IntegrityError
from rhizome_index.index.head import Head, open_head
from rhizome_index.index.manifest import Manifest, decode_manifest
from rhizome_index.limits import ATTESTERS_ASKED_MAX, FRAUD_BYTES_MAX
from rhizome_index.query.proof import Replay
from rhizome_index.trust.attest import Attestation, open_attestation
from rhizome_index.trust.fraud import KINDS, RECORD, Claim, judge
from rhizome_index.trust.ladder import Derivation, derivation_of

KIND = "rhizome-fraud/1"
# Claims that show a tree not to be what its records give. A record that one of its indexes cannot hold does not:
# whoever has made another index of it is right.
_AGAINST_TREES = frozenset(KINDS) - {RECORD}


@dataclass(frozen=True, slots=True)
class Fraud:
    """A fraud proof that convicts.

    heads    the head that is convicted, or two that contradict each other
    claim    what is wrong with the former's dataset; None for two heads
    attestations  of what is proven wrong, by peer: they convict those who have signed them
    verdict  the same in words
    blocks   what proves it, in order
    """

    heads: tuple[Head, ...]
    claim: Claim | None
    attestations: tuple[Attestation, ...]
    verdict: str
    blocks: tuple[bytes, ...]

    @property
    def cid(self) -> Cid:
        """The name of the proof: that of its first block."""
        return cid_of(self.blocks[0])

    @property
    def derivation(self) -> Derivation | None:
        """What is proven not to be so, if whoever attests it is convicted too."""
        if self.claim is None or self.claim.kind not in _AGAINST_TREES:
            return None
        manifest = decode_manifest(self.blocks[1])
        return derivation_of(manifest.rule, manifest.collections[self.claim.collection], self.claim.index)

    def with_attestations(self, found: Iterable[Attestation]) -> Fraud:
        """The same proof against these peers too, as far as it convicts them and has room."""
        derivation = self.derivation
        convicted = {one.peer_id: one for one in (*found, *self.attestations) if one.derivation == derivation}
        chosen = [convicted[peer] for peer in sorted(convicted)[:ATTESTERS_ASKED_MAX]]
        if tuple(chosen) == self.attestations:
            return self
        return _read([_first(self.heads, self.claim, chosen), *self.blocks[1:]])

    def write(self, file: BinaryIO) -> int:
        """Save it as a CAR file. Returns how many blocks the file holds."""
        return write_car(file, [self.cid], ((cid_of(block), block) for block in self.blocks))

    def encode(self) -> bytes:
        """The bytes of its file."""
        file = BytesIO()
        self.write(file)
        return file.getvalue()


def accuse(head: Head, claim: Claim, manifest: bytes, blocks: Sequence[bytes]) -> Fraud:
    """A proof from what a walk that convicted has read. Raises IntegrityError if it does not convict."""
    return _read([_first([head], claim), manifest, *blocks])


def accuse_of_two(one: Head, other: Head) -> Fraud:
    """The proof that two heads contradict each other. Raises IntegrityError if they do not."""
    heads = sorted((one, other), key=lambda head: head.envelope)
    return _read([_first(heads, None)])


def _first(heads: Sequence[Head], claim: Claim | None, attestations: Sequence[Attestation] = ()) -> bytes:
    body = {
        "kind": KIND,
        "heads": [head.envelope for head in heads],
        "claim": None if claim is None else claim.body(),
        "attestations": [one.envelope for one in attestations],
    }
    return cbor.encode(body)


def _read(blocks: Sequence[bytes]) -> Fraud:
    judging = Judging()
    for block in blocks:
        judging.feed(block)
    return judging.close()


class Judging:
    """A fraud proof on its way here, judged block by block."""

    def __init__(self) -> None:
        self._heads: tuple[Head, ...] = ()
        self._claim: Claim | None = None
        self._attestations: tuple[Attestation, ...] = ()
        self._replay: Replay | None = None
        self._blocks: list[bytes] = []
        self._size = 0

    def feed(self, block: bytes) -> None:
        """Take the next block. Raises IntegrityError for one that the proof of a fraud does not have there."""
        self._size += len(block)
        if self._size > FRAUD_BYTES_MAX:
            raise IntegrityError(f"a fraud proof of more than {FRAUD_BYTES_MAX:,} bytes")
        if not self._blocks:
            self._open(block)
        elif self._claim is None:
            raise IntegrityError("a fraud proof that goes on behind its end")
        elif self._replay is None:
            check_block(self._heads[0].manifest, block)
            manifest = decode_manifest(block)
            self._replay = Replay(judge(manifest, self._claim))
            self._check_attestations(manifest, self._claim)
        else:
            self._replay.feed(block)
        self._blocks.append(block)

    def _open(self, block: bytes) -> None:
        body = cbor.decode(block)
        if not is_fraud(body) or body.keys() != {"kind", "heads", "claim", "attestations"}:
            raise IntegrityError("not a fraud proof")
        envelopes = body["heads"]
        if type(envelopes) is not list or not all(type(envelope) is bytes for envelope in envelopes):
            raise IntegrityError("a fraud proof without heads")
        self._heads = tuple(open_head(envelope) for envelope in envelopes)
        words = body["attestations"]
        if type(words) is not list or len(words) > ATTESTERS_ASKED_MAX or not all(type(one) is bytes for one in words):
            raise IntegrityError("a fraud proof with attestations that are none")
        self._attestations = tuple(map(open_attestation, words))
        peers = [one.peer_id for one in self._attestations]
        if peers != sorted(set(peers)):
            raise IntegrityError("attestations that are not in order")
        if body["claim"] is None:
            _check_two(self._heads)
            if peers:
                raise IntegrityError("attestations of what two heads do not disprove")
        else:
            self._claim = Claim.read(body["claim"])
            if len(self._heads) != 1:
                raise IntegrityError("a claim is about one head")

    def _check_attestations(self, manifest: Manifest, claim: Claim) -> None:
        if self._attestations:
            collection = manifest.collections.get(claim.collection)
            is_there = collection is not None and (not claim.index or claim.index in collection.indexes)
            if collection is None or not is_there or claim.kind not in _AGAINST_TREES:
                raise IntegrityError("attestations of what the claim does not disprove")
            derivation = derivation_of(manifest.rule, collection, claim.index)
            if any(one.derivation != derivation for one in self._attestations):
                raise IntegrityError("attestations of what the claim does not disprove")

    def close(self) -> Fraud:
        """The proof, if it convicts. Raises IntegrityError otherwise."""
        if not self._blocks:
            raise IntegrityError("a fraud proof without anything")
        verdict = _verdict_on_two(self._heads) if self._claim is None else ""
        if self._claim is not None:
            if self._replay is None:
                raise IntegrityError("a fraud proof that ends too early")
            self._replay.close()
            verdict = self._replay.result
        return Fraud(self._heads, self._claim, self._attestations, verdict, tuple(self._blocks))


def is_fraud(body: Any) -> bool:
    """Whether the first block of a file says that it holds a fraud proof."""
    return isinstance(body, dict) and body.get("kind") == KIND


def read_fraud(roots: Sequence[Cid], blocks: Iterable[tuple[Cid, bytes]]) -> Fraud:
    """The fraud proof in the blocks of a CAR file. Raises IntegrityError if it is none, or does not convict."""
    judging = Judging()
    for place, (cid, block) in enumerate(blocks):
        if place == 0 and list(roots) != [cid]:
            raise IntegrityError("a CAR file whose root is not its first block")
        judging.feed(block)
    return judging.close()


def decode_fraud(data: bytes) -> Fraud:
    """The fraud proof in the bytes of a CAR file. Raises IntegrityError."""
    return read_fraud(*read_car(BytesIO(data)))


def _verdict_on_two(heads: Sequence[Head]) -> str:
    one, other = heads
    if one.sequence == other.sequence and one.manifest != other.manifest:
        return f"two different datasets are signed as head {one.sequence}"
    return f"heads {one.sequence} and {other.sequence} are signed with keys of which one had replaced the other"


def _check_two(heads: Sequence[Head]) -> None:
    if len(heads) != 2 or heads[0].envelope >= heads[1].envelope:
        raise IntegrityError("a contradiction takes two heads, in order")
    one, other = heads
    if one.address != other.address or not one.contradicts(other):
        raise IntegrityError("two heads that do not contradict each other")
