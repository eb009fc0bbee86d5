"""query/1: the walk of groups, in which children that lie within one group are counted without being needed."""

from collections.abc import Iterator

from .keys import Range, component_end
from .tree import Inner, Node, Source, Tree, need_children, need_root

Counts = dict[bytes, int]


def walk_groups(source: Source, tree: Tree, wanted: Range, start: int) -> Iterator[tuple[bytes | None, Counts]]:
    """The groups of a range by the component at a place of its keys: behind each leaf, and at the end, what has come.

    With each leaf's comes the last key in it that lies in the range.
    """
    if wanted.is_empty() or not tree.count:
        return
    counts: Counts = {}
    yield from _visit(source, need_root(source, tree), None, wanted, start, counts)
    yield None, counts


def _visit(
    source: Source, node: Node, behind: bytes | None, wanted: Range, start: int, counts: Counts
) -> Iterator[tuple[bytes | None, Counts]]:
    if not isinstance(node, Inner):
        keys = [entry.key for entry in node.entries if wanted.holds(entry.key)]
        for key in keys:
            group = key[start : component_end(key, start)]
            counts[group] = counts.get(group, 0) + 1
        if keys:
            yield keys[-1], dict(counts)
            counts.clear()
        return
    for at, child in enumerate(node.children):
        later = node.children[at + 1].key if at + 1 < len(node.children) else behind
        if wanted.high is not None and child.key >= wanted.high:
            return
        if at + 1 < len(node.children) and node.children[at + 1].key <= wanted.low:
            continue
        group = _only_group(child.key, later, wanted, start)
        if group is not None:
            counts[group] = counts.get(group, 0) + child.entries
            continue
        (inner,) = need_children(source, node.level - 1, [child])
        yield from _visit(source, inner, later, wanted, start, counts)


def _only_group(key: bytes, later: bytes | None, wanted: Range, start: int) -> bytes | None:
    """The group in which all entries of a child are, if that is known."""
    if key < wanted.low or later is None or (wanted.high is not None and later > wanted.high):
        return None
    end = component_end(key, start)
    return key[start:end] if later[:end] == key[:end] else None
