"""`python -m tests.benchmarks.providers`: a sync from several providers on slow lines, and from bad ones among them.

Four providers hold a dataset, each behind a line of so many bytes a second; they, and each sync, are processes of their
own. A reader syncs from one, from three, from four, from three beside one that answers with wrong bytes, and from three
beside one whose line stops in the middle. Each time all blocks and roots are checked. A bad provider brings nothing, so
what it costs is measured against the three others alone.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import trio

from rhizome_index.api import Node, open_node
from rhizome_index.blocks.cid import Cid, check_block
from rhizome_index.index.address import Address
from rhizome_index.node.home import Home
from tests.benchmarks.nodes import dialled, publish
from tests.node.test_following import roots

GOOD, LIAR, STALLED = "good", "liar", "stalled"
CASES: dict[str, tuple[str, ...]] = {
    "one provider": (GOOD,),
    "three": (GOOD,) * 3,
    "four": (GOOD,) * 4,
    "three and a liar": (GOOD,) * 3 + (LIAR,),
    "three and one that stalls": (GOOD,) * 3 + (STALLED,),
}
MORE_MAX = 1.2
STALL_BYTES = 100_000


# --- the providers' process ---


async def provide(homes: Sequence[Path], kinds: Sequence[str]) -> None:
    """Serve from these homes until stdin ends; say where."""
    async with AsyncExitStack() as stack:
        addresses = []
        for home, kind in zip(homes, kinds, strict=True):
            node = await stack.enter_async_context(open_node(home, listen=["/ip4/127.0.0.1/tcp/0"]))
            if kind == LIAR:
                _lie(node)
            addresses.append(node.addresses[0])
        print(json.dumps(addresses), flush=True)
        waiting = await stack.enter_async_context(trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())))
        await waiting.receive_some()


def _lie(node: Node) -> None:
    """Have a node answer wants with blocks of which a byte is wrong."""
    server = node.peer.joined().server
    get = server._get_wanted

    def lie(*wanted: Any) -> bytes | None:
        data = get(*wanted)
        return data and data[:-1] + bytes([data[-1] ^ 1])

    vars(server)["_get_wanted"] = lie


@contextmanager
def providing(homes: Sequence[Path], kinds: Sequence[str]) -> Iterator[list[str]]:
    words = [sys.executable, "-m", "tests.benchmarks.providers", "--provide", *kinds, "--homes", *map(str, homes)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())
        finally:
            process.kill()


# --- lines ---


@asynccontextmanager
async def line(address: str, bytes_per_second: float, *, stalls: bool) -> AsyncIterator[str]:
    """Where a provider can be reached over a slow line, one connection after another."""
    host, port = dialled(address)

    async def carry(near: trio.SocketStream) -> None:
        async with await trio.open_tcp_stream(host, port) as far, trio.open_nursery() as nursery:
            nursery.start_soon(_copy, near, far, float("inf"), False)
            nursery.start_soon(_copy, far, near, bytes_per_second, stalls)

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, carry, 0, host="127.0.0.1"))
        yield address.replace(f"/tcp/{port}/", f"/tcp/{listener.socket.getsockname()[1]}/")
        nursery.cancel_scope.cancel()


async def _copy(source: trio.SocketStream, sink: trio.SocketStream, bytes_per_second: float, stalls: bool) -> None:
    free_at = trio.current_time()
    carried = 0
    try:
        while data := await source.receive_some(8192):
            free_at = max(free_at, trio.current_time()) + len(data) / bytes_per_second
            await trio.sleep_until(free_at)
            await sink.send_all(data)
            carried += len(data)
            if stalls and carried > STALL_BYTES:
                await trio.sleep_forever()
        await sink.send_eof()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        await sink.aclose()


# --- syncs ---


@dataclass(frozen=True)
class Synced:
    """Seconds and bytes of a sync, and how many providers were asked."""

    seconds: float
    received_bytes: int
    asked: int


async def sync(home: Path, address: Address, peers: Sequence[str]) -> Synced:
    """Sync into an empty home; all that is kept is checked."""
    async with open_node(home, peers=peers) as node:
        node.follow(address)
        began = time.perf_counter()
        head = await node.sync(address)
        seconds = time.perf_counter() - began
        assert roots(node, address) == roots(node, head.address)
        for cid, data in node.peer.store.all_blocks():
            check_block(cid, data)
        cost = node.peer.joined().follower.states[address].cost
        assert set(cost.peers) <= {peer.rpartition("/")[2] for peer in peers}, "somebody was reached by another line"
        return Synced(seconds, cost.bytes_received, len(cost.peers))


def copies(publisher: Path, address: Address, homes: Sequence[Path]) -> None:
    """Homes that hold a dataset without having met anybody."""
    with Home(publisher).open_store() as source:
        head = source.current_head(address)
        assert head is not None
        blocks: list[tuple[Cid, bytes]] = list(source.all_blocks())
    for home in homes:
        place = Home(home)
        place.create()
        with place.open_store() as store, store.transaction():
            store.put_many(blocks)
            store.set_held(head)


async def run_case(folder: Path, address: Address, kinds: Sequence[str], bytes_per_second: float) -> Synced:
    homes = [folder / f"provider-{number}" for number in range(len(kinds))]
    with providing(homes, kinds) as addresses, TemporaryDirectory(dir=folder) as home:
        async with AsyncExitStack() as stack:
            lines = [
                await stack.enter_async_context(line(where, bytes_per_second, stalls=kind == STALLED))
                for where, kind in zip(addresses, kinds, strict=True)
            ]
            return await sync(Path(home), address, lines)


def run(folder: Path, posts: int, bytes_per_second: float, times: int = 1) -> dict[str, list[Synced]]:
    """Each case so many times, in turn."""
    address = publish(folder / "publisher", posts)
    copies(folder / "publisher", address, [folder / f"provider-{number}" for number in range(4)])
    found: dict[str, list[Synced]] = {name: [] for name in CASES}
    for _ in range(times):
        for name, kinds in CASES.items():
            found[name].append(trio.run(run_case, folder, address, kinds, bytes_per_second))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--posts", type=int, default=20_000)
    parser.add_argument("--rate", type=float, default=200_000, help="bytes a second of each line")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--provide", nargs="+", metavar="KIND", help="be providers")
    parser.add_argument("--homes", nargs="+", type=Path)
    given = parser.parse_args()
    if given.provide:
        trio.run(provide, given.homes, given.provide)
        return
    with TemporaryDirectory() as name:
        found = run(Path(name), given.posts, given.rate, given.times)
    seconds = {name: statistics.median(item.seconds for item in synced) for name, synced in found.items()}
    print(f"{given.posts:,} posts over lines of {given.rate / 1e3:,.0f} kB/s, median of {given.times}")
    for name, synced in found.items():
        size = statistics.median(item.received_bytes for item in synced)
        print(f"{name:<26}{seconds[name]:>7.2f} s{size / 1e6:>8.2f} MB")
    worst = max(seconds[name] / seconds["three"] for name in CASES if name.startswith("three and"))
    print(f"four: {seconds['one provider'] / seconds['four']:.2f} x as fast as one; every byte was checked")
    print(f"a bad one beside three: at most {worst:.2f} x the time of the three (at most {MORE_MAX:g})")


if __name__ == "__main__":
    main()
