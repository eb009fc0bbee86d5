"""Whether conditions that hold make another one hold: what a partial index needs to answer a query.

It says yes only where that is so for every record, lists included; some implications it does not see.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rhizome_index.index.condition import RANGES, And, Compare, Expr, Or
from rhizome_index.index.keys import Interval, encode_component, interval


def implies(known: Sequence[Expr], wanted: Expr) -> bool:
    """Whether every record that meets all of `known` meets `wanted`."""
    if isinstance(wanted, And):
        return all(implies(known, term) for term in wanted.terms)
    if any(term == wanted or _covers_all(term, wanted) for term in known):
        return True
    if isinstance(wanted, Or):
        return any(implies(known, term) for term in wanted.terms)
    return isinstance(wanted, Compare) and any(
        isinstance(term, Compare) and _is_stronger(term, wanted) for term in known
    )


def _covers_all(term: Expr, wanted: Expr) -> bool:
    """Whether each branch of an `or` implies what is wanted."""
    return isinstance(term, Or) and bool(term.terms) and all(implies((branch,), wanted) for branch in term.terms)


def _is_stronger(known: Compare, wanted: Compare) -> bool:
    if known.path != wanted.path or known.operator not in ("=", "in", *RANGES):
        return False
    if wanted.operator == "exists":  # what equals null may be missing
        return wanted.value is True and None not in _values(known)
    if wanted.operator in ("=", "in"):
        allowed = set(map(encode_component, _values(wanted)))
        return known.operator in ("=", "in") and allowed.issuperset(map(encode_component, _values(known)))
    if wanted.operator in RANGES:
        around = interval(wanted.operator, wanted.value)
        return all(around.holds(part) for part in _intervals(known))
    return False


def _values(term: Compare) -> tuple[object, ...]:
    return term.value if term.operator == "in" else (term.value,)


def _intervals(term: Compare) -> Iterator[Interval]:
    if term.operator == "in":
        yield from (interval("=", value) for value in term.value)
    else:
        yield interval(term.operator, term.value)
