"""Where to answer a query from: the store, blocks wanted of peers, one peer's answer, or a copy of everything first.

What is here is looked at, block by block, as far as the answer is expected to reach; what
is not costs its bytes and its round trips, at the speed that was measured of the peers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from rhizome_index.blocks.cid import Cid
from rhizome_index.errors import IntegrityError, UnavailableError
from rhizome_index.index.schema import Collection
from rhizome_index.index.write import NeedRecords
from rhizome_index.limits import PROOF_BYTES_MAX, ROWS_BATCH, WEIGHED_BLOCKS_MAX
from rhizome_index.node.local import LocalSource
from rhizome_index.query.choose import CHUNK_BYTES, LEAF_ENTRIES, RECORD_BYTES, Estimate
from rhizome_index.query.plan import PRIMARY, Candidate
from rhizome_index.query.rows import records_of
from rhizome_index.query.streams import Hit
from rhizome_index.tree.node import Node

HERE, WANTS, ASK, FOLLOW = "here", "wants", "ask", "follow first"

SPEED_ASSUMED = (0.1, 1e6)  # seconds of a round trip and bytes a second, of whom nothing was measured yet
_SECONDS_A_BLOCK = 30e-6  # to read, check and decode one


@dataclass(frozen=True, slots=True)
class Speed:
    """What is expected of peers: seconds that a round trip takes, and bytes a second."""

    round_trip_seconds: float
    bytes_per_second: float


@dataclass(frozen=True, slots=True)
class Location:
    """One way to come by what a plan reads.

    location     HERE, WANTS, ASK or FOLLOW
    blocks       chunks and records that have to come from peers
    bytes        of them
    round_trips  that takes
    seconds      all of it
    verdict      "chosen", or why not
    """

    location: str
    blocks: int
    bytes: int
    round_trips: int
    seconds: float
    verdict: str = ""


@dataclass(slots=True)
class Coverage:
    """What of a plan's blocks is here, as far as was looked.

    here, missing  chunks
    records_here, records_missing  of those that the entries here name
    """

    here: float = 0
    missing: float = 0
    records_here: int = 0
    records_missing: int = 0

    @property
    def share_of_records(self) -> float:
        """How many of the records are here: as many as of those seen."""
        seen = self.records_here + self.records_missing
        return self.records_here / seen if seen else 0.0


def locations(source: LocalSource, collection: Collection, estimate: Estimate, speed: Speed | None) -> list[Location]:
    """The ways to come by what a plan reads, the best first. `speed` is the best peer's; None: there is nobody."""
    covered = coverage(source, collection, estimate)
    away = estimate.records * (1 - covered.share_of_records)
    blocks = covered.here + covered.missing + estimate.records
    reading = _SECONDS_A_BLOCK * blocks
    lacking, size = covered.missing + away, covered.missing * CHUNK_BYTES + away * RECORD_BYTES
    if lacking < 0.5:
        return [Location(HERE, 0, 0, 0, reading, "chosen")]
    if speed is None:
        return [Location(HERE, round(lacking), round(size), 0, reading, "incomplete, and there is nobody to ask")]

    def over(name: str, blocks: float, size: float, round_trips: int) -> Location:
        seconds = reading + round_trips * speed.round_trip_seconds + size / speed.bytes_per_second
        return Location(name, round(blocks), round(size), round_trips, seconds)

    answer = (covered.here + covered.missing) * CHUNK_BYTES + estimate.records * RECORD_BYTES
    whole = collection.primary.count
    everything = whole * RECORD_BYTES
    # The first is for the head; then a walk goes on when what it needs has come, a chunk or a batch of records.
    steps = 1 + ceil(covered.missing) + ceil(away / ROWS_BATCH)
    found = [
        over(WANTS, lacking, size, steps),
        over(ASK, blocks, answer, 1 + int(answer / PROOF_BYTES_MAX)),
    ]
    found.sort(key=lambda item: item.seconds)
    best = found[0]
    found.append(over(FOLLOW, whole, everything, 2))
    return [replace(item, verdict=_verdict(item, best)) for item in found]


def _verdict(item: Location, best: Location) -> str:
    if item is best:
        return "chosen"
    if item.location == FOLLOW:
        return f"as many bytes as {max(1, round(item.bytes / max(1, best.bytes))):,} such answers"
    return f"takes {item.seconds / best.seconds:,.1f} times as long"


def coverage(source: LocalSource, collection: Collection, estimate: Estimate) -> Coverage:
    """What of a candidate's blocks is here."""
    found = Coverage()
    parts = estimate.candidate.parts
    for part in parts:
        deep = Coverage()
        _look(source, collection, part, max(1.0, estimate.entries / len(parts)), deep)
        found.here += deep.here
        found.missing += deep.missing
        found.records_here += deep.records_here
        found.records_missing += deep.records_missing
    return found


def _look(source: LocalSource, collection: Collection, part: Candidate, entries: float, found: Coverage) -> None:
    """Go down a tree level by level, as far as so many entries of the range reach."""
    level: list[tuple[Cid, float]] = [(part.tree.root, min(entries, part.tree.count))]
    while level:
        below: list[tuple[Cid, float]] = []
        for cid, expected in level[:WEIGHED_BLOCKS_MAX]:
            node = _chunk(source, cid)
            if node is None:
                found.missing += 1 + expected / LEAF_ENTRIES
                continue
            found.here += 1
            if node.level:
                below += _children(node, part, expected)
            elif part.access.index != PRIMARY:
                _look_at_records(source, collection, node, part, expected, found)
        if len(level) > WEIGHED_BLOCKS_MAX:
            more = len(level) / WEIGHED_BLOCKS_MAX
            found.here, found.missing = found.here * more, found.missing * more
        level = below


def _children(node: Node, part: Candidate, entries: float) -> list[tuple[Cid, float]]:
    """The children that hold so many entries of the range, from its beginning, and how many each is to give."""
    first, end = part.access.span.among_children(node.keys)
    places = range(end - 1, first - 1, -1) if part.access.reverse else range(first, end)
    found = []
    for place in places:
        found.append((node.child(place).cid, min(entries, node.counts[place])))
        if place not in (first, end - 1):  # those at the ends may have any number of them, or none
            entries -= node.counts[place]
        if entries <= 0:
            break
    return found


def _look_at_records(
    source: LocalSource, collection: Collection, leaf: Node, part: Candidate, entries: float, found: Coverage
) -> None:
    low, high = part.access.span.within(leaf.keys)
    places = range(high - 1, low - 1, -1) if part.access.reverse else range(low, high)
    hits = [Hit(leaf.keys[place], (leaf.keys[place],), (leaf.values[place],)) for place in places[: int(entries) + 1]]
    try:
        needs = records_of(collection, part.access.index, hits)
    except IntegrityError:
        found.records_missing += len(hits)
        return
    if _has_records(source, needs):  # mostly all of them, which is known at once
        found.records_here += len(hits)
        return
    for key, digest in zip(needs.keys, needs.digests, strict=True):
        if _has_records(source, NeedRecords(needs.primary, (key,), (digest,))):
            found.records_here += 1
        else:
            found.records_missing += 1


def _has_records(source: LocalSource, needs: NeedRecords) -> bool:
    try:
        source.records(needs)
    except (UnavailableError, IntegrityError):
        return False
    return True


def _chunk(source: LocalSource, cid: Cid) -> Node | None:
    try:
        held = source.chunk(cid)
    except IntegrityError:
        return None
    return held[1] if held else None
