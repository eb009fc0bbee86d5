"""The command line in one home, as a person or a program meets it: in this process, or in a child of it.

A child is a copy of this process, so it starts in milliseconds; and what is done to it (rights taken away, limits
set, its end) is done to nobody else.
"""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO, TextIOWrapper
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NoReturn

import pytest

from rhizome_index.cli.main import main

POSTS = b'{"id": "a", "tags": ["cats"], "created": 1}\n{"id": "b", "tags": ["cats", "dogs"], "created": 2}\n'
DECLARED = ("--time", "created", "--order", "-created", "--index", "by_tag=tags,-created")


def nothing() -> None:
    """What is done to a child that is to be like us."""


class Terminal:
    """Runs commands in one home."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.home, self.monkeypatch, self.capsys = home, monkeypatch, capsys

    def __call__(self, *words: str, code: int = 0, stdin: bytes = b"") -> tuple[str, str]:
        """Run a command; what it printed to stdout and to stderr."""
        self.monkeypatch.setattr(sys, "argv", ["rhizome", "--home", str(self.home), *words])
        self.monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(stdin), encoding="utf-8"))
        try:
            main()
            exited: Any = 0
        except SystemExit as error:
            exited = error.code or 0
        printed = self.capsys.readouterr()
        assert exited == code, (exited, printed)
        assert "Traceback" not in printed.err
        return printed.out, printed.err

    def fails(self, *words: str, code: int = 2, stdin: bytes = b"", says: str = "") -> None:
        """Run a command that must fail: in one line, and perhaps what to do next; or in one JSON object."""
        out, err = self(*words, code=code, stdin=stdin)
        assert not out
        check_error(err, says)
        out, err = self("--json", *words, code=code, stdin=stdin)
        assert not out
        check_json_error(err, code, says)

    def in_a_child(
        self, *words: str, prepare: Callable[[], None] = nothing, stdin: bytes = b""
    ) -> tuple[int, str, str]:
        """Run a command in a child; its exit code (or minus the signal that ended it), stdout and stderr."""
        read, write = os.pipe()  # not a file: what is said of a full disk must come through
        with TemporaryFile() as out, os.fdopen(read, encoding="utf-8") as told:
            child = self.fork(words, prepare, stdin, out.fileno(), write)
            os.close(write)
            err = told.read()
            _, status = os.waitpid(child, 0)
            out.seek(0)
            printed = out.read().decode()
        assert "Traceback" not in err and "Exception" not in err, err
        return os.waitstatus_to_exitcode(status), printed, err

    def child_fails(
        self, *words: str, code: int, says: str, prepare: Callable[[], None] = nothing, stdin: bytes = b""
    ) -> None:
        """The same as `fails`, in a child."""
        exited, _, err = self.in_a_child(*words, prepare=prepare, stdin=stdin)
        assert exited == code, (exited, err)
        check_error(err, says)

    def at_keyboard(
        self, *words: str, typed: Sequence[str], prepare: Callable[[], None] = nothing
    ) -> tuple[int, str, str, str]:
        """Run a command in a child with a terminal of its own, on which somebody types an answer to each question.

        Its exit code, stdout, stderr, and what the terminal has shown.
        """
        keyboard, screen = pty.openpty()
        name = os.ttyname(screen)

        def take_terminal() -> None:
            os.setsid()
            os.close(os.open(name, os.O_RDWR))  # the first that a session opens is its terminal
            signal.signal(signal.SIGINT, signal.default_int_handler)
            prepare()

        with TemporaryFile() as out, TemporaryFile() as err:
            child = self.fork(words, take_terminal, b"", out.fileno(), err.fileno())
            shown = _type(keyboard, child, list(typed))
            _, status = os.waitpid(child, 0)
            os.close(screen)
            os.close(keyboard)
            out.seek(0)
            err.seek(0)
            printed, told = out.read().decode(), err.read().decode()
        assert "Traceback" not in told, told
        return os.waitstatus_to_exitcode(status), printed, told, shown

    @contextmanager
    def serving(self, prepare: Callable[[], None] = nothing, *words: str) -> Iterator[str]:
        """A child that is a node of this home; its address."""
        read, write = os.pipe()
        with TemporaryFile() as err:
            child = self.fork(("node", "--json", *words), prepare, b"", write, err.fileno())
            os.close(write)
            with os.fdopen(read, encoding="utf-8") as lines:
                line = lines.readline()
                try:
                    yield json.loads(line)["addresses"][0]
                finally:
                    os.kill(child, signal.SIGINT)
                    os.waitpid(child, 0)

    def state(self) -> Any:
        """What the home holds, by `status`, but for its age and size, and what is proven, which no file says."""
        found = json.loads(self("status", "--json")[0])["datasets"]
        for dataset in found:
            del dataset["age_seconds"]
            for collection in dataset["collections"].values():
                del collection["proof"]
        return found

    def fork(self, words: tuple[str, ...], prepare: Callable[[], None], stdin: bytes, out: int, err: int) -> int:
        with warnings.catch_warnings():
            # Later Pythons warn of threads, of which the child has none; it takes no lock of theirs.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if not child:
            self._be_the_child(words, prepare, stdin, out, err)
        return child

    def _be_the_child(
        self, words: tuple[str, ...], prepare: Callable[[], None], stdin: bytes, out: int, err: int
    ) -> NoReturn:
        code: Any = 1
        try:
            os.dup2(out, 1)
            os.dup2(err, 2)
            sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
            sys.stdin = TextIOWrapper(BytesIO(stdin), encoding="utf-8")
            sys.argv = ["rhizome", "--home", str(self.home), *words]
            prepare()
            main()
            code = 0
        except SystemExit as error:
            code = error.code or 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)


def _type(keyboard: int, child: int, answers: list[str]) -> str:
    """Answer what a child asks on its terminal, until it has ended: what was shown."""
    shown = b""
    ended = os.pidfd_open(child)
    while True:
        ready, _, _ = select.select([keyboard, ended], [], [])
        if keyboard in ready:
            shown += os.read(keyboard, 4096)
            if shown.endswith(b": ") and answers:
                os.write(keyboard, answers.pop(0).encode())
        elif ended in ready:
            os.close(ended)
            return shown.decode()


def check_error(err: str, says: str) -> None:
    """One line that says what is wrong; below it, indented, perhaps a place in a query's text, and what to do."""
    first, *rest = err.splitlines()
    assert first.startswith("rhizome: ") and says in first, err
    assert all(line.startswith("  ") for line in rest) and len(rest) <= 3, err


def check_json_error(err: str, code: int, says: str) -> None:
    found = json.loads(err)
    assert found.keys() == {"error", "hint", "exit_code"} and says in found["error"], found
    assert found["exit_code"] == code
    assert found["hint"] is None or (type(found["hint"]) is str and found["hint"])
