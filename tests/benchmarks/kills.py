"""`python -m tests.benchmarks.kills`: syncs whose either side is killed at any moment, until so many kills have been.

A publisher and a reader, processes of their own over loopback. The reader syncs all of a dataset; at a random moment
between its first byte and the end of an undisturbed sync one of both gets SIGKILL, is started again, and so on until
the sync has come to its end. Then all roots must be the publisher's, no block may be missing, and what came over all
lives is compared with what an undisturbed sync takes. Then the next reader begins, until there have been enough kills.

Processes are forked from one that has imported everything, so that most of their lives is syncing.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import signal
import struct
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import trio

from rhizome_index.api import open_node
from rhizome_index.errors import UnavailableError
from rhizome_index.index.address import Address
from rhizome_index.node.mend import missing_blocks
from rhizome_index.node.tally import Tally
from tests.benchmarks.nodes import publish
from tests.node.test_following import roots

TWICE_MAX = 0.05
SYNC_SECONDS_MAX = 600.0
SIDES = ("reader", "publisher")
_FORKING = multiprocessing.get_context("forkserver")
_FORKING.set_forkserver_preload(["rhizome_index.node.libp2p_swarm", "tests.node.test_following"])


# --- in the processes ---


def serve(told: Connection, home: Path, listen: str) -> None:
    """Be the publisher; tell where."""

    async def run() -> None:
        async with open_node(home, listen=[listen]) as node:
            told.send(node.addresses[0])
            await trio.sleep_forever()

    trio.run(run)


def follow(told: Connection, home: Path, address: Address, peer: str) -> None:
    """Be the reader; tell of all that is received before anything is done with it, and at the end that it is here."""
    note = Tally.note_received

    def tell(self: Tally, peer_id: str, protocol: str, count: int) -> None:
        told.send_bytes(struct.pack("!I", count))
        note(self, peer_id, protocol, count)

    async def run() -> None:
        async with open_node(home, peers=[peer]) as node:
            node.follow(address)
            await node.sync(address)

    Tally.note_received = tell  # type: ignore[method-assign]
    try:
        trio.run(run)
    except UnavailableError as error:
        told.send_bytes(str(error).encode())
        sys.exit(UnavailableError.exit_code)


# --- around them ---


class Publisher:
    """A publisher, always at the same address."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._listen = "/ip4/127.0.0.1/tcp/0"
        self._process: Any = None
        self.address = ""

    def start(self) -> None:
        told, telling = _FORKING.Pipe(duplex=False)
        self._process = _FORKING.Process(target=serve, args=(telling, self._home, self._listen), daemon=True)
        self._process.start()
        telling.close()
        self.address = told.recv()
        self._listen, _, _ = self.address.partition("/p2p/")

    def kill(self) -> None:
        self._process.kill()
        self._process.join()


@dataclass
class Reader:
    """A home that syncs, and the bytes of streams that it has received in all its lives."""

    home: Path
    address: Address
    received_bytes: int = 0
    problems: list[str] = field(default_factory=list)

    def sync(self, publisher: Publisher, seconds: float, victim: str) -> float | None:
        """Sync; so long after the first byte the victim is killed. Its seconds if it came to its end before."""
        told, telling = _FORKING.Pipe(duplex=False)
        process = _FORKING.Process(target=follow, args=(telling, self.home, self.address, publisher.address))
        process.start()
        telling.close()
        self._hear(told)
        began = time.perf_counter()
        while (left := began + seconds - time.perf_counter()) > 0 and told.poll(left):
            if not self._hear(told):
                break
        else:
            (process if victim == "reader" else publisher).kill()
        while self._hear(told):
            pass
        process.join()
        taken = time.perf_counter() - began
        assert process.exitcode in (0, -signal.SIGKILL, UnavailableError.exit_code), process.exitcode
        return None if process.exitcode else taken

    def _hear(self, told: Connection) -> bool:
        """Whether the reader goes on."""
        try:
            data = told.recv_bytes()
        except EOFError:
            return False
        if len(data) == 4:
            self.received_bytes += struct.unpack("!I", data)[0]
        else:
            self.problems.append(data.decode())
        return True


@dataclass
class Found:
    """What became of all syncs: seconds and bytes of an undisturbed one, kills by side, and the bytes of each."""

    seconds: float
    undisturbed_bytes: int
    kills: Counter[str] = field(default_factory=Counter)
    received: list[int] = field(default_factory=list)

    @property
    def twice(self) -> float:
        """What part was fetched again, over all syncs."""
        return sum(self.received) / (len(self.received) * self.undisturbed_bytes) - 1


def run(folder: Path, posts: int, kills: int, seed: int) -> Found:
    chance = random.Random(seed)
    address = publish(folder / "publisher", posts)
    wanted = trio.run(_state, folder / "publisher", address)
    publisher = Publisher(folder / "publisher")
    publisher.start()
    try:
        first = Reader(folder / "undisturbed", address)
        seconds = first.sync(publisher, SYNC_SECONDS_MAX, "reader")
        assert seconds is not None, first.problems
        found = Found(seconds, first.received_bytes)
        while found.kills.total() < kills:
            reader = Reader(folder / str(len(found.received)), address)
            _sync_killed(reader, publisher, found, chance)
            assert trio.run(_state, reader.home, address) == wanted, "another head, other roots, or not all of it"
            found.received.append(reader.received_bytes)
            print(
                f"{len(found.received)} syncs, {dict(found.kills)} killed, {found.twice:.2%} fetched again", flush=True
            )
    finally:
        publisher.kill()
    return found


def _sync_killed(reader: Reader, publisher: Publisher, found: Found, chance: random.Random) -> None:
    while True:
        victim = chance.choice(SIDES)
        if reader.sync(publisher, chance.random() * found.seconds, victim) is not None:
            return
        found.kills[victim] += 1
        if victim == "publisher":
            publisher.kill()
            publisher.start()


async def _state(home: Path, address: Address) -> tuple[Any, ...]:
    """The head that a home holds, its roots, and whatever of it is missing."""
    async with open_node(home) as node:
        head = node.catalog[address]
        return head, roots(node, address), list(missing_blocks(node.peer.store, head))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--posts", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with TemporaryDirectory() as name:
        found = run(Path(name), given.posts, given.kills, given.seed)
    size = f"{found.undisturbed_bytes / 1e6:.2f} MB in {found.seconds:.1f} s"
    print(f"{given.posts:,} posts, {size} undisturbed; killed: {dict(found.kills)} in {len(found.received)} syncs")
    worst = max(found.received) / found.undisturbed_bytes - 1
    print(f"all ended with the publisher's roots; fetched again: {found.twice:.2%} of all, {worst:.2%} of the worst")
    if found.twice > TWICE_MAX:
        sys.exit(f"more than {TWICE_MAX:.0%}")


if __name__ == "__main__":
    main()
