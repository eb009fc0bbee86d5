"""Drive walks over the local store: what the disk has, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar

from rhizome_index.blocks import cbor
from rhizome_index.blocks.cid import Cid, check_block, cid_of_digest, digest_of
from rhizome_index.errors import UnavailableError
from rhizome_index.index.manifest import Manifest, decode_manifest
from rhizome_index.index.record import Record, decode_record
from rhizome_index.index.schema import Collection, encode_primary_key
from rhizome_index.index.write import Need, NeedRecords, RecordWalk
from rhizome_index.node.disk import DiskStore, describe_missing
from rhizome_index.query.proof import supply
from rhizome_index.tree.cursor import get, get_many
from rhizome_index.tree.node import Node, Tree, node_of
from rhizome_index.tree.walk import NeedNodes

T = TypeVar("T")


class LocalSource:
    """A `proof.Source` over a store, and over blocks that are about to be written to it.

    blocks  how many blocks it has given, a block counted each time
    """

    def __init__(self, store: DiskStore, fresh: Mapping[Cid, bytes] = MappingProxyType({})) -> None:
        self.store = store
        self.blocks = 0
        self._fresh = fresh

    def chunk(self, cid: Cid) -> tuple[bytes, Node] | None:
        """A chunk and its node, or None if it is not here."""
        data = self._fresh.get(cid)
        return self.store.chunk(cid) if data is None else (data, node_of(cid, data))

    def chunks(self, cids: Sequence[Cid]) -> list[tuple[bytes, Node]]:
        found = []
        for cid in cids:
            held = self.chunk(cid)
            if held is None:
                raise UnavailableError(describe_missing(cid))
            found.append(held)
        self.blocks += len(found)
        return found

    def records(self, need: NeedRecords) -> list[bytes]:
        """Records by way of the primary tree where it is here, else as blocks of their own."""
        if self.chunk(need.primary.root) is not None:
            try:
                return self._by_key(need)
            except UnavailableError:
                pass  # a sparse store may have the records without the way to them
        return [self.block(cid_of_digest(digest)) for digest in need.digests]

    def run(self, walk: RecordWalk[T]) -> T:
        """Drive a walk to its end. Raises UnavailableError for a block that is not here."""
        resume: Callable[[], Need] = partial(next, walk)
        while True:
            try:
                need = resume()
            except StopIteration as stop:
                result: T = stop.value
                return result
            _, resume = supply(walk, need, self)

    def steps(self, walk: RecordWalk[Any]) -> Iterator[None]:
        """Drive a walk to its end, with a pause after each need. Raises UnavailableError."""
        resume: Callable[[], Need] = partial(next, walk)
        with suppress(StopIteration):
            while True:
                need = resume()
                _, resume = supply(walk, need, self)
                yield

    def step(self, need: Need) -> Sequence[Any]:
        """What one need of a walk asks for. Raises UnavailableError."""
        return [node for _, node in self.chunks(need.cids)] if isinstance(need, NeedNodes) else self.records(need)

    def manifest(self, cid: Cid) -> Manifest:
        """A manifest by its name."""
        return decode_manifest(self.block(cid))

    def record(self, collection: Collection, key: Any) -> Record | None:
        """A record by its primary key, or None."""
        data = self.run(_record_bytes(collection.primary, encode_primary_key(collection, key)))
        return None if data is None else decode_record(data)

    def _by_key(self, need: NeedRecords) -> list[bytes]:
        order = sorted(range(len(need.keys)), key=need.keys.__getitem__)
        keys = list(dict.fromkeys(need.keys[place] for place in order))
        values = dict(zip(keys, self.run(get_many(need.primary, keys)), strict=True))
        found = []
        for key, digest in zip(need.keys, need.digests, strict=True):
            value = values[key]
            cid = cid_of_digest(digest)
            if value is None or type(value) is cbor.Link:
                found.append(self.block(cid))
            else:
                check_block(cid, value)
                found.append(value)
        return found

    def has(self, cid: Cid) -> bool:
        """Whether a block is here, without reading it."""
        return cid in self._fresh or self.store.has(cid)

    def block(self, cid: Cid) -> bytes:
        """Any block by its name."""
        data = self._fresh.get(cid) or self.store.get(cid)
        if data is None:
            raise UnavailableError(describe_missing(cid))
        self.blocks += 1
        return data


def _record_bytes(primary: Tree, key: bytes) -> RecordWalk[bytes | None]:
    value = yield from get(primary, key)
    if type(value) is not cbor.Link:
        return value
    (data,) = yield NeedRecords(primary, (key,), (digest_of(value),))
    found: bytes = data
    return found
