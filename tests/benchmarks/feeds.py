"""One order over many datasets: all of them here, and all of them at one peer, for a reader whose store is empty.

python -m tests.benchmarks.feeds [DATASETS [POSTS]]     1,000 datasets of 1,000 posts, unless said otherwise
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import trio

from rhizome_index.api import open_node
from rhizome_index.cli.samples import posts
from rhizome_index.index.address import Address
from tests.benchmarks.report import say

QUERY = "newest 32 posts tagged #cats"
TRIES = 20


async def publish(home: Path, datasets: int, count: int) -> list[Address]:
    """Datasets of different posts, each with its index."""
    async with open_node(home) as node:
        for number in range(datasets):
            name = f"author-{number}"
            collection = node.collection("posts", name)
            await collection.create(time="created", order=["-created"], indexes={"by_tag": "tags,-created"})
            await collection.put_many(posts(count, number))
        return [node.peer.publisher.address(f"author-{number}") for number in range(datasets)]


async def here(home: Path, addresses: list[Address]) -> None:
    times = []
    async with open_node(home) as node:
        for _ in range(TRIES):
            started = time.perf_counter()
            rows = [row async for row in node.feed(QUERY, addresses)]
            times.append(time.perf_counter() - started)
    first, then = times[0], median(times[1:])
    say(f"{QUERY}, of all, here", f"{then * 1e3:.1f} ms", "", f"first {first * 1e3:,.0f} ms", "60 ms")
    assert len(rows) == 32


async def at_a_peer(home: Path, folder: Path, addresses: list[Address]) -> None:
    async with (
        open_node(home, listen=["/ip4/127.0.0.1/tcp/0"]) as peer,
        open_node(folder, peers=peer.addresses) as reader,
    ):
        feed = reader.feed(QUERY, addresses)
        started = time.perf_counter()
        rows = [row async for row in feed]
        seconds, cost = time.perf_counter() - started, feed.feed.cost
        received = f"{cost.bytes_received:,} B"
        say(f"{QUERY}, of all, at a peer", f"{cost.round_trips} RTT", f"{seconds:.2f} s", received, "3 RTT")
        assert len(rows) == 32


def main() -> None:
    datasets, count = (int(text) for text in (sys.argv[1:] + ["1000", "1000"][len(sys.argv) - 1 :]))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        addresses = trio.run(publish, folder / "home", datasets, count)
        say(f"{datasets:,} datasets of {count:,} posts", "", "", "", "asked for")
        trio.run(here, folder / "home", addresses)
        trio.run(at_a_peer, folder / "home", folder / "reader", addresses)


if __name__ == "__main__":
    main()
