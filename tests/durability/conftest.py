"""Stores whose log is short, so that a short life sees it written back."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="package")
def _short_log() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rhizome_index.node.disk.LOG_PAGES_MAX", 12)
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A fault that SQLite passes over is shown by apsw as one that nobody raised."""
    for item in items:
        if "durability" in item.nodeid:
            item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))
