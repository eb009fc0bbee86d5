"""An answer in the making: walks in, rows out, resumed as often as it takes.

`Answer` holds one query over one manifest. It starts a walk, takes what the walk
finds, starts the next one where the last was paused, and knows when the answer
is complete, what its rows are in order, and the cursor behind them. It does not
know where blocks come from: see `proof` and the node's resolver.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rhizome_index.blocks import cbor
from rhizome_index.blocks.cid import Cid
from rhizome_index.errors import IntegrityError, UsageError
from rhizome_index.index.keys import decode_key, encode_component
from rhizome_index.index.record import parse_path, projector, values_at
from rhizome_index.index.schema import Collection
from rhizome_index.limits import CURSOR_BYTES_MAX
from rhizome_index.query.combine import Choice
from rhizome_index.query.execute import Scan, scan, smallest, sort_key
from rhizome_index.query.expr import COUNT_BY, ROWS, Query
from rhizome_index.query.found import Counted, Found
from rhizome_index.query.groups import Group, first_groups
from rhizome_index.query.plan import Plan, decode_plan, encode_plan
from rhizome_index.query.rows import Row


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page ended: good for one query on one manifest, whoever answers.

    ordered   whether the access path gives the query's order
    position  if so, the key of the last row's entry; otherwise the last row's sort key
    """

    query: bytes
    manifest: Cid
    plan: Plan
    ordered: bool
    position: bytes

    def __str__(self) -> str:
        body = cbor.encode(
            [self.query[:16], cbor.Link(self.manifest), encode_plan(self.plan), self.ordered, self.position]
        )
        return urlsafe_b64encode(body).rstrip(b"=").decode()

    @classmethod
    def parse(cls, text: str, query: Query) -> Cursor:
        """From its text. Raises UsageError unless it belongs to this query."""
        problem = UsageError("not a cursor of this query", hint="a cursor continues exactly the query that gave it")
        if len(text) > 4 * CURSOR_BYTES_MAX // 3 + 1:
            raise UsageError(
                f"a cursor of more than {CURSOR_BYTES_MAX:,} bytes",
                hint="what it sorts by is too long to go on behind it; ask for more rows at once",
            )
        try:
            data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
            digest, manifest, plan, ordered, position = cbor.decode(data)
            if digest != query.digest[:16] or type(manifest) is not cbor.Link:
                raise problem
            if type(position) is not bytes or type(ordered) is not bool:
                raise problem
            return cls(query.digest, bytes(manifest), decode_plan(plan), ordered, position)
        except (IntegrityError, ValueError, TypeError):
            raise problem from None


class Answer:
    """The rows of one query, gathered from one walk after another."""

    def __init__(self, query: Query, collection: Collection, candidate: Choice, cursor: Cursor | None = None) -> None:
        if cursor is not None and (cursor.plan, cursor.ordered) != (candidate.plan, candidate.ordered):
            raise UsageError("not a cursor of this query", hint="a cursor continues exactly the query that gave it")
        after = cursor.position if cursor else None
        self.query = query
        self.collection = collection
        self.candidate = candidate
        self.entries = 0
        self.count = 0
        self.is_complete = False
        self._after = after
        self._position = after if candidate.ordered else None
        self._seen: set[bytes] = set()
        self._rows: list[Row] = []
        self._groups: dict[bytes, int] = {}
        self._project = None
        if query.kind == ROWS and query.paths:
            self._project = projector(tuple(map(parse_path, query.paths)))
        self._given = 0
        self._key: Callable[[Row], bytes] | None = None
        if not candidate.ordered and query.kind == ROWS:
            self._key = sort_key(query, collection)

    @property
    def position(self) -> bytes | None:
        """Where the next walk begins."""
        return self._position

    @property
    def left(self) -> int | None:
        """Rows still wanted, where they come in order; otherwise None: all must be seen."""
        if self.query.limit is None or not self.candidate.ordered:
            return None
        return self.query.limit - self._given - len(self._rows)

    def next_walk(self) -> Scan:
        """A walk for the rest of the answer."""
        return scan(self.query, self.collection, self.candidate, self._position, self.left)

    def take(self, found: Found) -> None:
        """What a walk has found."""
        self.entries += found.entries
        self._position = found.position
        rows: Sequence[Row] = found.rows
        if self.candidate.repeats:
            rows = [row for row in rows if row.key not in self._seen]
            self._seen.update(row.key for row in rows)
        if self.query.kind != ROWS:
            self.count += len(rows)
            self._note_groups(rows, found.groups)
            return
        if self._key is None:
            self._rows.extend(rows)
            return
        if self._after is not None:
            rows = [row for row in rows if self._key(row) > self._after]
        self._rows.extend(rows)
        limit = self.query.limit
        if limit is not None and len(self._rows) > 2 * limit + 1024:
            self._rows = smallest(self._rows, self._key, limit)

    def finish(self, result: Counted | None) -> None:
        """A walk has come to its end, and with it the answer."""
        self.is_complete = True
        if result is not None:
            self.count = result.count
            self._note_groups((), result.groups)
        if self.query.is_grouped:
            self._rows = list(self._grouped())
        if self._key is not None:
            self._rows = smallest(self._rows, self._key, self.query.limit)

    def rows(self) -> Iterator[Row]:
        """Rows that are known to be next, each given once. Sorted answers give none before they are complete.

        Their positions are those of cursors: sort keys, where they were sorted.
        """
        if self._key is not None and not self.is_complete:
            return iter(())
        if self.query.is_grouped and not self.is_complete:
            return iter(())
        rows, self._rows = self._rows, []
        self._given += len(rows)
        if self._key is not None:
            rows = [row._replace(position=self._key(row)) for row in rows]
        if self._project is not None:
            rows = [row._replace(record=self._project(row.record)) for row in rows]
        return iter(rows)

    def _note_groups(self, rows: Sequence[Row], groups: Sequence[Group]) -> None:
        for part, count in groups:
            self._groups[part] = self._groups.get(part, 0) + count
        if self.query.is_grouped:
            path = parse_path(self.query.paths[0])
            for row in rows:
                for part in set(map(encode_component, values_at(row.record, path)[0])):
                    self._groups[part] = self._groups.get(part, 0) + 1

    def _grouped(self) -> Iterator[Row]:
        """The groups as rows."""
        by_count = self.query.kind == COUNT_BY
        for part, count in first_groups(self._groups, self.query.limit, by_count=by_count):
            (value,) = decode_key(part)
            yield Row(part, part, {"value": value, "count": count} if by_count else {"value": value})

    def cursor(self, manifest: Cid, last: Row | None) -> Cursor | None:
        """The cursor behind the last row given, or None if nothing can follow."""
        if last is None or self.query.kind != ROWS or self.query.limit is None or self._given < self.query.limit:
            return None
        return Cursor(self.query.digest, manifest, self.candidate.plan, self.candidate.ordered, last.position)
