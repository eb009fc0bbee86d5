"""The choice of plans: how much the chosen one reads, against the candidate that turns out to read least.

Each case is a data set, some indexes over it, and a query. What is counted is entries, of
indexes and of the primary: a record that an index entry leads to is one, and so is each
entry that an intersection jumps to.

    python -m tests.benchmarks.planning [CASES]
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import trio

from rhizome_index.api import DEFAULT_DATASET, Node, open_node
from rhizome_index.index.schema import Collection
from rhizome_index.index.write import NeedRecords
from rhizome_index.node.serve import LocalAnswerer
from rhizome_index.query.answer import Answer
from rhizome_index.query.choose import choose
from rhizome_index.query.combine import Choice, Combination, all_candidates
from rhizome_index.query.explain import describe
from rhizome_index.query.expr import Query
from rhizome_index.query.found import Found
from rhizome_index.query.parse import parse
from rhizome_index.query.plan import ALL, PRIMARY
from rhizome_index.query.proof import record, supply
from rhizome_index.query.streams import AllStream
from tests.benchmarks.report import say
from tests.driving import MemorySource, answer_directly
from tests.query.cases import INDEXES, MORE_INDEXES, Held, a_query, all_packages, built, names

CASES = 500
ALLOWED = 1.5  # times what the best candidate reads
WANTED = 0.95  # of the cases


def collection(name: str, random_: random.Random) -> Held:
    """A data set under some of the indexes that one might give it."""
    texts = INDEXES[name] + MORE_INDEXES[name]
    return built(name, random_.sample(texts, random_.randint(1, min(6, len(texts)))))


def entries_read(query: Query, held: Collection, candidate: Choice, source: MemorySource) -> int:
    """How many entries it takes to answer a query in one way."""
    answer = Answer(query, held, candidate)
    records = 0
    jumps = 0
    meet = AllStream._meet

    def counted(stream: AllStream) -> object:
        nonlocal jumps
        jumps += len(stream._jumps)
        return (yield from meet(stream))

    with mock.patch.object(AllStream, "_meet", counted):
        walk = answer.next_walk()
        resume: Callable[[], Any] = partial(next, walk)
        while True:
            try:
                step = resume()
            except StopIteration as stop:
                answer.finish(stop.value)
                break
            if isinstance(step, Found):
                answer.take(step)
                resume = partial(next, walk)
                continue
            if isinstance(step, NeedRecords) and candidate.parts[0].access.index != PRIMARY:
                records += len(step.keys)
            _, resume = supply(walk, step, source)
    is_all = isinstance(candidate, Combination) and candidate.plan.kind == ALL
    return (jumps if is_all else answer.entries) + records


def cases(count: int) -> Iterator[tuple[Query, int, dict[Choice, int], Choice]]:
    """Queries with what each of their candidates reads, and which of them is chosen."""
    for seed in range(count):
        random_ = random.Random(seed)
        name = random_.choice(names())
        source, held = collection(name, random_)
        query = a_query(random_, name)
        found = {item: entries_read(query, held, item, source) for item in all_candidates(query, held)}
        yield query, seed, found, source.run(choose(query, held, allow_scan=True)).candidate


def report(count: int = CASES, *, tells_worst: bool = False) -> None:
    ratios = []
    for query, seed, found, chosen in cases(count):
        best = min(found, key=lambda item: found[item])
        ratios.append(found[chosen] / max(1, found[best]))
        if tells_worst and ratios[-1] > ALLOWED:
            print(seed, query, chosen.plan, found[chosen], best.plan, found[best], sep="\n  ")
    good = sum(ratio <= ALLOWED for ratio in ratios) / count
    worst = sorted(ratios)[int(count * WANTED)]
    say(f"{count:,} choices of a plan", f"{good:.1%} within {ALLOWED} x", "", f"{worst:.2f} x at 95%", f"{WANTED:.0%}")


async def chunks_read(node: Node, text: str) -> dict[str, int]:
    """How many different blocks each way to answer a query touches, by its plan in words."""
    query, _ = parse(text)
    source = LocalAnswerer(node.peer.store, {})
    address = node.peer.publisher.address(DEFAULT_DATASET)
    _, _, manifest = source.snapshot(address, None)
    held = manifest.collection(query.collection)
    found = {}
    for candidate in all_candidates(query, held):
        answer = Answer(query, held, candidate)
        found[describe(candidate)] = sum(isinstance(step, tuple) for step in record(answer.next_walk(), source))
    return found


def blocks_of(text: str, held: Held) -> dict[str, int]:
    """The same of a collection in memory; what scans everything left out."""
    source, collection = held
    query, _ = parse(text)
    found = {}
    for candidate in all_candidates(query, collection):
        if candidate.parts[0].access.index != PRIMARY:
            _, blocks = answer_directly(Answer(query, collection, candidate), source)
            found[describe(candidate)] = len(blocks)
    return found


COUNTED = "count packages tagged #role::program"
RARE_TOGETHER = (  # pairs of tags about as often together as chance would have it
    "all packages tagged #implemented-in::perl and #scope::utility",
    "all packages tagged #implemented-in::c and #implemented-in::perl",
    "all packages tagged #interface::commandline and #interface::graphical",
)


def report_packages() -> None:
    """What is asked of the real packages: a count, and two tags at once."""
    if "packages" not in names():
        say(COUNTED, "no packages here", "", "", "12 blocks")
        return
    packages = all_packages()
    held = built("packages", ["by_tag=tags"], packages)
    (blocks,) = blocks_of(COUNTED, held).values()
    say(f"{COUNTED}, of {len(packages):,}", f"{blocks} blocks", "", "", "12 blocks")
    for text in RARE_TOGETHER:
        one, other, both = blocks_of(text, held).values()
        say(text, f"{both:,} blocks", "", f"{both / min(one, other):.2f} x single", "0.5 x")


async def _intersections(home: Path, tags: tuple[str, str]) -> None:
    async with open_node(home) as node:
        one, other = tags
        text = f"all posts tagged #{one} and #{other}"
        found = await chunks_read(node, text)
        both = next(blocks for plan, blocks in found.items() if '") and by_tag' in plan)
        single = min(blocks for plan, blocks in found.items() if plan.startswith("by_tag") and " then " in plan)
        say(text, f"{both:,} blocks", "", f"{both / single:.2f} x single", "0.5 x")


def report_intersections(home: Path, *tags: tuple[str, str]) -> None:
    for pair in tags:
        trio.run(_intersections, home, pair)


if __name__ == "__main__":
    report(int(sys.argv[1]) if len(sys.argv) > 1 else CASES, tells_worst=True)
