"""query/1, between both halves: the entries of several access paths at once. (`plan` walks these too.)"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from .keys import Range
from .query import Path
from .tree import Entry, Inner, Leaf, Node, Source, Tree, need_children, need_root, walk_entries

BATCH: Final = 64


class Place(NamedTuple):
    """Where an entry stands: in which of the parts, and under which key."""

    path: Path
    entry: Entry


class Found(NamedTuple):
    """An entry, of one access path or of several: its position, where it stands, and what names its record."""

    position: bytes
    places: Sequence[Place]
    named_by: Entry


class Part(NamedTuple):
    """A part of a plan, and its tree."""

    path: Path
    tree: Tree


def tail_of(path: Path, entry: Entry) -> bytes:
    """The tail of an entry's key."""
    return entry.key[len(path.beginning) :]


def range_behind(whole: Range, key: bytes | None, reverse: bool, behind: bool = True) -> Range:
    """A range's keys that are greater than this one (backwards: less); or, if not behind it, those from it on."""
    if key is None:
        return whole
    following = key + b"\x00"  # the least key that is greater
    if not reverse:
        return Range(max(whole.low, following if behind else key), whole.high)
    end = key if behind else following
    return Range(whole.low, end if whole.high is None else min(end, whole.high))


def _behind_tail(path: Path, tail: bytes | None, reverse: bool, behind: bool = True) -> Range:
    return range_behind(path.access.range, None if tail is None else path.beginning + tail, reverse, behind)


# --- Jumps: the entries of `all` ---------------------------------------------------------------------------


def jump(source: Source, part: Part, tail: bytes | None, reverse: bool, behind: bool) -> Entry | None:
    """The first entry of a part's range (backwards: the last) at a tail or beyond, or only beyond it."""
    wanted = _behind_tail(part.path, tail, reverse, behind)
    if reverse:
        leaf, _ = _descend(source, part.tree, lambda node: _child_before(node, wanted.high))
        return next((entry for entry in reversed(leaf.entries) if wanted.holds(entry.key)), None)
    low = wanted.low
    leaf, later = _descend(source, part.tree, lambda node: node.child_for(low))
    if leaf.keys[-1:] < [low] and later is not None:
        again = later
        leaf, _ = _descend(source, part.tree, lambda node: node.child_for(again))
    return next((entry for entry in leaf.entries if wanted.holds(entry.key)), None)


def _descend(source: Source, tree: Tree, choose: Callable[[Inner], int]) -> tuple[Leaf, bytes | None]:
    """The leaf to which a choice of children leads, and the first key behind it, if the nodes on the way have one."""
    node: Node = need_root(source, tree)
    later: bytes | None = None
    while isinstance(node, Inner):
        at = choose(node)
        if at + 1 < len(node.children):
            later = node.children[at + 1].key
        (node,) = need_children(source, node.level - 1, [node.children[at]])
    return node, later


def _child_before(node: Inner, end: bytes | None) -> int:
    """Where the last child stands whose key is less than an end; the first child, if there is none."""
    return max((at for at, child in enumerate(node.children) if end is None or child.key < end), default=0)


def _entries_of_all(source: Source, parts: Sequence[Part], after: bytes | None, reverse: bool) -> Iterator[Found]:
    tail, behind = after, True
    while True:
        places: list[Place] = []
        for part in parts:
            entry = jump(source, part, tail, reverse, behind and not places)
            if entry is None:
                return
            places.append(Place(part.path, entry))
            reached = tail_of(part.path, entry)
            if len(places) > 1 and reached != tail:
                tail, behind = reached, False
                break
            tail = reached
        else:
            yield Found(tail or b"", places, places[0].entry)
            behind = True


# --- Merges: the entries of `any` --------------------------------------------------------------------------


class _Hand:
    """What is in hand of a part: the entries of a leaf."""

    def __init__(self, source: Source, part: Part, after: bytes | None, reverse: bool) -> None:
        self.path = part.path
        self._leaves = walk_entries(source, part.tree, _behind_tail(part.path, after, reverse), reverse)
        self._entries: list[Entry] = []
        self.ended = False

    def need_leaf(self) -> None:
        """The next leaf's entries, of which there may be none in the range."""
        leaf = next(self._leaves, None)
        self.ended = leaf is None
        self._entries = list(leaf or ())[::-1]

    def lacks(self) -> bool:
        """Whether there is no entry in hand, but perhaps another leaf."""
        return not self._entries and not self.ended

    def tail(self) -> bytes | None:
        """The next tail."""
        return tail_of(self.path, self._entries[-1]) if self._entries else None

    def take(self) -> Place:
        """The next entry."""
        return Place(self.path, self._entries.pop())


def _entries_of_any(source: Source, parts: Sequence[Part], after: bytes | None, reverse: bool) -> Iterator[Found]:
    hands = [_Hand(source, part, after, reverse) for part in parts]
    while True:
        while lacking := [hand for hand in hands if hand.lacks()]:
            for hand in lacking:
                hand.need_leaf()
        tails = [tail for hand in hands if (tail := hand.tail()) is not None]
        if not tails:
            return
        tail = max(tails) if reverse else min(tails)
        places = [hand.take() for hand in hands if hand.tail() == tail]
        yield Found(tail, places, places[-1].entry)


# --- Batches -----------------------------------------------------------------------------------------------


def walk_several(
    source: Source, kind: str, parts: Sequence[Part], after: bytes | None, reverse: bool
) -> Iterator[list[Found]]:
    """The entries of several access paths behind a position, in batches."""
    entries_of = _entries_of_all if kind == "all" else _entries_of_any
    batch: list[Found] = []
    for found in entries_of(source, parts, after, reverse):
        batch.append(found)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
