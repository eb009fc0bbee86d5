"""Conditions, paths, values and index definitions in the words of the text language: what `parse` reads back."""

from __future__ import annotations

import json
import re

from rhizome_index.index.condition import EVERYTHING, And, Compare, Expr, Not
from rhizome_index.index.schema import Definition

_PLAIN_PATH = re.compile(r"[^\W\d][\w-]*(\.[\w-]+)*")


def describe_index(definition: Definition) -> str:
    """What an index holds, as `parse_index` reads it behind the name."""
    text = ",".join(("-" if path.descending else "") + path_text(path.path) for path in definition.paths)
    if definition.where != EVERYTHING:
        text += f" where {text_of(definition.where)}"
    if definition.include:
        text += f" include {', '.join(map(path_text, definition.include))}"
    return text + " unique" if definition.unique else text


def text_of(expr: Expr) -> str:
    """Conditions in the text language, as far as it has their values."""
    if isinstance(expr, Compare):
        path = path_text(expr.path)
        if expr.operator == "exists":
            return f"{path} exists" if expr.value else f"not {path} exists"
        if expr.operator == "in":
            return f"{path} in ({', '.join(map(value_text, expr.value))})"
        return f"{path} {expr.operator} {value_text(expr.value)}"
    if isinstance(expr, Not):
        return f"not ({text_of(expr.term)})"
    word = " and " if isinstance(expr, And) else " or "
    return "(" + word.join(map(text_of, expr.terms)) + ")"


def path_text(path: str) -> str:
    """A path as the grammar reads it, in backquotes where it must be."""
    if path.startswith("words("):
        return f"words({path_text(path[len('words(') : -1])})"
    return path if _PLAIN_PATH.fullmatch(path) else f"`{path}`"


def value_text(value: object) -> str:
    """A value as the grammar reads it, if it is one that texts can name."""
    return json.dumps(
        value, ensure_ascii=False, default=lambda item: item.hex() if isinstance(item, bytes) else str(item)
    )
