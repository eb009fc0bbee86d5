"""What a query says: conditions on records, what of them is wanted, an order, a limit.

The canonical form is DAG-CBOR, so that a query has a digest to which cursors and
proofs bind.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from rhizome_index.blocks import cbor
from rhizome_index.errors import IntegrityError, UsageError
from rhizome_index.index.condition import EVERYTHING, Expr, check_expr, conjuncts_of, decode_expr, encode_expr
from rhizome_index.index.record import WORDS, parse_path
from rhizome_index.index.schema import SortPath, check_name
from rhizome_index.limits import QUERY_BYTES_MAX, QUERY_TERMS_MAX, ROWS_MAX

# The order a query asks for: of the collection, by its time, or by paths of its own.
DECLARED, NEWEST, OLDEST = "declared", "newest", "oldest"

# What a query wants: records, how many there are, how many there are by value, or the values there are.
ROWS, COUNT, COUNT_BY, DISTINCT = "rows", "count", "count by", "distinct"


@dataclass(frozen=True, slots=True)
class Query:
    """One query.

    order  DECLARED, NEWEST or OLDEST, or paths; ties fall to the primary key, in the direction of the last path
    limit  rows at most; None for all
    kind   ROWS, COUNT, COUNT_BY or DISTINCT
    paths  of ROWS: what of each record is wanted, or nothing for all of it; of COUNT_BY and DISTINCT: the one
           path whose values are told apart, each element of a list for itself
    """

    collection: str
    where: Expr = EVERYTHING
    order: str | tuple[SortPath, ...] = DECLARED
    limit: int | None = None
    kind: str = ROWS
    paths: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_name(self.collection, "a collection")
        if self.limit is not None and not 1 <= self.limit <= ROWS_MAX:
            raise UsageError(f"a query gives 1 to {ROWS_MAX:,} rows, not {self.limit:,}")
        if self.kind != ROWS and (self.order != DECLARED or len(self.paths) != (self.kind != COUNT)):
            raise UsageError(f"a {self.kind!r} with an order, or not with its path")
        if not isinstance(self.order, str):
            if not 1 <= len(self.order) <= QUERY_TERMS_MAX:
                raise UsageError(f"an order has 1 to {QUERY_TERMS_MAX} paths")
            for by in self.order:
                parse_path(by.path)
        if len(self.paths) > QUERY_TERMS_MAX or len(set(self.paths)) != len(self.paths):
            raise UsageError(f"a query selects at most {QUERY_TERMS_MAX} different paths")
        for path in self.paths:
            if parse_path(path)[-1] is WORDS and self.kind == ROWS:
                raise UsageError("words are not selected", hint="select the path itself")
        check_expr(self.where)

    @property
    def is_grouped(self) -> bool:
        """Whether its answer is one of values rather than of records."""
        return self.kind in (COUNT_BY, DISTINCT)

    def conjuncts(self) -> tuple[Expr, ...]:
        """The conditions that all must hold."""
        return conjuncts_of(self.where)

    @property
    def digest(self) -> bytes:
        """The SHA-256 of the canonical form."""
        return sha256(encode_query(self)).digest()


# --- the canonical form ---


def encode_query(query: Query) -> bytes:
    """The canonical bytes of a query."""
    order = query.order if isinstance(query.order, str) else [str(path) for path in query.order]
    return cbor.encode([query.collection, encode_expr(query.where), order, query.limit, _from_kind(query)])


def decode_query(data: bytes) -> Query:
    """The query of canonical bytes. Raises IntegrityError for anything else."""
    if len(data) > QUERY_BYTES_MAX:
        raise IntegrityError(f"a query of {len(data)} bytes")
    body = cbor.decode(data)
    try:
        if type(body) is not list or len(body) != 5:
            raise UsageError("a query has five parts")
        collection, where, order, limit, kind = body
        if type(collection) is not str or not (limit is None or type(limit) is int):
            raise UsageError("a query with a part of the wrong type")
        return Query(collection, decode_expr(where), _to_order(order), limit, *_to_kind(kind))
    except UsageError as error:
        raise IntegrityError(str(error)) from None


_SELECT = "select"


def _from_kind(query: Query) -> bool | list[str]:
    if query.paths:
        return [_SELECT if query.kind == ROWS else query.kind, *query.paths]
    return query.kind == COUNT


def _to_kind(body: Any) -> tuple[str, tuple[str, ...]]:
    if type(body) is bool:
        return (COUNT if body else ROWS), ()
    if type(body) is list and len(body) >= 2 and all(type(item) is str for item in body):
        kind, *paths = body
        if kind in (_SELECT, COUNT_BY, DISTINCT):
            return (ROWS if kind == _SELECT else kind), tuple(paths)
    raise UsageError("a query that wants something unknown")


def _to_order(body: Any) -> str | tuple[SortPath, ...]:
    if type(body) is list and body and len(body) <= QUERY_TERMS_MAX and all(type(path) is str for path in body):
        return tuple(SortPath.parse(path) for path in body)
    if body in (DECLARED, NEWEST, OLDEST):
        return str(body)
    raise UsageError("a query with an unknown order")
