"""From the text of a query, or of an index, to its parse tree. What the tree means: `parse`."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedToken

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
