"""Audits: samples of an index and of its records, drawn where nobody can foresee them, and checked in both directions.

    records -> entries   each record drawn has exactly its entries there: finds what was left out, or changed
    entries -> records   each entry drawn is what its record gives: finds what was made up

What is drawn are positions, by rank. Counts stand in inner nodes, so a position is a way
down the tree, and every edge on it is checked: what lies about its count is wrong at
each position that it claims. Nothing else can be read at all: who reads a tree checks
the same edges. So the share of wrong positions is what counts, and of a tree in which
so many are wrong an audit misses all with the chance that `escape_chance` says, whatever
they are and wherever they are. It says nothing of fewer.

Nodes on the way are looked at too: that their cuts can be (rules 1 to 3 of `cuts`). A
few are judged by all rules, which takes their neighbours. Cuts move no entry; they are
not part of the bound.

What is found is a claim, and `fraud` has the last word on it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from typing import Any, Protocol

from rhizome_index.blocks.cbor import Link
from rhizome_index.errors import IntegrityError, UsageError
from rhizome_index.index.keys import successor
from rhizome_index.index.manifest import Manifest
from rhizome_index.index.schema import Collection, Index
from rhizome_index.index.write import RecordWalk, record_bytes, unique_values
from rhizome_index.limits import AUDIT_BATCH, AUDIT_CUTS, AUDIT_SAMPLES_MAX, INLINE_VALUE_BYTES_MAX, ROWS_BATCH
from rhizome_index.tree.boundary import Rule
from rhizome_index.tree.cursor import Span, count
from rhizome_index.tree.node import Node, Ref, Tree, Value
from rhizome_index.tree.walk import Walk, load_many, load_root, together
from rhizome_index.trust.cuts import flaw_of, flaw_towards
from rhizome_index.trust.fraud import CUT, ENTRY, LISTS, PATH, RECORD, UNIQUE, Claim, Given, given_by, is_same, owner_of


class Chance(Protocol):
    """Where positions come from: nobody else may know it."""

    def sample(self, population: range, k: int) -> list[int]:
        """So many different numbers out of a range, each choice as likely as any other."""


@dataclass(frozen=True, slots=True)
class Draw:
    """Positions to look at, each list in order.

    records  in the primary
    entries  in the index
    cuts     those of the entries whose leaves are judged by all rules
    """

    records: tuple[int, ...]
    entries: tuple[int, ...]
    cuts: tuple[int, ...] = ()


def wrong_at_least(total: int, bad_fraction: float) -> int:
    """How many of so many positions are that share of them, or more; at least one."""
    return max(1, -(-Fraction(repr(bad_fraction)) * total // 1))


def escape_chance(total: int, wrong: int, samples: int) -> float:
    """The chance that none of so many different positions, drawn from `total`, is one of the wrong ones: exactly."""
    if wrong <= 0:
        return 1.0
    chance = 1.0
    # Drawing the samples from the positions, or the wrong ones: both ways are the same, and one is shorter.
    few, many = sorted((samples, wrong))
    for drawn in range(few):
        left = total - many - drawn
        if left <= 0:
            return 0.0
        chance *= left / (total - drawn)
    return chance


def samples_for(total: int, bad_fraction: float, confidence: float) -> int:
    """How many positions it takes to miss that share of wrong ones with a chance of at most 1 - confidence.

    Raises UsageError where that is nearly all there is, or more than anybody should ask for.
    """
    if not 0 < bad_fraction < 1 or not 0 < confidence < 1:
        raise UsageError("a confidence and a share of what is wrong are between 0 and 1")
    wrong, chance, samples = wrong_at_least(total, bad_fraction), 1.0, 0
    while samples < total and chance > 1 - confidence:
        chance *= max(0, total - wrong - samples) / (total - samples)
        samples += 1
        if samples > AUDIT_SAMPLES_MAX:
            raise UsageError(
                f"that takes more than {AUDIT_SAMPLES_MAX:,} samples",
                hint="ask for less, or follow the dataset, which checks all of it",
            )
    return samples


def draw(chance: Chance, collection: Collection, index: Index, bad_fraction: float, confidence: float) -> Draw:
    """Positions for an audit. Raises UsageError."""
    totals = collection.primary.count, index.tree.count
    records, entries = (
        sorted(chance.sample(range(total), samples_for(total, bad_fraction, confidence))) for total in totals
    )
    cuts = sorted(chance.sample(range(len(entries)), min(AUDIT_CUTS, len(entries))))
    return Draw(tuple(records), tuple(entries), tuple(entries[place] for place in cuts))


def audit(
    manifest: Manifest, collection: Collection, index: Index, drawn: Draw, on_checked: Callable[[int], None]
) -> RecordWalk[Claim | None]:
    """The first thing that is wrong among what was drawn, as a claim; None: all of it is right.

    on_checked  is told how many of the samples have been looked at
    """
    auditing = _Auditing(manifest.rule, collection, index)
    most = max(len(drawn.records), len(drawn.entries))
    for start in range(0, most, AUDIT_BATCH):
        records, entries = (drawn.records[start : start + AUDIT_BATCH], drawn.entries[start : start + AUDIT_BATCH])
        claim = yield from auditing.look_at(records, entries)
        if claim is not None:
            return claim
        on_checked(len(records) + len(entries))
    return (yield from auditing.look_at_cuts(drawn.cuts))


@dataclass(frozen=True, slots=True)
class _Stop:
    """A node on the way to some targets.

    begins      rank of its first entry
    has_left    whether a node of its level stands before it
    end_key     the first key behind it on its level
    start, end  which of the targets it is on the way to
    """

    node: Node
    begins: int
    has_left: bool
    end_key: bytes | None
    start: int
    end: int


_Entry = tuple[bytes, Value]


class _Auditing:
    def __init__(self, rule: Rule, collection: Collection, index: Index) -> None:
        self._rule = rule
        self._collection = collection
        self._index = index

    def look_at(self, records: Sequence[int], entries: Sequence[int]) -> RecordWalk[Claim | None]:
        """What is wrong at these positions."""
        found = yield from together([self._at_ranks("", records), self._at_ranks(self._index.name, entries)])
        for claim in found:
            if isinstance(claim, Claim):
                return claim
        drawn, held = found
        given = yield from self._give(drawn)
        if isinstance(given, Claim):
            return given
        wanted = {key: value for one in given.values() for key, value in one.entries.items()}
        owners: dict[bytes, bytes] = {}
        for key, _ in held:
            owner = owner_of(self._index, key)
            if owner is None:
                return self._claim(ENTRY, key)
            owners[key] = owner
        return (yield from self._compare(wanted, dict(held), owners))

    def _compare(
        self, wanted: dict[bytes, bytes], held: dict[bytes, Value], owners: dict[bytes, bytes]
    ) -> RecordWalk[Claim | None]:
        """What is wrong with entries that should be there, and with entries that are."""
        keys, primary_keys = sorted(wanted), sorted(set(owners.values()))
        for start in range(0, max(len(keys), 1), AUDIT_BATCH):
            batch = keys[start : start + AUDIT_BATCH]
            walks = [self._at_keys(self._index.name, batch), self._at_keys("", primary_keys if not start else ())]
            there, records = yield from together(walks)
            for claim in (there, records):
                if isinstance(claim, Claim):
                    return claim
            for key in batch:
                if not is_same(there.get(key), wanted[key]):
                    return self._claim(ENTRY, key)
            if not start:
                claim = yield from self._compare_held(held, owners, records)
                if claim is not None:
                    return claim
        return (yield from self._look_for_doubles(sorted(held)))

    def _compare_held(
        self, held: dict[bytes, Value], owners: dict[bytes, bytes], records: dict[bytes, Value]
    ) -> RecordWalk[Claim | None]:
        for key, owner in owners.items():
            if owner not in records:
                return self._claim(ENTRY, key)
        given = yield from self._give(sorted(records.items()))
        if isinstance(given, Claim):
            return given
        for key, value in held.items():
            if not is_same(given[owners[key]].entries.get(key), value):
                return self._claim(ENTRY, key)
        return None

    def _give(self, records: Sequence[_Entry]) -> RecordWalk[dict[bytes, Given] | Claim]:
        """What these records give in the index, by their primary keys."""
        found: dict[bytes, Given] = {}
        for start in range(0, len(records), ROWS_BATCH):  # the large ones are fetched, and not all held at once
            batch = records[start : start + ROWS_BATCH]
            keys, values = [key for key, _ in batch], [value for _, value in batch]
            blocks = yield from record_bytes(self._collection.primary, keys, values)
            for key, value, data in zip(keys, values, blocks, strict=True):
                given = self._given(key, value, data)
                if isinstance(given, Claim):
                    return given
                found[key] = given
        return found

    def _given(self, key: bytes, value: Value, data: bytes) -> Given | Claim:
        name, most = self._collection.name, self._collection.primary.count
        if type(value) is Link and len(data) <= INLINE_VALUE_BYTES_MAX:
            return Claim(RECORD, name, "", key)
        try:
            given = given_by(self._collection, self._index, key, data)
        except IntegrityError:
            return Claim(RECORD, name, "", key)
        for place, said in enumerate(self._index.lists):
            if said > most or (said == 0 if given.list_at == place else said == most):
                return Claim(LISTS, name, self._index.name, key, place)
        return given

    def _look_for_doubles(self, keys: Sequence[bytes]) -> Walk[Claim | None]:
        """An entry with whose values there is another one, in an index that is unique."""
        if not self._index.definition.unique:
            return None
        spans = {key: values for key in keys if (values := unique_values(self._index, key)) is not None}
        numbers = yield from together(
            [count(self._index.tree, Span(values, successor(values))) for values in spans.values()]
        )
        for key, number in zip(spans, numbers, strict=True):
            if number > 1:
                return self._claim(UNIQUE, key)
        return None

    def look_at_cuts(self, positions: Sequence[int]) -> Walk[Claim | None]:
        """What is wrong with the cuts of the leaves that have these positions, by all rules."""
        tree, name = self._index.tree, self._index.name
        found = yield from self._at_ranks(name, positions)
        if isinstance(found, Claim):
            return found
        keys = [key for key, _ in found]
        flaws = yield from together([flaw_towards(self._rule, tree, 0, key) for key in keys])
        for key, flaw in zip(keys, flaws, strict=True):
            if flaw:
                return self._claim(CUT, key)
        return None

    # --- the way down ---

    def _at_ranks(self, name: str, positions: Sequence[int]) -> Walk[list[_Entry] | Claim]:
        """The entries at sorted positions of a tree."""
        leaves = yield from self._reach(name, positions, _by_rank)
        if isinstance(leaves, Claim):
            return leaves
        return [
            (stop.node.keys[rank - stop.begins], stop.node.values[rank - stop.begins])
            for stop in leaves
            for rank in positions[stop.start : stop.end]
        ]

    def _at_keys(self, name: str, keys: Sequence[bytes]) -> Walk[dict[bytes, Value] | Claim]:
        """What stands at those of sorted keys that are in a tree."""
        leaves = yield from self._reach(name, keys, _by_key)
        if isinstance(leaves, Claim):
            return leaves
        found = {}
        for stop in leaves:
            for key in keys[stop.start : stop.end]:
                place = bisect_left(stop.node.keys, key)
                if place < len(stop.node.keys) and stop.node.keys[place] == key:
                    found[key] = stop.node.values[place]
        return found

    def _reach(self, name: str, targets: Sequence[Any], route: _Route) -> Walk[list[_Stop] | Claim]:
        """The leaves on the way to sorted targets, level by level; or a claim about a node on that way."""
        tree = self._index.tree if name else self._collection.primary
        try:
            return (yield from self._descend(name, tree, targets, route))
        except IntegrityError as error:
            return Claim(PATH, self._collection.name, name, error.key or b"")

    def _descend(self, name: str, tree: Tree, targets: Sequence[Any], route: _Route) -> Walk[list[_Stop] | Claim]:
        if not targets:
            return []
        level = [_Stop((yield from load_root(tree)), 0, False, None, 0, len(targets))]
        while True:
            for stop in level:
                if flaw_of(self._rule, stop.node, has_left=stop.has_left, end_key=stop.end_key):
                    return Claim(CUT, self._collection.name, name, stop.node.keys[0], stop.node.level)
            if not level[0].node.level:
                return level
            refs: list[Ref] = []
            ways: list[tuple[int, bool, bytes | None, int, int]] = []
            for stop in level:
                begins = list(accumulate(stop.node.counts, initial=stop.begins))
                at = stop.start
                while at < stop.end:
                    child, until = route(stop, begins, targets, at)
                    keys = stop.node.keys
                    refs.append(stop.node.child(child))
                    end_key = keys[child + 1] if child + 1 < len(keys) else stop.end_key
                    ways.append((begins[child], stop.has_left or child > 0, end_key, at, until))
                    at = until
            nodes = yield from load_many(refs)
            level = [_Stop(node, *way) for node, way in zip(nodes, ways, strict=True)]

    def _claim(self, kind: str, key: bytes) -> Claim:
        return Claim(kind, self._collection.name, self._index.name, key)


_Route = Callable[[_Stop, list[int], Sequence[Any], int], tuple[int, int]]


def _by_rank(stop: _Stop, begins: list[int], targets: Sequence[int], at: int) -> tuple[int, int]:
    """Which child a target is below, and the first target that is not."""
    child = bisect_right(begins, targets[at]) - 1
    return child, bisect_left(targets, begins[child + 1], at, stop.end)


def _by_key(stop: _Stop, begins: list[int], targets: Sequence[bytes], at: int) -> tuple[int, int]:
    keys = stop.node.keys
    child = max(0, bisect_right(keys, targets[at]) - 1)
    return child, stop.end if child + 1 == len(keys) else bisect_left(targets, keys[child + 1], at, stop.end)
