"""Datasets whose publisher has signed something that contradicts his own records, in every way there is."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pyrsistent import pmap

from rhizome_index.blocks import cbor
from rhizome_index.blocks.cid import cid_of
from rhizome_index.blocks.store import MemoryStore
from rhizome_index.errors import IntegrityError, RhizomeError
from rhizome_index.index.head import Head, Identity, sign_head
from rhizome_index.index.manifest import Manifest, encode_manifest
from rhizome_index.index.schema import Collection
from rhizome_index.index.write import rebuild
from rhizome_index.limits import INLINE_VALUE_BYTES_MAX, TREE_BLOCK_BYTES_MAX
from rhizome_index.query.proof import record
from rhizome_index.tree.boundary import Rule
from rhizome_index.tree.build import build
from rhizome_index.tree.cursor import Cursor
from rhizome_index.tree.edit import Edit, edit
from rhizome_index.tree.levels import Levels, Place
from rhizome_index.tree.node import Node, Tree, decode_node, encode_inner, encode_leaf
from rhizome_index.tree.walk import load_root
from rhizome_index.trust.evidence import Fraud, accuse
from rhizome_index.trust.fraud import Claim, given_by, judge
from rhizome_index.trust.search import find_difference, find_failure
from tests.driving import MemorySource, gather

IDENTITY = Identity(bytes(range(32)))
Item = tuple[bytes, bytes, int]  # of an inner node: first key, child, entries below it


class RememberingSource(MemorySource):
    """A source that decodes each chunk once."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self._nodes: dict[bytes, tuple[bytes, Node]] = {}

    def chunks(self, cids: Sequence[bytes]) -> list[tuple[bytes, Node]]:
        for cid in cids:
            if cid not in self._nodes:
                self._nodes[cid] = super().chunks([cid])[0]
        return [self._nodes[cid] for cid in cids]


@dataclass(frozen=True)
class Signed:
    """A manifest with its head, over a source that has all of its blocks."""

    source: MemorySource
    manifest: Manifest
    head: Head

    @property
    def collection(self) -> Collection:
        (found,) = self.manifest.collections.values()
        return found

    def with_tree(self, index: str, tree: Tree) -> Signed:
        """The same, but for one tree."""
        old = self.collection
        if not index:
            return sign(self.source, self.manifest.rule, replace(old, primary=tree))
        changed = replace(old.indexes[index], tree=tree)
        return sign(self.source, self.manifest.rule, replace(old, indexes=old.indexes.set(index, changed)))

    def tree(self, index: str) -> Tree:
        return self.collection.indexes[index].tree if index else self.collection.primary


def sign(source: MemorySource, rule: Rule, collection: Collection, sequence: int = 1) -> Signed:
    manifest = Manifest(rule, pmap({collection.name: collection}))
    cid, data = encode_manifest(manifest)
    source.store.put_many([(cid, data)])
    return Signed(source, manifest, sign_head(IDENTITY, "lies", sequence, cid, 1_700_000_000_000))


def accused(signed: Signed, claim: Claim) -> Fraud:
    """The proof of a claim. Raises IntegrityError if it is not so."""
    blocks = []
    for step in record(judge(signed.manifest, claim), signed.source):
        if not isinstance(step, str):
            blocks.append(step[1])
    return accuse(signed.head, claim, signed.source.block(signed.head.manifest), blocks)


def convicts(signed: Signed, claim: Claim) -> bool:
    try:
        accused(signed, claim)
    except IntegrityError:
        return False
    return True


# --- entries ---


def with_edit(signed: Signed, index: str, edits: Sequence[Edit]) -> Signed:
    """An index with other entries than it should have, in the tree that they give."""
    sink = signed.source.store.blocks.__setitem__
    return signed.with_tree(index, signed.source.run(edit(signed.tree(index), signed.manifest.rule, edits, sink)))


def with_wrong_entries(signed: Signed, index: str, key: bytes, value: bytes) -> Iterator[tuple[str, bytes, Signed]]:
    """Each way in which an index can be wrong at one entry: what, at which key, and the dataset."""
    changed = bytes([value[0] ^ 1]) + value[1:]
    yield "missing", key, with_edit(signed, index, [(key, None)])
    yield "changed", key, with_edit(signed, index, [(key, changed)])
    for extra in (key + b"\0", key[:-3] + bytes([key[-3] ^ 1]) + key[-2:]):
        yield "extra", extra, with_edit(signed, index, [(extra, value)])


# --- nodes ---


def with_node(signed: Signed, index: str, place: Place, items: Sequence[Item], *, adding_up: bool = True) -> Signed:
    """Other nodes in the place of one; counts above them are kept right, unless they shall not add up."""
    sink = signed.source.store.blocks.__setitem__
    made = list(items)
    for ancestor, position in reversed(place.path):
        old = list(zip(ancestor.keys, ancestor.values, ancestor.counts, strict=True))
        kept = [*old[:position], *made, *old[position + 1 :]]
        data = encode_inner(ancestor.level, *map(list, zip(*kept, strict=True)))  # type: ignore[arg-type]
        sink(cid_of(data), data)
        count = sum(item[2] for item in kept) if adding_up else ancestor.count
        made = [(kept[0][0], cid_of(data), count)]
    ((_, root, count),) = made
    return signed.with_tree(index, Tree(root, count))


def with_chunk(signed: Signed, index: str, place: Place, data: bytes, **more: Any) -> Signed:
    """Other bytes in the place of a node, of which its parent says what it said before."""
    signed.source.store.blocks[cid_of(data)] = data
    first = place.node.keys[0] if place.node.keys else b""
    return with_node(signed, index, place, [(first, cid_of(data), place.node.count)], **more)


def as_items(source: MemorySource, level: int, parts: Sequence[Node]) -> list[Item]:
    """Nodes as what their parent says of them."""
    items = []
    for node in parts:
        data = chunk_of(node)
        source.store.blocks[cid_of(data)] = data
        items.append((node.keys[0], cid_of(data), node.count))
    return items


def chunk_of(node: Node) -> bytes:
    if node.level:
        return encode_inner(node.level, node.keys, node.values, node.counts)
    return encode_leaf(node.keys, node.values)


def part_of(node: Node, start: int, end: int) -> Node:
    return Node(node.level, node.keys[start:end], node.values[start:end], node.counts[start:end])


def joined(one: Node, other: Node) -> Node:
    pairs = ((one.keys, other.keys), (one.values, other.values), (one.counts, other.counts))
    return Node(one.level, *([*before, *behind] for before, behind in pairs))


def place_of(signed: Signed, index: str, level: int, key: bytes) -> Place:
    tree = signed.tree(index)

    def walk() -> Any:
        levels = Levels(tree, (yield from load_root(tree)), {})
        return (yield from levels.towards(level, key))

    found: Place = signed.source.run(walk())
    return found


def height_of(signed: Signed, index: str) -> int:
    return decode_node(signed.source.block(signed.tree(index).root)).level


def entries_of(signed: Signed, index: str) -> list[tuple[bytes, bytes]]:
    found: list[tuple[bytes, bytes]] = signed.source.run(gather(Cursor(signed.tree(index))))
    return found


def with_broken_root(signed: Signed, index: str) -> Iterator[tuple[str, Signed]]:
    """Each rule of structure broken at the root, where no parent says anything."""
    place = place_of(signed, index, height_of(signed, index), b"")
    node, data, tree = place.node, chunk_of(place.node), signed.tree(index)
    yield "no CBOR", with_chunk(signed, index, place, b"\x00\xff" + data[2:])
    yield "bytes behind it", with_chunk(signed, index, place, data + b"\0")
    yield "nothing", with_chunk(signed, index, place, b"")
    yield "too large", with_chunk(signed, index, place, encode_leaf([b"a"], [bytes(TREE_BLOCK_BYTES_MAX)]))
    twice = Node(node.level, [node.keys[0], node.keys[0], *node.keys[2:]], node.values, node.counts)
    yield "a key twice", with_chunk(signed, index, place, chunk_of(twice))
    yield "fewer entries than said", with_chunk(signed, index, place, chunk_of(part_of(node, 1, len(node.keys))))
    yield "more entries said than there are", signed.with_tree(index, Tree(tree.root, tree.count + 5))
    alone = encode_inner(node.level + 1, node.keys[:1], [tree.root], [tree.count])
    yield "a root with a single child", with_chunk(signed, index, place, alone)


def with_broken_nodes(
    random_: random.Random, signed: Signed, index: str, level: int, key: bytes | None = None
) -> Iterator[tuple[str, Signed]]:
    """Each rule of structure broken at a node of a level, which is not the root's: towards a key, or anywhere."""
    key = random_.choice(entries_of(signed, index))[0] if key is None else key
    place = place_of(signed, index, level, key)
    node = place.node
    data = chunk_of(node)
    yield "no CBOR", with_chunk(signed, index, place, b"\x00\xff" + data[2:])
    yield "bytes behind it", with_chunk(signed, index, place, data + b"\0")
    yield "nothing", with_chunk(signed, index, place, b"")
    yield "too large", with_chunk(signed, index, place, encode_leaf([key], [bytes(TREE_BLOCK_BYTES_MAX)]))
    yield "another level", with_chunk(signed, index, place, chunk_at(node, level + 1))
    long = [bytes(INLINE_VALUE_BYTES_MAX + 1), *map(bytes, node.values[1:])]
    yield "a long value", with_chunk(signed, index, place, encode_leaf(node.keys, long))
    if len(node.keys) > 2:
        swapped = Node(level, [node.keys[1], node.keys[0], *node.keys[2:]], node.values, node.counts)
        yield "keys out of order", with_chunk(signed, index, place, chunk_of(swapped))
        twice = Node(level, [node.keys[0], node.keys[0], *node.keys[2:]], node.values, node.counts)
        yield "a key twice", with_chunk(signed, index, place, chunk_of(twice))
        fewer = chunk_of(part_of(node, 1, len(node.keys)))
        yield "another first key", with_chunk(signed, index, place, fewer)
        short = chunk_of(part_of(node, 0, len(node.keys) - 1))
        yield "fewer entries than said", with_chunk(signed, index, place, short)
        yield from _with_wrong_cuts(random_, signed, index, place)
    inflated = [(node.keys[0], cid_of(data), node.count + 5)]
    yield "more entries said than there are", with_node(signed, index, place, inflated)
    yield "counts that do not add up", with_node(signed, index, place, inflated, adding_up=False)


def _with_wrong_cuts(random_: random.Random, signed: Signed, index: str, place: Place) -> Iterator[tuple[str, Signed]]:
    node, source = place.node, signed.source
    middle = random_.randrange(1, len(node.keys))
    halves = [part_of(node, 0, middle), part_of(node, middle, len(node.keys))]
    yield "a cut too many", with_node(signed, index, place, as_items(source, node.level, halves))
    parent, position = place.path[-1]
    if position + 1 < len(parent.keys):
        following = decode_node(source.block(parent.values[position + 1]))
        yield "a cut too few", _with_pair(signed, index, place, [joined(node, following)])
        if len(following.keys) > 1:
            moved = [
                joined(node, part_of(following, 0, 1)),
                part_of(following, 1, len(following.keys)),
            ]
            yield "a cut that is moved", _with_pair(signed, index, place, moved)
            over = Node(
                node.level,
                [*node.keys, following.keys[-1]],
                [*node.values, following.values[-1]],
                [*node.counts, *following.counts[-1:]],
            )
            rest = part_of(following, 0, len(following.keys) - 1)
            yield "a node over the next one", _with_pair(signed, index, place, [over, rest])


def _with_pair(signed: Signed, index: str, place: Place, nodes: Sequence[Node]) -> Signed:
    """Other nodes in the place of one and the next."""
    parent, position = place.path[-1]
    merged = Node(
        parent.level,
        [*parent.keys[: position + 1], *parent.keys[position + 2 :]],
        [*parent.values[: position + 1], *parent.values[position + 2 :]],
        [*parent.counts[: position + 1], *parent.counts[position + 2 :]],
    )
    shorter = replace(place, path=(*place.path[:-1], (merged, position)))
    return with_node(signed, index, shorter, as_items(signed.source, nodes[0].level, nodes))


def chunk_at(node: Node, level: int) -> bytes:
    """The node's keys and values as those of another level."""
    if level:
        counts = node.counts or [1] * len(node.keys)
        return encode_inner(level, node.keys, [cid_of(key) for key in node.keys], counts)
    return encode_leaf(node.keys, [bytes(value) for value in node.values])


def recut(signed: Signed, index: str, rule: Rule) -> Signed:
    """A tree with the right entries, cut by another rule."""
    sink = signed.source.store.blocks.__setitem__
    return signed.with_tree(index, build(rule, entries_of(signed, index), sink))


# --- records ---


def with_record(signed: Signed, key: bytes, data: bytes, *, linked: bool = False) -> Signed:
    """Something else at a primary key, and indexes that know nothing of it."""
    signed.source.store.blocks[cid_of(data)] = data
    return with_edit(signed, "", [(key, cbor.Link(cid_of(data)) if linked else data)])


def with_lists(signed: Signed, index: str, lists: Sequence[int]) -> Signed:
    """An index that says something else about lists."""
    old = signed.collection
    changed = replace(old.indexes[index], lists=tuple(lists))
    return sign(signed.source, signed.manifest.rule, replace(old, indexes=old.indexes.set(index, changed)))


# --- finding out ---


def found_by_rebuilding(signed: Signed) -> Claim | None:
    """What somebody claims who has derived all of it; None: nothing, for it is what it should be.

    AssertionError: it is not, and nothing can be proven.
    """
    collection, source, sink = signed.collection, signed.source, signed.source.store.blocks.__setitem__
    try:
        made = source.run(rebuild(signed.manifest.rule, collection, sink))
        if made == collection:
            return None
        claim: Claim | None = source.run(find_difference(signed.manifest, made))
    except RhizomeError as error:
        claim = source.run(find_failure(signed.manifest, collection.name, error, sink))
    assert claim is not None
    return claim


def given(signed: Signed, index: str, key: bytes, data: bytes) -> dict[bytes, bytes]:
    """What a record gives in an index."""
    return given_by(signed.collection, signed.collection.indexes[index], key, data).entries
