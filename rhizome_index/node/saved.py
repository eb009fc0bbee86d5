"""A saved answer: a CAR file that anybody can check offline.

It begins with a block `{"kind": "rhizome-answer/1", "query", "plan", "after", "head",
"manifest"}`, its root; then come the manifest and the proof's blocks in the walk's order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from rhizome_index.blocks import cbor
from rhizome_index.blocks.car import write_car
from rhizome_index.blocks.cid import Cid, check_block, cid_of
from rhizome_index.errors import IntegrityError, UnavailableError, UsageError
from rhizome_index.index.head import Head, open_head
from rhizome_index.index.manifest import decode_manifest
from rhizome_index.limits import SAVED_PROOF_BYTES_MAX
from rhizome_index.query.answer import Answer, Cursor
from rhizome_index.query.combine import find_candidate
from rhizome_index.query.expr import Query, decode_query, encode_query
from rhizome_index.query.plan import decode_plan, encode_plan
from rhizome_index.query.proof import Replay
from rhizome_index.query.rows import Row

if TYPE_CHECKING:  # whoever checks a file needs no wire
    from rhizome_index.wire.ask import Opening

ANSWER_KIND = "rhizome-answer/1"


def write_answer(
    file: BinaryIO, opening: Opening, answer: Answer, cursor: Cursor | None, blocks: list[tuple[Cid, bytes]]
) -> int:
    """Save a complete answer with its proof. Returns how many blocks the file holds.

    Raises UnavailableError where the proof came in parts that make no whole.
    """
    whole = _as_one_walk(answer, cursor, dict(blocks))
    root = cbor.encode(
        {
            "kind": ANSWER_KIND,
            "query": encode_query(answer.query),
            "plan": encode_plan(answer.candidate.plan),
            "after": None if cursor is None else cursor.position,
            "head": opening.head.envelope,
            "manifest": cbor.Link(opening.head.manifest),
        }
    )
    named = (cid_of(root), root)
    return write_car(file, [named[0]], [named, (opening.head.manifest, opening.manifest_bytes), *whole])


def _as_one_walk(answer: Answer, cursor: Cursor | None, blocks: Mapping[Cid, bytes]) -> list[tuple[Cid, bytes]]:
    """The blocks that one walk needs, in its order. Raises UnavailableError if not all are there.

    A part may end within a batch of records; then the walk that goes on takes other batches than one walk would.
    It finds the same rows, but one walk may want to look at more entries behind the last of them.
    """
    again = Answer(answer.query, answer.collection, answer.candidate, cursor)
    replay = Replay(again.next_walk(), again.take)
    while not replay.is_done:
        data = blocks.get(replay.next_cid)
        if data is None:
            raise UnavailableError(
                "the answer is right, but its parts make no single proof to save", hint="ask for fewer rows at a time"
            )
        replay.feed(data)
    return replay.blocks


@dataclass(frozen=True, slots=True)
class Verified:
    """A saved answer that holds."""

    head: Head
    query: Query
    answer: Answer
    rows: list[Row]
    blocks: int
    bytes: int


def verify_answer(body: Any, blocks: Iterator[tuple[Cid, bytes]]) -> Verified:
    """Check a saved answer by replaying its walk: its decoded root, and the blocks behind it. Raises IntegrityError."""
    fields = {"kind", "query", "plan", "after", "head", "manifest"}
    if not isinstance(body, dict) or body.get("kind") != ANSWER_KIND or body.keys() != fields:
        raise IntegrityError("no saved answer and no fraud proof", hint="datasets are read with: rhizome restore")
    if not all(type(body[name]) is bytes for name in ("head", "query")) or type(body["after"]) not in (
        bytes,
        type(None),
    ):
        raise IntegrityError("a saved answer with a field of the wrong type")
    head, query, plan = open_head(body["head"]), decode_query(body["query"]), decode_plan(body["plan"])
    manifest = next(blocks, None)
    if manifest is None or manifest[0] != head.manifest or body["manifest"] != head.manifest:
        raise IntegrityError("a saved answer without the manifest of its head")
    check_block(*manifest)
    try:
        collection = decode_manifest(manifest[1]).collection(query.collection)
    except UsageError as error:
        raise IntegrityError(str(error)) from None
    candidate = find_candidate(query, collection, plan)
    cursor = None
    if body["after"] is not None:
        cursor = Cursor(query.digest, head.manifest, plan, candidate.ordered, body["after"])
    answer = Answer(query, collection, candidate, cursor)
    replay = Replay(answer.next_walk(), answer.take)
    count = size = 0
    for cid, data in blocks:
        count += 1
        size += len(data)
        if size > SAVED_PROOF_BYTES_MAX:
            raise IntegrityError("a saved answer larger than any is")
        if not replay.is_done and replay.next_cid != cid:
            raise IntegrityError("the proof does not have the block that it needs next", cid=replay.next_cid)
        replay.feed(data)
    replay.close()
    answer.finish(replay.result)
    return Verified(head, query, answer, list(answer.rows()), count, size)
