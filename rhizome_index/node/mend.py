"""Make a dataset whole again: derive indexes from the records that are here, fetch the rest from peers."""

from __future__ import annotations

from functools import partial

from rhizome_index.blocks.cid import Cid
from rhizome_index.errors import UnavailableError
from rhizome_index.index.head import Head
from rhizome_index.index.write import rebuild
from rhizome_index.limits import SORT_BYTES_MAX
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.fetch import Fetcher, Wanted
from rhizome_index.node.local import LocalSource
from rhizome_index.node.reach import MANIFEST, Place, reach
from rhizome_index.node.sink import BlockBuffer, without_collecting
from rhizome_index.node.spill import SpillingSorter
from rhizome_index.wire.want import OnBlocks


def missing_blocks(store: DiskStore, head: Head) -> list[Cid]:
    """What a head leads to and is not here, as far as can be seen: below a missing block nothing can."""
    found = reach(store, [Place(head.manifest, MANIFEST)], set())
    return list(dict.fromkeys(place.cid for place, data in found if data is None))


def derive_again(store: DiskStore, head: Head) -> None:
    """Write the indexes of a dataset anew. Raises UnavailableError where its primary trees are not whole."""
    source = LocalSource(store)
    manifest = source.manifest(head.manifest)
    new_sorter = partial(SpillingSorter, store.folder, SORT_BYTES_MAX // 4)
    with BlockBuffer(store) as buffer, without_collecting():
        for _, collection in sorted(manifest.collections.items()):
            source.run(rebuild(manifest.rule, collection, buffer.add, new_sorter))


async def fill(store: DiskStore, head: Head, fetcher: Fetcher, keep: OnBlocks | None = None) -> None:
    """Fetch all that is missing of a dataset. Raises UnavailableError for what nobody has; the rest is kept.

    keep  takes what comes; it may raise RhizomeError, too
    """
    seen: set[Place] = set()
    places = [Place(head.manifest, MANIFEST)]
    problem: UnavailableError | None = None
    while missing := [place for place, data in reach(store, places, seen) if data is None]:
        try:
            await fetcher.fetch(
                [Wanted(cid) for cid in dict.fromkeys(place.cid for place in missing)], keep or store.put_fetched
            )
        except UnavailableError as error:
            problem = problem or error
        places = [place for place in missing if store.has(place.cid)]
        seen.difference_update(places)
    if problem is not None:
        raise problem
