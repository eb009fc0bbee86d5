"""docs/language.md: what it says is typed is typed, and what it says is answered is what is answered."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import indent

import pytest
import trio

from rhizome_index import limits
from rhizome_index.api import open_node
from rhizome_index.query import json_form, mongo
from rhizome_index.query.grammar import terminals
from rhizome_index.query.slips import keywords_of
from tests.cli.terminal import Terminal

DOC = Path(__file__).parents[2] / "docs/language.md"
TEXT = DOC.read_text(encoding="utf-8")
_ANSWER = re.compile(r"L\d: ")
_ERROR = re.compile(r"rhizome: line (\d+): ")


def blocks(language: str) -> list[str]:
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    return found


def transcripts() -> list[tuple[str, list[str]]]:
    """What is typed, and the lines of each answer."""
    found: list[tuple[str, list[str]]] = []
    for block in blocks("text"):
        if block.startswith("> "):
            for line in block.splitlines():
                if line.startswith("> "):
                    found.append((line[2:], []))
                else:
                    found[-1][1].append(line)
    return found


def set_up(rhizome: Terminal) -> None:
    """Do what the document's commands do, in this process."""
    for line in "".join(blocks("console")).splitlines():
        out = ""
        for command in line.removeprefix("$ ").split(" | "):
            program, *words = shlex.split(command)
            assert program in ("rhizome", "echo")
            if program == "echo":
                (out,) = words
            elif words != ["shell"]:
                out, _ = rhizome(*words, stdin=out.encode())


def answers(rhizome: Terminal, typed: Sequence[str]) -> list[list[str]]:
    """What the shell says to each line: rows, or what is wrong, and hints; but not how much is proven, and how."""
    lines = [line for query in typed for line in (query, ".json")]
    out, err = rhizome("shell", stdin="\n".join(lines).encode(), code=2)
    rows = [part.splitlines() for part in out.split("json is off\n")]
    told: list[list[str]] = []
    for line in err.splitlines():
        if _ANSWER.match(line):
            told.append([])
        elif _ERROR.match(line):
            told.append([_ERROR.sub("rhizome: ", line)])
        elif not line.startswith("more: "):
            told[-1].append(line)
    found = []
    for query, part in zip(typed, rows, strict=False):
        found.append(part + ([] if query.startswith("explain ") else told.pop(0)))
    assert not told
    return found


def is_shown(wanted: str, said: str) -> bool:
    """Whether a document shows what was said: in it, `...` stands for anything, also for several lines."""
    return re.fullmatch(".*".join(map(re.escape, wanted.split("..."))), said, re.DOTALL) is not None


def test_what_is_typed_is_answered(rhizome: Terminal, capsys: pytest.CaptureFixture[str]) -> None:
    set_up(rhizome)
    told = transcripts()
    assert len(told) > 60
    said = answers(rhizome, [query for query, _ in told])
    for (query, wanted), lines in zip(told, said, strict=True):
        assert is_shown("\n".join(wanted), "\n".join(lines)), f"{query}\n" + "\n".join(lines)
    assert python_says(rhizome.home, capsys) == python_is_said_to_say()


def python_says(home: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What the document's Python prints."""
    (program,) = blocks("python")
    names = {"open_node": open_node, "home": home}
    exec("async def main():\n async with open_node(home) as node:\n" + indent(program, "  "), names)
    trio.run(names["main"])  # type: ignore[arg-type]
    return capsys.readouterr().out


def python_is_said_to_say() -> str:
    (_, behind) = TEXT.split("```python\n")
    found = re.search(r"^```text\n(.*?)^```", behind, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def words_of_the_language() -> Iterator[str]:
    yield from keywords_of(terminals())
    source = inspect.getsource(mongo)
    yield from set(re.findall(r"\$\w+", source))
    yield from (f'"{name}"' for verb, names in json_form.FIELDS.items() for name in (verb, *names))


@pytest.mark.parametrize("word", sorted(set(words_of_the_language())))
def test_no_word_is_left_out(word: str) -> None:
    assert re.search(rf"(?<!\w){re.escape(word)}(?!\w)", TEXT), f"docs/language.md does not mention {word}"


@pytest.mark.parametrize(
    ("shown", "name"),
    [
        ("{} KiB", "QUERY_TEXT_BYTES_MAX"),
        ("{} words and signs", "QUERY_TOKENS_MAX"),
        ("{} conditions", "QUERY_TERMS_MAX"),
        ("at most {} deep", "QUERY_DEPTH_MAX"),
        ("{} values", "IN_VALUES_MAX"),
        ("{} rows", "ROWS_MAX"),
        ("first {} letters", "WORD_LETTERS_MAX"),
    ],
)
def test_bounds_are_as_they_are(shown: str, name: str) -> None:
    bound = getattr(limits, name)
    assert shown.format(f"{bound // 1024 if 'KiB' in shown else bound:,}") in TEXT
