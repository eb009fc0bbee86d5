"""The log of a node: one line of JSON an event, nothing secret, and on the terminal only what a person must know."""

from __future__ import annotations

import ast
import json
import logging
import os
import re
import socket
import stat
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import rhizome_index.node.libp2p_swarm  # noqa: F401  here once, not in every child
from rhizome_index.cli.logs import LEVELS, _NotAgain, logging_to, tell_listeners
from rhizome_index.errors import UsageError
from rhizome_index.limits import LISTENERS_WATCH_SECONDS, LOG_AGAIN_SECONDS
from rhizome_index.node.events import DEBUG, ERROR, INFO, LOGGER, WARNING, note
from tests.cli.terminal import DECLARED, POSTS, Terminal
from tests.test_layers import modules

DOCUMENTED = (Path(__file__).parents[2] / "docs" / "logs.md").read_text(encoding="utf-8")


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def note_one_of_each() -> None:
    for level, name in zip((DEBUG, INFO, WARNING, ERROR), LEVELS, strict=True):
        note(level, f"a_{name}", f"text of {name}" if level >= WARNING else "", number=1, names=["x"])


# --- where events go ---


def test_a_line_says_when_what_and_how_grave(tmp_path: Path) -> None:
    with logging_to(str(tmp_path / "log"), "debug", as_json=False):
        note_one_of_each()
    lines = lines_of((tmp_path / "log").read_text())
    assert [line["event"] for line in lines] == [f"a_{name}" for name in LEVELS]
    assert [line["level"] for line in lines] == list(LEVELS)
    assert all(line["number"] == 1 and line["names"] == ["x"] for line in lines)
    assert lines[1].keys() == {"time", "level", "event", "number", "names"} and lines[3]["text"] == "text of error"
    times = [datetime.fromisoformat(line["time"]) for line in lines]
    assert times == sorted(times) and all(time.utcoffset() is not None for time in times)


@pytest.mark.parametrize("place", range(4))
def test_as_much_as_was_asked_for(tmp_path: Path, place: int, capsys: pytest.CaptureFixture[str]) -> None:
    with logging_to(str(tmp_path / "log"), LEVELS[place], as_json=False):
        note_one_of_each()
    assert [line["level"] for line in lines_of((tmp_path / "log").read_text())] == list(LEVELS[place:])
    assert capsys.readouterr().err.splitlines() == ["rhizome: text of warning", "rhizome: text of error"]
    with logging_to("-", LEVELS[place], as_json=False):
        note_one_of_each()
    assert [line["level"] for line in lines_of(capsys.readouterr().err)] == list(LEVELS[place:])


def test_without_a_log_the_terminal_has_what_matters(capsys: pytest.CaptureFixture[str]) -> None:
    note_one_of_each()
    assert capsys.readouterr().err == ""
    with logging_to(None, "debug", as_json=True):
        note_one_of_each()
    assert [line["event"] for line in lines_of(capsys.readouterr().err)] == ["a_warning", "a_error"]
    note_one_of_each()
    assert capsys.readouterr().err == "" and LOGGER.propagate


def test_a_text_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_to(None, "info", as_json=False):
        note(WARNING, "event", "a\x1b[2Jb\nc")
    assert capsys.readouterr().err == "rhizome: a [2Jb c\n"


def test_a_log_is_its_owners_and_may_be_moved_away(tmp_path: Path) -> None:
    log, moved = tmp_path / "log", tmp_path / "moved"
    before = os.umask(0)
    try:
        with logging_to(str(log), "info", as_json=False):
            note(INFO, "one")
            log.rename(moved)
            note(INFO, "two")
            assert stat.S_IMODE(log.stat().st_mode) == 0o600
        with logging_to(str(log), "info", as_json=False):
            note(INFO, "three")
    finally:
        os.umask(before)
    assert [line["event"] for line in lines_of(moved.read_text())] == ["one"]
    assert [line["event"] for line in lines_of(log.read_text())] == ["two", "three"]


def test_a_log_that_cannot_be_opened(tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match=f"cannot write the log {tmp_path}: Is a directory"),
        logging_to(str(tmp_path), "info", as_json=False),
    ):
        pass
    note_one_of_each()
    assert len(LOGGER.handlers) == 1


def test_a_log_on_a_full_disk_is_told_of_once(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_to("/dev/full", "info", as_json=False):
        for _ in range(3):
            note(INFO, "event")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("rhizome: the log cannot be written: ") and "No space left" in line


def test_what_libraries_say_goes_to_the_log_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    library = logging.getLogger("some.library")
    with logging_to(str(tmp_path / "log"), "info", as_json=False):
        for _ in range(3):
            library.error("too many %s", "files", exc_info=ValueError("x"))
        library.info("not of interest")
        library.warning("something else")
    lines = lines_of((tmp_path / "log").read_text())
    assert [(line["event"], line["logger"], line["text"]) for line in lines] == [
        ("library", "some.library", "too many files"),
        ("library", "some.library", "something else"),
    ]
    with logging_to(None, "info", as_json=False):
        library.error("too many files")
    assert capsys.readouterr().err == ""


def test_a_library_may_repeat_itself_after_a_while() -> None:
    again = _NotAgain()

    def passes(at: float, name: str = "a") -> bool:
        return again.filter(logging.makeLogRecord({"name": name, "msg": "x", "created": at}))

    assert passes(100) and not passes(100 + LOG_AGAIN_SECONDS - 1) and passes(100, "b")
    assert passes(100 + LOG_AGAIN_SECONDS) and not passes(101 + LOG_AGAIN_SECONDS)


# --- what is said ---


def noted() -> Iterator[tuple[str, str, set[str]]]:
    """The events in the code: name, level and fields."""
    for path in modules():
        text = path.read_text(encoding="utf-8")
        for call in ast.walk(ast.parse(text)) if " note(" in text else ():
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "note":
                level, event, *for_people = call.args
                if isinstance(level, ast.Name) and isinstance(event, ast.Constant):
                    assert bool(for_people) == (level.id in ("WARNING", "ERROR")), event.value
                    yield event.value, level.id.lower(), {str(keyword.arg) for keyword in call.keywords}


def test_every_event_is_documented_and_none_besides() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \|", DOCUMENTED, re.MULTILINE)
    documented = {(event, level, frozenset(re.findall(r"`(\w+)`", fields))) for event, level, fields in rows}
    found = {(event, level, frozenset(fields)) for event, level, fields in noted()}
    assert found == {row for row in documented if row[0] != "library"} and len(found) > 10


async def test_listeners_that_are_lost_and_found(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    node: Any = SimpleNamespace(addresses=("/ip4/10.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/1"))
    with logging_to(str(tmp_path / "log"), "info", as_json=False):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell_listeners, node)
            for addresses in (node.addresses, node.addresses[1:], node.addresses[1:], node.addresses):
                node.addresses = addresses
                await trio.sleep(2 * LISTENERS_WATCH_SECONDS)
            nursery.cancel_scope.cancel()
    assert capsys.readouterr().err == "rhizome: nobody can reach us any more at /ip4/10.0.0.1/tcp/1\n"
    lines = lines_of((tmp_path / "log").read_text())
    assert [(line["event"], line["address"]) for line in lines] == [
        ("listener_lost", "/ip4/10.0.0.1/tcp/1"),
        ("listener_found", "/ip4/10.0.0.1/tcp/1"),
    ]


# --- real nodes ---


def errors_to(path: Path) -> Callable[[], None]:
    return lambda: os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), 2) and None


def knock_badly(address: str) -> None:
    """Everything that a port open to the world hears."""
    port = int(address.split("/")[4])
    for data in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\x13/multistream/1.0.0\n", b"\xff" * 5000, os.urandom(3000)):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(data)
            connection.settimeout(0.01)
            try:
                while connection.recv(4096):
                    pass
            except OSError:
                pass


def test_a_node_logs_what_happens_and_its_terminal_stays_silent(rhizome: Terminal, tmp_path: Path) -> None:
    rhizome("import", "posts", "-", *DECLARED, stdin=POSTS.replace(b'"id": "a"', b'"id": "a", "text": "abracadabra"'))
    reader = Terminal(tmp_path / "reader", rhizome.monkeypatch, rhizome.capsys)
    reader("init")
    logs, terminals = [tmp_path / "log 1", tmp_path / "log 2"], [tmp_path / "err 1", tmp_path / "err 2"]
    options = ("--log-level", "debug", "--log")
    with rhizome.serving(errors_to(terminals[0]), *options, str(logs[0])) as address:
        dataset = f"rhizome:{address.rpartition('/')[2]}/main"
        with reader.serving(errors_to(terminals[1]), *options, str(logs[1]), "--peer", address) as other:
            knock_badly(address)
            reader("query", 'first 1 posts where text = "abracadabra"', "--from", dataset, "--peer", address, "--scan")
            reader("follow", dataset)
            reader("follow", dataset + "x", code=3)
            knock_badly(other)
    events = [[line["event"] for line in lines_of(log.read_text())] for log in logs]
    assert {"started", "answered", "stopped"} <= set(events[0])
    assert {"started", "dialled", "synced", "lent", "follow_failing", "stopped"} <= set(events[1])
    assert [terminal.read_text() for terminal in terminals] == ["", ""]
    for text in (log.read_bytes() for log in logs):
        assert b"abracadabra" not in text and (rhizome.home / "identity.key").read_bytes()[4:36].hex() not in str(text)
