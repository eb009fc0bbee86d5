"""Where the events of a running node go: lines of JSON to its log, and to its terminal what a person must know."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from io import TextIOWrapper
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import TextIO

import click
import trio

from rhizome_index.api import Node
from rhizome_index.cli.show import printable, to_json
from rhizome_index.errors import UsageError
from rhizome_index.limits import LISTENERS_WATCH_SECONDS, LOG_AGAIN_SECONDS, STORE_WATCH_SECONDS
from rhizome_index.node.events import ERROR, INFO, LOGGER, WARNING, note

LEVELS = ("debug", "info", "warning", "error")
STDERR = "-"

LOG = click.option("--log", metavar="FILE", help="Write what happens there, as lines of JSON; - is standard error.")
LOG_LEVEL = click.option("--log-level", type=click.Choice(LEVELS), default="info", show_default=True, help="How much.")


class JsonLines(logging.Formatter):
    """A record as one line: time, level, event, and the event's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        found: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
        }
        if (event := getattr(record, "event", None)) is not None:
            found["event"] = event
            found |= {"text": record.getMessage()} if record.msg else {}
            found |= record.fields  # type: ignore[attr-defined]
        else:  # a library's own
            found |= {"event": "library", "logger": record.name, "text": record.getMessage()}
        return to_json(found)


class _ForPeople(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"rhizome: {printable(record.getMessage())}"


class _Terminal(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:
        """Nobody reads it: the node goes on."""


class _LogFile(WatchedFileHandler):
    """A file, for its owner alone, that may be moved away; when it cannot be written, the terminal says so once."""

    _has_failed = False

    def _open(self) -> TextIOWrapper:
        return open(self.baseFilename, "a", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o600))

    def handleError(self, record: logging.LogRecord) -> None:
        if not self._has_failed:
            self._has_failed = True
            print(f"rhizome: the log cannot be written: {sys.exc_info()[1]}", file=sys.stderr, flush=True)
        self._abandon()  # with what could not be written, which would be tried again with the next line

    def close(self) -> None:
        self._abandon()
        super().close()

    def _abandon(self) -> None:
        stream, self.stream = self.stream, None
        if stream is not None:
            with suppress(OSError):
                stream.close()


class _NotAgain(logging.Filter):
    """Drops what a library says again and again, like that there are too many open files."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, tuple[str, float]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        text, at = self._said.get(record.name, ("", 0.0))
        is_again = text == str(record.msg) and record.created < at + LOG_AGAIN_SECONDS
        if not is_again:
            self._said[record.name] = (str(record.msg), record.created)
        return not is_again


@contextmanager
def logging_to(log: str | None, level: str, *, as_json: bool) -> Iterator[None]:
    """Events and what libraries warn of go to `log`, and what a person must know to the terminal. Raises UsageError.

    as_json  what goes to the terminal is JSON, too
    """
    terminal = _Terminal(sys.stderr)
    terminal.setLevel(WARNING)
    terminal.setFormatter(JsonLines() if as_json or log == STDERR else _ForPeople())
    handlers: list[logging.Handler] = [terminal]
    libraries: list[logging.Handler] = [logging.NullHandler()]  # nothing of theirs on the terminal
    if log == STDERR:
        terminal.setLevel(level.upper())
    elif log is not None:
        handlers.append(_open_log(Path(log), level))
        libraries.append(_open_log(Path(log), "warning"))
        libraries[-1].addFilter(_NotAgain())
    before = LOGGER.level
    root = logging.getLogger()
    try:
        LOGGER.setLevel(min(handler.level for handler in handlers))
        LOGGER.propagate = False
        for logger, its in ((LOGGER, handlers), (root, libraries)):
            for handler in its:
                logger.addHandler(handler)
        yield
    finally:
        LOGGER.setLevel(before)
        LOGGER.propagate = True
        for logger, its in ((LOGGER, handlers), (root, libraries)):
            for handler in its:
                logger.removeHandler(handler)
                handler.close()


def _open_log(path: Path, level: str) -> _LogFile:
    try:
        handler = _LogFile(path, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write the log {path}: {error.strerror}", hint="choose another with --log") from None
    handler.setLevel(level.upper())
    handler.setFormatter(JsonLines())
    return handler


async def tell_problems(node: Node) -> None:
    """Say so when the store cannot be written, and when it can again. Answers go on meanwhile."""
    told = ""
    while True:
        if (problem := node.peer.store.problem) != told:
            told = problem
            if problem:
                note(ERROR, "store_failing", f"{problem}; answers go on, nothing new is kept", reason=problem)
            else:
                note(WARNING, "store_recovered", "the store can be written again")
        await trio.sleep(STORE_WATCH_SECONDS)


async def tell_listeners(node: Node) -> None:
    """Say so when an address can no longer be reached: its network has gone, or its port was closed."""
    reachable = frozenset(node.addresses)
    while True:
        await trio.sleep(LISTENERS_WATCH_SECONDS)
        now = frozenset(node.addresses)
        for address in sorted(reachable - now):
            note(WARNING, "listener_lost", f"nobody can reach us any more at {address}", address=address)
        for address in sorted(now - reachable):
            note(INFO, "listener_found", address=address)
        reachable = now
