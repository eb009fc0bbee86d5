"""Conditions on records, and whether a record meets them.

Where scalars meet lists, MongoDB's meaning: a condition holds for a list if it
holds for one of its elements; `!=` and `not` deny what they deny for all of
them; a missing value equals null. Values of different types are never less or
greater than each other, and 1 equals 1.0.

The canonical form is DAG-CBOR: a condition is `[operator, path, value]`, a
combination `["and" | "or" | "not", condition...]`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rhizome_index.blocks import cbor
from rhizome_index.errors import UsageError
from rhizome_index.index.keys import encode_component, interval
from rhizome_index.index.record import TIME, WORDS, Path, Record, encode_record, parse_path, values_at
from rhizome_index.limits import IN_VALUES_MAX, QUERY_DEPTH_MAX, QUERY_TERMS_MAX

COMPARISONS = ("=", "!=", "<", "<=", ">", ">=", "in", "starts with", "exists")
RANGES = ("<", "<=", ">", ">=", "starts with")
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
        return cbor.encode(encode_expr(self)) == cbor.encode(encode_expr(other))

    def __hash__(self) -> int:
        return hash(cbor.encode(encode_expr(self)))


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


def all_of(*terms: Expr) -> Expr:
    """The conjunction of conditions, flattened."""
    flat = tuple(term for expr in terms for term in conjuncts_of(expr))
    return flat[0] if len(flat) == 1 else And(flat)


def conjuncts_of(expr: Expr) -> tuple[Expr, ...]:
    """The conditions that all must hold."""
    if isinstance(expr, And):
        return tuple(term for item in expr.terms for term in conjuncts_of(item))
    return (expr,)


def paths_of(expr: Expr) -> set[str]:
    """The paths that conditions look at."""
    if isinstance(expr, Compare):
        return {expr.path}
    terms = (expr.term,) if isinstance(expr, Not) else expr.terms
    return {path for term in terms for path in paths_of(term)}


def check_expr(expr: Expr) -> None:
    """Raise UsageError unless the conditions make sense and are within their bounds."""
    if _check(expr, 0) > QUERY_TERMS_MAX:
        raise UsageError(f"a query has at most {QUERY_TERMS_MAX} conditions")


def _check(expr: Expr, depth: int) -> int:
    if depth > QUERY_DEPTH_MAX:
        raise UsageError(f"conditions are nested at most {QUERY_DEPTH_MAX} deep")
    if isinstance(expr, Compare):
        if expr.path != TIME:
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
    encode_record({"": list(value) if operator == "in" else value})


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
    if path[-1] is WORDS:
        path = path[:-1]
    for depth, step in enumerate(path):
        if type(value) is list:
            return any(type(item) is dict and _exists(item, path[depth:]) for item in value)
        if type(value) is not dict or step not in value:
            return False
        value = value[step]
    return True


# --- the canonical form ---


def encode_expr(expr: Expr) -> list[Any]:
    """The canonical form of conditions, to be part of another one."""
    if isinstance(expr, Compare):
        return [expr.operator, expr.path, list(expr.value) if expr.operator == "in" else expr.value]
    if isinstance(expr, Not):
        return ["not", encode_expr(expr.term)]
    return ["and" if isinstance(expr, And) else "or", *map(encode_expr, expr.terms)]


def decode_expr(body: Any, depth: int = 0) -> Expr:
    """The conditions of a canonical form. Raises UsageError for anything else."""
    if depth > QUERY_DEPTH_MAX or type(body) is not list or not body or type(body[0]) is not str:
        raise UsageError("a condition that cannot be read")
    operator = body[0]
    if operator in ("and", "or"):
        terms = tuple(decode_expr(item, depth + 1) for item in body[1:])
        return And(terms) if operator == "and" else Or(terms)
    if operator == "not" and len(body) == 2:
        return Not(decode_expr(body[1], depth + 1))
    if operator in COMPARISONS and len(body) == 3 and type(body[1]) is str:
        value = body[2]
        return Compare(operator, body[1], tuple(value) if operator == "in" and type(value) is list else value)
    raise UsageError(f"an unknown condition: {operator[:40]!r}")
