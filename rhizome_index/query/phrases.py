"""What several front ends say in their own way, and mean alike: `since`, `matches`, the least and the greatest."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from rhizome_index.errors import UsageError
from rhizome_index.index.condition import Compare, Expr, all_of
from rhizome_index.index.record import TIME, WORDS, parse_path
from rhizome_index.index.schema import SortPath
from rhizome_index.index.words import words_of
from rhizome_index.query.expr import Query

_DURATION = re.compile(r"(\d{1,9})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)


def ago(moment: str) -> int | None:
    """How many milliseconds ago a moment such as `7d` is; None for one of another form."""
    duration = _DURATION.fullmatch(moment)
    return int(duration[1]) * _SECONDS[duration[2]] * 1000 if duration else None


def since(moment: str, now_ms: int | None) -> Expr:
    """That a record's time, in milliseconds since 1970, is not before a moment: `7d` ago, or a day or time in UTC.

    Raises UsageError for what is no moment, and where `now_ms` is needed and not known.
    """
    if (milliseconds := ago(moment)) is not None:
        if now_ms is None:
            raise UsageError("nothing says what time it is now", hint="name a moment: since 2024-05-01")
        return Compare(">=", TIME, now_ms - milliseconds)
    try:
        when = datetime.fromisoformat(moment.upper())
    except ValueError:
        raise UsageError(f"not a time: {moment!r}", hint="times look like 7d, 12h, 2024-05-01") from None
    return Compare(">=", TIME, ((when if when.tzinfo else when.replace(tzinfo=UTC)) - EPOCH) // MILLISECOND)


def matching(path: str, text: str) -> Expr:
    """That all words of a text are among those at a path. Raises UsageError for a text without any."""
    words = words_of(text)
    if not words:
        raise UsageError(f"no word to search for in {text!r}")
    return all_of(*(Compare("=", f"words({path})", word) for word in words))


def is_extreme(query: Query) -> bool:
    """Whether a query is one of `extreme`: there is nothing behind its only row."""
    if query.limit != 1 or isinstance(query.order, str):
        return False
    return query.paths == tuple(by.path for by in query.order)


def check_extreme(path: str) -> None:
    """Raise UsageError for a path of which nothing is the least or the greatest."""
    if parse_path(path)[-1] is WORDS:
        hint = f"name the path itself, or list the words: distinct {path} of ..."
        raise UsageError("words have no least and no greatest", hint=hint)


def extreme(collection: str, where: Expr, path: str, *, greatest: bool) -> Query:
    """The least or the greatest that stands at a path: that of the first record by it, of those that have anything.

    Raises UsageError.
    """
    check_extreme(path)
    something = Compare("!=", path, None)
    return Query(collection, all_of(where, something), (SortPath(path, greatest),), 1, paths=(path,))
