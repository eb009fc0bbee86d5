"""What the README says works: its commands run, its Python runs, its queries parse, and no command is left out."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rhizome_index.cli.main import Commands
from rhizome_index.query.parse import parse

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def fenced(language: str) -> list[str]:
    """The code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def environment(home: Path) -> dict[str, str]:
    """One in which `rhizome` is this program, and its home an empty folder."""
    return os.environ | {"RHIZOME_HOME": str(home), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


@contextmanager
def node(home: Path) -> Iterator[str]:
    """The home as a running node; gives its address."""
    command = [sys.executable, "-m", "rhizome_index.cli", "--home", str(home), "node", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["addresses"][0]
        finally:
            process.send_signal(signal.SIGINT)


def run(line: str, home: Path, folder: Path) -> str:
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        cwd=folder,
        env=environment(home),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout


def test_nothing_is_said_twice() -> None:
    """Two versions of a paragraph have stood one below the other."""
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("protocols/**/*.md")]
    assert len(pages) > 50
    for page in pages:
        prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        beginnings = [line[:50] for line in prose.splitlines() if len(line) > 100]
        assert len(set(beginnings)) == len(beginnings), page


@pytest.mark.slow
def test_the_commands_of_the_readme_run(tmp_path: Path) -> None:
    """Those of the first user in one home; those of the second in another, against the first as a node."""
    lines = [line[2:] for block in fenced("console") for line in block.splitlines() if line.startswith("$ rhizome")]
    served = [line for line in lines if "rhizome node" in line]
    first = [line for line in lines if "--peer" not in line and "verify" not in line and line not in served]
    second = [line for line in lines if line not in first and line not in served]
    assert first and second and served
    for line in first:
        assert run(line, tmp_path / "one", tmp_path)
    with node(tmp_path / "one") as address:
        for line in second:
            rows = run(re.sub(r"/ip4/\S*", address, line), tmp_path / "two", tmp_path)
            assert len(rows.splitlines()) == 5


def test_the_queries_of_the_readme_parse() -> None:
    queries = [
        line for block in fenced("text") for line in block.splitlines() if re.match(r"(first|newest|count|all) ", line)
    ]
    assert len(queries) >= 5
    for query in queries:
        parse(query)


@pytest.mark.slow
def test_the_python_of_the_readme_runs(tmp_path: Path) -> None:
    (program,) = fenced("python")
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    record = "{'id': 'p1', 'tags': ['cats'], 'created': 1}"
    added = f"2 [Change(kind='added', record={record})]"
    assert done.stdout.splitlines() == ["p1", f"[{record}] L5 None 1", added]


def test_every_command_is_in_the_readme() -> None:
    for name in Commands.MODULES:
        assert f"`{name}`" in README, f"README.md does not mention `{name}`"


def test_every_target_of_the_readme_is_in_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"(?:`|\$ )make ([a-z-]+)", README + (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")))
    assert {"demo", "test"} <= named <= targets
