"""The manifest: the block that lists a dataset's collections, index definitions, roots and counts.

    {"version": 1, "rule": {"salt", "max_weight"},
     "collections": {name: {"key", "time", "order", "primary": [link, count],
                            "indexes": {name: {"paths", "tree": [link, count], "lists",
                                        "where"?, "include"?, "unique"?}}}}}

Source: protocols/manifest/1/spec.md
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import sha256
from typing import Any

from pyrsistent import PMap, pmap

from rhizome_index.blocks import cbor
from rhizome_index.blocks.cid import Cid, cid_of
from rhizome_index.errors import IntegrityError, UnknownCollectionError, UsageError
from rhizome_index.index.address import Address
from rhizome_index.index.condition import EVERYTHING, decode_expr, encode_expr
from rhizome_index.index.record import parse_path
from rhizome_index.index.schema import Collection, Definition, Index, SortPath, check_name, check_order
from rhizome_index.index.slips import did_you_mean
from rhizome_index.limits import COLLECTIONS_MAX, INDEXES_MAX, MANIFEST_BYTES_MAX
from rhizome_index.tree.boundary import Rule
from rhizome_index.tree.node import Tree


@dataclass(frozen=True, slots=True)
class Manifest:
    """A dataset as of one head. Replaced, never changed."""

    rule: Rule
    collections: PMap[str, Collection]

    def collection(self, name: str) -> Collection:
        """A collection by name. Raises UnknownCollectionError, and says which ones there are."""
        found = self.collections.get(name)
        if found is None:
            known = ", ".join(sorted(self.collections)) or "none yet"
            hint = did_you_mean(name, self.collections, f"the dataset has: {known}")
            raise UnknownCollectionError(f"no collection called {name!r}", hint=hint)
        return found

    def with_collection(self, collection: Collection) -> Manifest:
        return replace(self, collections=self.collections.set(collection.name, collection))


def new_manifest(address: Address) -> Manifest:
    """The manifest of a dataset that has nothing yet. Its salt follows from its address, so that nothing is random."""
    return Manifest(Rule(sha256(b"rhizome-salt" + str(address).encode()).digest()[:16]), pmap())


def encode_manifest(manifest: Manifest) -> tuple[Cid, bytes]:
    """The manifest's block. Raises UsageError when it has grown too large, or nobody could read it."""
    rule = manifest.rule
    data = cbor.encode(
        {
            "version": 1,
            "rule": {"salt": rule.salt, "max_weight": rule.max_weight},
            "collections": {name: _from_collection(item) for name, item in manifest.collections.items()},
        }
    )
    if len(data) > MANIFEST_BYTES_MAX:
        raise UsageError("too many collections and indexes for one dataset", hint="use another dataset for some")
    try:
        decode_manifest(data)  # rather publish nothing than what nobody, ourselves included, can read
    except IntegrityError as error:
        raise UsageError(f"this cannot be published: {error}") from None
    return cid_of(data), data


@lru_cache(maxsize=64)  # read again for every query, and it never changes
def decode_manifest(data: bytes) -> Manifest:
    """The manifest of a block. Raises IntegrityError unless it is one in every detail."""
    if len(data) > MANIFEST_BYTES_MAX:
        raise IntegrityError(f"a manifest of {len(data)} bytes")
    body = cbor.decode(data)
    try:
        version, rule, collections = _fields(body, "version", "rule", "collections")
        salt, max_weight = _fields(rule, "salt", "max_weight")
        _expect(version == 1 and type(version) is int and type(salt) is bytes and type(max_weight) is int)
        _expect(type(collections) is dict and len(collections) <= COLLECTIONS_MAX)
        read = {check_name(name, "a collection"): _to_collection(name, item) for name, item in collections.items()}
        return Manifest(Rule(salt, max_weight), pmap(read))
    except UsageError as error:
        raise IntegrityError(f"a manifest with {error}") from None


def _from_collection(collection: Collection) -> dict[str, Any]:
    return {
        "key": collection.key,
        "time": collection.time,
        "order": [str(path) for path in collection.order],
        "primary": tree_body(collection.primary),
        "indexes": {name: _from_index(index) for name, index in collection.indexes.items()},
    }


def _from_index(index: Index) -> dict[str, Any]:
    return {**definition_body(index.definition), "tree": tree_body(index.tree), "lists": list(index.lists)}


def definition_body(definition: Definition) -> dict[str, Any]:
    """The form in which a definition is written: the fields of its index that are not of the tree."""
    body: dict[str, Any] = {"paths": [str(path) for path in definition.paths]}
    if definition.where != EVERYTHING:
        body["where"] = encode_expr(definition.where)
    if definition.include:
        body["include"] = list(definition.include)
    if definition.unique:
        body["unique"] = True
    return body


def _to_collection(name: str, body: Any) -> Collection:
    key, time, order, primary, indexes = _fields(body, "key", "time", "order", "primary", "indexes")
    _expect(type(key) is str and type(indexes) is dict and len(indexes) <= INDEXES_MAX)
    _expect(time is None or type(time) is str)
    for path in (key, time):
        if path is not None:
            parse_path(path)
    return Collection(
        name,
        key,
        time,
        check_order(_to_paths(order)),
        _to_tree(primary),
        pmap({check_name(label, "an index"): _to_index(label, item) for label, item in indexes.items()}),
    )


def _to_index(name: str, body: Any) -> Index:
    _expect(isinstance(body, Mapping))
    extra = {label: body[label] for label in ("where", "include", "unique") if label in body}
    paths, tree, lists = _fields({label: body[label] for label in body if label not in extra}, "paths", "tree", "lists")
    _expect(None not in extra.values())
    definition = _to_definition(paths, **extra)
    _expect(type(lists) is list and len(lists) == len(definition.paths))
    _expect(all(type(count) is int and 0 <= count < 2**53 for count in lists))
    return Index(name, definition, _to_tree(tree), tuple(lists))


def _to_definition(paths: Any, where: Any = None, include: Any = None, unique: Any = None) -> Definition:
    """Of an index that has nothing of a kind, nothing is said."""
    condition = EVERYTHING if where is None else decode_expr(where)
    _expect(where is None or condition != EVERYTHING)
    _expect(include is None or (type(include) is list and bool(include) and {type(path) for path in include} == {str}))
    _expect(unique in (None, True) and type(unique) is not int)
    return Definition(_to_paths(paths), condition, tuple(include or ()), unique is True)


def _to_paths(body: Any) -> tuple[SortPath, ...]:
    _expect(type(body) is list and all(type(path) is str for path in body))
    return tuple(SortPath.parse(path) for path in body)


def tree_body(tree: Tree) -> list[Any]:
    """The form in which a tree is written."""
    return [cbor.Link(tree.root), tree.count]


def _to_tree(body: Any) -> Tree:
    _expect(type(body) is list and len(body) == 2)
    root, count = body
    _expect(type(root) is cbor.Link and type(count) is int and 0 <= count < 2**53)
    return Tree(bytes(root), count)


def _fields(body: Any, *names: str) -> list[Any]:
    """The values of a map that has exactly these fields."""
    _expect(isinstance(body, Mapping) and body.keys() == set(names))
    return [body[name] for name in names]


def _expect(condition: bool) -> None:
    if not condition:
        raise IntegrityError("a manifest with a missing, unknown or malformed field")
