"""`python -m tests.benchmarks.hostile`: a node that is attacked, and those who ask it something meanwhile.

One `rhizome node`; twenty honest askers in a process of their own, each asking once a second and coming back under a
new name for every tenth question; a hundred hostile peers in another process, each at an address of its own, of nine
kinds (`attack.KINDS`), who come back half a second after they were thrown out. First the askers are alone, then both
are there: the first seconds, in which all attackers come at once and the node knows none of them, are told apart.
Prints how long answers took, dialling included, and how many there were; what the node used, and printed.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import trio

from rhizome_index.errors import RhizomeError, UnavailableError
from rhizome_index.index.address import Address
from rhizome_index.limits import DIAL_TIMEOUT_SECONDS
from rhizome_index.node.libp2p_swarm import open_swarm
from rhizome_index.node.link import Links
from rhizome_index.query.parse import parse
from rhizome_index.wire import ask
from rhizome_index.wire.pick import Picker
from tests.benchmarks.nodes import NodeProcess, publish, running

POSTS = 20_000
QUERIES = [f"newest 32 posts tagged #{tag}" for tag in ("cats", "dogs", "news", "travel", "music", "art", "books")]
ASK_SECONDS = 1.0
FIRST_SECONDS = 5.0
SESSION_QUESTIONS = 10
BOUNDS = {"p99": 3.0, "success": 0.999, "memory": 512e6}


@dataclass
class Asked:
    """What became of the questions of all askers: seconds of those answered, and why others were not."""

    seconds: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def percentile(self, part: float) -> float:
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(part * len(ordered)))]

    @property
    def success(self) -> float:
        return len(self.seconds) / max(1, len(self.seconds) + len(self.problems))

    def __str__(self) -> str:
        at = ", ".join(f"{name} {self.percentile(part) * 1e3:.0f}" for name, part in _PERCENTILES.items())
        return f"{len(self.seconds)} of {len(self.seconds) + len(self.problems)} answered; milliseconds: {at}"


_PERCENTILES = {"median": 0.5, "p90": 0.9, "p99": 0.99, "longest": 1.0}


# --- the process of the askers ---


async def ask_for(peer: str, address: Address, askers: int, seconds: float) -> Asked:
    """What askers got in so many seconds."""
    asked = Asked()
    async with trio.open_nursery() as nursery:
        for number in range(askers):
            nursery.start_soon(_ask, peer, address, random.Random(number), trio.current_time() + seconds, asked)
    return asked


async def _ask(peer: str, address: Address, chance: random.Random, until: float, asked: Asked) -> None:
    await trio.sleep(chance.random() * ASK_SECONDS)
    while trio.current_time() < until:
        await _one_session(peer, address, chance, until, asked)


async def _one_session(peer: str, address: Address, chance: random.Random, until: float, asked: Asked) -> None:
    """Ask under a new name, until the session is over or something failed."""
    async with AsyncExitStack() as stack:
        swarm = await stack.enter_async_context(open_swarm(chance.randbytes(32), []))
        nursery = await stack.enter_async_context(trio.open_nursery())
        stack.callback(nursery.cancel_scope.cancel)
        links = Links(swarm, nursery, Picker(chance.random))
        for _ in range(SESSION_QUESTIONS):
            began = trio.current_time()
            try:
                peer_id = await swarm.dial(peer, timeout_seconds=DIAL_TIMEOUT_SECONDS)
                asking = ask.Asking(ask.Ask(address, parse(chance.choice(QUERIES), 0)[0], limit=32))
                await links.converse(peer_id, ask.PROTOCOL, asking.ask.fields(), asking)
                if asking.failure is not None:
                    raise UnavailableError(str(asking.failure))
                assert asking.answer is not None and len(list(asking.answer.rows())) == 32
                asked.seconds.append(trio.current_time() - began)
            except RhizomeError as error:
                asked.problems.append(f"after {trio.current_time() - began:.1f} s: {error}")
                return
            if trio.current_time() > until:
                return
            await trio.sleep(ASK_SECONDS * (0.5 + chance.random()))


def ask_in_a_process(peer: str, address: Address, askers: int, seconds: float) -> Asked:
    words = [sys.executable, "-m", "tests.benchmarks.hostile", "--asker", peer, str(address), str(askers), str(seconds)]
    return Asked(**json.loads(subprocess.check_output(words)))


# --- all of it ---


@contextmanager
def attacked(peer: str, address: Address, attackers: int) -> Iterator[subprocess.Popen[bytes]]:
    """While a process attacks a node."""
    words = [sys.executable, "-m", "tests.benchmarks.attack", peer, str(address), str(attackers)]
    with subprocess.Popen(words) as process:
        try:
            yield process
        finally:
            process.terminate()


def run(folder: Path, attackers: int = 100, askers: int = 20, seconds: float = 60.0) -> dict[str, Any]:
    """What the askers got, alone and beside attackers; what the node used, in bytes and seconds, and printed."""
    address = publish(folder / "home", POSTS)
    with running(folder / "home", ["/ip4/127.0.0.1/tcp/0"]) as node:
        peer = node.addresses[0]
        ask_in_a_process(peer, address, askers, 3.0)  # so that what is read once has been
        alone = ask_in_a_process(peer, address, askers, seconds)
        with attacked(peer, address, attackers):
            first = ask_in_a_process(peer, address, askers, FIRST_SECONDS)
            before = node.cpu_seconds
            beside = ask_in_a_process(peer, address, askers, seconds)
            found = {"alone": alone, "first": first, "beside": beside, "cpu": (node.cpu_seconds - before) / seconds}
            found |= {"connected": node.metric("rhizome_connected_peers"), "files": node.open_files}
        return found | {"peak": node.peak_bytes, "said": node.said(), "after": _left(node)}


def _left(node: NodeProcess) -> tuple[float, float]:
    return node.metric("rhizome_connected_peers"), node.metric("rhizome_open_streams")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attackers", type=int, default=100)
    parser.add_argument("--askers", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--asker", nargs=4, metavar=("PEER", "DATASET", "COUNT", "SECONDS"), help="be the askers")
    given = parser.parse_args()
    if given.asker:
        peer, address, askers, seconds = given.asker
        asked = trio.run(ask_for, peer, Address.parse(address), int(askers), float(seconds))
        print(json.dumps({"seconds": asked.seconds, "problems": asked.problems}))
        return
    with TemporaryDirectory() as name:
        found = run(Path(name), given.attackers, given.askers, given.seconds)
    alone, first, beside = found["alone"], found["first"], found["beside"]
    print(f"alone:            {alone}")
    print(f"first strike:     {first}")
    print(f"beside attackers: {beside}")
    print(f"p99: {beside.percentile(0.99) / alone.percentile(0.99):.2f} x that alone (at most {BOUNDS['p99']:g})")
    print(f"answered: {beside.success:.2%} (at least {BOUNDS['success']:.1%})")
    print(f"node: at most {found['peak'] / 1e6:.0f} MB (at most {BOUNDS['memory'] / 1e6:.0f})", end="; ")
    print(f"{found['cpu']:.0%} of a processor, {found['connected']:.0f} peers, {found['files']} files at the end")
    print(f"printed for people: {found['said'] or 'nothing'}")
    for text in sorted(set(beside.problems))[:20]:
        print(f"  {text}")


if __name__ == "__main__":
    main()
