"""What may be wrong with a query that finds nothing: a path that occurs nowhere, a value that was meant otherwise.

Looked at is what costs little: some records, and places in indexes. So a hint is no proof, and says
how much was looked at where that was not all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from rhizome_index.index.condition import RANGES, Compare, Expr, Not
from rhizome_index.index.keys import NOT_NULL, encode_component, interval
from rhizome_index.index.record import WORDS, Record, parse_path, values_at
from rhizome_index.index.schema import Collection
from rhizome_index.index.slips import did_you_mean
from rhizome_index.limits import HINTS_MAX, NAME_BYTES_MAX
from rhizome_index.query.expr import Query
from rhizome_index.query.plan import settled
from rhizome_index.query.vocabulary import Seen, look, tree_over, values_of
from rhizome_index.query.wording import path_text, value_text
from rhizome_index.tree.cursor import Span, count
from rhizome_index.tree.walk import Walk

_LETTERS_ALIKE = 2  # slips are looked for among values that begin as this one


def is_odd(query: Query, rows: Sequence[Record]) -> bool:
    """Whether an answer that begins with these rows has nothing, or nothing at a path that its query names."""
    return next(_doubtful_paths(query, rows), None) is not None


def hints(query: Query, collection: Collection, rows: Sequence[Record]) -> Walk[list[str]]:
    """What may have been meant, given the first rows of the answer: nothing is read where nothing is odd about them."""
    query = settled(query, collection)
    doubtful = list(dict.fromkeys(_doubtful_paths(query, rows)))
    if not doubtful or not collection.primary.count:
        return []
    seen = yield from look(collection)
    found = []
    absent = set()
    for path in doubtful:
        if hint := (yield from _about_path(collection, path, seen)):
            absent.add(path)
            found.append(hint)
    for term in () if rows else _wanted(query.where):
        for value in term.value if term.operator == "in" else (term.value,):
            if term.path in absent:
                continue
            hint = ""
            if term.operator in ("=", "in"):
                hint = yield from _about_value(collection, term.path, value, seen)
            if hint := hint or _about_kind(term.path, value, seen):
                found.append(hint)
    return list(dict.fromkeys(found))[:HINTS_MAX]


def declared_hints(collection: Collection, index: str | None) -> Walk[list[str]]:
    """The paths of an index, or all that were declared, at which nothing is, and which ones may have been meant."""
    if not collection.primary.count:
        return []
    seen = yield from look(collection)
    found = []
    for path in collection.declared_paths(index):
        found.append((yield from _about_path(collection, path, seen)))
    return list(filter(None, found))[:HINTS_MAX]


def _doubtful_paths(query: Query, rows: Sequence[Record]) -> Iterator[str]:
    """The paths that a query names and that nothing in its answer shows to be there."""
    if not rows:
        yield from (term.path for term in _compared(query.where))
    if query.is_grouped:
        if all(row["value"] is None for row in rows):
            yield from query.paths
        return
    order = () if isinstance(query.order, str) or query.paths else tuple(term.path for term in query.order)
    for path in (*query.paths, *order):
        if not any(_stands_at(row, path) for row in rows):
            yield path


def _compared(expr: Expr) -> Iterator[Compare]:
    if isinstance(expr, Compare):
        yield expr
        return
    for term in (expr.term,) if isinstance(expr, Not) else expr.terms:
        yield from _compared(term)


def _wanted(expr: Expr) -> Iterator[Compare]:
    """The conditions that want values, but for those that are denied."""
    if isinstance(expr, Compare):
        if expr.operator in ("=", "in", *RANGES):
            yield expr
    elif not isinstance(expr, Not):
        for term in expr.terms:
            yield from _wanted(term)


def _stands_at(record: Record, path: str) -> bool:
    return any(value is not None for value in values_at(record, parse_path(path))[0])


# --- paths ---


def _about_path(collection: Collection, path: str, seen: Seen) -> Walk[str]:
    """That nothing is at a path, and which one may have been meant; or nothing."""
    if any(_stands_at(record, path) for record in seen.records):
        return ""
    is_sure = seen.all
    if over := tree_over(collection, path):
        tree, by, is_partial = over
        if (yield from count(tree, Span(*NOT_NULL.bounds(b"", descending=by.descending)))):
            return ""
        is_sure = not is_partial
    looked = "no record has" if is_sure else f"none of the {len(seen.records):,} records looked at has"
    known = [*seen.paths, *collection.declared_paths()]
    if parse_path(path)[-1] is WORDS:
        known += [f"words({name})" for name in seen.paths]
    slip = did_you_mean(path, [name for name in known if name != path])
    return "; ".join(filter(None, (f"{looked} anything at {path_text(path)}", slip)))


# --- values ---


def _about_value(collection: Collection, path: str, value: Any, seen: Seen) -> Walk[str]:
    """That a value is not at a path, and which one may have been meant; or nothing, also where there is no telling."""
    others = list(_variants(value))
    over = tree_over(collection, path)
    if over is None:
        steps = parse_path(path)
        there = {encode_component(item) for record in seen.records for item in values_at(record, steps)[0]}
        meant = [item for item in others if encode_component(item) in there]
        return _nothing_has(path, value, meant) if encode_component(value) not in there else ""
    tree, by, _ = over
    for item in (value, *others):
        span = Span(*interval("=", item).bounds(b"", descending=by.descending))
        if (yield from count(tree, span)):
            return "" if item is value else _nothing_has(path, value, [item])
    if type(value) is not str or len(value) > NAME_BYTES_MAX:
        return ""
    near: list[str] = []
    for start in dict.fromkeys(text[:_LETTERS_ALIKE] for text in (value, *others) if type(text) is str):
        near += yield from values_of(collection, path, start)
    hint = did_you_mean(value, near) or did_you_mean(value.lower(), near)
    return f"nothing has {value_text(value)} at {path_text(path)}; {hint}" if hint else ""


def _nothing_has(path: str, value: Any, meant: Sequence[Any]) -> str:
    if not meant:
        return ""
    return f"nothing has {value_text(value)} at {path_text(path)}; did you mean {value_text(meant[0])}?"


_KINDS = {str: "text", int: "numbers", float: "numbers", bool: "booleans", bytes: "bytes"}


def _about_kind(path: str, value: Any, seen: Seen) -> str:
    """That all values seen at a path are of another kind than one that is asked for; or nothing."""
    steps, wanted = parse_path(path), _KINDS.get(type(value))
    kinds = {_KINDS.get(type(item)) for record in seen.records for item in values_at(record, steps)[0]}
    kinds.discard(_KINDS.get(type(None)))
    if wanted is None or len(kinds) != 1 or wanted in kinds:
        return ""
    (kind,) = kinds
    number = next((item for item in _variants(value) if _KINDS[type(item)] == kind), None) if wanted == "text" else None
    slip = "" if number is None else f"; did you mean {value_text(number)}?"
    stands = "stands text" if kind == "text" else f"stand {kind}"
    return f"at {path_text(path)} {stands}, and {value_text(value)} is {_ONE[wanted]}{slip}"


_ONE = {"text": "text", "numbers": "a number", "booleans": "a boolean", "bytes": "bytes"}


def _variants(value: Any) -> Iterator[Any]:
    """The value in other letter cases, and as a number instead of a text or the other way round."""
    if type(value) in (int, float):
        yield str(value)
    if type(value) is not str:
        return
    for text in (value.lower(), value.casefold(), value.upper(), value.capitalize(), value.title(), value.strip("# ")):
        if text != value:
            yield text
    try:
        number = json.loads(value)
    except (ValueError, RecursionError):
        return
    if type(number) in (int, float, bool):
        yield number
