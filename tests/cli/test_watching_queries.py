"""A query that stays open, as a program reads it: line by line, until it is interrupted."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import pytest

from tests.cli.terminal import Terminal, nothing


@contextmanager
def watching(rhizome: Terminal, *words: str) -> Iterator[tuple[TextIO, TextIO]]:
    """A child that watches; what it prints. It must end well when it is interrupted."""
    (out, out_end), (err, err_end) = os.pipe(), os.pipe()
    child = rhizome.fork(words, nothing, b"", out_end, err_end)
    os.close(out_end)
    os.close(err_end)
    with os.fdopen(out, encoding="utf-8") as printed, os.fdopen(err, encoding="utf-8") as told:
        try:
            yield printed, told
        finally:
            os.kill(child, signal.SIGINT)
            _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert "Traceback" not in told.read() and not printed.read()


def read(file: TextIO) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.readline())
    return found


def test_rows_as_they_come_and_go(published: Terminal) -> None:
    with watching(published, "--json", "query", "newest 2 posts tagged #cats", "--watch") as (printed, told):
        begun = [read(printed), read(printed)]
        assert [(line["change"], line["record"]["id"]) for line in begun] == [("added", "b"), ("added", "a")]
        assert read(told)["rows"] == 2
        published("put", "posts", '{"id": "c", "tags": ["cats"], "created": 3}')
        removed, added = read(printed), read(printed)
        assert (removed["change"], removed["record"]["id"]) == ("removed", "a")
        assert (added["change"], added["record"]["id"], added["head"]) == ("added", "c", begun[0]["head"] + 1)
        assert read(told)["changes"] == 2


def test_a_count(published: Terminal) -> None:
    with watching(published, "query", "count posts tagged #dogs", "--watch") as (printed, told):
        assert read(printed)["count"] == 1 and "L5" in told.readline()
        published("delete", "posts", "b")
        assert read(printed)["count"] == 0


@pytest.mark.parametrize(
    "words",
    [
        ("newest 2 posts", "--proof", "x.car"),
        ("newest 2 posts", "--from", "@following"),
        ("count by tags of posts",),
        ("newest 2 posts after abc",),
    ],
)
def test_what_is_not_watched(published: Terminal, words: tuple[str, ...]) -> None:
    published.fails("query", "--watch", *words)
