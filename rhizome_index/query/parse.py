"""The text form of queries.

    first 32 posts tagged #cats
    newest 10 posts by alice where likes > 5 and not tags has "ads"
    count packages where section = "games"
    first 20 packages tagged #role::program and #uitoolkit::qt order by -installed_kib after CURSOR
    newest 10 posts since 7d where text matches "cute cats" select id, text
    count by section of packages tagged #role::program limit 10
    distinct author of posts
    max likes of posts tagged #cats

And of indexes:

    by_tag=tags,-created where likes > 5 include text unique

`tagged` speaks of the path `tags`, `by` of the path `author`, `since` of the collection's
time, in milliseconds since 1970. The least and the greatest value are those of the record
that comes first by that path, among the records that have something there. An error points
at the place in the text. Cursors pass through: what is in them is known to `plan`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from lark import Token, Transformer
from lark.exceptions import UnexpectedInput, VisitError

from rhizome_index.errors import QueryError, UsageError
from rhizome_index.index.condition import EVERYTHING, Compare, Expr, Not, Or, all_of
from rhizome_index.index.schema import Definition, SortPath, check_name
from rhizome_index.limits import QUERY_TEXT_BYTES_MAX
from rhizome_index.query.expr import COUNT, COUNT_BY, DECLARED, DISTINCT, NEWEST, OLDEST, Query
from rhizome_index.query.grammar import tree_of
from rhizome_index.query.json_form import parse_json
from rhizome_index.query.phrases import check_extreme, extreme, matching, since
from rhizome_index.query.slips import explain_error

TAGS_PATH, AUTHOR_PATH = "tags", "author"


def parse(text: str, now_ms: int | None = None) -> tuple[Query, str | None]:
    """The query of a text, and the cursor after which it goes on, if it names one. Raises QueryError.

    now_ms  what `since 7d` is reckoned from, in milliseconds since 1970; without it that is refused
    """
    if len(text.encode(errors="replace")) > QUERY_TEXT_BYTES_MAX:
        raise QueryError(f"a query of more than {QUERY_TEXT_BYTES_MAX:,} bytes")
    if text.lstrip().startswith("{"):
        return parse_json(text, now_ms)
    return _parse(text, now_ms if "since" in text.lower() else None)


def parse_index(text: str) -> tuple[str, Definition]:
    """The name and the definition of an index. Raises QueryError."""
    if len(text.encode(errors="replace")) > QUERY_TEXT_BYTES_MAX:
        raise QueryError(f"an index of more than {QUERY_TEXT_BYTES_MAX:,} bytes")
    result: tuple[str, Definition] = _read(text, "index")
    return result


def at_collection(text: str, error: UsageError) -> UsageError:
    """An error about a query's collection, pointing at its name if the query stands there as text."""
    if text.lstrip().startswith("{"):
        return error
    tokens = tree_of(text, "query").scan_values(lambda token: isinstance(token, Token))
    name = next(token for token in tokens if isinstance(token, Token) and token.type == "COLLECTION")
    return QueryError(str(error), text=text, start=name.start_pos or 0, end=name.end_pos or 0, hint=error.hint)


@lru_cache(maxsize=256)
def _parse(text: str, now_ms: int | None) -> tuple[Query, str | None]:
    result: tuple[Query, str | None] = _read(text, "query", now_ms)
    return result


def _read(text: str, start: str, now_ms: int | None = None) -> Any:
    try:
        return _Reader(text, now_ms).transform(tree_of(text, start))
    except UnexpectedInput as error:
        raise explain_error(error, text, f"the {start}") from None
    except RecursionError:
        raise QueryError(f"the {start} is nested too deeply", text=text, end=len(text)) from None
    except VisitError as error:
        if isinstance(error.orig_exc, QueryError):
            raise error.orig_exc from None
        if isinstance(error.orig_exc, UsageError):
            raise QueryError(str(error.orig_exc), text=text, end=len(text), hint=error.orig_exc.hint) from None
        raise


class _Reader(Transformer[Token, Any]):
    """Turns the parse tree into a query."""

    def __init__(self, text: str, now_ms: int | None) -> None:
        super().__init__()
        self._text = text
        self._now_ms = now_ms

    def _fail(self, message: str, token: Token, hint: str = "") -> QueryError:
        start, end = token.start_pos or 0, token.end_pos or 0
        return QueryError(message, text=self._text, start=start, end=end, hint=hint)

    def _fail_between(self, message: str, before: Token, behind: Token, hint: str) -> QueryError:
        """The same for what stands between two tokens."""
        begin = before.end_pos or 0
        part = self._text[begin : behind.start_pos]
        start = begin + len(part) - len(part.lstrip())
        return QueryError(message, text=self._text, start=start, end=start + len(part.strip()), hint=hint)

    # --- values and names ---

    def value(self, children: list[Token]) -> tuple[Any, Token]:
        return self._literal(children[0]), children[0]

    def word(self, children: list[Token]) -> Any:
        token = children[0]
        return str(token) if token.type == "WORD" else self._literal(token)

    def tag(self, children: list[Token]) -> Any:
        token = children[0]
        name = str(token) if token.type == "TAG" else self._literal(token)
        return name.removeprefix("#")

    def path(self, children: list[Token]) -> str:
        return str(children[0]).strip("`")

    def words(self, children: list[Token]) -> str:
        return f"words({str(children[1]).strip('`')})"

    def _literal(self, token: Token) -> Any:
        if token.type in ("TRUE", "FALSE", "NULL"):
            return {"TRUE": True, "FALSE": False, "NULL": None}[token.type]
        try:
            value = json.loads(str(token))
        except ValueError as error:
            raise self._fail(f"not a value: {error}", token) from None
        if type(value) is float and value in (float("inf"), float("-inf")):
            raise self._fail("a number too large", token)
        if type(value) is int and not -(2**63) <= value < 2**63:
            raise self._fail("a whole number that does not fit in 64 bits", token)
        if type(value) is str and any("\ud800" <= char <= "\udfff" for char in value):
            raise self._fail("half of a character", token)
        return value

    # --- conditions ---

    def compare(self, children: list[Any]) -> Expr:
        path, operator, (value, _) = children
        return Compare(str(operator), path, value)

    def has(self, children: list[Any]) -> Expr:
        path, _, (value, _) = children
        return Compare("=", path, value)

    def among(self, children: list[Any]) -> Expr:
        return Compare("in", children[0], tuple(value for value, _ in children[2:]))

    def any_of(self, children: list[Any]) -> Expr:
        return Compare("in", children[0], tuple(value for value, _ in children[3:]))

    def all_of(self, children: list[Any]) -> Expr:
        return all_of(*(Compare("=", children[0], value) for value, _ in children[3:]))

    def starts(self, children: list[Any]) -> Expr:
        return Compare("starts with", children[0], self._literal(children[3]))

    def matches(self, children: list[Any]) -> Expr:
        path, _, token = children
        text = self._literal(token)
        if '"' in text:
            raise self._fail("phrases cannot be searched for, only words", token, hint="leave the inner quotes out")
        try:
            return matching(path, text)
        except UsageError as error:
            raise self._fail(str(error), token) from None

    def exists(self, children: list[Any]) -> Expr:
        return Compare("exists", children[0], True)

    def negation(self, children: list[Any]) -> Expr:
        return Not(children[1])

    def and_expr(self, children: list[Any]) -> Expr:
        return all_of(*children[::2])

    def or_expr(self, children: list[Any]) -> Expr:
        return Or(tuple(children[::2]))

    # --- clauses: each a function from what has been gathered so far ---

    def tagged(self, children: list[Any]) -> tuple[str, Any]:
        tags = [child for child in children[1:] if not isinstance(child, Token)]
        return "where", all_of(*(Compare("=", TAGS_PATH, tag) for tag in tags))

    def by(self, children: list[Any]) -> tuple[str, Any]:
        return "where", Compare("=", AUTHOR_PATH, children[1])

    def where(self, children: list[Any]) -> tuple[str, Any]:
        return "where", children[1]

    def sort(self, children: list[Any]) -> SortPath:
        kinds = [child.type for child in children if isinstance(child, Token)]
        path = next(child for child in children if not isinstance(child, Token))
        if "MINUS" in kinds and len(kinds) > 1:
            token = next(child for child in children if isinstance(child, Token) and child.type != "MINUS")
            raise self._fail("a direction given twice: write -path, or path desc", token)
        return SortPath(path, kinds in (["MINUS"], ["DESC"]))

    def since(self, children: list[Token]) -> tuple[str, Any]:
        try:
            return "where", since(str(children[1]), self._now_ms)
        except UsageError as error:
            raise self._fail(str(error), children[1]) from None

    def select(self, children: list[Any]) -> tuple[str, Any]:
        paths = tuple(child for child in children[1:])
        if len(set(paths)) != len(paths):
            raise self._fail("a path selected twice", children[0])
        return "select", (paths, children[0])

    def limit(self, children: list[Token]) -> tuple[str, Any]:
        return "limit", (self._positive(children[1]), children[0])

    def order(self, children: list[Any]) -> tuple[str, Any]:
        paths = tuple(child for child in children if isinstance(child, SortPath))
        if len({path.path for path in paths}) != len(paths):
            raise self._fail("a path to order by, given twice", children[0])
        return "order", (paths, children[0])

    def after(self, children: list[Any]) -> tuple[str, Any]:
        return "after", (str(children[1]), children[1])

    # --- indexes ---

    def index(self, children: list[Any]) -> tuple[str, Definition]:
        name = check_name(str(children[0]), "an index")
        paths = tuple(child for child in children if isinstance(child, SortPath))
        include = tuple(child for child in children if type(child) is str)
        where = next((child for child in children if isinstance(child, Expr)), EVERYTHING)
        unique = any(isinstance(child, Token) and child.type == "UNIQUE" for child in children)
        return name, Definition(paths, where, include, unique)

    # --- whole queries ---

    def limited(self, children: list[Token]) -> tuple[str, int | None]:
        number = self._positive(children[1])
        return {"FIRST": DECLARED, "NEWEST": NEWEST, "OLDEST": OLDEST}[children[0].type], number

    def _positive(self, token: Token) -> int:
        number: int = self._literal(token)
        if number < 1:
            raise self._fail("ask for at least 1", token)
        return number

    def unlimited(self, children: list[Token]) -> tuple[str, int | None]:
        return DECLARED, None

    def find(self, children: list[Any]) -> tuple[Query, str | None]:
        (order, limit), collection, *clauses = children
        found = self._gather(clauses, "order", "select", "after")
        paths, place = found.get("order", ((), None))
        if paths and order != DECLARED:
            raise self._fail(f"`{order}` is an order already", place, hint="write: first N ... order by ...")
        select, _ = found.get("select", ((), None))
        after, _ = found.get("after", (None, None))
        return Query(str(collection), found["where"], paths or order, limit, paths=select), after

    def count(self, children: list[Any]) -> tuple[Query, str | None]:
        _, collection, *clauses = children
        return Query(str(collection), self._gather(clauses)["where"], kind=COUNT), None

    def grouped(self, children: list[Any]) -> tuple[Query, str | None]:
        path, collection, clauses = self._taken_apart(children)
        found = self._gather(clauses, "limit")
        limit, _ = found.get("limit", (None, None))
        kind = COUNT_BY if children[0].type == "COUNT" else DISTINCT
        return Query(collection, found["where"], limit=limit, kind=kind, paths=(path,)), None

    def extreme(self, children: list[Any]) -> tuple[Query, str | None]:
        path, collection, clauses = self._taken_apart(children)
        try:
            check_extreme(path)
        except UsageError as error:
            raise self._fail_between(str(error), children[0], children[2], hint=error.hint) from None
        return extreme(collection, self._gather(clauses)["where"], path, greatest=children[0].type == "MAX"), None

    def _taken_apart(self, children: list[Any]) -> tuple[str, str, list[Any]]:
        """The path, the collection and the clauses of `... path of collection clause...`."""
        at = next(place for place, child in enumerate(children) if isinstance(child, Token) and child.type == "OF")
        return children[at - 1], str(children[at + 1]), children[at + 2 :]

    def _gather(self, clauses: Iterable[tuple[str, Any]], *allowed: str) -> dict[str, Any]:
        """The clauses by their kind, each but the conditions once. Those that do not belong here are refused."""
        terms: list[Expr] = []
        found: dict[str, Any] = {}
        for kind, content in clauses:
            if kind == "where":
                terms.append(content)
                continue
            shown = "order by" if kind == "order" else kind
            if kind not in allowed:
                raise self._fail(f"`{shown}` does not go with this query", content[1], hint=_INSTEAD.get(kind, ""))
            if kind in found:
                raise self._fail(f"`{shown}` stands here twice", content[1])
            found[kind] = content
        return {**found, "where": all_of(*terms)}


_INSTEAD = {
    "limit": "so many records are asked for with: first N, newest N or oldest N",
    "select": "only records have paths to select",
}
