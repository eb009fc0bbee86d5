"""What a query says: conditions on records, an order, a limit. And whether a record meets them.

Where scalars meet lists, MongoDB's meaning: a condition holds for a list if it
holds for one of its elements; `!=` and `not` deny what they deny for all of
them; a missing value equals null. Values of different types are never less or
greater than each other, and 1 equals 1.0.

The canonical form is DAG-CBOR, so that a query has a digest to which cursors
and proofs bind. A condition is `[operator, path, value]`, a combination
`["and" | "or" | "not", condition...]`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from rhizome_index.blocks import cbor
from rhizome_index.errors import IntegrityError, UsageError
from rhizome_index.index.keys import encode_component, interval
from rhizome_index.index.record import Path, Record, encode_record, parse_path, values_at
from rhizome_index.index.schema import SortPath, check_name
from rhizome_index.limits import IN_VALUES_MAX, QUERY_BYTES_MAX, QUERY_DEPTH_MAX, QUERY_TERMS_MAX, ROWS_MAX

COMPARISONS = ("=", "!=", "<", "<=", ">", ">=", "in", "starts with", "exists")
SCALARS = (str, int, float, bool, bytes, type(None))


@dataclass(frozen=True, slots=True, eq=False)
class Compare:
    """A condition on what stands at a path.

    operator  one of COMPARISONS
    value     a value; for `in` a tuple of values; for `exists` a bool

    Equal are conditions of one canonical form: to Python, 1 is equal to true, and lists have no hash.
    """

    operator: str
    path: str
    value: Any

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Compare) or (self.operator, self.path) != (other.operator, other.path):
            return False
        return cbor.encode(_from_expr(self)) == cbor.encode(_from_expr(other))

    def __hash__(self) -> int:
        return hash(cbor.encode(_from_expr(self)))


@dataclass(frozen=True, slots=True)
class And:
    terms: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Or:
    terms: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Not:
    term: Expr


Expr = Compare | And | Or | Not

EVERYTHING = And(())

# The order a query asks for: of the collection, by its time, or by paths of its own.
DECLARED, NEWEST, OLDEST = "declared", "newest", "oldest"


@dataclass(frozen=True, slots=True)
class Query:
    """One query.

    order  DECLARED, NEWEST or OLDEST, or paths; ties fall to the primary key, in the direction of the last path
    limit  rows at most; None for all
    count  only how many rows there are
    """

    collection: str
    where: Expr = EVERYTHING
    order: str | tuple[SortPath, ...] = DECLARED
    limit: int | None = None
    count: bool = False

    def __post_init__(self) -> None:
        check_name(self.collection, "a collection")
        if self.limit is not None and not 1 <= self.limit <= ROWS_MAX:
            raise UsageError(f"a query gives 1 to {ROWS_MAX:,} rows, not {self.limit:,}")
        check_expr(self.where)

    def conjuncts(self) -> tuple[Expr, ...]:
        """The conditions that all must hold."""
        return _flat(self.where)

    @property
    def digest(self) -> bytes:
        """The SHA-256 of the canonical form."""
        return sha256(encode_query(self)).digest()


def all_of(*terms: Expr) -> Expr:
    """The conjunction of conditions, flattened."""
    flat = tuple(term for expr in terms for term in _flat(expr))
    return flat[0] if len(flat) == 1 else And(flat)


def _flat(expr: Expr) -> tuple[Expr, ...]:
    if isinstance(expr, And):
        return tuple(term for item in expr.terms for term in _flat(item))
    return (expr,)


def check_expr(expr: Expr) -> None:
    """Raise UsageError unless the conditions make sense and are within their bounds."""
    if _check(expr, 0) > QUERY_TERMS_MAX:
        raise UsageError(f"a query has at most {QUERY_TERMS_MAX} conditions")


def _check(expr: Expr, depth: int) -> int:
    if depth > QUERY_DEPTH_MAX:
        raise UsageError(f"conditions are nested at most {QUERY_DEPTH_MAX} deep")
    if isinstance(expr, Compare):
        parse_path(expr.path)
        _check_value(expr)
        return 1
    terms = (expr.term,) if isinstance(expr, Not) else expr.terms
    return sum(_check(term, depth + 1) for term in terms)


def _check_value(expr: Compare) -> None:
    operator, value = expr.operator, expr.value
    if operator == "exists":
        fits = type(value) is bool
    elif operator == "starts with":
        fits = type(value) is str
    elif operator == "in":
        if type(value) is tuple and not 1 <= len(value) <= IN_VALUES_MAX:
            raise UsageError(f"`in` takes 1 to {IN_VALUES_MAX} values")
        fits = type(value) is tuple
    elif operator in ("<", "<=", ">", ">="):
        fits = type(value) in SCALARS
    else:
        fits = operator in ("=", "!=")
    if not fits:
        raise UsageError(f"`{expr.path} {operator}` does not go with {value!r}")
    encode_record({"": list(value) if type(value) is tuple else value})


# --- meeting conditions ---

Filter = Callable[[Record], bool]


def compile_filter(expr: Expr) -> Filter:
    """A function that tells whether a record meets the conditions."""
    if isinstance(expr, Compare):
        return _compile_compare(expr)
    if isinstance(expr, Not):
        inner = compile_filter(expr.term)
        return lambda record: not inner(record)
    filters = [compile_filter(term) for term in expr.terms]
    if isinstance(expr, And):
        return lambda record: all(filter_(record) for filter_ in filters)
    return lambda record: any(filter_(record) for filter_ in filters)


def _compile_compare(expr: Compare) -> Filter:
    path, operator, value = parse_path(expr.path), expr.operator, expr.value
    if operator == "exists":
        return lambda record: _exists(record, path) is value
    if operator == "!=":
        equal = _compile_compare(Compare("=", expr.path, value))
        return lambda record: not equal(record)
    if operator in ("=", "in"):
        items = value if operator == "in" else (value,)
        wanted = {encode_component(item) for item in items}
        if any(type(item) is list for item in items):
            return lambda record: _has_one(record, path, wanted) or _has_list(record, path, wanted)
        return lambda record: _has_one(record, path, wanted)
    low, high = interval(operator, value).bounds(b"", descending=False)
    return lambda record: any(low <= encode_component(item) < high for item in values_at(record, path)[0])


def _has_one(record: Record, path: Path, wanted: set[bytes]) -> bool:
    return any(encode_component(item) in wanted for item in values_at(record, path)[0])


def _has_list(value: Any, path: Path, wanted: set[bytes]) -> bool:
    """Whether a whole list that stands at a path is one of those wanted."""
    for depth, step in enumerate(path):
        if type(value) is list:
            return any(type(item) is dict and _has_list(item, path[depth:], wanted) for item in value)
        if type(value) is not dict:
            return False
        value = value.get(step)
    return type(value) is list and encode_component(value) in wanted


def _exists(value: Any, path: Path) -> bool:
    for depth, step in enumerate(path):
        if type(value) is list:
            return any(type(item) is dict and _exists(item, path[depth:]) for item in value)
        if type(value) is not dict or step not in value:
            return False
        value = value[step]
    return True


# --- the canonical form ---


def encode_query(query: Query) -> bytes:
    """The canonical bytes of a query."""
    order = query.order if isinstance(query.order, str) else [str(path) for path in query.order]
    return cbor.encode([query.collection, _from_expr(query.where), order, query.limit, query.count])


def decode_query(data: bytes) -> Query:
    """The query of canonical bytes. Raises IntegrityError for anything else."""
    if len(data) > QUERY_BYTES_MAX:
        raise IntegrityError(f"a query of {len(data)} bytes")
    body = cbor.decode(data)
    try:
        if type(body) is not list or len(body) != 5:
            raise UsageError("a query has five parts")
        collection, where, order, limit, count = body
        if type(collection) is not str or type(count) is not bool or not (limit is None or type(limit) is int):
            raise UsageError("a query with a part of the wrong type")
        return Query(collection, _to_expr(where, 0), _to_order(order), limit, count)
    except UsageError as error:
        raise IntegrityError(str(error)) from None


def _to_order(body: Any) -> str | tuple[SortPath, ...]:
    if type(body) is list and body and len(body) <= QUERY_TERMS_MAX and all(type(path) is str for path in body):
        return tuple(SortPath.parse(path) for path in body)
    if body in (DECLARED, NEWEST, OLDEST):
        return str(body)
    raise UsageError("a query with an unknown order")


def _from_expr(expr: Expr) -> list[Any]:
    if isinstance(expr, Compare):
        return [expr.operator, expr.path, list(expr.value) if expr.operator == "in" else expr.value]
    if isinstance(expr, Not):
        return ["not", _from_expr(expr.term)]
    return ["and" if isinstance(expr, And) else "or", *map(_from_expr, expr.terms)]


def _to_expr(body: Any, depth: int) -> Expr:
    if depth > QUERY_DEPTH_MAX or type(body) is not list or not body or type(body[0]) is not str:
        raise UsageError("a condition that cannot be read")
    operator = body[0]
    if operator in ("and", "or"):
        terms = tuple(_to_expr(item, depth + 1) for item in body[1:])
        return And(terms) if operator == "and" else Or(terms)
    if operator == "not" and len(body) == 2:
        return Not(_to_expr(body[1], depth + 1))
    if operator in COMPARISONS and len(body) == 3 and type(body[1]) is str:
        value = body[2]
        return Compare(operator, body[1], tuple(value) if operator == "in" and type(value) is list else value)
    raise UsageError(f"an unknown condition: {operator[:40]!r}")
