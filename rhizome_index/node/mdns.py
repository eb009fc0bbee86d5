"""Neighbours: peers that are heard on the local network are connected to, without anybody naming them.

What is heard is hearsay: it costs a few dials at a time, and a peer that speaks
nothing of ours is let go. Whom to try next is drawn by lot, so that false announcements,
however many, do not keep true ones out.

Rule for being there at all: with an address beyond this machine. A node that listens on
loopback alone neither announces itself nor listens, unless it is told to.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

import trio

from rhizome_index.errors import IntegrityError, StoreError, UnavailableError
from rhizome_index.limits import (
    MDNS_AGAIN_SECONDS,
    MDNS_DIALS_AT_ONCE,
    MDNS_KNOWN_MAX,
    MDNS_LOOK_SECONDS,
    MDNS_PEERS_MAX,
    MDNS_TRIES_MAX,
)
from rhizome_index.node.cost import Cost
from rhizome_index.node.directory import Directory
from rhizome_index.node.events import INFO, note
from rhizome_index.node.swarm import Swarm
from rhizome_index.wire import mdns


class Ear(Protocol):
    """See `multicast.Ear`."""

    async def wait_texts(self) -> list[bytes]: ...


OpenAir = Callable[[str, Sequence[str]], AbstractAsyncContextManager[Ear]]


@dataclass(slots=True)
class _Neighbour:
    """A peer that was heard: where, how often it was tried since then for nothing, when it may be tried again."""

    addresses: tuple[str, ...]
    failures: int = 0
    due_at: float = 0.0


class Neighbours:
    """Hears and is heard, while `run` runs.

    on_loopback  be there also where all our addresses are this machine's own
    open_air     see `multicast.open_air`
    """

    def __init__(
        self,
        swarm: Swarm,
        directory: Directory,
        chance: random.Random,
        open_air: OpenAir,
        *,
        on_loopback: bool,
    ) -> None:
        self._swarm = swarm
        self._directory = directory
        self._chance = chance
        self._open_air = open_air
        self._on_loopback = on_loopback
        self._name = mdns.name_of(chance.randbytes(20))
        self._known: dict[str, _Neighbour] = {}
        self._trying: set[str] = set()
        self._news = trio.Event()

    async def run(self) -> None:
        """Until cancelled. Where our addresses change, it begins anew with those; without any, it waits for some."""
        told = ""
        while True:
            addresses = self._addresses()
            if addresses:
                try:
                    async with self._open_air(self._name, addresses) as ear:
                        told = ""
                        await self._stay(ear, addresses)
                except UnavailableError as error:
                    if str(error) != told:
                        told = str(error)
                        note(INFO, "local_network_unavailable", reason=told)
            await trio.sleep(MDNS_LOOK_SECONDS)

    def _addresses(self) -> tuple[str, ...]:
        """What to announce."""
        ours = mdns.announced(self._swarm.addresses)
        usable = [text for text in ours if mdns.ip_of(text)]
        return tuple(text for text in usable if self._on_loopback or not mdns.is_loopback(text))

    async def _stay(self, ear: Ear, addresses: tuple[str, ...]) -> None:
        """Take up what is heard, until our addresses are others."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen, ear)
            for _ in range(MDNS_DIALS_AT_ONCE):
                nursery.start_soon(self._try_on)
            while self._addresses() == addresses:  # noqa: ASYNC110  nothing tells of them
                await trio.sleep(MDNS_LOOK_SECONDS)
            nursery.cancel_scope.cancel()

    async def _listen(self, ear: Ear) -> None:
        while True:
            for text in await ear.wait_texts():
                try:
                    self._hear(mdns.read_text(text))
                except IntegrityError:
                    continue  # whose it is cannot be known

    def _hear(self, addresses: tuple[str, ...]) -> None:
        if not addresses:
            return
        peer = addresses[0].rpartition("/p2p/")[2]
        if peer == self._swarm.peer_id:
            return
        if peer in self._swarm.connected_peers:
            self._directory.note_local(peer)
        known = self._known.get(peer)
        if known is None and len(self._known) >= MDNS_KNOWN_MAX:
            del self._known[self._chance.choice(list(self._known))]
        if known is None or known.addresses != addresses:
            self._known[peer] = _Neighbour(addresses)
            self._news.set()

    async def _try_on(self) -> None:
        """Try one after another of those that were heard and are not connected."""
        while True:
            peer = self._draw()
            if peer is None:
                with trio.move_on_after(MDNS_LOOK_SECONDS):
                    await self._news.wait()
                self._news = trio.Event()
                continue
            self._trying.add(peer)
            try:
                await self._try(peer, self._known[peer])
            finally:
                self._trying.discard(peer)

    def _draw(self) -> str | None:
        connected, now = set(self._swarm.connected_peers), trio.current_time()
        if len(connected.intersection(self._directory.local)) >= MDNS_PEERS_MAX:
            return None
        busy = connected | self._trying
        waiting = [peer for peer, known in self._known.items() if known.due_at <= now and peer not in busy]
        return self._chance.choice(waiting) if waiting else None

    async def _try(self, peer: str, neighbour: _Neighbour) -> None:
        if await self._meet(peer, neighbour.addresses):
            neighbour.failures = 0
            neighbour.due_at = trio.current_time() + MDNS_AGAIN_SECONDS
            return
        neighbour.failures += 1
        neighbour.due_at = trio.current_time() + MDNS_AGAIN_SECONDS * 2 ** (neighbour.failures - 1)
        if neighbour.failures >= MDNS_TRIES_MAX:
            self._known.pop(peer, None)  # until it is heard again

    async def _meet(self, peer: str, addresses: tuple[str, ...]) -> bool:
        """Connect, and ask what it serves; whether it is one of us."""
        try:
            found, _ = await self._directory.connect(addresses, is_hearsay=True)
            if not found:
                return False
            self._directory.note_local(peer)
            note(INFO, "neighbour_found", peer=peer, addresses=list(addresses))
            await self._directory.ask(peer, (), Cost())
        except StoreError:
            return False  # whom we meet is kept in the store: the next try may work
        except (UnavailableError, IntegrityError):
            await self._swarm.disconnect(peer)
            return False
        return True
