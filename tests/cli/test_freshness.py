"""Heads that hold for a time, on the command line: said when they are signed, shown, and insisted on."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.terminal import DECLARED, POSTS, Terminal

QUERY = ("query", "first 9 posts tagged #cats")
HOUR = 3600


def published(rhizome: Terminal, monkeypatch: pytest.MonkeyPatch, seconds_ago: float, *words: str) -> None:
    now = time.time()
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: now - seconds_ago)
        rhizome("import", "posts", "-", *DECLARED, *words, stdin=POSTS)


def summary_of(rhizome: Terminal, *words: str) -> Any:
    return json.loads(rhizome(*QUERY, "--json", *words)[1])


def test_a_head_that_holds_shows_how_long(rhizome: Terminal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    published(rhizome, monkeypatch, HOUR, "--valid-for", "6h")
    file = str(tmp_path / "x.car")
    for words in ([*QUERY, "--proof", file], ["status"], ["verify", file]):
        assert ", holds for 5 h" in "".join(rhizome(*words))
    (dataset,) = json.loads(rhizome("status", "--json")[0])["datasets"]
    for left in (
        dataset["expires_in_seconds"],
        summary_of(rhizome)["head"]["expires_in_seconds"],
        json.loads(rhizome("verify", file, "--json")[1])["head"]["expires_in_seconds"],
    ):
        assert 5 * HOUR - 60 < left <= 5 * HOUR
    inspected = json.loads(rhizome("inspect", dataset["address"], "--json")[0])
    assert inspected["expires_ms"] - inspected["time_ms"] == 6 * HOUR * 1000
    for words in (["--unexpired"], ["--fresh", "2h"], ["--fresh", "2h", "--unexpired"]):
        assert summary_of(rhizome, *words)["rows"] == 2
    rhizome.fails(*QUERY, "--fresh", "30min", code=3, says="head 1 is 60 min old; wanted is one of at most 30 min")


def test_a_head_that_has_expired_says_so_and_answers_whoever_does_not_insist(
    rhizome: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(rhizome, monkeypatch, 4 * HOUR, "--valid-for", "1h")
    assert "EXPIRED 3 h ago" in rhizome(*QUERY)[1] and "EXPIRED 3 h ago" in rhizome("status")[0]
    assert summary_of(rhizome)["head"]["expires_in_seconds"] < -3 * HOUR + 60
    rhizome.fails(*QUERY, "--unexpired", code=3, says="head 1 expired 3 h ago")
    rhizome("renew")
    assert summary_of(rhizome, "--unexpired", "--fresh", "1min")["head"]["sequence"] == 2
    assert "head 3, holds for 3 d" in rhizome("renew", "--valid-for", "3d")[0]
    rhizome("renew", "--valid-for", "forever")
    assert summary_of(rhizome)["head"]["expires_in_seconds"] is None


def test_a_head_that_never_expires(rhizome: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    published(rhizome, monkeypatch, HOUR)
    assert "hold" not in rhizome("status")[0] and "EXPIRED" not in rhizome(*QUERY)[1]
    assert json.loads(rhizome("status", "--json")[0])["datasets"][0]["expires_in_seconds"] is None
    rhizome.fails(*QUERY, "--unexpired", code=3, says="head 1 does not say how long it holds")


@pytest.mark.parametrize(
    "words",
    [
        ["put", "posts", '{"id": "z"}', "--valid-for"],
        ["delete", "posts", "a", "--valid-for"],
        ["renew", "--valid-for"],
        ["query", "first 1 posts", "--fresh"],
    ],
    ids=" ".join,
)
def test_what_is_no_length_of_time(rhizome: Terminal, monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    published(rhizome, monkeypatch, 0)
    for text in ("soon", "", "1", "-1h", "0s"):
        rhizome.fails(*words, text, says="not a length of time")
    rhizome(*words, "1h")
    assert rhizome.state()[0]["sequence"] == (1 if words[0] == "query" else 2)


def test_nothing_to_renew(rhizome: Terminal) -> None:
    rhizome.fails("renew", says="there is no home")
    rhizome("init")
    rhizome.fails("renew", says="nothing was published as")
