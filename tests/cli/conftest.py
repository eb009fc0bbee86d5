"""Fixtures of the command line's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.terminal import DECLARED, POSTS, Terminal


@pytest.fixture
def rhizome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    """A terminal whose home has not been made."""
    monkeypatch.delenv("RHIZOME_HOME", raising=False)
    return Terminal(tmp_path / "home", monkeypatch, capsys)


@pytest.fixture
def published(rhizome: Terminal) -> Terminal:
    """One whose home publishes two posts."""
    rhizome("import", "posts", "-", *DECLARED, stdin=POSTS)
    return rhizome


@pytest.fixture
def reader(rhizome: Terminal, tmp_path: Path) -> Terminal:
    """Another one, whose home is empty."""
    found = Terminal(tmp_path / "reader", rhizome.monkeypatch, rhizome.capsys)
    found("init")
    return found
