"""What queries mean, said a second time in plain Python over a list: MongoDB's meaning, and the documented order."""

from __future__ import annotations

import operator
from typing import Any

from rhizome_index.query.expr import And, Compare, Expr, Not, Or

COMPARE = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def kind(value: Any) -> int:
    """Types in their order."""
    if value is None:
        return 0
    if isinstance(value, bool):
        return 1
    if isinstance(value, int | float):
        return 2
    return 3 if isinstance(value, str) else 4 if isinstance(value, bytes) else 5


def sortable(value: Any) -> tuple[int, Any]:
    return kind(value), value.encode() if isinstance(value, str) else 0 if value is None else value


def elements(record: dict[str, Any], path: str) -> list[Any]:
    """What stands at a path, one by one. Paths here have one step."""
    value = record.get(path)
    return value if isinstance(value, list) else [value]


def meets(record: dict[str, Any], expr: Expr) -> bool:
    if isinstance(expr, And):
        return all(meets(record, term) for term in expr.terms)
    if isinstance(expr, Or):
        return any(meets(record, term) for term in expr.terms)
    if isinstance(expr, Not):
        return not meets(record, expr.term)
    return compare(record, expr)


def compare(record: dict[str, Any], expr: Compare) -> bool:
    found, wanted = elements(record, expr.path), expr.value
    if expr.operator == "exists":
        return (expr.path in record) is wanted
    if expr.operator == "=":
        return any(kind(value) == kind(wanted) and value == wanted for value in found)
    if expr.operator == "!=":
        return not compare(record, Compare("=", expr.path, wanted))
    if expr.operator == "in":
        return any(compare(record, Compare("=", expr.path, item)) for item in wanted)
    if expr.operator == "starts with":
        return any(isinstance(value, str) and value.startswith(wanted) for value in found)
    test = COMPARE[expr.operator]
    return any(kind(value) == kind(wanted) and test(sortable(value), sortable(wanted)) for value in found)


def in_order(records: list[dict[str, Any]], paths: list[tuple[str, bool]], key: str = "id") -> list[dict[str, Any]]:
    """Records by paths (each perhaps descending); ties by primary key, in the direction of the last."""
    ordered = sorted(records, key=lambda record: sortable(record[key]), reverse=bool(paths) and paths[-1][1])
    for path, descending in reversed(paths):
        pick = max if descending else min

        def sort_value(record: dict[str, Any], path: str = path, pick: Any = pick) -> Any:
            return pick([sortable(value) for value in elements(record, path)] or [sortable(None)])

        ordered.sort(key=sort_value, reverse=descending)
    return ordered
