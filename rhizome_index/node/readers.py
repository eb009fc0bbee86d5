"""Peers that have copied something from us: a little later they serve it too, and others can be sent there."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

import trio

from rhizome_index.errors import IntegrityError, UnavailableError
from rhizome_index.limits import READERS_AGAIN_SECONDS, READERS_MET_SECONDS
from rhizome_index.node.cost import Cost
from rhizome_index.node.directory import Directory
from rhizome_index.node.later import Later
from rhizome_index.node.swarm import Swarm
from rhizome_index.wire.counted import make_room


class Readers:
    """Asks each of them once what it serves, a moment after it has begun to read; again only long after that.

    Without this only those would be named who ask many peers, and those are the oldest.
    """

    def __init__(self, swarm: Swarm, directory: Directory, nursery: trio.Nursery) -> None:
        self._swarm = swarm
        self._directory = directory
        self._nursery = nursery
        self._later = Later(nursery)
        self._noted_until: dict[str, float] = {}

    def note(self, peer: str) -> None:
        """A peer has been given blocks or changes."""
        now = trio.current_time()
        if self._noted_until.get(peer, now) > now:
            return
        self._noted_until.pop(peer, None)
        make_room(self._noted_until)
        self._noted_until[peer] = now + READERS_AGAIN_SECONDS
        self._later.after(READERS_MET_SECONDS, partial(self._nursery.start_soon, self._ask, peer))

    async def _ask(self, peer: str) -> None:
        if peer in self._swarm.connected_peers:
            with suppress(UnavailableError, IntegrityError):  # it is of no help
                await self._directory.ask(peer, (), Cost())
