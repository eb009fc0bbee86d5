"""The command line as a person meets it: what it prints, and how it exits."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from rhizome_index.blocks.cid import cid_of
from rhizome_index.cli.logs import logging_to, tell_problems
from rhizome_index.cli.main import Commands
from rhizome_index.limits import STORE_WATCH_SECONDS
from rhizome_index.node.disk import DiskStore
from tests.cli.terminal import DECLARED, POSTS, Terminal


def test_a_first_session(rhizome: Terminal, tmp_path: Path) -> None:
    rhizome("init")
    found = json.loads(rhizome("--json", "import", "posts", "-", *DECLARED, stdin=POSTS)[0])
    assert (found["sequence"], found["records"], found["indexes"]) == (1, 2, ["by_tag"])
    assert found["address"].startswith("rhizome:12D3KooW") and found["seconds"] >= 0
    rows, told = rhizome("query", "first 2 posts tagged #cats", "--json", "--proof", str(tmp_path / "x.car"))
    assert [json.loads(row)["id"] for row in rows.splitlines()] == ["b", "a"]
    summary = json.loads(told)
    assert (summary["proof"], summary["complete"], summary["rows"], summary["round_trips"]) == ("L5", True, 2, 0)
    assert summary["head"]["sequence"] == 1 and summary["head"]["age_seconds"] >= 0
    for name in (
        "entries_scanned",
        "blocks_local",
        "blocks_remote",
        "bytes_received",
        "peers",
        "connect_seconds",
        "seconds",
    ):
        assert name in summary
    assert rhizome("verify", str(tmp_path / "x.car"))[0] == rows
    assert "head 1" in rhizome("status")[0]
    assert json.loads(rhizome("query", "count posts tagged #dogs")[0]) == {"count": 1}
    rhizome("put", "posts", '{"id": "c", "tags": [], "created": 3}')
    assert json.loads(rhizome("get", "posts", "c")[0])["created"] == 3
    assert "1 deleted" in rhizome("delete", "posts", "c", "nothing")[0]
    rhizome("get", "posts", "c", code=2)
    assert "by_created has 2 entries" in rhizome("index", "add", "posts", "by_created=-created")[0]
    assert len(rhizome("index", "list", "posts")[0].splitlines()) == 2
    rhizome("index", "drop", "posts", "by_created")
    address = found["address"]
    assert "collections" in rhizome("inspect", address)[0]
    manifest = json.loads(rhizome("inspect", address, "--json")[0])
    node = json.loads(rhizome("inspect", manifest["collections"]["posts"]["primary"], "--json")[0])
    assert node["items"][0]["key"] == ["a"] and node["items"][0]["value"]["tags"] == ["cats"]


def test_a_dataset_moves_as_a_file(rhizome: Terminal, tmp_path: Path) -> None:
    rhizome("import", "posts", "-", *DECLARED, stdin=POSTS)
    file = tmp_path / "posts.car"
    rhizome("export", str(file))
    address = json.loads(rhizome("status", "--json")[0])["datasets"][0]["address"]
    rhizome.home = tmp_path / "other"
    rhizome("restore", str(file))
    rows, _ = rhizome("query", "first 1 posts tagged #dogs", "--from", address)
    assert json.loads(rows)["id"] == "b"
    data = file.read_bytes()
    rhizome.home = tmp_path / "third"
    for wrong in (
        data[:-1],
        data[:200],
        data + data[-50:],
        b"",
        b"x" * 99,
        data[:300] + bytes([data[300] ^ 1]) + data[301:],
    ):
        file.write_bytes(wrong)
        rhizome("restore", str(file), code=4)
    assert json.loads(rhizome("status", "--json")[0])["datasets"] == []


def test_a_changed_answer_is_not_verified(rhizome: Terminal, tmp_path: Path) -> None:
    rhizome("import", "posts", "-", *DECLARED, stdin=POSTS)
    file = tmp_path / "x.car"
    rhizome("query", "first 2 posts tagged #cats", "--proof", str(file))
    data = file.read_bytes()
    for place in range(0, len(data), 7):
        file.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        rhizome("verify", str(file), code=4)
    file.write_bytes(data)
    rhizome("verify", str(file))
    rhizome("verify", str(file), "--publisher", "12D3KooWSxpeJpcAebtV9emdNM7bUNATFhTx2JirESHYLkxhVvHC", code=4)


def test_a_cursor_continues(rhizome: Terminal) -> None:
    rhizome("import", "posts", "-", *DECLARED, stdin=POSTS)
    cursor = json.loads(rhizome("query", "first 1 posts tagged #cats", "--json")[1])["cursor"]
    rows, _ = rhizome("query", f"first 1 posts tagged #cats after {cursor}")
    assert json.loads(rows)["id"] == "a"


def test_nobody_to_ask_is_not_a_usage_error(rhizome: Terminal) -> None:
    rhizome("init")
    _, told = rhizome("query", "first 1 posts", code=3)
    assert "here" in told


def test_every_command_has_help_with_an_example(rhizome: Terminal) -> None:
    for name in Commands.MODULES:
        subcommands = {"index": ["add", "list", "drop"], "key": ["list", "rotate"], "sample": ["emoji", "posts"]}.get(
            name, [""]
        )
        for subcommand in subcommands:
            text, _ = rhizome(*filter(None, (name, subcommand, "--help")))
            assert ("Example" in text and f"rhizome {name}".strip() in text) or name in ("init",), (name, subcommand)


def test_a_key_that_others_can_read_is_warned_about(rhizome: Terminal) -> None:
    rhizome("init")
    assert rhizome("id")[1] == ""
    (rhizome.home / "identity.key").chmod(0o644)
    assert "chmod 600" in rhizome("id")[1]
    assert json.loads(rhizome("id", "--json")[1])["warning"]


def test_a_scrub_finds_what_is_damaged(rhizome: Terminal) -> None:
    rhizome("scrub", code=2)
    rhizome("import", "posts", "-", *DECLARED, stdin=POSTS)
    assert "whole" in rhizome("scrub")[0]
    with closing(DiskStore(rhizome.home / "store.sqlite")) as store:
        store.execute("update blocks set data = zeroblob(length(data))")
    told, error = rhizome("scrub", "--json", code=5)
    found = json.loads(told)
    assert (found["whole"], found["damaged_blocks"], found["datasets"][0]["missing"]) == (False, found["blocks"], 1)
    assert json.loads(error)["exit_code"] == 5
    assert "1 block missing" in rhizome("scrub", code=5)[0]


def test_gc_says_what_it_frees(rhizome: Terminal) -> None:
    rhizome("gc", code=2)
    rhizome("import", "posts", "-", *DECLARED, stdin=POSTS)
    with closing(DiskStore(rhizome.home / "store.sqlite")) as store:
        store.put_many([(cid_of(b"waste"), b"waste")])
        blocks, size = store.count_blocks()
    told = json.loads(rhizome("gc", "--dry-run", "--json")[0])
    freed = {"freed_blocks": 1, "freed_bytes": 5, "kept_blocks": blocks - 1, "kept_bytes": size - 5}
    assert told["dry_run"] and freed.items() <= told.items()
    assert "would free 1 block," in rhizome("gc", "--dry-run")[0]
    assert "freed 1 block," in rhizome("gc")[0]
    assert json.loads(rhizome("gc", "--json")[0])["freed_blocks"] == 0


async def test_a_running_node_says_once_that_its_disk_fails(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    store = SimpleNamespace(problem="")
    node: Any = SimpleNamespace(peer=SimpleNamespace(store=store))
    with logging_to(None, "info", as_json=False):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell_problems, node)
            for problem in ("", "the disk is full", ""):
                store.problem = problem
                await trio.sleep(3 * STORE_WATCH_SECONDS)
            nursery.cancel_scope.cancel()
    assert capsys.readouterr().err.splitlines() == [
        "rhizome: the disk is full; answers go on, nothing new is kept",
        "rhizome: the store can be written again",
    ]
