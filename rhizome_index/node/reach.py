"""What a head leads to: its manifest, every block of its trees, every record that has a block of its own.

Parents come before children, each block once. A block that is not here is named
and passed by, so that a walk shows all that is missing and can go on below what
has come since.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from rhizome_index.blocks import cbor
from rhizome_index.blocks.cid import Cid
from rhizome_index.errors import UnavailableError
from rhizome_index.index.head import Head
from rhizome_index.index.manifest import Manifest, decode_manifest
from rhizome_index.node.disk import DiskStore, describe_missing
from rhizome_index.tree.node import decode_node

MANIFEST, CHUNK, INDEX, ENTRIES, RECORD = "manifest", "chunk", "index", "entries", "record"
LEADS_NOWHERE = (ENTRIES, RECORD)


class Place(NamedTuple):
    """A block that something leads to, and what it is.

    MANIFEST  leads to the roots of all trees
    CHUNK     of a tree of records, which may link to records
    INDEX     a chunk of an index: its entries name records by digest, but link to nothing
    ENTRIES   a leaf of an index below an inner node, and
    RECORD    lead nowhere
    """

    cid: Cid
    kind: str


def reach(store: DiskStore, places: Iterable[Place], seen: set[Place]) -> Iterator[tuple[Place, bytes | None]]:
    """These blocks and all below them, depth first; None for what is not here. Those in `seen` are left out."""
    stack = list(places)[::-1]
    while stack:
        place = stack.pop()
        if place in seen:
            continue
        seen.add(place)
        data = store.get(place.cid)
        yield place, data
        if data is not None:
            stack += children(place, data)[::-1]


def dataset_blocks(store: DiskStore, head: Head, seen: set[Place]) -> Iterator[tuple[Cid, bytes]]:
    """All blocks of a dataset as of a head. Raises UnavailableError for the first that is not here."""
    for place, data in reach(store, [Place(head.manifest, MANIFEST)], seen):
        if data is None:
            raise UnavailableError(describe_missing(place.cid))
        yield place.cid, data


def children(place: Place, data: bytes) -> list[Place]:
    """What a block leads to, in order."""
    if place.kind in LEADS_NOWHERE:
        return []
    if place.kind == MANIFEST:
        return _roots(decode_manifest(data))
    node = decode_node(data)
    if node.level:
        kind = ENTRIES if place.kind == INDEX and node.level == 1 else place.kind
        return [Place(cid, kind) for cid in node.values]
    return [Place(bytes(value), RECORD) for value in node.values if type(value) is cbor.Link]


def _roots(manifest: Manifest) -> list[Place]:
    places = []
    for _, collection in sorted(manifest.collections.items()):
        places.append(Place(collection.primary.root, CHUNK))
        places += [Place(index.tree.root, INDEX) for _, index in sorted(collection.indexes.items())]
    return places
