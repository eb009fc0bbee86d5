"""Execute a candidate: a walk that yields what it needs and the rows it finds.

The same walk runs over a local store, on a peer that answers, and over the
proof that the peer sends; it knows of none of them. It reads entries in order
and asks for records a batch at a time, so that it can be driven block by block.
What it finds comes with a position: a walk begun behind that position finds the
rest.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from heapq import nsmallest
from typing import Any

from rhizome_index.index.condition import all_of, compile_filter
from rhizome_index.index.keys import INVERT, encode_component
from rhizome_index.index.record import parse_path, values_at
from rhizome_index.index.schema import Collection
from rhizome_index.index.write import Need
from rhizome_index.limits import ROWS_BATCH
from rhizome_index.query.combine import Choice, Combination
from rhizome_index.query.expr import COUNT, ROWS, Query
from rhizome_index.query.found import Counted, Found
from rhizome_index.query.groups import walk_groups
from rhizome_index.query.plan import sort_terms
from rhizome_index.query.rows import Row, reader
from rhizome_index.query.streams import behind
from rhizome_index.tree.cursor import count
from rhizome_index.tree.walk import NeedNodes

Scan = Generator[Need | Found, Any, "Counted | None"]


def scan(query: Query, collection: Collection, candidate: Choice, after: bytes | None, limit: int | None) -> Scan:
    """Walk a candidate's range, behind the position `after` if there is one, up to `limit` rows.

    The limit counts only where rows come in the query's order. Rows of a candidate that `repeats`
    may repeat records of earlier walks, never of the same one.
    """
    if candidate.grouped:
        return (yield from _scan_groups(candidate, after))
    if query.kind == COUNT and candidate.counts_alone:
        (only,) = candidate.parts
        return Counted((yield from count(only.tree, only.access.span)))
    if not candidate.ordered or query.kind != ROWS:
        limit = None
    if limit == 0:
        return None
    # What the range expresses holds for every record that gives an entry in it, which is checked.
    meets = compile_filter(all_of(*candidate.residual)) if candidate.residual else None
    keys_alone = query.kind == COUNT and isinstance(candidate, Combination) and meets is None
    stream = candidate.stream(after)
    read = reader(collection, candidate)
    seen: set[bytes] = set()
    left = limit
    while (hits := (yield from stream.next_entries())) is not None:
        at = 0
        while at < len(hits):
            size = ROWS_BATCH if left is None or candidate.residual else min(left, ROWS_BATCH)
            part = hits[at : at + size]
            at += size
            if keys_alone:
                yield Found([Row(item.position, item.position, {}) for item in part], len(part), part[-1].position)
                continue
            records = yield from read(part)
            rows = records if meets is None else [row for row in records if meets(row.record)]
            if candidate.repeats:
                rows = [row for row in rows if not (row.key in seen or seen.add(row.key))]  # type: ignore[func-returns-value]
            if left is not None:
                rows = rows[:left]
                left -= len(rows)
            if records:
                yield Found(rows, len(records), rows[-1].position if left == 0 else records[-1].position)
            if left == 0 or len(records) < len(part):
                return None
    return None


def _scan_groups(candidate: Choice, after: bytes | None) -> Scan:
    (only,) = candidate.parts
    walk = walk_groups(only.tree, behind(only.access.span, after, reverse=False), only.group_at)
    reply: Any = None
    while True:
        try:
            step = walk.send(reply)
        except StopIteration as stop:
            return Counted(0, stop.value)
        if isinstance(step, NeedNodes):
            reply = yield step
        else:
            position, entries, groups = step
            reply = yield Found((), entries, position, groups)


def sort_key(query: Query, collection: Collection) -> Callable[[Row], bytes]:
    """The bytes by which rows sort in the query's order."""
    terms = [(parse_path(term.path), term.descending) for term in sort_terms(query, collection)]

    def key(row: Row) -> bytes:
        parts = []
        for path, descending in terms:
            values, _ = values_at(row.record, path)
            components = [encode_component(value) for value in values] or [encode_component(None)]
            part = max(components) if descending else min(components)
            parts.append(part.translate(INVERT) if descending else part)
        return b"".join(parts)

    return key


def smallest(rows: Sequence[Row], key: Callable[[Row], bytes], limit: int | None) -> list[Row]:
    """The first rows in an order."""
    return sorted(rows, key=key) if limit is None else nsmallest(limit, rows, key=key)
