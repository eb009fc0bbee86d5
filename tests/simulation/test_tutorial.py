"""The tutorial works: its files run from first to last, and its commands say what it says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from rhizome_index.cli.main import cli

TEXT = (Path(__file__).parents[2] / "docs" / "simulating.md").read_text(encoding="utf-8")
FILES = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^\$ rhizome (.*)$", TEXT, re.MULTILINE)


def run(line: str) -> str:
    done = CliRunner().invoke(cli, shlex.split(line), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("number", range(len(FILES)))
def test_each_file_of_the_tutorial_keeps_its_promises(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("library.py").write_text(FILES[number], encoding="utf-8")
    shown = run("simulate library.py")
    assert "heads never go back" in shown and "again: rhizome simulate library.py" in shown and "BROKEN" not in shown
    assert number == 0 or "answered" in shown


@pytest.mark.slow
def test_the_commands_of_the_tutorial_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("library.py").write_text(FILES[1], encoding="utf-8")
    assert len(COMMANDS) >= 5
    for line in COMMANDS:
        run(line)
    assert "<svg" in Path("report.html").read_text() and "<svg" in Path("curves.html").read_text()
