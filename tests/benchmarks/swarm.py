"""`python -m tests.benchmarks.swarm`: a swarm whose publisher is gone, over real libp2p on loopback.

Fifty nodes, each in a process of its own, introduced to one hub alone. One publishes, five follow, then the publisher
stops. Each of the others, who has never met any of those, asks for the dataset: found over provider records or from
what peers tell. Prints how long each took.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import trio

from rhizome_index.api import Node, open_node
from rhizome_index.errors import RhizomeError
from rhizome_index.index.address import Address

NODES_PER_PROCESS = 1  # those of one process share its bound on connections from one address
SETTLE_SECONDS = 15.0  # for announcements: nodes look every few seconds at whom to tell
POSTS = [{"id": number, "tags": ["cats"], "created": number} for number in range(200)]


# --- one process of nodes ---


async def work(folder: Path, count: int, hub: str) -> None:
    """Run nodes, and do what is said on stdin, a line of JSON each; answer with a line each."""
    async with AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(
                open_node(folder / str(number), listen=["/ip4/127.0.0.1/tcp/0"], peers=[hub] if hub else [])
            )
            for number in range(count)
        ]
        print(json.dumps([node.addresses[0] for node in nodes]), flush=True)
        orders = await stack.enter_async_context(trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())))
        received = b""
        async for data in orders:
            *lines, received = (received + data).split(b"\n")
            for line in lines:
                print(json.dumps(await carry_out(nodes, json.loads(line))), flush=True)


async def carry_out(nodes: list[Node], order: dict[str, Any]) -> Any:
    """What an order brings."""
    node = nodes[order["node"]]
    if order["do"] == "publish":
        posts = node.collection("posts")
        await posts.create(time="created", order=["-created"], indexes={"by_tag": "tags,-created"})
        await posts.put_many(POSTS)
        return str(posts.address)
    address = Address.parse(order["of"])
    if order["do"] == "follow":
        node.follow(address)
        return (await node.sync(address)).sequence
    started = time.perf_counter()
    try:
        page = await node.query("first 32 posts tagged #cats", address).page()
    except RhizomeError as error:
        return {"problem": f"after {time.perf_counter() - started:.1f} s: {error}"}
    return {"seconds": time.perf_counter() - started, "rows": len(page.rows)}


# --- all of them ---


class Worker:
    """A process of nodes, as its maker sees it."""

    def __init__(self, folder: Path, count: int, hub: str) -> None:
        words = [sys.executable, "-m", "tests.benchmarks.swarm", "--worker", str(folder), str(count), hub]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addresses: list[str] = self._hear()

    def do(self, node: int, what: str, of: str = "") -> Any:
        assert self.process.stdin is not None
        print(json.dumps({"node": node, "do": what, "of": of}), file=self.process.stdin, flush=True)
        return self._hear()

    def _hear(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "a process of the swarm has ended"
        return json.loads(line)


@contextmanager
def running(folder: Path, count: int, hub: str = "") -> Iterator[Worker]:
    worker = Worker(folder, count, hub)
    try:
        yield worker
    finally:
        worker.process.kill()
        worker.process.wait()


def run(nodes: int = 50, followers: int = 5, settle_seconds: float = SETTLE_SECONDS) -> list[dict[str, Any]]:
    """What each of the others was answered, and in how many seconds, once the publisher is gone."""
    with TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        hub = stack.enter_context(running(folder / "hub", 1))
        publisher = stack.enter_context(running(folder / "publisher", 1, hub.addresses[0]))
        places = []
        for start in range(0, nodes - 2, NODES_PER_PROCESS):
            count = min(NODES_PER_PROCESS, nodes - 2 - start)
            worker = stack.enter_context(running(folder / f"nodes-{start}", count, hub.addresses[0]))
            places += [(worker, number) for number in range(count)]
        dataset = publisher.do(0, "publish")
        time.sleep(settle_seconds)
        for worker, number in places[:followers]:
            worker.do(number, "follow", dataset)
        time.sleep(settle_seconds)
        publisher.process.kill()
        return [worker.do(number, "ask", dataset) for worker, number in [(hub, 0), *places[followers:]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=50)
    parser.add_argument("--followers", type=int, default=5)
    parser.add_argument("--settle", type=float, default=SETTLE_SECONDS, help="seconds, twice: more on a busy machine")
    parser.add_argument("--worker", nargs=3, metavar=("FOLDER", "COUNT", "HUB"), help="be one of its processes")
    given = parser.parse_args()
    if given.worker:
        folder, count, hub = given.worker
        trio.run(work, Path(folder), int(count), hub)
        return
    found = run(given.nodes, given.followers, given.settle)
    seconds = sorted(item["seconds"] for item in found if "seconds" in item)
    print(f"{given.nodes} nodes, publisher gone, {given.followers} followers: {len(seconds)} of {len(found)} answered")
    if seconds:
        print(f"seconds: median {statistics.median(seconds):.2f}, longest {seconds[-1]:.2f}")
    for item in found:
        if "problem" in item:
            print(item["problem"])


if __name__ == "__main__":
    main()
