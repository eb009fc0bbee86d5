"""The prompt: what is typed comes back, is completed, and is remembered for its owner alone."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput

from rhizome_index.cli.prompt import HomeHistory, LineCompleter, Prompt
from rhizome_index.limits import HISTORY_BYTES_MAX
from rhizome_index.query.complete import Completion, complete
from tests.query.test_complete import Names


def completing(text: str, cursor: int) -> Sequence[Completion]:
    return complete(text, cursor, Names())


@pytest.fixture
def keys() -> Iterator[PipeInput]:
    with create_pipe_input() as pipe:
        yield pipe


def a_prompt(folder: Path, keys: PipeInput) -> Prompt:
    return Prompt(folder / "history", completing, input=keys, output=DummyOutput())


def test_lines_come_one_after_the_other(tmp_path: Path, keys: PipeInput) -> None:
    prompt = a_prompt(tmp_path, keys)
    keys.send_text("count posts\r")
    assert prompt.ask("> ") == "count posts"
    keys.send_text("something\x03")  # Ctrl-C
    assert prompt.ask("> ") == ""
    keys.send_text("\x1b[A\r")  # up
    assert prompt.ask("> ") == "count posts"
    keys.send_text("\x04")  # Ctrl-D
    assert prompt.ask("> ") is None


@pytest.mark.parametrize(
    ("text", "cursor", "whole"), [("count pos", 9, "count posts"), ("count  tagged", 6, "count posts tagged")]
)
def test_a_word_is_completed(text: str, cursor: int, whole: str) -> None:
    document = Document(text, cursor)
    shown, *_ = LineCompleter(completing).get_completions(document, CompleteEvent(completion_requested=True))
    buffer = Buffer(document=document)
    buffer.apply_completion(shown)
    assert buffer.text == whole and shown.display_meta_text == "collection"


def test_the_history_is_kept_for_its_owner(tmp_path: Path, keys: PipeInput) -> None:
    keys.send_text("count posts\r")
    assert a_prompt(tmp_path, keys).ask("> ") == "count posts"
    file = tmp_path / "history"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o644)
    keys.send_text("\x1b[A\r")
    assert a_prompt(tmp_path, keys).ask("> ") == "count posts"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_history_stays_within_its_bound(tmp_path: Path) -> None:
    file = tmp_path / "history"
    entry = b"\n# then\n+count posts\n"
    count = HISTORY_BYTES_MAX // len(entry)
    full = entry * count + b"\n" * (HISTORY_BYTES_MAX % len(entry))
    for extra, kept in ((b"", count), (b"\n", HISTORY_BYTES_MAX // 2 // len(entry))):
        file.write_bytes(full + extra)
        lines = list(HomeHistory(file).load_history_strings())
        assert kept - 1 <= len(lines) <= kept and set(lines) == {"count posts"}
    assert HISTORY_BYTES_MAX // 2 - len(entry) <= file.stat().st_size <= HISTORY_BYTES_MAX // 2


@pytest.mark.parametrize("kind", ["folder", "link"])
def test_a_history_that_cannot_be_used_is_done_without(tmp_path: Path, keys: PipeInput, kind: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("")
    if kind == "folder":
        (tmp_path / "history").mkdir()
    else:
        (tmp_path / "history").symlink_to(elsewhere)
    prompt = a_prompt(tmp_path, keys)
    for typed in ("count posts\r", "\x1b[A\r"):
        keys.send_text(typed)
        assert prompt.ask("> ") == "count posts"
    assert not elsewhere.read_text()
