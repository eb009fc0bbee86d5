"""What commands say where nothing came of them, where they are interrupted, and how they name an index."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rhizome_index.cli import asking, following
from tests.cli.terminal import POSTS, Terminal

INDEXES = (
    "by_u=id unique",
    "by_ring=tags include created",
    "by_late=-created where created > 1",
    "by_tag=tags,-created",
)


def interrupting(owner: Any, name: str) -> Callable[[], None]:
    """Whoever calls this is interrupted, as by Ctrl-C."""

    def interrupted(*_: object, **__: object) -> None:
        signal.raise_signal(signal.SIGINT)

    def prepare() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        setattr(owner, name, interrupted)

    return prepare


@pytest.mark.parametrize("command", ["follow", "sync"])
def test_what_an_interrupted_sync_leaves_is_told(published: Terminal, reader: Terminal, command: str) -> None:
    dataset = json.loads(published("status", "--json")[0])["datasets"][0]["address"]
    reader("follow", dataset, "--later")
    code, _, err = reader.in_a_child(command, dataset, prepare=interrupting(following, "_bring"))
    assert code == 130 and err.splitlines()[0] == "rhizome: interrupted; what was fetched is kept"
    assert "goes on from there: rhizome sync" in err.splitlines()[1]


def test_an_interrupted_question_promises_nothing(published: Terminal) -> None:
    code, _, err = published.in_a_child("query", "first 1 posts", prepare=interrupting(asking, "Results"))
    assert (code, err) == (130, "rhizome: interrupted\n")


def test_an_index_is_named_in_one_way_and_order(published: Terminal) -> None:
    for definition in INDEXES[:-1]:
        published("index", "add", "posts", definition)
    listed = [json.loads(row) for row in published("index", "list", "posts")[0].splitlines()]
    told = json.loads(published("status", "--json")[0])["datasets"][0]["collections"]["posts"]
    assert list(told["indexes"].items()) == [(row["name"], row["definition"]) for row in listed]
    assert list(told["indexes"]) == list(told["proof"]) == sorted(told["indexes"])
    lines = published("status")[0].splitlines()
    assert [line.split("  L")[0].strip() for line in lines[-len(INDEXES) :]] == [
        f"{row['name']} = {row['definition']}" for row in listed
    ]
    assert {row["name"]: row["definition"] for row in listed}["by_u"] == "id unique"


def test_a_record_without_its_key_is_told_where_keys_are_chosen(published: Terminal) -> None:
    hint = published("put", "posts", '{"x": 1}', code=2)[1].splitlines()[1]
    assert "rhizome import --key FIELD" in hint


def test_what_there_was_not_to_delete_is_named(published: Terminal) -> None:
    assert published("delete", "posts", "a", "nope", "7")[0].endswith("1 deleted, no record 'nope', '7'\n")
    assert json.loads(published("delete", "posts", "b", "--json")[0])["missing"] == []


@pytest.mark.parametrize("command", ["follows", "evidence", "pins"])
def test_a_list_with_nothing_in_it_says_so(published: Terminal, command: str) -> None:
    out, err = published(command)
    assert out == "" and err.startswith("none: ")
    assert published(command, "--json") == ("", "")


def test_an_import_counts_records_not_lines(rhizome: Terminal) -> None:
    lines = b"".join(b'{"id": %d, "kind": %d}\n' % (n % 20, n % 8) for n in range(21))
    out, _ = rhizome("import", "birds", "-", stdin=lines)
    assert "head 1: 20 records in" in out and "1 record of standard input gave way to a later one of the same id" in out
    found = json.loads(rhizome("import", "other", "-", "--key", "kind", "--json", stdin=lines)[0])
    assert (found["records"], found["replaced"], found["records_in_collection"]) == (8, 13, 8)
    assert json.loads(rhizome("query", "count other", "--json")[0]) == {"count": 8}


def test_an_import_that_changes_nothing_says_so(published: Terminal) -> None:
    out, _ = published("import", "posts", "-", stdin=POSTS)
    assert "head 1: 2 records in" in out and out.endswith("; nothing has changed\n")
    out, _ = published("import", "posts", "-", stdin=b'{"id": "c"}')
    assert "head 2: 1 record in" in out and out.endswith("; 3 records in posts now\n")


def test_a_count_is_a_row(published: Terminal, tmp_path: Path) -> None:
    file = str(tmp_path / "count.car")
    for words in (("query", "count posts", "--proof", file), ("verify", file), ("query", "max created of posts")):
        out, told = published(*words)
        assert out.count("\n") == 1 and "1 row " in told, told


def test_put_says_how_a_collection_is_made(published: Terminal) -> None:
    hint = published("put", "pots", '{"id": "x"}', code=2)[1].splitlines()[1]
    assert hint.startswith('  did you mean "posts"?') and hint.endswith("rhizome import pots FILE")
