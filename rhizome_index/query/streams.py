"""Entries in order from one range of an index, from several at once that agree, or from any of several.

A stream gives batches of entries. An entry is (position, keys, values): where it
stands in the stream, so that another stream can be begun behind it; and its key and
its value, which names the record, in each of the arms.

Arms are ranges of indexes whose keys have the same shape behind their fixed
beginnings: what is left there, the tail, ends with the primary key, and sorts the
same in all of them. So a record has one tail, and two arms agree on it or not.

Source: the intersection is the zigzag join, as Google's Cloud Datastore has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, overload

from rhizome_index.limits import ROWS_BATCH
from rhizome_index.tree.cursor import Cursor, Span
from rhizome_index.tree.node import Tree, Value
from rhizome_index.tree.seek import Entry, Seeker
from rhizome_index.tree.walk import Walk


class Hit(NamedTuple):
    """One entry of a stream. `keys` and `values` have None for arms that did not give it."""

    position: bytes
    keys: tuple[bytes | None, ...]
    values: tuple[Value | None, ...]


class Stream(Protocol):
    """Entries in order."""

    def next_entries(self) -> Walk[Sequence[Hit] | None]:
        """More entries, at least one; None at the end."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One range of a tree. `fixed` is how all of its keys begin; their tails follow."""

    tree: Tree
    fixed: bytes
    span: Span


class RangeStream:
    """The entries of one range, a leaf's at a time. Positions are keys."""

    def __init__(self, tree: Tree, span: Span, *, reverse: bool, after: bytes | None) -> None:
        self._cursor = Cursor(tree, behind(span, after, reverse=reverse), reverse=reverse)

    def next_entries(self) -> Walk[Sequence[Hit] | None]:
        found = yield from self._cursor.next_entries()
        return None if found is None else _Hits(*found)


class _Hits(Sequence[Hit]):
    """The entries of a leaf, made as they are looked at: often only the first few are."""

    def __init__(self, keys: Sequence[bytes], values: Sequence[Value]) -> None:
        self._keys = keys
        self._values = values

    def __len__(self) -> int:
        return len(self._keys)

    @overload
    def __getitem__(self, place: int) -> Hit: ...

    @overload
    def __getitem__(self, place: slice) -> list[Hit]: ...

    def __getitem__(self, place: int | slice) -> Hit | list[Hit]:
        if isinstance(place, slice):
            return [
                Hit(key, (key,), (value,)) for key, value in zip(self._keys[place], self._values[place], strict=True)
            ]
        return Hit(self._keys[place], (self._keys[place],), (self._values[place],))


class AllStream:
    """The entries whose tails all arms have: each arm jumps to where another one is. Positions are tails."""

    def __init__(self, arms: Sequence[Arm], *, reverse: bool, after: bytes | None) -> None:
        self._jumps = [_Jumps(arm, reverse=reverse) for arm in arms]
        self._from = after
        self._behind = True  # go on behind `_from`, or at it
        self._is_over = False

    def next_entries(self) -> Walk[Sequence[Hit] | None]:
        found: list[Hit] = []
        while len(found) < ROWS_BATCH and not self._is_over:
            met = yield from self._meet()
            if met is not None:
                found.append(met)
        return found or None

    def _meet(self) -> Walk[Hit | None]:
        """The next entry of the first arm if the others have its tail; else where to go on is known."""
        first = yield from self._jumps[0].jump(self._from, behind=self._behind)
        if first is None:
            self._is_over = True
            return None
        tail, (key, value) = first
        keys, values = [key], [value]
        for jumps in self._jumps[1:]:
            there = yield from jumps.jump(tail, behind=False)
            if there is None:
                self._is_over = True
                return None
            if there[0] != tail:
                self._from, self._behind = there[0], False
                return None
            keys.append(there[1][0])
            values.append(there[1][1])
        self._from, self._behind = tail, True
        return Hit(tail, tuple(keys), tuple(values))


class AnyStream:
    """The entries that at least one arm has, each once, in the order of their tails. Positions are tails."""

    def __init__(self, arms: Sequence[Arm], *, reverse: bool, after: bytes | None) -> None:
        self._arms = arms
        self._reverse = reverse
        self._cursors = []
        for arm in arms:
            key = None if after is None else arm.fixed + after
            self._cursors.append(Cursor(arm.tree, behind(arm.span, key, reverse=reverse), reverse=reverse))
        self._held: list[list[tuple[bytes, bytes, Value]]] = [[] for _ in arms]
        self._ended = [False] * len(arms)

    def next_entries(self) -> Walk[Sequence[Hit] | None]:
        found: list[Hit] = []
        while len(found) < ROWS_BATCH:
            for place in range(len(self._arms)):
                if not self._held[place] and not self._ended[place]:
                    yield from self._fill(place)
            tails = [held[-1][0] for held in self._held if held]
            if not tails:
                break
            tail = max(tails) if self._reverse else min(tails)
            keys: list[bytes | None] = []
            values: list[Value | None] = []
            for held in self._held:
                if held and held[-1][0] == tail:
                    _, key, value = held.pop()
                    keys.append(key)
                    values.append(value)
                else:
                    keys.append(None)
                    values.append(None)
            found.append(Hit(tail, tuple(keys), tuple(values)))
        return found or None

    def _fill(self, place: int) -> Walk[None]:
        batch = yield from self._cursors[place].next_entries()
        if batch is None:
            self._ended[place] = True
            return
        size = len(self._arms[place].fixed)
        self._held[place] = [(key[size:], key, value) for key, value in zip(*batch, strict=True)][::-1]


class _Jumps:
    """One arm of an intersection: its entries by their tails, in the stream's direction."""

    def __init__(self, arm: Arm, *, reverse: bool) -> None:
        self._arm = arm
        self._reverse = reverse
        self._seeker = Seeker(arm.tree)

    def jump(self, tail: bytes | None, *, behind: bool) -> Walk[tuple[bytes, Entry] | None]:
        """The first entry in the range at a tail or behind it (None: of all), or only behind it."""
        low, high = self._arm.span.low, self._arm.span.high
        key = None if tail is None else self._arm.fixed + tail
        if self._reverse:
            if key is not None:
                key = key if behind else key + b"\0"
                high = key if high is None else min(high, key)
            return self._within((yield from self._seeker.before(high)))
        if key is not None:
            low = max(low, key + b"\0" if behind else key)
        return self._within((yield from self._seeker.at_or_behind(low)))

    def _within(self, entry: Entry | None) -> tuple[bytes, Entry] | None:
        span = self._arm.span
        if entry is None or entry[0] < span.low or (span.high is not None and entry[0] >= span.high):
            return None
        return entry[0][len(self._arm.fixed) :], entry


def behind(span: Span, after: bytes | None, *, reverse: bool) -> Span:
    """The part of a range behind a key, in its direction."""
    if after is None:
        return span
    if reverse:
        return Span(span.low, after if span.high is None else min(span.high, after))
    return Span(max(span.low, after + b"\0"), span.high)
