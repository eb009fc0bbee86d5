"""A query that is kept: what it reckons from now is read once, and its text names that moment from then on."""

from __future__ import annotations

import json

from lark import Token

from rhizome_index.errors import UsageError
from rhizome_index.query.grammar import tree_of
from rhizome_index.query.parse import parse
from rhizome_index.query.phrases import EPOCH, MILLISECOND, ago


def at_moment(text: str, now_ms: int) -> str:
    """The text of a query that asks at any time what this one asks now. Raises UsageError for what is none."""
    parse(text, now_ms)
    if text.lstrip().startswith("{"):
        body = json.loads(text)
        if ago(body.get("since", "")) is None:
            return text
        return json.dumps({**body, "since": _moment(body["since"], now_ms)}, ensure_ascii=False)
    tokens = [token for clause in tree_of(text, "query").find_data("since") for token in clause.children]
    moments = {token.start_pos: str(token) for token in tokens if isinstance(token, Token) and ago(token) is not None}
    for start in sorted(filter(None, moments), reverse=True):
        text = text[:start] + _moment(moments[start], now_ms) + text[start + len(moments[start]) :]
    return text


def _moment(duration: str, now_ms: int) -> str:
    """The moment that lies so long before now, to the millisecond."""
    try:
        when = EPOCH + (now_ms - (ago(duration) or 0)) * MILLISECOND
    except OverflowError:
        raise UsageError(f"nothing was {duration} ago", hint="leave `since` out") from None
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
