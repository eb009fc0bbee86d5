"""From the text of a query, or of an index, to its parse tree, or to what may follow it. What it means: `parse`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedInput, UnexpectedToken

from rhizome_index.errors import QueryError
from rhizome_index.limits import QUERY_TOKENS_MAX


def tree_of(text: str, start: str) -> Tree[Token]:
    """The tree of a text, by the rule `start`. Raises lark's UnexpectedInput, and QueryError for too much."""
    parsing = _grammar().parse_interactive(text, start)
    try:
        for count, token in enumerate(parsing.iter_parse()):
            if count >= QUERY_TOKENS_MAX:
                place = token.start_pos or 0
                raise QueryError(
                    f"the {start} has more than {QUERY_TOKENS_MAX:,} words and signs",
                    text=text, start=place, end=token.end_pos or place,
                )  # fmt: skip
        tree: Tree[Token] = parsing.feed_token(Token("$END", ""))
    except UnexpectedToken as error:
        error.interactive_parser = parsing  # which knows what could have stood here
        raise
    return tree


@lru_cache(maxsize=1)
def _grammar() -> Lark:
    source = files("rhizome_index.query").joinpath("grammar.lark").read_text(encoding="utf-8")
    return Lark(source, start=["query", "index"], parser="lalr", propagate_positions=True)


@dataclass(frozen=True, slots=True)
class Begun:
    """A text that some query begins with: its tokens, and the names of the terminals that may come next."""

    tokens: tuple[Token, ...]
    accepts: frozenset[str]


def begin(text: str) -> Begun | None:
    """What may follow a text in a query; None if nothing may."""
    parsing = _grammar().parse_interactive(text, "query")
    tokens: list[Token] = []
    try:
        for token in parsing.iter_parse():
            tokens.append(token)
            if len(tokens) > QUERY_TOKENS_MAX:
                return None
    except UnexpectedInput:
        return None
    accepts: set[str] = parsing.accepts()  # type: ignore[no-untyped-call]
    return Begun(tuple(tokens), frozenset(accepts))


def terminals() -> frozenset[str]:
    """The names of all that a query or an index can be written with."""
    return frozenset(terminal.name for terminal in _grammar().terminals) - set(_grammar().ignore_tokens)
