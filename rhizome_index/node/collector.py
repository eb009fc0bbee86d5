"""The node's own collecting: when there is no room any more, and when its user asks for it.

It goes on between everything else that the node does, a few milliseconds at a time and
half of the time at most.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import trio

from rhizome_index.errors import StoreError
from rhizome_index.limits import COLLECT_AGAIN_SECONDS, COLLECT_LOOK_SECONDS, USES_NOTED_SECONDS
from rhizome_index.node.cache import Cache
from rhizome_index.node.collect import Collected, Collection
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.events import INFO, WARNING, note
from rhizome_index.node.room import Room
from rhizome_index.node.tally import DONE, FAILED, Tally

ASKED, FULL = "asked", "quota"


@dataclass(slots=True)
class Progress:
    """How far a collection is: blocks looked at, each twice, and whether it waits for another process to end."""

    looked_at: int = 0
    is_waiting: bool = False


class Collector:
    """Collects the store of one peer.

    progress  of the collection under way, or None
    """

    def __init__(self, store: DiskStore, peer_id: str, clock: Callable[[], float], tally: Tally) -> None:
        self._store = store
        self._peer_id = peer_id
        self._clock = clock
        self._tally = tally
        self._room = Room(store)
        self._cache = Cache(store)
        self._lock = trio.Lock()
        self._changed = trio.Event()
        self._noted_at = -USES_NOTED_SECONDS
        self._again_at = 0.0
        self._told = ""
        self.progress: Progress | None = None

    def look(self) -> None:
        """Collect if that is called for; note now and then what was used. Raises StoreError."""
        now = trio.current_time()
        if self._store.uses.fresh and now >= self._noted_at + USES_NOTED_SECONDS:
            self._noted_at = now
            self._cache.note_uses()
        if self._room.should_collect():
            self._changed.set()

    async def run(self) -> None:
        """Collect whenever there is no room any more, until cancelled."""
        while True:
            await self._changed.wait()
            self._changed = trio.Event()
            await trio.sleep_until(self._again_at)
            try:
                async with self._lock:
                    if self._room.should_collect():
                        await self._collect(FULL, is_trial=False)
            except StoreError as error:
                self._again_at = trio.current_time() + COLLECT_AGAIN_SECONDS
                self._tell(str(error))
            else:
                self._told = ""

    async def collect(self, *, is_trial: bool = False) -> Collected:
        """Collect now, or behind the collection that is under way. Raises StoreError."""
        async with self._lock:
            return await self._collect(ASKED, is_trial=is_trial)

    async def _collect(self, reason: str, *, is_trial: bool) -> Collected:
        collection = Collection(self._store, self._peer_id, is_trial=is_trial)
        self.progress = progress = Progress()
        began_at, how = trio.current_time(), FAILED
        try:
            steps = collection.steps()
            while True:
                step_at = trio.current_time()
                looked_at = next(steps, None)
                if looked_at is None:
                    break
                progress.looked_at += looked_at
                progress.is_waiting = collection.is_waiting
                took = trio.current_time() - step_at
                await trio.sleep(COLLECT_LOOK_SECONDS if collection.is_waiting else took)
            how = DONE
        finally:
            self.progress = None
            if not is_trial:
                self._tally.collections[how] += 1
        if not is_trial:
            self._note(collection, reason, trio.current_time() - began_at)
        return collection.found

    def _note(self, collection: Collection, reason: str, seconds: float) -> None:
        found = collection.found
        measured = collection.measure(self._clock(), seconds)
        self._tally.freed_blocks += found.freed_blocks
        self._tally.freed_bytes += found.freed_bytes
        self._tally.evicted_blocks += found.evicted_blocks
        self._tally.evicted_bytes += found.evicted_bytes
        note(
            INFO,
            "collected",
            reason=reason,
            freed_blocks=found.freed_blocks,
            freed_bytes=found.freed_bytes,
            evicted_blocks=found.evicted_blocks,
            evicted_bytes=found.evicted_bytes,
            kept_bytes=found.kept_bytes,
            seconds=round(seconds, 3),
        )
        kept, quota = measured.followed + measured.pinned, measured.quota
        if quota is not None and kept * measured.ratio > quota:
            self._tell(
                f"what is followed and pinned takes {kept:,} bytes, more than the quota of {quota:,}: "
                "nothing more of it is brought"
            )

    def _tell(self, problem: str) -> None:
        """Say why there is no room, once."""
        if problem != self._told:
            self._told = problem
            note(WARNING, "no_room", f"{problem}; rhizome status says what takes how much", reason=problem)
