"""The small dataset over which the vectors of manifests, queries and conversations run."""

from __future__ import annotations

import random

from pyrsistent import pmap

from rhizome_index.blocks.cid import Cid
from rhizome_index.index.head import Identity, sign_head
from rhizome_index.index.manifest import Manifest, encode_manifest
from rhizome_index.index.schema import Collection, Index, SortPath
from rhizome_index.query.parse import parse_index
from rhizome_index.tree.node import EMPTY_TREE
from tests.driving import MemorySource
from tests.properties.records import INDEXES, RULE, SPECIAL, Record, built, some_records


def _make() -> tuple[list[Record], MemorySource, Collection]:
    records = some_records(random.Random(7), 120)
    indexes = {name: Index.empty(name, definition) for name, definition in map(parse_index, INDEXES + SPECIAL)}
    order = (SortPath("n", True), SortPath("tags"))
    source, collection = built(Collection("things", "id", "n", order, EMPTY_TREE, pmap(indexes)), records)
    return [records[key] for key in sorted(records)], source, collection


RECORDS, SOURCE, COLLECTION = _make()
MANIFEST = Manifest(RULE, pmap({"things": COLLECTION}))
IDENTITY = Identity(bytes(range(32)))
MANIFEST_CID: Cid
MANIFEST_CID, MANIFEST_DATA = encode_manifest(MANIFEST)
HEAD = sign_head(IDENTITY, "vectors", 3, MANIFEST_CID, 1_700_000_000_000)
