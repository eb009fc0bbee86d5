"""Drive a walk of our own over the store and, for what it lacks, over other peers.

Each need is one batch: what the store has comes from there, the rest is fetched
and kept. Nothing has to be replayed: the walk checks each block as it would any.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import repeat
from typing import Any

import trio

from rhizome_index.errors import UnavailableError
from rhizome_index.index.manifest import Manifest, decode_manifest
from rhizome_index.index.write import NeedRecords
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.fetch import Block, Fetcher, Wanted
from rhizome_index.node.local import LocalSource
from rhizome_index.query.execute import Found
from rhizome_index.query.proof import names
from rhizome_index.tree.cursor import get_many
from rhizome_index.tree.node import Node
from rhizome_index.tree.walk import NeedNodes


class Gatherer:
    """Walks over a store and the peers of a fetcher.

    local    the store alone, for walks that find all they need there
    proving  note every block that walks need
    touched  those blocks, in order and once: their proof
    fetched  how many blocks came from peers
    """

    def __init__(self, store: DiskStore, fetcher: Fetcher, *, proving: bool = False) -> None:
        self._store = store
        self.local = LocalSource(store)
        self._fetcher = fetcher
        self._proving = proving
        self.touched: dict[bytes, bytes] = {}
        self.fetched = 0

    @property
    def blocks_local(self) -> int:
        """How many of the blocks touched were here already."""
        return len(self.touched) - self.fetched

    async def run(self, walk: Any, on_found: Callable[[Found], None] | None = None) -> Any:
        """Drive a walk to its end and give its result. Raises UnavailableError for what nobody has."""
        reply: Any = None
        while True:
            try:
                step = walk.send(reply)
            except StopIteration as stop:
                return stop.value
            if isinstance(step, Found):
                assert on_found is not None
                on_found(step)
                reply = None
            else:
                reply = await (self._nodes(step) if isinstance(step, NeedNodes) else self._records(step))

    async def manifest(self, cid: bytes) -> tuple[bytes, Manifest]:
        """A manifest by its name, and its bytes."""
        await self._fetch([] if self._store.has(cid) else [Wanted(cid)])
        data = self.local.block(cid)
        return data, decode_manifest(data)

    async def _nodes(self, need: NeedNodes) -> list[Node]:
        await trio.lowlevel.checkpoint()
        nodes, blocks = await self._chunks(need)
        self._touch(zip(need.cids, blocks, strict=True))
        return nodes

    async def _chunks(self, need: NeedNodes) -> tuple[list[Node], list[bytes]]:
        await self._fetch([Wanted(cid) for cid in dict.fromkeys(need.cids) if self._store.chunk(cid) is None])
        chunks = self.local.chunks(need.cids)
        return [node for _, node in chunks], [data for data, _ in chunks]

    async def _records(self, need: NeedRecords) -> Sequence[bytes]:
        try:
            found: Sequence[bytes] = self.local.records(need)
        except UnavailableError:
            found = await self._records_from_peers(need)
        self._touch(zip(names(need), found, strict=True))
        return found

    async def _records_from_peers(self, need: NeedRecords) -> Sequence[bytes]:
        """The cheapest way first: by key, as blocks of their own, and last by way of the primary tree."""
        wanted = [Wanted(*of) for of in zip(names(need), repeat(need.primary.root), need.keys, strict=False)]
        for kind in (wanted, [Wanted(item.cid) for item in wanted]):
            with suppress(UnavailableError):
                await self._fetch([item for item in kind if not self._store.has(item.cid)])
        if not all(self._store.has(item.cid) for item in wanted):
            walk = get_many(need.primary, sorted(set(need.keys)))
            reply: Any = None
            with suppress(StopIteration):
                while True:
                    reply, _ = await self._chunks(walk.send(reply))
            return self.local.records(need)
        return [self.local.block(item.cid) for item in wanted]

    async def _fetch(self, wanted: Sequence[Wanted]) -> None:
        if wanted:
            await self._fetcher.fetch(wanted, self._keep)

    def _keep(self, blocks: Sequence[Block]) -> None:
        self.fetched += len(blocks)
        self._store.put_many(blocks)

    def _touch(self, blocks: Any) -> None:
        if self._proving:
            for cid, data in blocks:
                self.touched.setdefault(cid, data)
