"""Fixtures of the command line's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.terminal import Terminal


@pytest.fixture
def rhizome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    """A terminal whose home has not been made."""
    monkeypatch.delenv("RHIZOME_HOME", raising=False)
    return Terminal(tmp_path / "home", monkeypatch, capsys)
