"""Slips on the command line: what may have been meant is said, where, and as something to paste."""

from __future__ import annotations

import json
import shlex

import pytest

from rhizome_index.query import choose as choosing
from tests.cli.terminal import POSTS, Terminal


def test_an_empty_answer_says_what_may_have_been_meant(published: Terminal) -> None:
    rows, told = published("query", "first 3 posts tagged #Cats")
    assert not rows and told.splitlines()[-1] == 'rhizome: nothing has "Cats" at tags; did you mean "cats"?'
    summary = json.loads(published("--json", "query", "first 3 posts tagged #Cats")[1])
    assert summary["hints"] == ['nothing has "Cats" at tags; did you mean "cats"?']
    assert json.loads(published("--json", "query", "first 3 posts tagged #cats")[1])["hints"] == []


@pytest.mark.parametrize("command", ["query", "explain"])
def test_an_unknown_collection_is_pointed_at(published: Terminal, command: str) -> None:
    _, told = published(command, "first 3  pots tagged #cats", code=2)
    assert told.splitlines() == [
        "rhizome: no collection called 'pots'",
        "  first 3  pots tagged #cats",
        "           ^^^^",
        '  did you mean "posts"?; the dataset has: posts',
    ]
    _, told = published(command, '{"find": "pots"}', code=2)
    assert told.splitlines()[1] == '  did you mean "posts"?; the dataset has: posts'


def test_a_refused_scan_says_which_index_answers(published: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "SCAN_FREE_ENTRIES", 0)
    query = 'first 3 posts where `the text` starts with "a"'
    _, told = published("query", query, code=2)
    assert "did you mean" not in told
    published(*shlex.split(told.partition("add an index: ")[2])[1:])
    published("query", query)
    _, told = published("query", 'first 3 posts where tgas starts with "a"', code=2)
    assert told.splitlines()[1] == '  no record has anything at tgas; did you mean "tags"?'


def test_an_index_over_nothing_is_told(published: Terminal) -> None:
    told = 'rhizome: no record has anything at tgas; did you mean "tags"?\n'
    assert published("index", "add", "posts", "by_tgas=tgas")[1] == told
    found = json.loads(published("--json", "index", "add", "posts", "x=tags where likes > 3")[0])
    assert found["hints"] == ["no record has anything at likes"]
    assert (
        published("index", "drop", "posts", "by_tga", code=2)[1].splitlines()[1].startswith('  did you mean "by_tgas"?')
    )
    published("index", "drop", "posts", "by_tgas")
    _, told = published("import", "more", "-", "--time", "craeted", "--index", "i=tags", stdin=POSTS)
    assert told == 'rhizome: no record has anything at craeted; did you mean "created"?\n'
