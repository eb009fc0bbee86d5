"""The sequences that a home has signed, kept apart from the heads themselves.

Where the newest head of a dataset is damaged or lost, its sequence must not be
signed a second time: others may have the first. Nobody could bring back what is
damaged here, so each row carries its own digest: one that is damaged says nothing,
and the heads, which are there then, say it.
"""

from __future__ import annotations

from contextlib import suppress

from rhizome_index.errors import UsageError
from rhizome_index.index.address import Address
from rhizome_index.index.head import Head
from rhizome_index.node.checked import check_of
from rhizome_index.node.disk import DiskStore


class Signed:
    """The highest sequence of each dataset of this home's own, over a store."""

    def __init__(self, store: DiskStore) -> None:
        self._store = store

    def last(self, address: Address) -> int:
        """The highest sequence signed; 0 if none was, or if what was noted of it is damaged."""
        statement = "select cast(sequence as integer), cast(digest as blob) from signed where dataset = ?"
        for sequence, digest in self._store.execute(statement, (str(address),)):
            if digest is None or digest == _digest(address, sequence):  # none: noted before there were any
                return int(sequence or 0)
        return 0

    def note(self, head: Head) -> None:
        """A head is being published: in the transaction that keeps it."""
        with self._store.transaction():
            self._store.execute(
                "insert or replace into signed (dataset, sequence, digest) values (?, ?, ?)",
                (str(head.address), head.sequence, _digest(head.address, head.sequence)),
            )

    def addresses(self) -> list[Address]:
        """Every dataset of which a head was signed."""
        found = []
        for (dataset,) in self._store.execute("select cast(dataset as blob) from signed"):
            with suppress(UsageError):  # damaged
                found.append(Address.parse(str(dataset or b"", "utf-8", "replace")))
        return found


def _digest(address: Address, sequence: int | None) -> bytes:
    return check_of(f"{address} {sequence}".encode())
