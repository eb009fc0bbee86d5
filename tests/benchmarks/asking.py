"""A cold peer's first answer from a node in another process, over TCP on the loopback interface.

Beside it, in the same run: a raw TCP connection over which as many bytes come back.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median

import trio

from rhizome_index.api import open_node
from rhizome_index.index.address import Address
from rhizome_index.node.cost import Cost
from tests.benchmarks.report import say

QUERY = "first 32 posts tagged #cats"
_TRIES = 7


@contextmanager
def serving(home: Path) -> Iterator[list[str]]:
    """A node in a process of its own; gives its addresses."""
    command = [sys.executable, "-m", "rhizome_index.cli", "--home", str(home), "node", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["addresses"]
        finally:
            process.send_signal(signal.SIGINT)


async def ask_cold(home: Path, address: Address) -> tuple[Cost, float]:
    """The cost of the first answer, and of as many bytes over a raw TCP connection."""
    costs, raw = [], []
    with serving(home) as peers, tempfile.TemporaryDirectory() as folder:
        for number in range(_TRIES):
            async with open_node(Path(folder) / str(number), peers=peers) as cold:
                costs.append((await cold.query(QUERY, address).page()).cost)
            raw.append(await raw_tcp(costs[-1].bytes_received))
    costs.sort(key=lambda cost: cost.connect_seconds + cost.seconds)
    return costs[_TRIES // 2], median(raw)


async def raw_tcp(size: int) -> float:
    """Seconds from dialling to the last of `size` bytes, asked for with one message."""

    async def answer(stream: trio.SocketStream) -> None:
        await stream.receive_some(100)
        await stream.send_all(bytes(size))

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, answer, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        started = time.perf_counter()
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(QUERY.encode())
            left = size
            while left:
                left -= len(await stream.receive_some(65536))
        seconds = time.perf_counter() - started
        nursery.cancel_scope.cancel()
    return seconds


def report(homes: dict[int, Path]) -> None:
    """Among ever more posts: what a cold peer receives, and how long it takes from dialling to rows."""
    sizes: dict[int, int] = {}
    for count, home in sorted(homes.items()):
        with_identity = json.loads(
            subprocess.check_output([sys.executable, "-m", "rhizome_index.cli", "--home", str(home), "id", "--json"])
        )
        cost, raw = trio.run(ask_cold, home, Address(with_identity["peer_id"], "main"))
        seconds = cost.connect_seconds + cost.seconds
        sizes[count] = cost.bytes_received
        ours = f"{cost.bytes_received:,} B, {cost.round_trips} RTT"
        times = f"{seconds * 1e3:.1f} ms"
        wanted = "1 RTT, 25 ms" + (", 40,000 B" if count == 100_000 else "")
        say(f"{QUERY}, of {count:,}", ours, times, f"{seconds / raw:.0f} x raw TCP", wanted)
    most = max(sizes)
    if most // 10 in sizes:
        ratio = sizes[most] / sizes[most // 10]
        say(f"bytes among {most:,} against {most // 10:,}", "", "", f"{ratio:.2f} x size", "1.5 x")
