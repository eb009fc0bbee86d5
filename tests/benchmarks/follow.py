"""`python -m tests.benchmarks.follow`: all of a dataset, from an empty home, and then what has changed of it.

A `rhizome node` publishes so many posts with two indexes; a reader in a process of its own follows them from an empty
home, derives both indexes and keeps everything durably. Then a hundred posts more are published, and the reader catches
up. Prints bytes against those of the primary tree, seconds, round trips, and the reader's memory at its most.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import trio

from rhizome_index.api import open_node
from rhizome_index.cli.samples import posts
from rhizome_index.index.address import Address
from rhizome_index.index.manifest import decode_manifest
from rhizome_index.node.home import Home
from tests.benchmarks.nodes import change, publish, running

NEW_POSTS = 100


@dataclass(frozen=True)
class Brought:
    """What bringing a dataset up to date took; memory is the process's most so far."""

    seconds: float
    received_bytes: int
    round_trips: int
    cpu_seconds: float
    peak_bytes: int


async def read(home: Path, address: Address, peer: str) -> None:
    """Be the reader: bring the dataset up to date at each line of stdin, and say what it took."""
    async with open_node(home, peers=[peer]) as node:
        node.follow(address)
        while await trio.to_thread.run_sync(sys.stdin.readline):
            state = node.peer.joined().follower.states.get(address)
            before = (state.cost.bytes_received, state.cost.round_trips) if state else (0, 0)
            began, cpu_began = time.perf_counter(), time.process_time()
            await node.sync(address)
            seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
            cost = node.peer.joined().follower.states[address].cost
            found = {"seconds": seconds, "cpu_seconds": cpu_seconds}
            found |= {"received_bytes": cost.bytes_received - before[0], "round_trips": cost.round_trips - before[1]}
            print(json.dumps({**found, "peak_bytes": _peak_bytes()}), flush=True)


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def primary_bytes(home: Path, address: Address) -> int:
    """The size of the primary tree's chunks."""
    with Home(home).open_store() as store:
        head = store.current_head(address)
        assert head is not None
        manifest = store.get(head.manifest)
        assert manifest is not None
        waiting, total = [decode_manifest(manifest).collection("posts").primary.root], 0
        while waiting:
            held = store.chunk(waiting.pop())
            assert held is not None
            data, node = held
            total += len(data)
            waiting += map(bytes, node.values) if node.level else ()
    return total


def run(folder: Path, count: int, catch_ups: int) -> tuple[int, Brought, list[Brought]]:
    """The primary's bytes, what following it took, and each catching up with NEW_POSTS more."""
    address = publish(folder / "publisher", count)
    size = primary_bytes(folder / "publisher", address)
    with running(folder / "publisher") as node:
        words = [sys.executable, "-m", "tests.benchmarks.follow", "--reader", str(folder / "reader"), str(address)]
        words.append(node.addresses[0])
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
            first = _bring(reader)
            later = []
            for number in range(catch_ups):
                more = islice(posts(count + NEW_POSTS * (number + 1), 1), count + NEW_POSTS * number, None)
                change(folder / "publisher", more)
                time.sleep(2)  # the node looks every second what others have written
                later.append(_bring(reader))
            assert reader.stdin is not None
            reader.stdin.close()
    return size, first, later


def _bring(reader: subprocess.Popen[str]) -> Brought:
    assert reader.stdin is not None and reader.stdout is not None
    print(file=reader.stdin, flush=True)
    found: dict[str, Any] = json.loads(reader.stdout.readline())
    return Brought(**found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--posts", type=int, default=100_000)
    parser.add_argument("--catch-ups", type=int, default=5)
    parser.add_argument("--reader", nargs=3, metavar=("HOME", "DATASET", "PEER"), help="be the reader")
    given = parser.parse_args()
    if given.reader:
        home, address, peer = given.reader
        trio.run(read, Path(home), Address.parse(address), peer)
        return
    with TemporaryDirectory() as name:
        size, first, later = run(Path(name), given.posts, given.catch_ups)
    print(f"{given.posts:,} posts, {size / 1e6:.2f} MB of primary tree")
    cost = f"{first.received_bytes / 1e6:.2f} MB = {first.received_bytes / size:.3f} x the primary"
    print(f"all of it: {first.seconds:.2f} s ({first.cpu_seconds:.2f} s of a processor), {cost}", end=", ")
    print(f"{first.round_trips} round trips, {first.peak_bytes / 1e6:.0f} MB of memory")
    seconds, cpu_seconds = median(item.seconds for item in later), median(item.cpu_seconds for item in later)
    most = max(item.received_bytes for item in later), max(item.round_trips for item in later)
    print(f"{NEW_POSTS} more: {seconds * 1e3:.0f} ms ({cpu_seconds * 1e3:.0f} ms of a processor)", end=", ")
    print(f"at most {most[0]:,} bytes and {most[1]} round trips")


if __name__ == "__main__":
    main()
