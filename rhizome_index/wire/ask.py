"""`/rhizome/ask/1`: a query in, the proof of its answer back, in one round trip.

The asker may know nothing but the dataset's address: then the answer opens with
the head, the manifest and the plan chosen, and the asker accepts only a plan
that its own planner lists for that query and manifest. It replays the walk over
the blocks that follow, so that it knows each row as soon as it has arrived, and
knows when the answer is complete: nobody else's word is taken for it.

A long answer pauses, and the next request goes on behind the last position.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from rhizome_index.blocks import cbor
from rhizome_index.blocks.cid import Cid, check_block
from rhizome_index.errors import IntegrityError, UnavailableError, UsageError
from rhizome_index.index.address import Address
from rhizome_index.index.head import Head, open_head
from rhizome_index.index.manifest import Manifest, decode_manifest
from rhizome_index.limits import ASK_ENTRIES_MAX, ASK_ROWS_MAX, KEY_BYTES_MAX, PROOF_BYTES_MAX
from rhizome_index.query.answer import Answer, Cursor
from rhizome_index.query.combine import Choice, find_candidate
from rhizome_index.query.execute import scan
from rhizome_index.query.expr import Query, decode_query, encode_query
from rhizome_index.query.found import Counted, Found
from rhizome_index.query.plan import Plan, decode_plan, encode_plan
from rhizome_index.query.proof import Replay, Source, record
from rhizome_index.wire import message as m

PROTOCOL = "/rhizome/ask/1"


@dataclass(frozen=True, slots=True)
class Ask:
    """A request.

    manifest  of the head to answer from; None: the newest the peer has
    known     the asker has the manifest already; otherwise the peer sends it along
    plan      which; None: the peer chooses, and says which
    after     go on behind this position
    limit     rows wanted from here on, or None
    budget    bytes of blocks that the asker takes at most
    scan      whether the peer may choose to scan everything
    """

    address: Address
    query: Query
    manifest: Cid | None = None
    known: bool = False
    plan: Plan | None = None
    after: bytes | None = None
    limit: int | None = None
    budget: int = PROOF_BYTES_MAX
    scan: bool = False

    def fields(self) -> dict[str, Any]:
        return {
            "dataset": str(self.address),
            "query": encode_query(self.query),
            "manifest": None if self.manifest is None else cbor.Link(self.manifest),
            "known": self.known,
            "plan": None if self.plan is None else encode_plan(self.plan),
            "after": self.after,
            "limit": self.limit,
            "budget": self.budget,
            "scan": self.scan,
        }

    @classmethod
    def read(cls, fields: Any) -> Ask:
        """Raises IntegrityError for a request that is none."""
        dataset, query, manifest, known, plan, after, limit, budget, scan_ = m.read_fields(
            fields,
            dataset=m.is_text,
            query=m.is_bytes,
            manifest=m.optional(m.is_link),
            known=m.is_flag,
            plan=m.is_anything,
            after=m.optional(m.is_bytes),
            limit=m.optional(m.is_natural),
            budget=m.is_natural,
            scan=m.is_flag,
        )
        if after is not None and len(after) > KEY_BYTES_MAX:
            raise IntegrityError("a position longer than any key")
        try:
            address = Address.parse(dataset)
        except UsageError as error:
            raise IntegrityError(str(error)) from None
        return cls(
            address,
            decode_query(query),
            None if manifest is None else bytes(manifest),
            known,
            None if plan is None else decode_plan(plan),
            after,
            limit,
            min(budget, PROOF_BYTES_MAX),
            scan_,
        )


class Answerer(Source, Protocol):
    """What an answering peer brings: its datasets, its planner and its store."""

    def snapshot(self, address: Address, manifest: Cid | None) -> tuple[Head, bytes, Manifest]:
        """The head, the manifest's bytes and the manifest of a dataset. Raises UnavailableError."""

    def choose(self, query: Query, manifest: Manifest, *, allow_scan: bool) -> Choice:
        """The best candidate. Raises UsageError or UnavailableError."""


def answer(number: int, ask: Ask, peer: Answerer) -> Iterator[bytes]:
    """The frames that answer a request; an empty one now and then, where others may have their turn.

    Blocks are read only as the frames are taken.
    """
    try:
        head, manifest_bytes, manifest = peer.snapshot(ask.address, ask.manifest)
        collection = manifest.collection(ask.query.collection)
        if ask.plan is None:
            candidate = peer.choose(ask.query, manifest, allow_scan=ask.scan)
        else:
            candidate = find_candidate(ask.query, collection, ask.plan)
    except UnavailableError as error:
        yield m.encode_failure(number, m.UNKNOWN, str(error))
        return
    except UsageError as error:
        yield m.encode_failure(number, m.REFUSED, f"{error}; {error.hint}" if error.hint else str(error))
        return
    except IntegrityError as error:
        yield m.encode_failure(number, m.MALFORMED, str(error))
        return
    yield m.encode_open(
        number,
        {
            "head": head.envelope,
            "manifest": None if ask.known else manifest_bytes,
            "plan": encode_plan(candidate.plan),
        },
    )
    packer = m.BlockPacker(number)
    walk = scan(ask.query, collection, candidate, ask.after, ask.limit)
    size = rows = entries = 0
    complete = is_enough = False
    try:
        for step in record(walk, peer):
            if isinstance(step, Found):
                rows += len(step.rows)
                entries += step.entries
                is_enough = rows >= ASK_ROWS_MAX or entries >= ASK_ENTRIES_MAX
                yield b""
            elif step is None or isinstance(step, Counted):
                complete = True
            else:
                # Only here is there anything to pause before: the asker comes so far by itself, perhaps to the end.
                size += len(step[1])
                if is_enough or size > ask.budget:
                    break
                yield from packer.add(step[1])
    except UnavailableError as error:
        yield m.encode_failure(number, m.MISSING, str(error))
        return
    yield from packer.flush()
    yield m.encode_end(number, {"complete": complete})


@dataclass(frozen=True, slots=True)
class Opening:
    """What a dataset looked like to the peer that opened an answer, verified."""

    head: Head
    manifest: Manifest
    manifest_bytes: bytes


class Asking:
    """One request from the asker's side: takes the replies, checks everything, fills an `Answer`.

    opening  what the asker knows already, for a request that names a manifest
    answer   what the request continues, if anything
    cursor   what the whole answer continues, if anything
    """

    def __init__(
        self,
        ask: Ask,
        opening: Opening | None = None,
        answer: Answer | None = None,
        cursor: Cursor | None = None,
    ) -> None:
        self.ask = ask
        self.cursor = cursor
        self.opening = opening
        self.answer = answer
        self.failure: m.Failure | None = None
        self.is_over = False
        self.blocks_bytes = 0
        self.replay: Replay | None = None

    def take(self, reply: m.Reply) -> None:
        """Take one reply. Raises IntegrityError for anything that an honest peer does not send."""
        if self.is_over:
            raise IntegrityError("an answer that goes on behind its end")
        if isinstance(reply, m.Failure):
            self.failure, self.is_over = reply, True
        elif isinstance(reply, m.Open):
            self._open(reply)
        elif self.replay is None:
            raise IntegrityError("an answer that does not open with its head")
        elif isinstance(reply, m.Blocks):
            for block in reply.plain():
                if block is None:
                    raise IntegrityError("a proof with a gap")
                self.blocks_bytes += len(block)
                if self.blocks_bytes > self.ask.budget:
                    raise IntegrityError("a proof larger than what was asked for")
                self.replay.feed(block)
        else:
            self._end(reply)

    def cut_off(self) -> bool:
        """The answer has ended in the middle: what has come counts as if it had paused there. Whether that is any use.

        Then `opening`, `answer` and `replay` are there, as after an end. Raises IntegrityError.
        """
        if self.is_over or self.replay is None or self.answer is None:
            return False
        self.is_over = True
        try:
            if self.replay.is_done:
                self.answer.finish(self.replay.result)
            else:
                self.replay.pause()
        except UsageError as error:  # as in a link: what a peer sends is never our user's fault
            raise IntegrityError(str(error)) from None
        return self.answer.is_complete or self.answer.position != self.ask.after

    def _open(self, reply: m.Open) -> None:
        if self.replay is not None:
            raise IntegrityError("an answer that opens twice")
        envelope, manifest_bytes, plan = m.read_fields(
            reply.fields, head=m.is_bytes, manifest=m.optional(m.is_bytes), plan=m.is_anything
        )
        chosen = decode_plan(plan)
        if self.opening is None:
            self.opening = self._read_opening(envelope, manifest_bytes)
        elif manifest_bytes is not None:
            raise IntegrityError("a manifest that nobody asked for")
        try:
            collection = self.opening.manifest.collection(self.ask.query.collection)
        except UsageError:
            raise IntegrityError("an answer from a collection that the dataset does not have") from None
        if self.ask.plan is not None and chosen != self.ask.plan:
            raise IntegrityError("another plan than the one asked for")
        if self.answer is None:
            try:
                candidate = find_candidate(self.ask.query, collection, chosen)
                self.answer = Answer(self.ask.query, collection, candidate, self.cursor)
            except UsageError as error:  # an honest peer refuses such a query
                raise IntegrityError(f"an answer to what makes no sense there: {error}") from None
        elif self.answer.candidate.plan != chosen:
            raise IntegrityError("another plan than the one asked for")
        self.replay = Replay(
            scan(self.ask.query, collection, self.answer.candidate, self.ask.after, self.ask.limit), self.answer.take
        )

    def _read_opening(self, envelope: bytes, manifest_bytes: bytes | None) -> Opening:
        head = open_head(envelope)
        if head.address != self.ask.address:
            raise IntegrityError("the head of another dataset")
        if manifest_bytes is None or (self.ask.manifest is not None and head.manifest != self.ask.manifest):
            raise IntegrityError("a head without its manifest")
        check_block(head.manifest, manifest_bytes)
        return Opening(head, decode_manifest(manifest_bytes), manifest_bytes)

    def _end(self, reply: m.End | m.Open | m.Blocks) -> None:
        assert isinstance(reply, m.End) and self.replay is not None and self.answer is not None
        (complete,) = m.read_fields(reply.fields, complete=m.is_flag)
        if complete != self.replay.is_done:
            raise IntegrityError(
                "an answer said to be complete that is not" if complete else "a complete answer said to be incomplete"
            )
        if self.replay.is_done:
            self.answer.finish(self.replay.result)
        else:
            self.replay.pause()
            if self.answer.position == self.ask.after and self.ask.budget == PROOF_BYTES_MAX:
                raise IntegrityError("an answer that makes no progress")
        self.is_over = True
