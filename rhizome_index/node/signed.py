"""The sequences that a home has signed, kept apart from the heads themselves.

Where the newest head of a dataset is damaged or lost, its sequence must not be
signed a second time: others may have the first.
"""

from __future__ import annotations

from contextlib import suppress

from rhizome_index.errors import UsageError
from rhizome_index.index.address import Address
from rhizome_index.index.head import Head
from rhizome_index.node.disk import DiskStore


class Signed:
    """The highest sequence of each dataset of this home's own, over a store."""

    def __init__(self, store: DiskStore) -> None:
        self._store = store

    def last(self, address: Address) -> int:
        """The highest sequence signed; 0 if none was."""
        rows = self._store.execute("select cast(sequence as integer) from signed where dataset = ?", (str(address),))
        return int(rows[0][0] or 0) if rows else 0

    def note(self, head: Head) -> None:
        """A head is being published: in the transaction that keeps it."""
        with self._store.transaction():
            self._store.execute("insert or replace into signed values (?, ?)", (str(head.address), head.sequence))

    def addresses(self) -> list[Address]:
        """Every dataset of which a head was signed."""
        found = []
        for (dataset,) in self._store.execute("select cast(dataset as blob) from signed"):
            with suppress(UsageError):  # damaged
                found.append(Address.parse(str(dataset or b"", "utf-8", "replace")))
        return found
