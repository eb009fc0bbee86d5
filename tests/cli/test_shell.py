"""The shell: lines in, answers out, from a program and from somebody who types."""

from __future__ import annotations

import json
import os
import pty
import re
import select
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from rhizome_index.cli import prompt as prompting
from rhizome_index.cli import shell
from rhizome_index.cli.lines import COMMANDS
from rhizome_index.query.complete import Completion
from tests.cli.terminal import POSTS, Terminal
from tests.cli.test_bad_input import NOBODY


def say(terminal: Terminal, *lines: str, code: int = 0, words: Sequence[str] = ()) -> tuple[list[Any], str]:
    """What a program gets that writes these lines to the shell."""
    out, err = terminal("--json", "shell", *words, code=code, stdin="\n".join(lines).encode(errors="surrogateescape"))
    return [json.loads(line) for line in out.splitlines()], err


def test_queries_are_answered_one_after_the_other(published: Terminal) -> None:
    rows, told = say(published, "first 1 posts tagged #cats", "", "# a remark", ".more", "count posts tagged #dogs;")
    assert [row.get("id") for row in rows] == ["b", "a", None] and rows[2] == {"count": 1}
    assert [json.loads(line)["complete"] for line in told.splitlines()] == [True] * 3


def test_an_error_is_told_with_its_line_and_the_rest_is_done(published: Terminal) -> None:
    lines = ["frst 1 posts", "count posts", "first 1 pots", ".jsn", "\udcff", ".more", "newest 1 posts since x"]
    rows, told = say(published, *lines, code=2)
    assert rows == [{"count": 2}]
    errors = [json.loads(line) for line in told.splitlines() if "error" in line]
    assert [error["error"].split(":")[0] for error in errors] == [f"line {number}" for number in (1, 3, 4, 5, 6, 7)]
    assert errors[1]["hint"].startswith('did you mean "posts"?') and errors[2]["hint"].startswith(
        'did you mean ".json"?'
    )
    _, told = published("shell", code=2, stdin=b"first 1 pots\n")
    assert told.splitlines()[1:3] == ["  first 1 pots", "          ^^^^"]


def test_the_exit_code_is_that_of_the_first_error(published: Terminal) -> None:
    nowhere = f".use rhizome:{NOBODY}/main"
    assert not say(published, nowhere, "frst", code=3)[0]
    assert not say(published, "frst", nowhere, code=2)[0]
    assert not say(published, ".quit", "frst")[0]
    published("shell", code=2, stdin=b"frst 3 posts")


def test_what_is_asked_can_be_chosen(published: Terminal) -> None:
    published("import", "things", "-", "--dataset", "other", stdin=POSTS)
    rows, _ = say(published, ".collections", ".use other", ".collections", ".use", ".indexes", ".scan")
    assert [row.get("collection") for row in rows] == ["posts", "things", None, None]
    assert rows[2]["asked"][0].endswith("/other") and rows[3] == {"scan": False}
    out, told = published("shell", "other", stdin=b".use\ncount things\n.use main\n.indexes posts\n.collections\n")
    first, count, index, collection = out.splitlines()
    assert first.endswith("/other") and json.loads(count) == {"count": 2}
    assert json.loads(index)["definition"] == "tags,-created" and json.loads(collection)["records"] == 2
    assert "Traceback" not in told
    rows, _ = say(published, ".datasets", words=["other"])
    assert [(row["dataset"].rpartition("/")[2], row["asked"]) for row in rows] == [("main", False), ("other", True)]
    published("shell", "othr", code=2)
    published("shell", f"rhizome:{NOBODY}/main", code=3)
    published("shell", "@following", stdin=b"first 3 posts", code=2)
    _, told = published("shell", "@following", stdin=b".collections\nexplain count posts\n.indexes", code=2)
    assert told.count("ask one dataset: .use ADDRESS") == 3


def test_where_nothing_is_meant_it_says_so(rhizome: Terminal, tmp_path: Path) -> None:
    for name in ("one", "two"):
        rhizome.home = tmp_path / name
        rhizome("import", "posts", "-", stdin=POSTS)
        rhizome("export", str(tmp_path / f"{name}.car"))
    rhizome.home = tmp_path / "third"
    rhizome("init")
    rhizome("restore", str(tmp_path / "one.car"))
    assert say(rhizome, "count posts")[0] == [{"count": 2}]
    rhizome("restore", str(tmp_path / "two.car"))
    _, told = say(rhizome, "count posts", ".use main", code=2)
    first, second = map(json.loads, told.splitlines())
    assert (
        first["error"] == "line 1: say which dataset to ask: .use ADDRESS" and "known here: rhizome:" in first["hint"]
    )
    assert second["error"] == "line 2: several datasets are called 'main'"


def test_explaining_and_switches(published: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rhizome_index.query.choose.SCAN_FREE_ENTRIES", 0)
    rows, _ = say(published, "explain first 1 posts tagged #cats", "explain --execute first 1 posts tagged #cats")
    assert rows[0]["verdict"] == "chosen" and rows[-1]["step"] == "milliseconds"
    asked = 'all posts where author = "x"'
    rows, told = say(published, asked, ".scan on", asked, ".scan off", asked, ".json off", ".json on", code=2)
    assert rows == [] and told.count("no index answers") == 2 and ".scan on" in told and "--scan" not in told
    out, _ = published("shell", stdin=b".scan\n.scan on\n.scan\n.json\nhelp\n")
    assert out.splitlines()[:3] == ["scan is off", "scan is on", "json is off"]
    assert all(name in out for name in COMMANDS)


def test_wrong_options(published: Terminal) -> None:
    published.fails("shell", "--offline", "--peer", "/ip4/127.0.0.1/tcp/1/p2p/x", says="contradict")


@pytest.mark.slow
def test_a_peer_that_is_not_there(published: Terminal) -> None:
    published.fails("shell", "--peer", f"/ip4/127.0.0.1/tcp/1/p2p/{NOBODY}", code=3)


def test_the_running_node_is_used_and_may_come_and_go(published: Terminal) -> None:
    with published.serving():
        rows, _ = say(published, "count posts", "first 1 posts tagged #cats")
        assert rows[0] == {"count": 2} and rows[1]["id"] == "b"


# --- somebody who types ---

Typed = str | Callable[[], str | None]


class Typing:
    """Stands for a prompt: gives lines, or does something first."""

    lines: list[Typed]
    asked: list[str]
    offered: list[list[str]]

    def __init__(self, history: Path, complete: Callable[[str, int], Sequence[Completion]]) -> None:
        self.complete = complete

    def ask(self, prompt: str) -> str | None:
        self.asked.append(prompt)
        if not self.lines:
            return None
        line = self.lines.pop(0)
        if not isinstance(line, str):
            return line()
        self.offered.append([item.text for item in self.complete(line, len(line))])
        return line


def type_lines(terminal: Terminal, monkeypatch: pytest.MonkeyPatch, *lines: Typed, words: Sequence[str] = ()) -> Any:
    Typing.lines, Typing.asked, Typing.offered = list(lines), [], []
    monkeypatch.setattr(shell, "is_at_terminal", lambda: True)
    monkeypatch.setattr(prompting, "Prompt", Typing)
    return terminal("shell", *words)


def test_somebody_who_types_is_told_of_errors_and_leaves_in_peace(
    published: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, told = type_lines(published, monkeypatch, "frst", "", "count posts")
    assert json.loads(rows) == {"count": 2} and Typing.asked == ["main> "] * 4
    greeting, error, *_ = told.splitlines()
    assert greeting.endswith("/main: posts (2) · .help says what there is, Ctrl-D leaves") and "frst" in error
    assert "explain" in Typing.offered[1]
    type_lines(published, monkeypatch, "count po", "first 1 posts tagged #d", ".use ")
    assert Typing.offered[:2] == [["posts"], ["#dogs"]] and "main" in Typing.offered[2]


def test_prompts_say_what_is_asked(published: Terminal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    published("export", str(tmp_path / "x.car"))
    published.home = tmp_path / "other"
    _, told = type_lines(published, monkeypatch)
    assert "main: nothing yet · .help says what there is" in told
    published("restore", str(tmp_path / "x.car"))
    type_lines(published, monkeypatch, ".use @following")
    assert re.fullmatch(r"….{4}/main> ", Typing.asked[0]) and Typing.asked[1] == "@following> "


def test_what_runs_is_interrupted_and_the_shell_goes_on(published: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    async def interrupted(*_: Any, **__: Any) -> None:
        asked.append(1)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shell, "ask_question", interrupted)
        rows, told = type_lines(published, monkeypatch, "count posts", ".scan", "count posts")
    assert asked == [1, 1] and rows == "scan is off\n" and told.count("interrupted") == 2
    assert told.count("Ctrl-D leaves") == 1


def test_a_node_that_fails_is_opened_again(published: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """But not for ever: where opening it fails, that is the end."""
    joins = iter([False, True, False, False, False, False])
    monkeypatch.setattr(shell.Session, "_joins", property(lambda _: next(joins)))
    rows, _ = type_lines(published, monkeypatch, "count posts")
    assert json.loads(rows) == {"count": 2} and Typing.asked == ["main> "] * 2


class Screen:
    """A shell in a child, on a terminal of its own."""

    def __init__(self, home: Path) -> None:
        self.child, self.keyboard = pty.fork()
        if not self.child:
            import sys

            from rhizome_index.cli.main import main

            sys.stdin, sys.stdout, sys.stderr = open(0, closefd=False), open(1, "w"), open(2, "w")  # noqa: SIM115
            os.environ["TERM"] = "xterm"
            sys.argv = ["rhizome", "--home", str(home), "shell"]
            code: Any = 1
            try:
                main()
                code = 0
            except SystemExit as error:
                code = error.code or 0
            finally:
                os._exit(code)
        self.shown = ""

    def until(self, text: str) -> str:
        """What is shown, as far as a text that has not been shown before."""
        while text not in self.shown:
            select.select([self.keyboard], [], [])
            data = os.read(self.keyboard, 65536).decode(errors="replace")
            if "\x1b[6n" in data:  # where the cursor is
                os.write(self.keyboard, b"\x1b[1;1R")
            self.shown += data
        before, _, self.shown = self.shown.partition(text)
        return before

    def type(self, keys: str) -> None:
        os.write(self.keyboard, keys.encode())

    def end(self) -> int:
        while True:
            try:
                if not os.read(self.keyboard, 65536):
                    break
            except OSError:  # it is closed
                break
        _, status = os.waitpid(self.child, 0)
        os.close(self.keyboard)
        return os.waitstatus_to_exitcode(status)


@pytest.mark.slow
def test_on_a_real_terminal(published: Terminal) -> None:
    """Typed, completed, given up, interrupted, left."""
    screen = Screen(published.home)
    screen.until("Ctrl-D leaves")
    screen.until("main>")
    screen.type("first 1 posts tagged #do")
    screen.until("#do")
    screen.type("\t")
    screen.until("gs")
    screen.type("\r")
    screen.until("L5: complete and right")
    screen.until("main>")
    screen.type("something\x03")
    screen.until("main>")
    screen.type("first 1 pots\r")
    screen.until('did you mean "posts"?')
    screen.until("main>")
    screen.type("watch first 1 posts tagged #dogs\r")
    screen.until("Ctrl-C ends")
    screen.type("\x03")
    screen.until("main>")
    screen.type("\x04")
    assert screen.end() == 0
    assert "tagged #dogs" in (published.home / "history").read_text()
