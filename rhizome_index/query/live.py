"""A query that stays open: the rows it has now, and what changes of them from one head to the next.

Every index entry holds its record's digest. So whatever happens to a record that an
answer lists, or should list, happens to an entry of the ranges that the answer is read
from, and the next answer is the last one and what differs there: nothing is asked again.

Where rows come in the query's order and only so many are wanted, those behind the last
of them are not known. When rows go, as many are read from there.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rhizome_index.blocks import cbor
from rhizome_index.errors import IntegrityError, UsageError
from rhizome_index.index.condition import compile_filter
from rhizome_index.index.record import Record, parse_path, projector
from rhizome_index.index.schema import Collection
from rhizome_index.index.write import Need
from rhizome_index.limits import LIVE_ROWS_MAX, ROWS_BATCH
from rhizome_index.query.combine import Choice, Combination, find_candidate
from rhizome_index.query.execute import scan, sort_key
from rhizome_index.query.expr import COUNT, ROWS, Query
from rhizome_index.query.found import Found
from rhizome_index.query.plan import PRIMARY, settled
from rhizome_index.query.rows import Row, full_reader, primary_keys
from rhizome_index.query.streams import Hit
from rhizome_index.tree.cursor import count
from rhizome_index.tree.diff import Diff

ADDED, REMOVED, CHANGED = "added", "removed", "changed"


@dataclass(frozen=True, slots=True)
class Change:
    """What has become of one row.

    kind    ADDED, REMOVED or CHANGED
    record  as it is now, or of REMOVED as it was
    """

    kind: str
    record: Record


Changing = Generator[Need, Any, list[Change]]
Rows = Mapping[bytes, Row]  # by primary key; positions are those of the order


@dataclass(frozen=True, slots=True)
class _State:
    """An answer for one state of a collection.

    rows   all that are known
    edge   position up to which all rows are known; None: all there are
    count  how many there are, of a query that counts
    shown  those of the rows that are the answer
    """

    collection: Collection
    candidate: Choice
    rows: Rows = field(default_factory=dict)
    edge: bytes | None = None
    count: int = 0
    shown: Rows = field(default_factory=dict)


class Live:
    """One query over one state of its collection after another. A walk that fails changes nothing."""

    def __init__(self, query: Query) -> None:
        """Raises UsageError for a query whose answer is neither rows nor a number."""
        if query.is_grouped:
            raise UsageError(f"a {query.kind!r} cannot be watched", hint="watch rows, or a count")
        self._is_count = query.kind == COUNT
        self.asked = replace(query, kind=ROWS)  # the query whose candidates it takes: to count may need rows
        self._project = projector(tuple(map(parse_path, query.paths))) if query.paths else None
        self._state: _State | None = None

    @property
    def count(self) -> int:
        """How many rows there are."""
        return self._state.count if self._state else 0

    @property
    def read_from(self) -> tuple[Collection, Choice]:
        """What the rows are read from, once it has begun."""
        assert self._state is not None
        return self._state.collection, self._state.candidate

    @property
    def rows(self) -> list[Record]:
        """The rows there are, in order, of a query that does not count."""
        return [row.record for row in self._state.shown.values()] if self._state else []

    def begin(self, collection: Collection, candidate: Choice) -> Changing:
        """Begin with a candidate of `asked`; or begin anew: what differs from the rows there were before."""
        state = _State(collection, candidate)
        if self._counts_alone(candidate):
            return (yield from self._recount(state))
        rows, edge = yield from self._read(state, None, self.asked.limit)
        return self._turn(state, rows, edge)

    def advance(self, collection: Collection) -> Generator[Need, Any, list[Change] | None]:
        """Go on to another state of the collection; None if it has to be begun anew there: its indexes are others."""
        before = self._state
        assert before is not None
        candidate = _carried(self.asked, before, collection)
        if candidate is None:
            return None
        state = _State(collection, candidate)
        if self._counts_alone(candidate):
            return (yield from self._recount(state))
        gone, found = yield from self._differing(before, state)
        rows = {key: row for key, row in before.rows.items() if key not in gone}
        rows.update(found)
        edge, limit = before.edge, self._limit(candidate)
        if limit is not None and len(rows) > limit:
            kept = sorted(rows.values(), key=_position, reverse=candidate.reverse)[:limit]
            rows, edge = {row.key: row for row in kept}, kept[-1].position
        elif limit is not None and len(rows) < limit and edge is not None:
            more, edge = yield from self._read(state, edge, limit - len(rows))
            rows.update(more)
        return self._turn(state, rows, edge)

    # --- reading ---

    def _read(
        self, state: _State, after: bytes | None, limit: int | None
    ) -> Generator[Need, Any, tuple[dict[bytes, Row], bytes | None]]:
        """The rows behind a position, and the new edge."""
        rows: dict[bytes, Row] = {}
        kept = self._keeper(state)
        walk = scan(self.asked, state.collection, state.candidate, after, limit)
        last, reply = None, None
        while True:
            try:
                step = walk.send(reply)
            except StopIteration:
                is_more = self._limit(state.candidate) is not None and len(rows) == limit
                return rows, last if is_more else None
            if not isinstance(step, Found):
                reply = yield step
                continue
            reply = None
            for row in step.rows:
                rows[row.key], last = kept(row), row.position
            _check_size(rows)

    def _differing(self, before: _State, state: _State) -> Generator[Need, Any, tuple[set[bytes], dict[bytes, Row]]]:
        """The primary keys of rows that had an entry that is another one now, and the rows that have such ones now."""
        meets = compile_filter(settled(self.asked, state.collection).where)
        kept = self._keeper(state)
        gone: set[bytes] = set()
        rows: dict[bytes, Row] = {}
        for was, now in zip(before.candidate.parts, state.candidate.parts, strict=True):
            name = now.access.index
            read = full_reader(state.collection, name)
            fixed = len(now.fixed) if isinstance(state.candidate, Combination) else 0
            diff = Diff(was.tree, now.tree, now.access.span)
            while (found := (yield from diff.next_differences())) is not None:
                old = [Hit(key, (key,), (value,)) for key, value, _ in found if value is not None]
                gone.update(key for key in primary_keys(before.collection, name, old) if key in before.rows)
                new = [Hit(key[fixed:], (key,), (value,)) for key, _, value in found if value is not None]
                for start in range(0, len(new), ROWS_BATCH):
                    for row in (yield from read(new[start : start + ROWS_BATCH])):
                        if meets(row.record) and _is_known(one := kept(row), before.edge, state.candidate):
                            rows[row.key] = one
                _check_size(rows)
        return gone, rows

    def _keeper(self, state: _State) -> Callable[[Row], Row]:
        """What is kept of each row: of one that is only counted next to nothing."""
        if self._is_count:
            return lambda row: Row(b"", row.key, {})
        project = self._project or (lambda record: record)
        if state.candidate.ordered:
            return lambda row: Row(row.position, row.key, project(row.record))
        place = sort_key(self.asked, state.collection)
        return lambda row: Row(place(row), row.key, project(row.record))

    # --- the next answer ---

    def _limit(self, candidate: Choice) -> int | None:
        """How many rows are enough to know: those wanted, where they come in the query's order."""
        return self.asked.limit if candidate.ordered else None

    def _counts_alone(self, candidate: Choice) -> bool:
        return self._is_count and candidate.counts_alone

    def _recount(self, state: _State) -> Changing:
        (only,) = state.candidate.parts
        self._state = replace(state, count=(yield from count(only.tree, only.access.span)))
        return []

    def _turn(self, state: _State, rows: dict[bytes, Row], edge: bytes | None) -> list[Change]:
        """Take an answer as the one there is now: what differs from the one before, in its order."""
        _check_size(rows)
        if self._is_count:
            self._state = replace(state, rows=rows, count=len(rows))
            return []
        in_order = sorted(rows.values(), key=_position, reverse=state.candidate.reverse)
        shown = {row.key: row for row in in_order[: self.asked.limit]}
        was = self._state.shown if self._state else {}
        self._state = replace(state, rows=rows, edge=edge, count=len(shown), shown=shown)
        changes = [Change(REMOVED, row.record) for key, row in was.items() if key not in shown]
        for key, row in shown.items():
            if (old := was.get(key)) is None:
                changes.append(Change(ADDED, row.record))
            elif old is not row and cbor.encode(old.record) != cbor.encode(row.record):
                changes.append(Change(CHANGED, row.record))
        return changes


def _carried(query: Query, before: _State, collection: Collection) -> Choice | None:
    """The same candidate over another state of the collection, if it is one there and does the same."""
    old, names = before.collection, {part.access.index for part in before.candidate.parts} - {PRIMARY}
    if (old.key, old.time, old.order) != (collection.key, collection.time, collection.order):
        return None
    if any(name not in collection.indexes for name in names):
        return None
    if any(old.indexes[name].definition != collection.indexes[name].definition for name in names):
        return None
    try:
        candidate = find_candidate(query, collection, before.candidate.plan)
    except IntegrityError:
        return None
    return candidate if _shape(candidate) == _shape(before.candidate) else None


def _shape(candidate: Choice) -> object:
    """What a candidate does, whatever its trees hold."""
    parts = [(part.fixed, part.fixed_paths, part.tail) for part in candidate.parts]
    return candidate.ordered, candidate.repeats, candidate.reverse, candidate.residual, candidate.bound, parts


def _position(row: Row) -> bytes:
    return row.position


def _is_known(row: Row, edge: bytes | None, candidate: Choice) -> bool:
    """Whether a row stands where all are known."""
    return edge is None or (row.position >= edge if candidate.reverse else row.position <= edge)


def _check_size(rows: Rows) -> None:
    if len(rows) > LIVE_ROWS_MAX:
        raise UsageError(
            f"an answer of more than {LIVE_ROWS_MAX:,} rows cannot be watched", hint="narrow it, or limit it"
        )
