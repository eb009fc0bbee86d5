"""One node of a tree and its canonical bytes, the chunk.

A leaf is `[0, [key...], [value...]]`; an inner node is `[level, [first key...],
[link...], [entry count below each...]]`. A value is bytes, or a link to a block
of its own. The empty tree is the empty leaf.

`decode_node` checks all that one chunk can show: size, canonical encoding,
types, strictly increasing keys, positive counts. `Ref.check` checks what only
its parent knows: level, first key and count. Every read does both, so a walk
never meets a node that contradicts the path it came by.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import lt
from typing import Any

from rhizome_index.blocks import cbor
from rhizome_index.blocks.cid import Cid, cid_of, is_cid
from rhizome_index.errors import IntegrityError
from rhizome_index.limits import (
    INLINE_VALUE_BYTES_MAX,
    KEY_BYTES_MAX,
    NODE_ENTRIES_MAX,
    TREE_BLOCK_BYTES_MAX,
    TREE_HEIGHT_MAX,
)

Value = bytes  # or its subclass cbor.Link


class Node:
    """A decoded chunk. Never changed once made.

    level   0 for a leaf, otherwise 1 more than its children's
    keys    of the entries, or the first key below each child
    values  of the entries (a leaf), or the CIDs of the children (an inner node)
    counts  entries below each child; empty for a leaf
    count   entries below this node
    """

    __slots__ = ("count", "counts", "keys", "level", "values")

    def __init__(self, level: int, keys: Sequence[bytes], values: Sequence[Value], counts: Sequence[int]) -> None:
        self.level = level
        self.keys = keys
        self.values = values
        self.counts = counts
        self.count = sum(counts) if level else len(keys)

    def child(self, position: int) -> Ref:
        """What this inner node says of one of its children."""
        return Ref(self.values[position], self.level - 1, self.keys[position], self.counts[position])


@dataclass(frozen=True, slots=True)
class Ref:
    """A node that has not been read yet, with everything its parent promises about it."""

    cid: Cid
    level: int
    key: bytes
    count: int

    def check(self, node: Node) -> None:
        """Raise IntegrityError unless `node` keeps its parent's promises."""
        if node.level != self.level:
            raise self._broken(f"a node of level {node.level} where level {self.level} belongs")
        if node.count != self.count:
            raise self._broken(f"a node of {node.count} entries, said to have {self.count}")
        if not node.keys or node.keys[0] != self.key:
            raise self._broken("a node that does not begin with the key its parent gives")

    def _broken(self, message: str) -> IntegrityError:
        return IntegrityError(message, cid=self.cid, key=self.key)


@dataclass(frozen=True, slots=True)
class Tree:
    """A whole tree: the CID of its root and how many entries it holds."""

    root: Cid
    count: int

    def check(self, node: Node) -> None:
        """Raise IntegrityError unless `node` can be this tree's root."""
        if node.count != self.count:
            raise IntegrityError(f"a tree of {node.count} entries, said to have {self.count}", cid=self.root, key=b"")
        if node.level and len(node.keys) < 2:
            raise IntegrityError("a root with a single child", cid=self.root, key=b"")


def leaf_weight(key: bytes, value: Value) -> int:
    """The weight of an entry, for cutting and for nothing else."""
    return len(key) + len(value) + 16


def inner_weight(key: bytes) -> int:
    """The weight of a child's reference, for cutting and for nothing else."""
    return len(key) + 48


def encode_leaf(keys: Sequence[bytes], values: Sequence[Value]) -> bytes:
    """The chunk of a leaf."""
    return cbor.encode([0, list(keys), list(values)])


def encode_inner(level: int, keys: Sequence[bytes], cids: Sequence[Cid], counts: Sequence[int]) -> bytes:
    """The chunk of an inner node."""
    fast = cbor.encode_with_links([level, list(keys), list(cids), list(counts)], len(cids))
    return fast or cbor.encode([level, list(keys), [cbor.Link(cid) for cid in cids], list(counts)])


EMPTY_CHUNK = encode_leaf([], [])
EMPTY_TREE = Tree(cid_of(EMPTY_CHUNK), 0)


def node_of(cid: Cid, data: bytes, decode: Callable[[bytes], Node] | None = None) -> Node:
    """The node of a chunk with this name, which the error of one that is none says."""
    try:
        return (decode or decode_node)(data)
    except IntegrityError as error:
        error.cid = cid
        raise


def decode_node(data: bytes) -> Node:
    """The node of a chunk. Raises IntegrityError unless it is well formed in every way one chunk can show."""
    if len(data) > TREE_BLOCK_BYTES_MAX:
        raise IntegrityError(f"a chunk of {len(data)} bytes; at most {TREE_BLOCK_BYTES_MAX} are read")
    node = _decode_leaf(data) if data[:2] == b"\x83\x00" else _decode_inner(data)
    keys = node.keys
    if len(keys) != len(node.values) or len(keys) > NODE_ENTRIES_MAX:
        raise IntegrityError("a node with more keys or values than it may have")
    if keys and (set(map(type, keys)) != {bytes} or max(map(len, keys)) > KEY_BYTES_MAX):
        raise IntegrityError("a node with a key that is not bytes, or is too long")
    if not all(map(lt, keys, keys[1:])):
        raise IntegrityError("a node whose keys do not strictly increase")
    return node


def _decode_leaf(data: bytes) -> Node:
    value = cbor.decode(data)
    if len(value) != 3 or not _are_lists(value[1:]):
        raise IntegrityError("a leaf must be [0, keys, values]")
    _, keys, values = value
    for item in values:
        if not isinstance(item, bytes) or len(item) > INLINE_VALUE_BYTES_MAX:
            raise IntegrityError("a leaf with a value that is neither short bytes nor a link")
    return Node(0, keys, values, ())


def _decode_inner(data: bytes) -> Node:
    fast = cbor.decode_with_links(data)
    value = fast[0] if fast else cbor.decode(data)
    if not isinstance(value, list) or len(value) != 4 or not _are_lists(value[1:]):
        raise IntegrityError("a node must be [0, keys, values] or [level, keys, links, counts]")
    level, keys, links, counts = value
    if fast and fast[1] != len(links):
        level, keys, links, counts = cbor.decode(data)
        fast = None
    if type(level) is not int or not 1 <= level < TREE_HEIGHT_MAX:
        raise IntegrityError("a node of a level that no tree has")
    if not all(map(is_cid, links)) if fast else not all(type(link) is cbor.Link for link in links):
        raise IntegrityError("an inner node with a link that is none")
    if not links or len(counts) != len(links) or not all(type(count) is int and count > 0 for count in counts):
        raise IntegrityError("an inner node needs a positive count for every child")
    return Node(level, keys, links, counts)


def _are_lists(values: list[Any]) -> bool:
    return all(type(value) is list for value in values)
