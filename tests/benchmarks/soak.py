"""`python -m tests.benchmarks.soak`: does a node stay as it is for an hour, while a hundred peers come and go a minute?

Two nodes, `rhizome node` in processes of their own: one publishes, and changes some posts now and then; one follows it.
Visitors come to both, over TCP and WebSocket, always under new names: they ask, sync all of it into an empty home, fall
silent in the middle of a stream, or leave without a word. Caches are filled before. Every minute it prints what both
nodes use; at the end, when the visitors are gone, whether memory was flat, whether streams, connections or files are
left, and whether all listeners still answer.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import trio

from rhizome_index.api import open_node
from rhizome_index.cli.samples import posts
from rhizome_index.errors import RhizomeError, UnavailableError
from rhizome_index.index.address import Address
from rhizome_index.node.libp2p_swarm import open_swarm
from rhizome_index.wire import ask
from tests.benchmarks.nodes import NodeProcess, change, publish, running

POSTS = 5000
FILLINGS = 70  # changes of a third of all posts, before anything is measured: more than the caches of both nodes hold
CHANGE_SECONDS = 30.0
QUERIES = ("first 32 posts tagged #cats", "newest 10 posts by alice", "count posts tagged #news")
STAY_SECONDS_MAX = 20.0
FLAT = 1.05
PEERS, STREAMS = "rhizome_connected_peers", "rhizome_open_streams"
LEAVE_SECONDS = 60.0  # for those who left without a word to be noticed
STREAMS_LEFT = 12  # of the other node: it is asked, told and gossiped with


@dataclass
class Soak:
    """The two nodes, and what has become of their visitors."""

    folder: Path
    address: Address
    nodes: dict[str, NodeProcess]
    chance: random.Random
    visits: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    resident: dict[str, list[int]] = field(default_factory=dict)

    # --- visitors ---

    async def receive_visitors(self, per_minute: float, until: float) -> None:
        """Until that time; then all who are here stay as long as they meant to."""
        async with trio.open_nursery() as nursery:
            while trio.current_time() < until:
                nursery.start_soon(self._visit, sum(self.visits.values()))
                self.visits["came"] += 1
                await trio.sleep(self.chance.expovariate(per_minute / 60))

    async def _visit(self, number: int) -> None:
        node = self.chance.choice(list(self.nodes.values()))
        peer = self.chance.choice(node.addresses)
        kind = self.chance.choices([self._asks, self._syncs, self._falls_silent, self._vanishes], [6, 1, 2, 1])[0]
        try:
            with TemporaryDirectory(dir=self.folder) as home:
                await kind(Path(home), peer)
            self.visits[kind.__name__.strip("_")] += 1
        except RhizomeError as error:
            self.visits["failed"] += 1
            self.problems.append(f"{kind.__name__.strip('_')} of {number}: {error}")
            print(self.problems[-1], flush=True)

    def _stay_seconds(self) -> float:
        return self.chance.random() * STAY_SECONDS_MAX

    async def _asks(self, home: Path, peer: str) -> None:
        async with open_node(home, peers=[peer]) as node:
            _check_reached(node.unreachable)
            for query in QUERIES:
                await node.query(query, self.address).page()
                await trio.sleep(self._stay_seconds() / len(QUERIES))

    async def _syncs(self, home: Path, peer: str) -> None:
        async with open_node(home, peers=[peer]) as node:
            _check_reached(node.unreachable)
            node.follow(self.address)
            await node.sync(self.address)

    async def _falls_silent(self, home: Path, peer: str) -> None:
        async with open_swarm(os.urandom(32), []) as swarm:
            peer_id = await swarm.dial(peer, timeout_seconds=10)
            streams = [await swarm.open_stream(peer_id, ask.PROTOCOL, timeout_seconds=10) for _ in range(5)]
            for stream in streams:
                await stream.send(b"\xff\x7f")  # the length of a request that does not come
            await trio.sleep(self._stay_seconds())

    async def _vanishes(self, home: Path, peer: str) -> None:
        async with open_swarm(os.urandom(32), []) as swarm:
            peer_id = await swarm.dial(peer, timeout_seconds=10)
            await swarm.open_stream(peer_id, ask.PROTOCOL, timeout_seconds=10)
            for connection in swarm._network.get_connections():
                connection.muxed_conn.fall()  # no goodbye

    # --- the nodes ---

    async def change_now_and_then(self) -> None:
        number = 0
        while True:
            await trio.sleep(CHANGE_SECONDS)
            number += 1
            some = {self.chance.randrange(POSTS) for _ in range(5)}
            records = [record for place, record in enumerate(posts(POSTS, 1)) if place in some]
            change(self.folder / "publisher", [{**record, "likes": number} for record in records])

    async def watch(self, pause_seconds: float) -> None:
        started = trio.current_time()
        while True:
            line = [f"{(trio.current_time() - started) / 60:6.1f} min"]
            for name, node in self.nodes.items():
                resident = node.resident_bytes
                self.resident.setdefault(name, []).append(resident)
                streams, peers = await counted(node, STREAMS), await counted(node, PEERS)
                line.append(
                    f"{name}: {resident / 1e6:7.1f} MB, {peers:3.0f} peers, {streams:3.0f} streams, "
                    f"{node.open_files:3} files"
                )
            line.append(", ".join(f"{count} {kind}" for kind, count in sorted(self.visits.items())))
            print("   ".join(line), flush=True)
            await trio.sleep(pause_seconds)


async def counted(node: NodeProcess, name: str) -> float:
    """One of the node's metrics."""
    return await trio.to_thread.run_sync(node.metric, name)


def _check_reached(unreachable: object) -> None:
    if unreachable:
        raise UnavailableError(str(unreachable))


async def fill_caches(folder: Path, nodes: dict[str, NodeProcess], fillings: int) -> None:
    """Change a third of all posts again and again: both nodes read all that changes."""
    for number in range(fillings):
        records = list(posts(POSTS, 1))[number % 3 :: 3]
        change(folder / "publisher", ({**record, "likes": number} for record in records))
        while await counted(nodes["follower"], "rhizome_follow_head") < number + 2:  # noqa: ASYNC110 (a process)
            await trio.sleep(0.1)


async def wait_left(node: NodeProcess) -> tuple[float, float, int]:
    """Connections, streams and files of a node when all visitors are gone, or have not been within LEAVE_SECONDS."""
    with trio.move_on_after(LEAVE_SECONDS):
        while await counted(node, PEERS) > 1:  # noqa: ASYNC110 (a process)
            await trio.sleep(1)
    return await counted(node, PEERS), await counted(node, STREAMS), node.open_files


def growth(resident: list[int]) -> tuple[float, float]:
    """After warm-up, the first sixth: the last tenth against the first tenth, and the most against the least."""
    after = resident[len(resident) // 6 :]
    part = max(1, len(after) // 10)
    return median(after[-part:]) / median(after[:part]), max(after) / min(after)


async def check_listeners(soak: Soak) -> list[str]:
    """Addresses at which nobody answers any more."""
    silent = []
    for peer in [address for node in soak.nodes.values() for address in node.addresses]:
        try:
            with TemporaryDirectory(dir=soak.folder) as home:
                await soak._asks(Path(home), peer)
        except RhizomeError as error:
            silent.append(f"{peer}: {error}")
    return silent


async def run(folder: Path, minutes: float, per_minute: float, seed: int = 1, fillings: int = FILLINGS) -> list[str]:
    """Whatever was not as it should be, in words."""
    address = publish(folder / "publisher", POSTS)
    async with AsyncExitStack() as stack:
        publisher = stack.enter_context(running(folder / "publisher"))
        async with open_node(folder / "follower") as node:
            node.follow(address)
        follower = stack.enter_context(running(folder / "follower", peers=publisher.addresses[:1]))
        nodes = {"publisher": publisher, "follower": follower}
        await fill_caches(folder, nodes, fillings)
        files = {name: node.open_files for name, node in nodes.items()}
        soak = Soak(folder, address, nodes, random.Random(seed))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(soak.watch, min(60.0, minutes * 3))
            nursery.start_soon(soak.change_now_and_then)
            await soak.receive_visitors(per_minute, trio.current_time() + 60 * minutes)
            nursery.cancel_scope.cancel()
        return await check_after(soak, files)


async def check_after(soak: Soak, files: dict[str, int]) -> list[str]:
    """Say what is left when all visitors are gone; what of it is wrong."""
    wrong = []
    print(f"{soak.visits['came']} visitors came; {soak.visits['failed']} were not served as they should be")
    for name, node in soak.nodes.items():
        peers, streams, open_files = await wait_left(node)
        grown, spread = growth(soak.resident[name])
        print(
            f"{name}: memory {grown:.3f} x what it was after warm-up (most / least {spread:.3f}); left are {peers:.0f} "
            f"peers, {streams:.0f} streams, {open_files} files ({files[name]} before)"
        )
        if grown > FLAT:
            wrong.append(f"the memory of the {name} grew")
        if peers > 1 or streams > STREAMS_LEFT or open_files > files[name] + 2:
            wrong.append(f"something is left at the {name}")
        if node.said():
            wrong.append(f"the {name} says: {node.said()[:2000]}")
    return wrong + [f"nobody answers at {text}" for text in await check_listeners(soak)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--per-minute", type=float, default=100)
    parser.add_argument("--fillings", type=int, default=FILLINGS, help="changes of a third of all posts at first")
    given = parser.parse_args()
    with TemporaryDirectory() as name:
        wrong = trio.run(run, Path(name), given.minutes, given.per_minute, 1, given.fillings)
    for text in wrong:
        print(text)
    if wrong:
        sys.exit(1)
    print("flat, nothing left, all listeners answer")


if __name__ == "__main__":
    main()
