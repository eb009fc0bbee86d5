"""Drive a walk of our own over the store and, for what it lacks, over other peers.

Each need is one batch: what the store has comes from there, the rest is fetched
and kept. Nothing has to be replayed: the walk checks each block as it would any.
What comes for a query is kept as long as there is room, and where it cannot be kept,
in memory until the walk is over; what a follower brings has to be kept.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import repeat
from typing import Any

import trio

from rhizome_index.blocks.cid import Cid
from rhizome_index.errors import IntegrityError, StoreError, UnavailableError
from rhizome_index.index.manifest import Manifest, decode_manifest
from rhizome_index.index.write import NeedRecords
from rhizome_index.node.cache import Cache
from rhizome_index.node.disk import DiskStore, describe_missing
from rhizome_index.node.fetch import Block, Fetcher, Wanted
from rhizome_index.node.local import LocalSource
from rhizome_index.node.room import Room
from rhizome_index.node.sink import BlockBuffer
from rhizome_index.query.found import Found
from rhizome_index.query.proof import names, supply
from rhizome_index.tree.cursor import get_many
from rhizome_index.tree.walk import NeedNodes

_STEPS_AT_ONCE = 16  # needs met from the store before others have their turn


class Gatherer:
    """Walks over a store and the peers of a fetcher.

    local    the store alone, for walks that find all they need there
    caching  what is fetched is wanted now, and perhaps again
    proving  likewise, and note every block that walks need
    touched  those blocks, in order and once: their proof
    fetched  how many blocks came from peers
    """

    def __init__(
        self, store: DiskStore, fetcher: Fetcher | None, *, caching: bool = False, proving: bool = False
    ) -> None:
        self._store = store
        self._room = Room(store)
        self._cache = Cache(store) if caching or proving else None
        self._buffer = BlockBuffer(store)
        self._unkept: dict[Cid, bytes] = {}
        self.local = LocalSource(store, ChainMap(self._buffer.waiting, self._unkept))
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
        with self._buffer, self._store.uses.guarding():
            return await self._run(walk, on_found)

    async def _run(self, walk: Any, on_found: Callable[[Found], None] | None) -> Any:
        resume: Callable[[], Any] = partial(next, walk)
        steps = 0
        while True:
            try:
                step = resume()
            except StopIteration as stop:
                return stop.value
            steps += 1
            if not steps % _STEPS_AT_ONCE:
                await trio.lowlevel.checkpoint()
            if isinstance(step, Found):
                assert on_found is not None
                on_found(step)
                resume = partial(next, walk)
                continue
            blocks, resume = await self._supply(walk, step)
            if self._proving:
                for cid, data in zip(names(step), blocks, strict=False):
                    self.touched.setdefault(cid, data)

    async def _supply(self, walk: Any, step: NeedNodes | NeedRecords) -> tuple[Sequence[bytes], Callable[[], Any]]:
        """What a walk needs, from wherever it is, and how the walk goes on."""
        if isinstance(step, NeedRecords):
            records = await self._records(step)
            return records, partial(walk.send, records)
        try:
            return supply(walk, step, self.local)
        except UnavailableError:
            await self._fetch_chunks(step)
            return supply(walk, step, self.local)

    def sink(self, cid: Cid, data: bytes) -> None:
        """Takes blocks that walks make, which they may read again."""
        self._buffer.add(cid, data)

    async def manifest(self, cid: bytes) -> tuple[bytes, Manifest]:
        """A manifest by its name, and its bytes."""
        await self._fetch([] if self.local.has(cid) else [Wanted(cid)])
        data = self.local.block(cid)
        return data, decode_manifest(data)

    async def _fetch_chunks(self, need: NeedNodes) -> None:
        missing = []
        for cid in dict.fromkeys(need.cids):
            with suppress(IntegrityError):  # it is here, though it is no node
                missing += [Wanted(cid)] if self.local.chunk(cid) is None else []
        await self._fetch(missing)

    async def _records(self, need: NeedRecords) -> Sequence[bytes]:
        try:
            found: Sequence[bytes] = self.local.records(need)
        except UnavailableError:
            found = await self._records_from_peers(need)
        return found

    async def _records_from_peers(self, need: NeedRecords) -> Sequence[bytes]:
        """The cheapest way first: by key, as blocks of their own, and last by way of the primary tree."""
        wanted = [Wanted(*of) for of in zip(names(need), repeat(need.primary.root), need.keys, strict=False)]
        problem: UnavailableError | None = None
        for kind in (wanted, [Wanted(item.cid) for item in wanted]):
            try:
                await self._fetch([item for item in kind if not self.local.has(item.cid)])
            except UnavailableError as error:
                problem = error
        if not all(self.local.has(item.cid) for item in wanted):
            walk = get_many(need.primary, sorted(set(need.keys)))
            resume: Callable[[], Any] = partial(next, walk)
            with suppress(StopIteration):
                while True:
                    _, resume = await self._supply(walk, resume())
            try:
                return self.local.records(need)
            except UnavailableError as error:
                raise problem or error from None
        return [self.local.block(item.cid) for item in wanted]

    async def _fetch(self, wanted: Sequence[Wanted]) -> None:
        if wanted and self._fetcher is None:
            raise UnavailableError(describe_missing(wanted[0].cid))
        if wanted and self._fetcher is not None:
            await self._fetcher.fetch(wanted, self._keep)

    def _keep(self, blocks: Sequence[Block]) -> None:
        self.fetched += len(blocks)
        if self._cache is None:
            self._room.check()
            self._store.put_fetched(blocks)
            return
        is_kept = False
        with suppress(StoreError), self._store.unhurried():
            is_kept = self._cache.put(blocks)
        if not is_kept:
            self._unkept.update(blocks)
