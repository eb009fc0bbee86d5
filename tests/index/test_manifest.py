"""Manifests that are as large as they may be, and larger ones: not published, and not read."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pyrsistent import pmap

from rhizome_index.blocks import cbor
from rhizome_index.errors import IntegrityError, UsageError
from rhizome_index.index.manifest import Manifest, decode_manifest, encode_manifest
from rhizome_index.index.schema import Collection, Definition, Index, SortPath
from rhizome_index.limits import COLLECTIONS_MAX, INDEXES_MAX, MANIFEST_BYTES_MAX
from rhizome_index.tree.boundary import Rule
from rhizome_index.tree.node import EMPTY_TREE

EMPTY = Collection("c", "id", None, (), EMPTY_TREE, pmap())


def manifest_of(collections: int = 1, indexes: int = 0, key: str = "id") -> Manifest:
    made = {f"i{number}": Index.empty(f"i{number}", Definition.over("n")) for number in range(indexes)}
    named = {
        f"c{number}": replace(EMPTY, name=f"c{number}", key=key, indexes=pmap(made)) for number in range(collections)
    }
    return Manifest(Rule(b""), pmap(named))


def encoded_anyway(manifest: Manifest) -> bytes:
    """What a publisher without our rules might sign."""
    few = replace(manifest_of(indexes=1), rule=manifest.rule)
    body = cbor.decode(encode_manifest(few)[1])
    (one,) = body["collections"].values()
    (index,) = one["indexes"].values()
    body["collections"] = {
        name: {**one, "key": item.key, "indexes": dict.fromkeys(item.indexes, index)}
        for name, item in manifest.collections.items()
    }
    return cbor.encode(body)


LIMITS = [(manifest_of(COLLECTIONS_MAX), manifest_of(COLLECTIONS_MAX + 1))]
LIMITS += [(manifest_of(1, INDEXES_MAX), manifest_of(1, INDEXES_MAX + 1))]


def of_size(size: int) -> Manifest:
    """A manifest of so many bytes: long keys fill it up, and the salt makes it exact."""
    manifest = manifest_of(250)
    for name in sorted(manifest.collections):
        missing = size - len(encoded_anyway(manifest))
        if missing < 24:
            break
        key = "k" * min(250, missing - 10)
        manifest = manifest.with_collection(replace(manifest.collections[name], key=key))
    manifest = replace(manifest, rule=Rule(bytes(size - len(encoded_anyway(manifest)))))
    assert len(encoded_anyway(manifest)) == size
    return manifest


@pytest.mark.parametrize(("most", "more"), [*LIMITS, (of_size(MANIFEST_BYTES_MAX), of_size(MANIFEST_BYTES_MAX + 1))])
def test_a_manifest_at_the_limit_and_one_past_it(most: Manifest, more: Manifest) -> None:
    assert decode_manifest(encode_manifest(most)[1]) == most
    with pytest.raises(UsageError):
        encode_manifest(more)
    with pytest.raises(IntegrityError):
        decode_manifest(encoded_anyway(more))


@pytest.mark.parametrize(
    "unreadable", [{"key": "a..b"}, {"time": "-a"}, {"order": (SortPath("a"), SortPath("a"))}, {"name": "A b"}]
)
def test_what_nobody_could_read_is_not_published(unreadable: dict[str, object]) -> None:
    wrong = replace(EMPTY, **unreadable)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="cannot be published"):
        encode_manifest(Manifest(Rule(b""), pmap({wrong.name: wrong})))
