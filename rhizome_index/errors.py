"""Every error this package raises on purpose, and whose fault it says it is.

The class answers one question: who has to change something? The caller
(`UsageError`), the peer we talked to (`RemoteError`), the bytes themselves
(`IntegrityError`), or nobody in particular because nobody had it in time
(`UnavailableError`). Each carries the exit code of the command line. An
`AssertionError` is never part of this: it means a bug of ours.
"""

from __future__ import annotations

from unicodedata import combining, east_asian_width

_SHOWN_LETTERS = 72  # of a query in which something is wrong


class RhizomeError(Exception):
    """Base of all errors raised on purpose. `hint` says what to do next."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(RhizomeError):
    """The caller asked for something that cannot be: bad input, bad arguments, bad state."""

    exit_code = 2


class UnknownCollectionError(UsageError):
    """A dataset has no collection of that name."""


class RecordError(UsageError):
    """A record that an index refuses. `key` is its encoded primary key."""

    def __init__(self, message: str, key: bytes, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.key = key


class QueryError(UsageError):
    """A query that cannot be understood. `start` and `end` are offsets into `text`, in characters."""

    def __init__(self, message: str, *, text: str = "", start: int = 0, end: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.text = text
        self.start = start
        self.end = max(end, start)

    def pointer(self) -> str:
        """The query, or what of it is around the place meant, in one line, with carets below; or an empty text."""
        if not self.text:
            return ""
        text = "".join(char if char.isprintable() else " " for char in self.text)
        first, last = 0, len(text)
        if len(text) > _SHOWN_LETTERS:
            first = max(0, min(self.start - _SHOWN_LETTERS // 3, len(text) - _SHOWN_LETTERS))
            last = first + _SHOWN_LETTERS
        opening, closing = "…" if first else "", "…" if last < len(text) else ""
        before, meant = opening + text[first : self.start], text[self.start : min(self.end, last)]
        shown = f"{opening}{text[first:last]}{closing}"
        return f"{shown}\n{' ' * _columns(before)}{'^' * max(1, _columns(meant))}"


def _columns(text: str) -> int:
    """How wide a terminal shows a text: ideographs and emoji take two columns, marks none."""
    return sum(0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in text)


class UnavailableError(RhizomeError):
    """Nobody had it, or nobody answered, within the time given."""

    exit_code = 3


class StoreError(UnavailableError):
    """The local store cannot be read or written: busy, full, read-only or damaged hardware."""


class QuotaError(StoreError):
    """There is no room for more of what others publish."""


class IntegrityError(RhizomeError):
    """Bytes or signatures that lie: `cid` names the block where there is one, `key` the way to it in its tree."""

    exit_code = 4

    def __init__(self, message: str, *, cid: bytes | None = None, key: bytes | None = None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.cid = cid
        self.key = key


class RemoteError(IntegrityError):
    """A peer broke a protocol or sent bytes that lie. `peer` is its peer id; it has lost its connection."""

    def __init__(self, peer: str, message: str, *, cid: bytes | None = None, hint: str = "") -> None:
        super().__init__(f"peer {peer}: {message}", cid=cid, hint=hint)
        self.peer = peer
        self.reason = message


class PartialError(RhizomeError):
    """An answer that is right as far as it goes, but not complete."""

    exit_code = 5


class UnprovenError(RhizomeError):
    """An answer that may well be right, but of which less is proven than was required."""

    exit_code = 6


class InterruptedByUser(RhizomeError):
    """Whoever started this has stopped it."""

    exit_code = 130


def first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The exception that says most in a group: ours before others, others before cancellations."""
    flat: list[BaseException] = []
    waiting: list[BaseException] = [group]
    while waiting:
        error = waiting.pop()
        if isinstance(error, BaseExceptionGroup):
            waiting += error.exceptions
        else:
            flat.append(error)
    ranked = sorted(flat, key=lambda error: (not isinstance(error, RhizomeError), not isinstance(error, Exception)))
    return ranked[0]
