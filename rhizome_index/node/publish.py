"""Publish: change datasets of this peer's own, one signed head for each change.

A change is worked out and written in one transaction, and the head stands in the
same transaction: either all of it is there afterwards, durably, or none. Only
then may the head be announced.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

from pyrsistent import pmap

from rhizome_index.blocks.cid import Cid
from rhizome_index.errors import IntegrityError, StoreError, UnavailableError, UsageError
from rhizome_index.index.address import Address, peer_id_of, public_key_of
from rhizome_index.index.head import Head, Identity, Keys, delegate, sign_head
from rhizome_index.index.manifest import Manifest, encode_manifest, new_manifest
from rhizome_index.index.record import Path, Record, encode_record, parse_path
from rhizome_index.index.schema import (
    Collection,
    Definition,
    Index,
    SortPath,
    check_name,
    check_order,
    encode_primary_key,
    primary_key,
)
from rhizome_index.index.write import MemorySorter, RecordWalk, Sorter, add_index, apply_changes, last_of_each
from rhizome_index.limits import COLLECTIONS_MAX, DELEGATIONS_MAX, INDEXES_MAX, RENEWAL_FRACTION, SORT_BYTES_MAX
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.ladder import Ladder
from rhizome_index.node.local import LocalSource
from rhizome_index.node.signed import Signed
from rhizome_index.node.sink import BlockBuffer, without_collecting
from rhizome_index.node.spill import SpillingSorter
from rhizome_index.tree.build import Sink
from rhizome_index.tree.node import EMPTY_TREE

_RECORDS_AT_ONCE = 1024

FOREVER = math.inf  # how long a head holds that does not expire

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Declaration:
    """What is declared of a collection when it is made."""

    key: str = "id"
    time: str | None = None
    order: tuple[SortPath, ...] = ()
    indexes: Mapping[str, Definition] = pmap()

    def check(self) -> None:
        """Raise UsageError unless a collection can be made like this."""
        for path in (self.key, self.time):
            if path is not None:
                parse_path(path)
        check_order(self.order)
        if len(self.indexes) > INDEXES_MAX:
            raise UsageError(f"a collection has at most {INDEXES_MAX} indexes")


class Publisher:
    """Writes to the datasets of one peer.

    clock          gives seconds since 1970
    valid_seconds  how long heads hold that are signed: FOREVER, or None for as long as the dataset's head before
    """

    def __init__(self, store: DiskStore, keys: Keys, clock: Clock, valid_seconds: float | None = None) -> None:
        self._store = store
        self._keys = keys
        self._clock = clock
        self._valid_seconds = valid_seconds
        self._source = LocalSource(store)
        self._signed = Signed(store)
        self._ladder = Ladder(store)

    def address(self, name: str) -> Address:
        return Address(self._keys.peer_id, check_name(name, "a dataset"))

    def manifest(self, name: str) -> Manifest:
        """The dataset as it is now; an empty one if it was never published."""
        head = self._store.newest_head(self.address(name))
        if head is None:
            return new_manifest(self.address(name))
        return self._source.manifest(head.manifest)

    def put_many(
        self,
        dataset: str,
        collection: str,
        records: Iterable[Record],
        declaration: Declaration | None = None,
        *,
        big: bool = False,
        on_read: Callable[[Sequence[bytes]], None] | None = None,
        on_sorted: Callable[[int], None] | None = None,
    ) -> tuple[Head, int]:
        """Put records, later ones over earlier ones of the same key; make the collection if it is declared.

        big      sort on disk: for imports
        on_read  told the primary keys of the records, in their order, a batch at a time
        on_sorted  told how many records are left where of those of one key only the last counts

        Returns the new head and how many records the collection has now. Raises UsageError for a record while
        that is the last one taken, or RecordError, with its primary key, after all have been taken.
        """
        with without_collecting() if big else nullcontext(), self._store.transaction():
            manifest = self.manifest(dataset)
            made = _with_declared(manifest, collection, declaration)
            new_sorter = self._spilling(1 + len(made.indexes)) if big else MemorySorter
            changes = self._sorted_changes(made, records, new_sorter, on_read)
            if on_sorted is not None:
                changes = _counted(changes, on_sorted)
            head, changed = self._write(
                dataset, manifest, lambda sink: apply_changes(manifest.rule, made, changes, sink, new_sorter)
            )
        return head, changed.primary.count

    def delete_many(self, dataset: str, collection: str, keys: Iterable[Any]) -> tuple[Head, int]:
        """Delete records by primary key. Returns the new head and how many were there."""
        with self._store.transaction():
            manifest = self.manifest(dataset)
            before = manifest.collection(collection)
            encoded = sorted({encode_primary_key(before, key) for key in keys})
            changes = [(key, None) for key in encoded]
            head, after = self._write(
                dataset, manifest, lambda sink: apply_changes(manifest.rule, before, changes, sink)
            )
        return head, before.primary.count - after.primary.count

    def get(self, dataset: str, collection: str, key: Any) -> Record | None:
        """A record by its primary key."""
        return self._source.record(self.manifest(dataset).collection(collection), key)

    def add_index(self, dataset: str, collection: str, name: str, definition: Definition) -> tuple[Head, Index]:
        """Add an index over what is there."""
        with self._store.transaction():
            manifest = self.manifest(dataset)
            before = manifest.collection(collection)
            head, after = self._write(
                dataset,
                manifest,
                lambda sink: add_index(manifest.rule, before, name, definition, sink, self._spilling(1)),
            )
        return head, after.indexes[name]

    def hints(self, dataset: str, collection: str, index: str | None = None) -> list[str]:
        """What may be wrong with an index, or with all that was declared: paths at which no record has anything."""
        from rhizome_index.query.hints import declared_hints

        try:
            return self._source.run(declared_hints(self.manifest(dataset).collection(collection), index))
        except (UnavailableError, IntegrityError):  # what is published is published, whatever a look back meets
            return []

    def drop_index(self, dataset: str, collection: str, name: str) -> Head:
        """Take an index away."""
        with self._store.transaction():
            manifest = self.manifest(dataset)
            before = manifest.collection(collection)
            after = replace(before, indexes=before.indexes.remove(before.index(name).name))
            return self._publish(dataset, manifest.with_collection(after))

    def renew(self, dataset: str) -> Head:
        """Sign the newest head again, as of now. Raises UsageError if nothing was published."""
        with self._store.transaction():
            newest = self._newest(self.address(dataset))
            return self._sign(newest.address, newest.manifest, newest)

    def renew_those_that_expire(self) -> list[Head]:
        """Sign again what was published here and has used up its share of the time that it holds."""
        now_ms, renewed = self._clock() * 1000, []
        for head in self._store.current_heads():
            if self._is_ours(head.address) and head.expires_ms is not None:
                used = (now_ms - head.time_ms) / (head.expires_ms - head.time_ms)
                renewed += [self.renew(head.address.name)] if used >= RENEWAL_FRACTION else []
        return renewed

    def rotate(self, successor: bytes, dataset: str | None = None) -> list[Head]:
        """Let another key sign from now on: one dataset, or all. The heads, signed anew so that they show it.

        successor  its public key; the private one must be among the keys

        Raises UsageError if that cannot be said any more.
        """
        place = None if dataset is None else self.address(dataset)
        with self._store.transaction():
            ours = [address for address in self._signed.addresses() if self._is_ours(address)]
            if place is not None:
                self._newest(place)
                ours = [place]
            chain = self._store.successions.chain(public_key_of(self._keys.peer_id), place)
            key = self._keys.key(peer_id_of(chain[-1].successor) if chain else self._keys.peer_id)
            self._check_can_delegate(key, place, len(chain))
            start = 1 + max((self._signed.last(address) for address in ours), default=0)
            self._store.successions.learn(delegate(key, place, start, successor))
            heads = [self._store.newest_head(address) for address in sorted(ours)]
            return [self._sign(head.address, head.manifest, head) for head in heads if head is not None]

    def _check_can_delegate(self, key: Identity, place: Address | None, times: int) -> None:
        if times >= DELEGATIONS_MAX:
            raise UsageError(f"the key was replaced {DELEGATIONS_MAX} times, and can be no more often")
        if place is None and (given := self._store.successions.said_by([key.public_key])):
            raise UsageError(
                f"the key has given {given[0].dataset} away alone, so it cannot give away all any more",
                hint="rotate each dataset: rhizome key rotate --dataset NAME",
            )

    def _newest(self, address: Address) -> Head:
        newest = self._store.newest_head(address)
        if newest is None:
            raise UsageError(f"nothing was published as {address}", hint="rhizome import")
        return newest

    def _is_ours(self, address: Address) -> bool:
        return address.publisher == self._keys.peer_id

    # --- inside a transaction ---

    def _sorted_changes(
        self,
        collection: Collection,
        records: Iterable[Record],
        new_sorter: Callable[[], Sorter],
        on_read: Callable[[Sequence[bytes]], None] | None,
    ) -> Iterator[tuple[bytes, bytes]]:
        """Records in the order of their keys, of equal ones the last. All are checked before the first is given."""
        path = parse_path(collection.key)
        sorter = new_sorter()
        stream = iter(records)
        while batch := [_as_change(record, path) for record in islice(stream, _RECORDS_AT_ONCE)]:
            sorter.add_many(batch)
            if on_read is not None:
                on_read([key for key, _ in batch])
        return last_of_each(sorter.sorted())

    def _spilling(self, sorters: int) -> Callable[[], Sorter]:
        """Makes sorters that share the memory there is for them."""
        return partial(SpillingSorter, self._store.folder, SORT_BYTES_MAX // sorters)

    def _write(
        self, dataset: str, manifest: Manifest, change: Callable[[Sink], RecordWalk[Collection]]
    ) -> tuple[Head, Collection]:
        with BlockBuffer(self._store) as buffer:
            collection = LocalSource(self._store, buffer.waiting).run(change(buffer.add))
        before = manifest.collections.get(collection.name)
        self._ladder.note_change(self.address(dataset), manifest.rule, before, collection)
        return self._publish(dataset, manifest.with_collection(collection)), collection

    def _publish(self, dataset: str, manifest: Manifest) -> Head:
        """Sign and keep the next head. Nothing is signed if nothing changed, but for how long it holds."""
        cid, data = encode_manifest(manifest)
        newest = self._store.newest_head(self.address(dataset))
        if newest is not None and newest.manifest == cid and self._valid_seconds is None:
            return newest
        self._store.put_many([(cid, data)])
        return self._sign(self.address(dataset), cid, newest)

    def _sign(self, address: Address, manifest: Cid, newest: Head | None) -> Head:
        """Sign and keep the head behind the newest one."""
        last = newest.sequence if newest else 0
        if last < self._signed.last(address):
            raise StoreError(
                f"the newest head of {address} is lost",
                hint="bring it back from a peer: rhizome scrub --peer /ip4/.../tcp/.../p2p/...",
            )
        chain = self._store.successions.chain(public_key_of(address.publisher), address)
        key = self._keys.key(peer_id_of(chain[-1].successor) if chain else address.publisher)
        sequence = max([last + 1, *(delegation.start for delegation in chain)])
        time_ms = int(self._clock() * 1000)
        expires_ms = self._expires_ms(newest, time_ms)
        head = sign_head(key, address.name, sequence, manifest, time_ms, expires_ms, chain)
        self._signed.note(head)
        self._store.put_head(head)
        return head

    def _expires_ms(self, newest: Head | None, time_ms: int) -> int | None:
        if self._valid_seconds == FOREVER:
            return None
        if self._valid_seconds is not None:
            return time_ms + int(self._valid_seconds * 1000)
        if newest is None or newest.expires_ms is None:
            return None
        return time_ms + newest.expires_ms - newest.time_ms


def _counted(changes: Iterator[tuple[bytes, bytes]], tell: Callable[[int], None]) -> Iterator[tuple[bytes, bytes]]:
    """The changes; at their end it is told how many they were."""
    count = 0
    for count, change in enumerate(changes, 1):  # noqa: B007
        yield change
    tell(count)


def _as_change(record: Record, path: Path) -> tuple[bytes, bytes]:
    data = encode_record(record)
    return primary_key(record, path), data


def _with_declared(manifest: Manifest, name: str, declaration: Declaration | None) -> Collection:
    """The collection that records go to: there already and as declared, or new."""
    found = manifest.collections.get(name)
    if declaration is None:
        return manifest.collection(name)
    if found is None:
        if len(manifest.collections) >= COLLECTIONS_MAX:
            raise UsageError(f"a dataset has at most {COLLECTIONS_MAX} collections")
        declaration.check()
        indexes = {label: Index.empty(label, definition) for label, definition in declaration.indexes.items()}
        check_name(name, "a collection")
        return Collection(name, declaration.key, declaration.time, declaration.order, EMPTY_TREE, pmap(indexes))
    wanted = (declaration.key, declaration.time, declaration.order)
    if wanted != (found.key, found.time, found.order):
        raise UsageError(
            f"the collection {name!r} was declared with key={found.key} time={found.time} "
            f"order={','.join(map(str, found.order)) or 'none'}",
            hint="declare the same, or import into another collection",
        )
    for label, definition in declaration.indexes.items():
        if label not in found.indexes or found.indexes[label].definition != definition:
            raise UsageError(
                f"the collection {name!r} has no such index {label!r}", hint="add it with: rhizome index add"
            )
    return found
