"""Stores as older versions of this program made them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from rhizome_index.node import disk
from rhizome_index.node.tables import SCHEMAS


@contextmanager
def before(monkeypatch: pytest.MonkeyPatch, change: str) -> Iterator[None]:
    """Stores made within have the tables that there were before the ones that say `change`."""
    place = next(number for number, schema in enumerate(SCHEMAS) if change in schema)
    with monkeypatch.context() as patch:
        patch.setattr(disk, "SCHEMAS", SCHEMAS[:place])
        yield
