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
from rhizome_index.tree.node import Tree, decode_node

MANIFEST, CHUNK, RECORD = "manifest", "chunk", "record"


class Place(NamedTuple):
    """A block that something leads to, and what it is: only manifests and chunks lead on."""

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
            stack += _children(place, data)[::-1]


def dataset_blocks(store: DiskStore, head: Head, seen: set[Place]) -> Iterator[tuple[Cid, bytes]]:
    """All blocks of a dataset as of a head. Raises UnavailableError for the first that is not here."""
    for place, data in reach(store, [Place(head.manifest, MANIFEST)], seen):
        if data is None:
            raise UnavailableError(describe_missing(place.cid))
        yield place.cid, data


def trees_of(manifest: Manifest) -> list[Tree]:
    """Every tree of a dataset."""
    trees = []
    for name in sorted(manifest.collections):
        collection = manifest.collections[name]
        trees.append(collection.primary)
        trees += [collection.indexes[label].tree for label in sorted(collection.indexes)]
    return trees


def _children(place: Place, data: bytes) -> list[Place]:
    if place.kind == MANIFEST:
        return [Place(tree.root, CHUNK) for tree in trees_of(decode_manifest(data))]
    if place.kind == RECORD:
        return []
    node = decode_node(data)
    if node.level:
        return [Place(cid, CHUNK) for cid in node.values]
    return [Place(bytes(value), RECORD) for value in node.values if type(value) is cbor.Link]
