"""What queries mean, said a second time in plain Python over a list: MongoDB's meaning, and the documented order."""

from __future__ import annotations

import operator
from typing import Any

from rhizome_index.blocks import cbor
from rhizome_index.index.condition import And, Compare, Expr, Not, Or
from rhizome_index.index.words import words_of
from rhizome_index.query.expr import DISTINCT, ROWS, Query

COMPARE = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


KINDS = {type(None): 0, bool: 1, int: 2, float: 2, str: 3, bytes: 4}


def kind(value: Any) -> int:
    """Types in their order."""
    return KINDS.get(type(value), 5)


def sortable(value: Any) -> tuple[int, Any]:
    if kind(value) == 5:
        return 5, cbor.encode(value)
    return kind(value), value.encode() if isinstance(value, str) else 0 if value is None else value


def elements(value: Any, path: str) -> list[Any]:
    """What stands at a path, one by one; lists on the way and at its end are opened."""
    if path.startswith("words("):
        texts = [text for text in elements(value, path[6:-1]) if isinstance(text, str)]
        return sorted({word for text in texts for word in words_of(text)})
    first, _, rest = path.partition(".")
    found = value.get(first) if isinstance(value, dict) else None
    if not rest:
        return found if isinstance(found, list) else [found]
    if isinstance(found, list):
        return [element for item in found if isinstance(item, dict) for element in elements(item, rest)]
    return elements(found, rest)


def lists(value: Any, path: str) -> list[Any]:
    """The whole lists that stand at a path."""
    if path.startswith("words("):
        return []
    first, _, rest = path.partition(".")
    found = value.get(first) if isinstance(value, dict) else None
    if not rest:
        return [found] if isinstance(found, list) else []
    if isinstance(found, list):
        return [whole for item in found if isinstance(item, dict) for whole in lists(item, rest)]
    return lists(found, rest)


def exists(value: Any, path: str) -> bool:
    if path.startswith("words("):
        return exists(value, path[6:-1])
    first, _, rest = path.partition(".")
    if not isinstance(value, dict) or first not in value:
        return False
    if not rest:
        return True
    below = value[first]
    return any(exists(item, rest) for item in below) if isinstance(below, list) else exists(below, rest)


def equal(a: Any, b: Any) -> bool:
    """Numbers are equal across their types; inside of lists and maps nothing is equal across types."""
    if kind(a) == 5:
        return type(a) is type(b) and repr(canonical(a)) == repr(canonical(b))
    return kind(a) == kind(b) and bool(a == b)


def canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: canonical(value[name]) for name in sorted(value)}
    return [canonical(item) for item in value] if isinstance(value, list) else value


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
        return exists(record, expr.path) is wanted
    if expr.operator == "=":
        return any(equal(value, wanted) for value in [*found, *lists(record, expr.path)])
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


def picked(value: Any, paths: list[list[str]]) -> Any:
    """What of a value stands at some paths, given as steps: a path without steps is all of it."""
    if [] in paths:
        return value
    if isinstance(value, list):
        return [picked(item, paths) for item in value if isinstance(item, dict)]
    found = {}
    for name in {path[0] for path in paths}:
        below = [path[1:] for path in paths if path[0] == name]
        if name in value and ([] in below or isinstance(value[name], dict | list)):
            found[name] = picked(value[name], below)
    return found


def grouped(records: list[dict[str, Any]], path: str) -> list[tuple[Any, int]]:
    """The values at a path, by their order, each with the number of records that have it."""
    groups: dict[Any, tuple[Any, set[int]]] = {}
    for place, record in enumerate(records):
        for value in elements(record, path):
            alike = (kind(value), value if kind(value) < 5 else (type(value), repr(canonical(value))))
            groups.setdefault(alike, (value, set()))[1].add(place)
    return sorted(((value, len(places)) for value, places in groups.values()), key=lambda group: sortable(group[0]))


def result(query: Query, wanted: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a query whose records are these, in order; a value in its canonical form."""
    if query.kind == ROWS:
        paths = [path.split(".") for path in query.paths] or [[]]
        return [picked(record, paths) for record in wanted]
    groups = grouped(wanted, query.paths[0])
    if query.kind == DISTINCT:
        return [{"value": whole(value)} for value, _ in groups][: query.limit]
    groups.sort(key=lambda group: -group[1])
    return [{"value": whole(value), "count": count} for value, count in groups][: query.limit]


def whole(value: Any) -> Any:
    """A number that is whole, as an integer where one can be."""
    if isinstance(value, float) and value == int(value) and -(2.0**63) <= value < 2.0**63:
        return int(value)
    return value
