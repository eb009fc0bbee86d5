"""What may have been meant by a query that finds nothing: looked for here, and at peers where that is wanted."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from rhizome_index.errors import IntegrityError, UnavailableError, UsageError
from rhizome_index.index.address import Address
from rhizome_index.index.record import Record
from rhizome_index.limits import HINTS_SECONDS
from rhizome_index.node.resolution import Resolution
from rhizome_index.node.resolve import FindPeers, Resolver
from rhizome_index.query.hints import hints, is_odd


async def hints_for(
    resolver: Resolver, address: Address, resolution: Resolution, rows: Sequence[Record], find_peers: FindPeers | None
) -> list[str]:
    """Hints for a query, given the first rows of its answer; none where there is no telling.

    find_peers  gives whom else to ask; None: only what is here is looked at

    What it takes is added to the resolution's cost.
    """
    if not is_odd(resolution.query, rows):
        return []
    try:
        with trio.move_on_after(HINTS_SECONDS):
            return await _look(resolver, address, resolution, rows, find_peers)
    except (UnavailableError, IntegrityError, UsageError):
        pass
    return []


async def _look(
    resolver: Resolver, address: Address, resolution: Resolution, rows: Sequence[Record], find_peers: FindPeers | None
) -> list[str]:
    peers = list(await find_peers(address)) if find_peers is not None else []
    gatherer = resolver.gatherer(peers, resolution.cost)
    if resolution.opening is not None:
        manifest = resolution.opening.manifest
    else:
        manifest = gatherer.local.manifest((await resolver.heads.newest(address, (), resolution.cost)).manifest)
    walk = hints(resolution.query, manifest.collection(resolution.query.collection), rows)
    try:
        found: list[str] = await gatherer.run(walk) if peers else gatherer.local.run(walk)
    finally:
        resolution.cost.blocks_remote += gatherer.fetched
    return found
