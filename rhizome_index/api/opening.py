"""Open a home: its store, and a place in the swarm where one is needed."""

from __future__ import annotations

import os
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from socket import socket

import trio

from rhizome_index.api.node import Node
from rhizome_index.errors import StoreError, UnavailableError, UsageError, first_of
from rhizome_index.node.cache import Cache
from rhizome_index.node.collect import make_room
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.home import Home
from rhizome_index.node.lender import Lender
from rhizome_index.node.lent_swarm import borrow_swarm
from rhizome_index.node.peer import Peer
from rhizome_index.node.room import Room
from rhizome_index.node.swarm import Swarm
from rhizome_index.node.unix_socket import listening


@asynccontextmanager
async def open_node(
    home: str | Path | Home,
    *,
    listen: Sequence[str] = (),
    peers: Sequence[str] = (),
    join: bool = False,
    as_relay: bool = False,
    relays: Sequence[str] = (),
    mdns: bool | None = None,
    clock: Callable[[], float] = time.time,
    passphrase: str | None = None,
) -> AsyncIterator[Node]:
    """Open the node of a home directory, which is made if it is missing.

    listen      multiaddrs to serve on
    peers       full multiaddrs of peers to connect to; those that cannot be reached are left out
    join        join the swarm even where there are neither: peers met before are remembered
    as_relay    let peers that nobody can dial be reached through this node; only together with `listen`
    relays      full multiaddrs of relays through which to be reached; only together with `listen`
    mdns        find peers on the local network, and be found; None: unless it listens on loopback alone
    passphrase  of a home whose private key is sealed: needed to publish and to listen, not to ask

    Who only asks does so over the connections of a node that runs from this home in another process, if there is one.

    Raises UsageError for an address that is none, a wrong passphrase, and for an address to listen on where a node of
    this home runs already;
    StoreError for a home that cannot be used.
    """
    place = home if isinstance(home, Home) else Home.at(home)
    if passphrase is not None:
        place.ask = partial(str, passphrase)
    if as_relay and not listen:
        raise UsageError("a relay has to be reached itself", hint="name an address to listen on")
    if relays and not listen:
        raise UsageError("who only asks need not be reached through a relay", hint="name an address to listen on")
    place.create()
    try:
        async with _open(place, listen, peers, join or bool(listen) or bool(peers), clock, mdns) as node:
            if as_relay:
                node.peer.relay()
            if relays:
                await node.peer.reserve(relays)
            yield node
    except BaseExceptionGroup as group:  # nurseries wrap what passes through them
        raise first_of(group) from None


@asynccontextmanager
async def _open(
    place: Home,
    listen: Sequence[str],
    peers: Sequence[str],
    join: bool,
    clock: Callable[[], float],
    mdns: bool | None,
) -> AsyncIterator[Node]:
    async with AsyncExitStack() as stack:
        store = stack.enter_context(place.open_store())
        node = Node(Peer(store, place, clock, random.SystemRandom()))
        if join:
            swarm = await stack.enter_async_context(_join(place, listen))
            started = trio.current_time()
            meeting = stack.enter_context(_meeting(place)) if listen else None
            nursery = await stack.enter_async_context(trio.open_nursery())
            stack.callback(nursery.cancel_scope.cancel)
            node.peer.join(swarm, nursery)
            if listen:
                node.peer.serve()
                nursery.start_soon(node.peer.stay)
            if listen and mdns is not False:
                nursery.start_soon(partial(node.peer.meet_neighbours, on_loopback=bool(mdns)))
            if meeting is not None:
                nursery.start_soon(Lender(node.peer).serve, meeting)
            await node.peer.connect(peers)
            node.connect_seconds = trio.current_time() - started
        yield node
        if not listen:
            _make_room(place, store, clock)


def _make_room(place: Home, store: DiskStore, clock: Callable[[], float]) -> None:
    """Whoever does not stay makes room for what he leaves, if that takes no time; a running node does it by itself."""
    with suppress(StoreError, UsageError):
        Cache(store).note_uses()
        if Room(store).should_collect():
            with place.claim():
                make_room(store, place.peer_id, clock)


@asynccontextmanager
async def _join(place: Home, listen: Sequence[str]) -> AsyncIterator[Swarm]:
    """A place in the swarm: lent by the running node, unless we are to be that ourselves, or of our own."""
    async with AsyncExitStack() as stack:
        swarm: Swarm | None = None
        if listen:
            stack.enter_context(place.claim())
        else:
            swarm = await stack.enter_async_context(borrow_swarm(place.socket_path, place.peer_id))
        if swarm is None:
            from rhizome_index.node.libp2p_swarm import open_swarm

            # Who only asks needs no name: rather than a sealed key, one made for the occasion.
            seed = place.identity.seed if listen or not place.is_sealed else os.urandom(32)
            swarm = await stack.enter_async_context(open_swarm(seed, listen))
        yield swarm


@contextmanager
def _meeting(place: Home) -> Iterator[socket | None]:
    """Where other processes of this home meet its node; None if there can be no such place."""
    with ExitStack() as stack:
        found = None
        with suppress(UnavailableError):  # in a home that cannot be written, say
            found = stack.enter_context(listening(place.socket_path))
        yield found
