"""Trees in memory: bulk build, and one insert committed to a large one."""

from __future__ import annotations

import time
from hashlib import sha256
from statistics import median

from rhizome_index.blocks.store import MemoryStore
from rhizome_index.tree.boundary import Rule
from rhizome_index.tree.build import build
from rhizome_index.tree.edit import edit
from rhizome_index.tree.walk import run
from tests.benchmarks.report import say, seconds_of


def report(entries: int) -> None:
    rule, store = Rule(b"bench"), MemoryStore()
    content = [(b"%032d" % number, (sha256(b"%d" % number).digest() * 4)[:100]) for number in range(entries)]
    seconds = seconds_of(lambda: build(rule, content, store.blocks.__setitem__))
    say(f"bulk build of {entries:,} entries of 132 bytes", f"{entries / seconds:,.0f}/s", wanted="250,000/s")
    tree = build(rule, content, store.blocks.__setitem__)
    times = []
    for number in range(200):
        change = [(b"%032d+" % (number * 7919 % entries), b"x" * 100)]
        started = time.perf_counter()
        tree = run(edit(tree, rule, change, store.blocks.__setitem__), store.blocks.get)
        times.append(time.perf_counter() - started)
    say("one insert into it, in memory", f"{median(times) * 1e3:.2f} ms", wanted="2 ms")
