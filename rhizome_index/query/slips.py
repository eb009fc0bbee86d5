"""What is wrong with a text that is no query, where, and what may have been meant.

From what the grammar would have taken at a place to words for people; words of other query
languages are known here, too.
"""

from __future__ import annotations

from collections.abc import Iterable

from lark.exceptions import UnexpectedCharacters, UnexpectedEOF, UnexpectedInput, UnexpectedToken

from rhizome_index.errors import QueryError
from rhizome_index.index.slips import did_you_mean

_SHOWN = {
    "COLLECTION": "the name of a collection",
    "INTEGER": "a whole number",
    "NUMBER": "a number",
    "STRING": '"text in quotes"',
    "TAG": "#tag",
    "WORD": "a name",
    "CURSOR": "a cursor",
    "DURATION": "a time such as 7d, 12h or 30m",
    "DATE": "a day such as 2024-05-01",
    "WORDS": "words(...)",
    "OPERATOR": "= != < <= > >=",
    "LPAR": "(",
    "RPAR": ")",
    "LSQB": "[",
    "RSQB": "]",
    "COMMA": ",",
    "EQUAL": "=",
    "$END": "the end",
}
_HIDDEN = {"QUOTED_PATH", "MINUS"}


OPERATORS = ("=", "!=", "<", "<=", ">", ">=")
_OTHER_WORDS = {  # of other query languages
    "contains": "has",
    "includes": "has",
    "like": "starts with",
    "begins": "starts with",
    "sort": "order by",
    "sorted": "order by",
    "fields": "select",
    "search": "matches",
    "between": ">=",
    "is": "=",
    "<>": "!=",
    "&&": "and",
    "||": "or",
    "!": "not",
    "none": "null",
    "nil": "null",
    "top": "first",
    "last": "newest",
    "latest": "newest",
    "find": "all",
    "get": "all",
    "with": "where",
    "having": "where",
    "group": "count by",
    "filter": "where",
}


def keywords_of(expected: Iterable[str]) -> list[str]:
    """The words of the language among the grammar's terminals."""
    return sorted(name.lower() for name in expected if name not in _SHOWN and name not in _HIDDEN)


def explain_error(error: UnexpectedInput, text: str, what: str) -> QueryError:
    """The library's error as one that a person can use."""
    expected: set[str] = set()
    start = end = len(text)
    if isinstance(error, UnexpectedToken) and error.token.type != "$END":
        expected = set(error.accepts or error.expected)
        start, end = error.token.start_pos or 0, error.token.end_pos or 0
    elif isinstance(error, UnexpectedToken):
        expected = set(error.accepts or error.expected)
    elif isinstance(error, UnexpectedCharacters):
        expected = set(error.allowed or ())
        start = error.pos_in_stream or 0
        rest = text[start:].split(maxsplit=1)
        end = start + (len(rest[0]) if rest else 1)
    elif isinstance(error, UnexpectedEOF):
        expected = set(error.expected)
    here = text[start:end]
    keywords = keywords_of(expected)
    names = [_SHOWN[name] for name in sorted(expected) if name in _SHOWN] + keywords
    hint = _suggestion(here, keywords, expected)
    message = f"{here!r} does not belong here" if here else f"{what} ends too early"
    return QueryError(f"{message}; expected {_either(names)}", text=text, start=start, end=end, hint=hint)


def _suggestion(here: str, keywords: list[str], expected: set[str]) -> str:
    said = _OTHER_WORDS.get(here.lower())
    if said and (said.split()[0] in keywords or (said in OPERATORS and "OPERATOR" in expected)):
        return f'did you mean "{said}"?'
    if hint := did_you_mean(here.lower(), keywords):
        return hint
    if "TAG" in expected and here.replace("_", "").isalnum():
        return f"did you mean #{here}?"
    if len(here) > 2 and here[0] == here[-1] == "'" and "STRING" in expected:
        return f'did you mean "{here[1:-1]}"? text stands in double quotes'
    if here.startswith("#") and "STRING" in expected:
        return f'did you mean "{here[1:]}"? only behind tagged stands #'
    if here == "=" and "STRING" in expected:
        return 'did you mean "="? it stands once'
    if here and "STRING" in expected and "WORD" not in expected and here.replace("_", "").isalnum():
        return f'did you mean "{here}"? text stands in double quotes'
    if "EQUAL" in expected:
        return "write NAME=PATH,PATH... as in by_tag=tags,-created"
    if {"FIRST", "COUNT"} <= expected:
        return "queries look like: first 32 posts tagged #cats"
    return ""


def _either(names: list[str]) -> str:
    unique = list(dict.fromkeys(names))
    return unique[0] if len(unique) == 1 else ", ".join(unique[:-1]) + " or " + unique[-1] if unique else "nothing"
