"""Filters in MongoDB's shape, as conditions: `{"tags": "cats", "likes": {"$gt": 5}}`.

Two operators are ours: `$startsWith`, and `$matches` for the words of a text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rhizome_index.errors import UsageError
from rhizome_index.index.condition import And, Compare, Expr, Not, Or, all_of
from rhizome_index.index.slips import did_you_mean
from rhizome_index.query.phrases import matching

_OPERATORS = {"$eq": "=", "$ne": "!=", "$lt": "<", "$lte": "<=", "$gt": ">", "$gte": ">="}
_OTHERS = ("$in", "$nin", "$all", "$exists", "$not", "$startsWith", "$matches")
_COMBINE = ("$and", "$or", "$nor")


def from_mongo(filter_: Mapping[str, Any]) -> Expr:
    """The conditions of a filter. Raises UsageError for an operator that is not known."""
    if not isinstance(filter_, Mapping):
        raise UsageError(f"a filter must be a map, not {filter_!r}")
    terms: list[Expr] = []
    for name, value in filter_.items():
        if name in _COMBINE:
            if not isinstance(value, list) or not value:
                raise UsageError(f"{name} takes a list of filters")
            parts = tuple(from_mongo(item) for item in value)
            terms.append(And(parts) if name == "$and" else Or(parts) if name == "$or" else Not(Or(parts)))
        elif name.startswith("$"):
            raise _unknown(name, _COMBINE)
        else:
            terms.append(_at_path(name, value))
    return all_of(*terms)


def _at_path(path: str, value: Any) -> Expr:
    if not isinstance(value, Mapping) or not any(str(name).startswith("$") for name in value):
        return Compare("=", path, dict(value) if isinstance(value, Mapping) else _plain(value))
    terms: list[Expr] = []
    for name, operand in value.items():
        if name in _OPERATORS:
            terms.append(Compare(_OPERATORS[name], path, _plain(operand)))
        elif name in ("$in", "$nin") and isinstance(operand, list | tuple):
            among = Compare("in", path, tuple(map(_plain, operand)))
            terms.append(among if name == "$in" else Not(among))
        elif name == "$all" and isinstance(operand, list | tuple) and operand:
            terms += [Compare("=", path, _plain(item)) for item in operand]
        elif name == "$exists" and isinstance(operand, bool):
            terms.append(Compare("exists", path, operand))
        elif name == "$startsWith":
            terms.append(Compare("starts with", path, operand))
        elif name == "$matches" and isinstance(operand, str):
            terms.append(matching(path, operand))
        elif name == "$not":
            terms.append(Not(_at_path(path, operand)))
        else:
            raise _unknown(name, (*_OPERATORS, *_OTHERS))
    return all_of(*terms)


def _plain(value: Any) -> Any:
    """A tuple as the list it stands for."""
    return list(value) if type(value) is tuple else value


def _unknown(name: str, known: tuple[str, ...]) -> UsageError:
    return UsageError(
        f"an operator that is not known or does not go with its value: {name}",
        hint=did_you_mean(name, known),
    )
