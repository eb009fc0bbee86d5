"""How many entries of a range have which value: the answer to `count by` and `distinct`, out of the index itself.

The entries of a group stand together, and inner nodes say how many entries are below each of their
children. So a child that begins and ends within one group is counted without being read; what is
read are the leaves in which one group ends and the next one begins.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from rhizome_index.index.keys import INVERT, component_end
from rhizome_index.tree.cursor import Span
from rhizome_index.tree.node import Node, Tree
from rhizome_index.tree.walk import NeedNodes, load, load_root

Group = tuple[bytes, int]  # a value as an ascending component, and how many entries have it
Part = tuple[bytes, int, list[Group]]  # the last key looked at, entries read, and groups since the part before


def walk_groups(tree: Tree, span: Span, start: int) -> Generator[NeedNodes | Part, Any, list[Group]]:
    """The groups of a range, by the component that begins at `start` in its keys.

    It gives a part for each leaf that it reads, and returns what came behind the last one. A walk of
    the range behind a part's key gives the rest; one group may be split among parts.
    """
    counts: dict[bytes, int] = {}
    if not tree.count or span.is_empty:
        return []
    root = yield from load_root(tree)
    yield from _visit(root, None, span, start, counts)
    return _groups(counts)


def _visit(
    node: Node, behind: bytes | None, span: Span, start: int, counts: dict[bytes, int]
) -> Generator[NeedNodes | Part, Any, None]:
    """Count what of a node lies in the range. `behind` is the first key behind the node, if it is known."""
    if not node.level:
        low, high = span.within(node.keys)
        for key in node.keys[low:high]:
            part = key[start : component_end(key, start)]
            counts[part] = counts.get(part, 0) + 1
        if low < high:
            yield node.keys[high - 1], high - low, _groups(counts)
            counts.clear()
        return
    first, end = span.among_children(node.keys)
    for place in range(first, end):
        key = node.keys[place]
        following = node.keys[place + 1] if place + 1 < len(node.keys) else behind
        if _is_within(key, following, span):
            part = key[start : component_end(key, start)]
            if following is not None and following.startswith(key[:start] + part):
                counts[part] = counts.get(part, 0) + node.counts[place]
                continue
        yield from _visit((yield from load(node.child(place))), following, span, start, counts)


def _is_within(key: bytes, following: bytes | None, span: Span) -> bool:
    return key >= span.low and following is not None and (span.high is None or following <= span.high)


def _groups(counts: dict[bytes, int]) -> list[Group]:
    return [(part.translate(INVERT) if part[0] & 0x80 else part, count) for part, count in counts.items()]


def first_groups(groups: dict[bytes, int], limit: int | None, *, by_count: bool) -> Sequence[Group]:
    """Groups in the order in which they are given: the largest first, or by value."""
    ordered = sorted(groups.items(), key=lambda item: (-item[1], item[0])) if by_count else sorted(groups.items())
    return ordered[:limit]
