"""Snapshots that are to stay: heads of which everything is kept, whatever newer ones come.

A snapshot is brought here as a whole before it is pinned. Nothing is derived anew: that
all of it is what its publisher has signed follows from the names of its blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rhizome_index.blocks.cid import Cid, parse_cid
from rhizome_index.errors import IntegrityError, StoreError, UnavailableError, UsageError
from rhizome_index.index.address import Address
from rhizome_index.index.head import Head, open_head
from rhizome_index.node.disk import DiskStore, describe_missing
from rhizome_index.node.fetch import Block, Fetcher
from rhizome_index.node.mend import fill, missing_blocks
from rhizome_index.node.room import Room
from rhizome_index.node.tables import open_row

_COLUMNS = "cast(dataset as blob), sequence, cast(manifest as blob), cast(envelope as blob)"


class Pins:
    """The pins of a store. Whoever pins a head has brought all of it here before."""

    def __init__(self, store: DiskStore) -> None:
        self._store = store

    def add(self, head: Head) -> bool:
        """Pin a head from now on; whether it was not yet. Raises StoreError."""
        with self._store.transaction():
            self._store.put_head(head)
            was = self._store.execute(
                "insert or ignore into pins values (?, ?, ?, ?) returning 1",
                (str(head.address), head.sequence, head.manifest, head.envelope),
            )
        return bool(was)

    def remove(self, address: Address, manifest: Cid | None = None) -> int:
        """Pin heads of a dataset no longer: those with a manifest, or all; how many. Raises StoreError."""
        with self._store.transaction():
            gone = self._store.execute(
                "delete from pins where dataset = ?1 and (?2 is null or manifest = ?2) returning 1",
                (str(address), manifest),
            )
        return len(gone)

    def all(self) -> list[Head]:
        """Pinned heads, by address and sequence. Raises StoreError if one of them is damaged."""
        return list(self._open("order by dataset, sequence, envelope"))

    def of(self, address: Address) -> list[Head]:
        """Those of one dataset. Raises as `all` does."""
        return list(self._open("where dataset = ? order by sequence, envelope", str(address)))

    def _open(self, condition: str, *values: str) -> Iterator[Head]:
        for dataset, sequence, manifest, envelope in self._store.execute(
            f"select {_COLUMNS} from pins {condition}", values
        ):
            try:
                yield open_row(dataset, sequence, manifest, envelope)
            except IntegrityError:
                name = str(dataset or b"", "utf-8", "replace")
                known = self._again(name, sequence)
                if known is None:
                    raise StoreError(f"a pin of {name} is damaged", hint=f"rhizome unpin {name}") from None
                yield known

    def _again(self, dataset: str, sequence: int) -> Head | None:
        """A pin that is damaged, from the head that it is of."""
        rows = self._store.execute(
            "select cast(envelope as blob) from heads where (dataset, sequence) = (?, ?) and not disowned",
            (dataset, sequence),
        )
        return open_head(rows[0][0]) if len(rows) == 1 else None


async def bring(store: DiskStore, head: Head, fetcher: Fetcher | None) -> bool:
    """Fetch what is missing of a snapshot and pin it; whether it was not pinned yet.

    fetcher  None: all of it has to be here

    Raises UnavailableError, also where there is no room for it; what came is kept, to go on from.
    """
    room = Room(store)

    def keep(blocks: Sequence[Block]) -> None:
        room.check()
        store.put_fetched(blocks)

    with store.uses.guarding(), store.uses.leasing(head.manifest):
        if fetcher is not None:
            await fill(store, head, fetcher, keep)
        elif missing := missing_blocks(store, head):
            raise UnavailableError(describe_missing(missing[0]), hint="name a peer that has it: --peer")
        return Pins(store).add(head)


def find_head(store: DiskStore, address: Address, name: str) -> Head:
    """The head of a dataset with a sequence, or with the CID of a manifest. Raises UsageError, UnavailableError."""
    heads = [head for head in store.all_heads() if head.address == address]
    if name.isascii() and name.isdecimal():
        found = [head for head in heads if head.sequence == int(name)]
    else:
        manifest = parse_cid(name)
        found = [head for head in heads if head.manifest == manifest][-1:]
    if not found:
        raise UnavailableError(f"no head {name} of {address} is known here")
    if len({head.manifest for head in found}) > 1:
        raise UsageError(f"there are several heads {name} of {address}", hint="name the CID of a manifest")
    return found[-1]
