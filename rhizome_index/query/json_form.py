"""The JSON form of queries, for programs; conditions are in MongoDB's shape.

{"find": "posts", "where": {"tags": "cats", "likes": {"$gt": 5}}, "order": "newest", "limit": 32}
{"find": "posts", "order": ["-likes"], "limit": 10, "select": ["id", "text"], "since": "7d", "after": CURSOR}
{"count": "posts", "where": {"tags": "cats"}}
{"count": "packages", "by": "section", "limit": 10}
{"distinct": "author", "of": "posts"}
{"max": "likes", "of": "posts"}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rhizome_index.errors import UsageError
from rhizome_index.index.condition import Expr, all_of
from rhizome_index.index.schema import SortPath
from rhizome_index.index.slips import did_you_mean
from rhizome_index.query.expr import COUNT, COUNT_BY, DECLARED, DISTINCT, NEWEST, OLDEST, Query
from rhizome_index.query.mongo import from_mongo
from rhizome_index.query.phrases import extreme, since

FIELDS = {  # by the verb, the fields that go with it
    "find": ("where", "order", "limit", "select", "since", "after"),
    "count": ("where", "by", "limit", "since"),
    "distinct": ("of", "where", "limit", "since"),
    "min": ("of", "where", "since"),
    "max": ("of", "where", "since"),
}


def parse_json(text: str, now_ms: int | None = None) -> tuple[Query, str | None]:
    """The query of a JSON text, and the cursor after which it goes on, if it names one. Raises UsageError."""
    try:
        body = json.loads(text, object_pairs_hook=_map, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"not JSON: {error}" if isinstance(error, ValueError) else "JSON nested too deeply") from None
    return from_json(body, now_ms)


def from_json(body: Any, now_ms: int | None = None) -> tuple[Query, str | None]:
    """The same for what such a text says."""
    if not isinstance(body, Mapping):
        raise UsageError("a query in JSON is a map", hint='as in {"find": "posts", "limit": 32}')
    verbs = [name for name in body if name in FIELDS]
    if len(verbs) != 1:
        slip = next((hint for name in body if (hint := did_you_mean(str(name), FIELDS))), "")
        hint = slip or 'as in {"find": "posts"}'
        raise UsageError(f"a query in JSON has one of {', '.join(FIELDS)}", hint=hint)
    (verb,) = verbs
    for name in body:
        if name not in (verb, *FIELDS[verb]):
            hint = did_you_mean(str(name), FIELDS[verb], f"there are: {', '.join(FIELDS[verb])}")
            raise UsageError(f"{name!r} does not go with {verb!r}", hint=hint)
    where = _where(body, now_ms)
    limit = _of_type(body, "limit", int, None)
    path = _of_type(body, verb, str)
    if verb == "find":
        select = _texts(body, "select")
        return Query(path, where, _order(body.get("order")), limit, paths=select), _of_type(body, "after", str, None)
    if verb == "count":
        by = _of_type(body, "by", str, None)
        if by is None and limit is not None:
            raise UsageError("'limit' goes with 'count' only if there is a 'by'")
        return Query(path, where, limit=limit, kind=COUNT_BY if by else COUNT, paths=(by,) if by else ()), None
    collection = _of_type(body, "of", str)
    if verb == "distinct":
        return Query(collection, where, limit=limit, kind=DISTINCT, paths=(path,)), None
    return extreme(collection, where, path, greatest=verb == "max"), None


def _where(body: Mapping[str, Any], now_ms: int | None) -> Expr:
    terms = [from_mongo(body.get("where", {}))]
    if (moment := _of_type(body, "since", str, None)) is not None:
        terms.append(since(moment, now_ms))
    return all_of(*terms)


def _order(order: Any) -> str | tuple[SortPath, ...]:
    if order is None:
        return DECLARED
    if order in (NEWEST, OLDEST):
        return str(order)
    if isinstance(order, list) and order and all(isinstance(path, str) for path in order):
        return tuple(map(SortPath.parse, order))
    raise UsageError('an order is "newest", "oldest" or a list of paths', hint='as in ["-likes", "id"]')


_NEEDED: Any = object()


def _of_type(body: Mapping[str, Any], name: str, kind: type, otherwise: Any = _NEEDED) -> Any:
    value = body.get(name, otherwise)
    if value is not otherwise and type(value) is kind:
        return value
    if name in body or otherwise is _NEEDED:
        raise UsageError(f"{name!r} must be {'text' if kind is str else 'a whole number'}")
    return otherwise


def _texts(body: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = body.get(name, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise UsageError(f"{name!r} must be a list of paths")
    return tuple(value)


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _map(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("one name stands twice in a map")
    return found
