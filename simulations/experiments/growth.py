"""What a newcomer's query costs, against the size of the swarm and of the dataset.

    python -m simulations.experiments.growth                                           # every cell
    python -m simulations.experiments.growth --most-peers 10 --most-records 1000       # a look

A newcomer with an empty store knows one peer that is there, whoever that may be, and asks one question of a dataset of
which it has an address. One after another, many do so, each with a store and a place of its own. Peers that hold the
dataset whole follow it; the others have asked one question of it when they came. Of datasets see `ground.py`: their
holders begin with what following would have given them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from math import log2
from pathlib import Path
from statistics import fmean
from typing import Any

import trio

from rhizome_index.cli.samples import AUTHORS
from rhizome_index.errors import RhizomeError
from rhizome_index.index.address import Address
from rhizome_index.simulation.cluster import Cluster, Member, identity_of
from rhizome_index.simulation.network import Weather
from rhizome_index.simulation.workload import (
    Posts,
    Question,
    by_author,
    count_tagged,
    draw,
    oldest_tagged,
    some,
    somewhere,
    spread,
    tagged,
)
from rhizome_index.simulation.world import World
from simulations.experiments import ground, results

PEERS = (10, 32, 100, 316, 1000)
RECORDS = (1_000, 10_000, 100_000, 1_000_000)
HALF = "half"
HOLDERS = (HALF, 5)  # how many peers hold the dataset whole, its publisher among them
QUESTIONS: tuple[Question, ...] = (
    tagged("cats", 10),
    oldest_tagged("cats", 10),
    by_author(AUTHORS[9], 10),
    count_tagged("cats"),
)
_COMING = 2_000_000  # posts, of which the first ones are published: their times do not depend on how many these are
_KNOWN = 4  # peers that somebody who joins knows
_JOIN_SECONDS = 60.0
_QUIET_SECONDS = 60.0
_WEATHER = Weather(jitter=0.2, loss=0.002)


class Growing:
    """One run: a swarm around a dataset, and newcomers."""

    def __init__(self, cluster: Cluster, address: Address, right: Sequence[Any]) -> None:
        self.cluster = cluster
        self.chance = cluster.world.chance("growth")
        self.asked: list[dict[str, Any]] = []
        self._address = address
        self._right = right

    async def join(self, name: str, store: Path | None, when: float) -> None:
        """Somebody joins, who holds the dataset or asks of it."""
        await trio.sleep(when)
        met = some(self.chance, self.cluster.running(), _KNOWN)
        member = self.cluster.add(name, somewhere(self.chance))
        if store is not None:
            ground.lay(member, store)
        await self.cluster.start(member, met=met)
        if store is None:
            await trio.sleep(self.chance.random())
            await self._answer(member, self.chance.randrange(len(QUESTIONS)))

    async def visit(self, number: int) -> None:
        """A newcomer comes, asks and goes."""
        contact = draw(self.chance, self.cluster.running())
        member = self.cluster.add(f"newcomer-{number}", somewhere(self.chance))
        started, counts, which = self.cluster.world.now, member.host.counts, number % len(QUESTIONS)
        await self.cluster.start(member, named=[contact])
        cost = await self._answer(member, which)
        found: dict[str, Any] = {"question": which, "seconds": round(self.cluster.world.now - started, 3)}
        if cost is not None:
            found |= {"bytes": cost.bytes_received, "round_trips": cost.round_trips}
        found |= {"received": counts.bytes_received, "sent": counts.bytes_sent, "dials": counts.dials}
        self.asked.append(found)
        await self.cluster.stop(member)

    async def _answer(self, member: Member, which: int) -> Any:
        """What a question has cost whose answer is right; None if there was no answer."""
        try:
            page = await member.running.query(QUESTIONS[which].text, self._address).page()
        except RhizomeError:
            return None
        given, right = (page.rows, self._right[which]) if page.rows else (page.count, self._right[which] or 0)
        assert given == right, f"{QUESTIONS[which].text}: a wrong answer"
        return page.cost


def measure(cell: dict[str, Any]) -> dict[str, Any]:
    """One run: each newcomer's cost."""
    began = time.process_time()
    peers, seed = cell["peers"], cell["seed"]
    holders = peers // 2 if cell["holders"] == HALF else min(peers // 2, cell["holders"])
    world = World(seed)
    posts = Posts(_COMING, world.chance("posts", "publisher").getrandbits(32))
    posts.more(cell["records"])
    right = [question.answer(posts.published) for question in QUESTIONS]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.sqlite"
        heads = ground.publish(path, [(identity_of(world, "publisher"), list(posts.published.values()))])
        del posts
        copy = ground.followed(path, heads)

        async def main(cluster: Cluster) -> list[dict[str, Any]]:
            growing = Growing(cluster, heads[0].address, right)
            await growing.join("publisher", path, 0)
            times = spread(growing.chance, peers - 1, _JOIN_SECONDS)
            is_holder = [True] * (holders - 1) + [False] * (peers - holders)
            growing.chance.shuffle(is_holder)
            async with trio.open_nursery() as nursery:
                for number, (when, holds) in enumerate(zip(times, is_holder, strict=True)):
                    nursery.start_soon(partial(growing.join, f"peer-{number}", copy if holds else None, when))
            await trio.sleep(_QUIET_SECONDS)
            for number in range(cell["newcomers"]):
                await growing.visit(number)
            return growing.asked

        asked = ground.play(seed, main, _WEATHER)
    return {**cell, "asked": asked, "process_seconds": round(time.process_time() - began, 1)}


def cells(most_peers: int, most_records: int, newcomers: int, seed: int) -> list[dict[str, Any]]:
    """What is run: every swarm with the smallest dataset, then every dataset in the smallest swarm."""
    sizes = [(peers, RECORDS[0], holders) for holders in HOLDERS for peers in PEERS if peers <= most_peers]
    sizes += [(PEERS[0], records, HALF) for records in RECORDS[1:] if records <= most_records]
    return [
        {"peers": peers, "records": records, "holders": holders, "newcomers": newcomers, "seed": seed}
        for peers, records, holders in sorted(dict.fromkeys(sizes), key=lambda size: size[0] * size[1])
    ]


def fit(sizes: Sequence[float], values: Sequence[float]) -> dict[str, Any]:
    """value = a + b * log2(size) by least squares.

    r2  the part of the values' variance that it accounts for
    residuals  of the mean at each size, in the order of the sizes: mean - fit
    """
    logs = [log2(size) for size in sizes]
    mean_log, mean_value = fmean(logs), fmean(values)
    spread_ = sum((log - mean_log) ** 2 for log in logs)
    b = sum((log - mean_log) * (value - mean_value) for log, value in zip(logs, values, strict=True)) / spread_
    a = mean_value - b * mean_log
    left = sum((value - a - b * log) ** 2 for log, value in zip(logs, values, strict=True))
    total = sum((value - mean_value) ** 2 for value in values)
    residuals = {
        size: fmean(value for at, value in zip(sizes, values, strict=True) if at == size) - a - b * log2(size)
        for size in sorted(set(sizes))
    }
    return {"a": a, "b": b, "r2": 1 - left / total if total else 1.0, "residuals": residuals}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--most-peers", type=int, default=PEERS[-1], help="no larger swarm")
    parser.add_argument("--most-records", type=int, default=RECORDS[-1], help="no larger dataset")
    parser.add_argument("--newcomers", type=int, default=40, help="of each run")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, help="at once; by default one for each core")
    given = parser.parse_args()
    chosen = cells(given.most_peers, given.most_records, given.newcomers, given.seed)
    results.run(measure, chosen, "growth", given.processes)


if __name__ == "__main__":
    main()
