"""Walks: suspended traversals of trees.

A walk is a generator. It yields what it needs and is sent what it asked for;
what it computes is its return value. It knows nothing of where blocks are:
whoever drives it supplies them from a dict, a disk, a peer or a simulator, and
may note what was touched. That note is a proof.

    Walk[T] = Generator[NeedNodes, nodes asked for, T]

A chunk that has its name but cannot be decoded is thrown into the walk that asked for
it, as the IntegrityError that says why: for most walks that is their end, for some
what they look for.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from rhizome_index.blocks.cid import Cid
from rhizome_index.errors import IntegrityError, UnavailableError
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
    try:
        (node,) = yield NeedNodes((tree.root,))
    except IntegrityError as error:
        error.key = b""
        raise
    tree.check(node)
    return node


def load(ref: Ref) -> Walk[Node]:
    """The node of a reference, checked against its parent's promises."""
    try:
        (node,) = yield NeedNodes((ref.cid,))
    except IntegrityError as error:
        error.key = ref.key
        raise
    ref.check(node)
    return node


def load_many(refs: Sequence[Ref]) -> Walk[Sequence[Node]]:
    """The nodes of several references, asked for at once."""
    if not refs:
        return ()
    try:
        nodes = yield NeedNodes(tuple(ref.cid for ref in refs))
    except IntegrityError as error:
        error.key = next((ref.key for ref in refs if ref.cid == error.cid), None)
        raise
    for ref, node in zip(refs, nodes, strict=True):
        ref.check(node)
    return nodes


def together(walks: Sequence[Walk[Any]]) -> Walk[list[Any]]:
    """The results of several walks, in their order; what they need at the same time is asked for at once."""
    results: list[Any] = [None] * len(walks)
    needs: dict[int, NeedNodes] = {}

    def advance(place: int, resume: Callable[[], NeedNodes]) -> None:
        try:
            needs[place] = resume()
        except StopIteration as stop:
            results[place] = stop.value
            needs.pop(place, None)

    for place, walk in enumerate(walks):
        advance(place, partial(next, walk))
    while needs:
        wanted = tuple(dict.fromkeys(cid for need in needs.values() for cid in need.cids))
        try:
            found = dict(zip(wanted, (yield NeedNodes(wanted)), strict=True))
        except IntegrityError as error:
            told = [place for place, need in needs.items() if error.cid in need.cids]
            for place in told:  # one that has an answer to that is done; the others ask again
                advance(place, partial(walks[place].throw, error))
            if not told:
                raise
            continue
        for place, need in list(needs.items()):
            advance(place, partial(walks[place].send, [found[cid] for cid in need.cids]))
    return results


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
