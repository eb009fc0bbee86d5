"""How new heads reach followers, against the size of the swarm and its churn.

    python -m simulations.experiments.propagation                                # every cell
    python -m simulations.experiments.propagation --largest 10                   # a look

Everybody but the publisher follows, and comes and goes as in the scenario `living_swarm`: a life lasts so long on
average, short ones being the most frequent, ends in good order, by a kill or by a loss of power, and a quarter of a
mean life later the peer is back with what its disk has kept. The publisher stays. Every follower is a node with its own
code on the simulated network, where segments get lost and connections break. All checkers of scenarios watch.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rhizome_index.index.head import Head
from rhizome_index.simulation.cluster import ENDS, Member, Observer
from rhizome_index.simulation.network import Weather
from rhizome_index.simulation.report import percentiles
from rhizome_index.simulation.scenario import Simulation, adapt, run, scenario
from rhizome_index.simulation.workload import draw, some
from rhizome_index.simulation.world import exponential
from simulations.experiments import results

PARTS = (50, 90, 99, 100)  # percent of the followers that are there
LIVES = (0.0, 600.0, 120.0, 30.0)  # mean seconds; 0: nobody leaves
_RUNS = {  # by size: lives, seeds, heads in each run. A large swarm that comes and goes takes long to simulate.
    10: (LIVES, 3, 6),
    32: (LIVES, 2, 6),
    100: (LIVES, 1, 6),
    316: ((0.0, 120.0), 1, 4),
    1000: ((0.0, 600.0), 1, 4),
}
_KNOWN = 4  # peers that somebody who joins knows
_JOIN_SECONDS = 60.0
_QUIET_SECONDS = 60.0  # from the last joining to the first head
APART_SECONDS = 40.0  # from one head to the next


@dataclass(slots=True)
class Journey:
    """One head: when which part of the followers that were there at that moment had it, or a newer one.

    reached    seconds by percent
    continual  seconds of each follower that was there when it was published, and stayed until it had it
    """

    head: Head
    at: float
    live: int
    reached: dict[int, float] = field(default_factory=dict)
    continual: list[float] = field(default_factory=list)


class Journeys(Observer):
    """Watches heads of one publisher on their way, from the moment that `is_on`."""

    def __init__(self, sim: Simulation) -> None:
        self.is_on = False
        self.done: list[Journey] = []
        self.catching_up: list[float] = []  # seconds from a start, with an older head, to the newest one
        self._sim = sim
        self._newest = 0
        self._held: dict[Member, int] = {}  # sequences of those who are there
        self._waiting: set[Member] = set()  # who was there when the last head came, and has not got it
        self._late: dict[Member, float] = {}  # who has started since then with an older one
        sim.cluster.observers.append(self)

    def on_published(self, member: Member, head: Head, changes: Any, before: Head | None) -> None:
        self._newest = head.sequence
        self._waiting, self._late = set(self._held), {}
        if self.is_on:
            self.done.append(Journey(head, self._sim.world.now, len(self._held)))

    def on_started(self, member: Member) -> None:
        for address in member.follows:
            held = member.running.peer.store.held_head(address)
            self._held[member] = held.sequence if held else 0
            if self.is_on and held is not None and held.sequence < self._newest:
                self._late[member] = self._sim.world.now
        self._look()

    def joined(self, member: Member) -> None:
        """A member follows now for the first time."""
        self._held[member] = 0

    def gone(self, member: Member) -> None:
        """A follower is about to end."""
        self._held.pop(member, None)
        self._waiting.discard(member)
        self._late.pop(member, None)
        self._look()

    def on_head(self, member: Member, head: Head) -> None:
        if member not in self._held:
            return
        self._held[member] = head.sequence
        if head.sequence == self._newest and self.is_on:
            now = self._sim.world.now
            if member in self._waiting and self.done:
                self._waiting.discard(member)
                self.done[-1].continual.append(now - self.done[-1].at)
            if member in self._late:
                self.catching_up.append(now - self._late.pop(member))
        self._look()

    def _look(self) -> None:
        if self.done and self._held:
            journey = self.done[-1]
            have = sum(sequence >= journey.head.sequence for sequence in self._held.values())
            for part in PARTS:
                if 100 * have >= part * len(self._held):
                    journey.reached.setdefault(part, self._sim.world.now - journey.at)


@scenario(peers=10, minutes=10, weather=Weather(0.2, 0.002, 1.0), posts=30, life_seconds=0.0, heads=6)
async def propagation(sim: Simulation) -> None:
    """Heads on their way to followers that come and go."""
    journeys = Journeys(sim)
    publisher = await sim.publish(sim["posts"])
    end = _JOIN_SECONDS + _QUIET_SECONDS + sim["heads"] * APART_SECONDS
    life = float(sim["life_seconds"])

    def about(seconds: float) -> float:
        return seconds * exponential(sim.chance.random())

    def known() -> list[Member]:
        return some(sim.chance, sim.cluster.running(), _KNOWN)

    async def live(number: int) -> None:
        await sim.sleep(_JOIN_SECONDS * sim.chance.random())
        member = await sim.peer(f"follower-{number}", met=known(), follows=[publisher])
        journeys.joined(member)
        while life:
            await sim.sleep_until(min(end, sim.world.now + about(life)))
            if sim.world.now >= end:
                break
            journeys.gone(member)
            await sim.cluster.end(member, draw(sim.chance, ENDS))
            await sim.sleep(about(life / 4))
            await sim.cluster.start(member, met=known())

    def sent() -> int:
        return sum(host.counts.bytes_sent for host in sim.network.hosts.values())

    async def publish() -> None:
        await sim.sleep_until(_JOIN_SECONDS + _QUIET_SECONDS)
        journeys.is_on = True
        before, own = sent(), publisher.host.counts.bytes_sent
        for _ in range(sim["heads"]):
            sim.publish_more(publisher, 2)
            await sim.sleep(APART_SECONDS)
        journeys.is_on = False
        sim.measured["bytes"] = sent() - before
        sim.measured["publisher_bytes"] = publisher.host.counts.bytes_sent - own

    await sim.together([publish, *(partial(live, number) for number in range(sim.peers - 1))])
    await sim.settle()
    done = journeys.done
    sim.measured |= {
        "heads": [
            {"live": one.live, "reached": {str(part): _seconds(one.reached.get(part)) for part in PARTS}}
            for one in done
        ],
        "continual_seconds": percentiles([seconds for one in done for seconds in one.continual]),
        "continual": sum(len(one.continual) for one in done),
        "catching_up_seconds": percentiles(journeys.catching_up),
        "caught_up": len(journeys.catching_up),
    }


def _seconds(value: float | None) -> float | None:
    """None: not before the next head came."""
    return None if value is None else round(value, 3)


def measure(cell: dict[str, Any]) -> dict[str, Any]:
    """One run."""
    began = time.process_time()
    values = {"life_seconds": str(cell["life_seconds"]), "heads": str(cell["heads"])}
    report = run(adapt(propagation, peers=cell["peers"], minutes=None, values=values), cell["seed"])
    broken = [f"{verdict.promise}: {verdict.problem}" for verdict in report.verdicts if not verdict.holds]
    process_seconds = round(time.process_time() - began, 1)
    return {**cell, **report.measured, "broken": broken, "trace": report.trace, "process_seconds": process_seconds}


def cells(largest: int, seed: int) -> list[dict[str, Any]]:
    """What is run, the smallest first."""
    return [
        {"peers": size, "life_seconds": life, "heads": heads, "seed": seed + number}
        for size, (lives, seeds, heads) in _RUNS.items()
        if size <= largest
        for life in lives
        for number in range(seeds)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--largest", type=int, default=max(_RUNS), help="no swarm of more peers")
    parser.add_argument("--seed", type=int, default=1, help="the first")
    parser.add_argument("--processes", type=int, help="at once; by default one for each core")
    given = parser.parse_args()
    results.run(measure, cells(given.largest, given.seed), "propagation", given.processes)


if __name__ == "__main__":
    main()
