"""Walks: suspended traversals of trees.

A walk is a generator. It yields what it needs and is sent what it asked for;
what it computes is its return value. It knows nothing of where blocks are:
whoever drives it supplies them from a dict, a disk, a peer or a simulator, and
may note what was touched. That note is a proof.

    Walk[T] = Generator[NeedNodes, nodes asked for, T]
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from rhizome_index.blocks.cid import Cid
from rhizome_index.errors import UnavailableError
from rhizome_index.tree.node import Node, Ref, Tree, decode_node

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class NeedNodes:
    """These nodes, please, in this order. None: a place where whoever drives the walk may do something else first."""

    cids: tuple[Cid, ...]


PAUSE = NeedNodes(())


Walk = Generator[NeedNodes, Sequence[Node], T]


def load_root(tree: Tree) -> Walk[Node]:
    """The root of a tree, checked against what is known of the tree."""
    (node,) = yield NeedNodes((tree.root,))
    tree.check(node)
    return node


def load(ref: Ref) -> Walk[Node]:
    """The node of a reference, checked against its parent's promises."""
    (node,) = yield NeedNodes((ref.cid,))
    ref.check(node)
    return node


def load_many(refs: Sequence[Ref]) -> Walk[Sequence[Node]]:
    """The nodes of several references, asked for at once."""
    if not refs:
        return ()
    nodes = yield NeedNodes(tuple(ref.cid for ref in refs))
    for ref, node in zip(refs, nodes, strict=True):
        ref.check(node)
    return nodes


def run(walk: Walk[T], get: Callable[[Cid], bytes | None]) -> T:
    """Drive a walk over blocks that are at hand. Raises UnavailableError when one is not."""
    try:
        need = next(walk)
        while True:
            nodes = []
            for cid in need.cids:
                data = get(cid)
                if data is None:
                    raise UnavailableError(f"block {cid.hex()} is not here")
                nodes.append(decode_node(data))
            need = walk.send(nodes)
    except StopIteration as stop:
        result: T = stop.value
        return result
