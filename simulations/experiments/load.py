"""How load gathers in long-lived peers: "ask the best-known peer" against the node's own lottery.

    python -m simulations.experiments.load                            # 10,000 joins of each policy, in four runs
    python -m simulations.experiments.load --joins 500 --runs 1       # a look

The baseline differs in one thing: whom a peer asks, and dials, is whoever has answered it best and is named most. How
peers hear of each other is the same. `crowd.py` says what is simulated, and what is not.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from rhizome_index.index.address import Address
from rhizome_index.node.register import Register
from rhizome_index.simulation.report import gini, lorenz, percentiles
from rhizome_index.wire.pick import Picker
from simulations.experiments import results
from simulations.experiments.crowd import DAY, FRIEND, HOUR, PUBLISHER, VETERANS, Asked, Crowd, One, Plan, play

LOTTERY, BEST_KNOWN = "lottery", "best-known"
_SAMPLE_SECONDS = 600.0
_WARM_UP = 0.2  # of all joins
_AGES = (0.25, 0.5, 1.0, 3.0, 6.0, 12.0, 24.0, 36.0, 48.0, 72.0, 96.0)  # hours
_REMOVED = (1, 3, 10, 30)  # peers that bear most are taken away, up to so many
_WAIT_SECONDS = 30.0


class Mentions(Register):
    """A register that counts how often each peer is named."""

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        self.named: Counter[str] = Counter()

    def note_provider(self, dataset: Address, peer_id: str, now: float) -> None:
        self.named[peer_id] += 1
        super().note_provider(dataset, peer_id, now)


class BestKnown(Picker):
    """Ask whoever has answered most often and, of those who have not, whoever is named most; the failing ones last."""

    def __init__(self, chance: Callable[[], float], register: Mentions) -> None:
        super().__init__(chance)
        self._register = register
        self._answers: Counter[str] = Counter()

    def note_success(self, peer: str, *measured: Any, forgives: bool = True) -> None:
        super().note_success(peer, *measured, forgives=forgives)
        self._answers[peer] += forgives

    def order(self, peers: Iterable[str], now: float) -> list[str]:
        def rank(peer: str) -> tuple[bool, int, int, str]:
            measured = self._peers.get(peer)
            is_failing = measured is not None and self._failures(measured, now) > 0.5
            return is_failing, -self._answers[peer], -self._register.named[peer], peer

        return sorted(dict.fromkeys(peers), key=rank)


class Load:
    """Who has served how much, sampled."""

    def __init__(self, crowd: Crowd) -> None:
        self.crowd = crowd
        self.total = self.oldest = self.publisher = 0
        self.by_age = [[0, 0.0] for _ in (*_AGES, None)]  # bytes, and seconds that somebody was as old
        self.began = crowd.world.now
        self._counted_at = self.began
        self._before = {one: one.host.counts.bytes_sent for one in crowd.alive.values()}
        for one in crowd.alive.values():
            one.counted = one.host.counts.bytes_sent
        crowd.on_leave = self.count

    def sample(self) -> None:
        """Count what everybody has sent since the last sample."""
        for one in list(self.crowd.alive.values()):
            self.count(one)
        self._counted_at = self.crowd.world.now

    def count(self, one: One) -> None:
        """Count what one peer has sent since."""
        now = self.crowd.world.now
        alive = list(self.crowd.alive.values())
        size, one.counted = one.host.counts.bytes_sent - one.counted, one.host.counts.bytes_sent
        self.total += size
        if one in alive[: max(1, len(alive) // 10)]:
            self.oldest += size
        if one.host.peer_id == self.crowd.publisher:
            self.publisher += size
        bucket = self.by_age[sum(now - one.since > hours * HOUR for hours in _AGES)]
        bucket[0] += size
        bucket[1] += now - max(self._counted_at, one.since)

    def rates(self) -> dict[str, float]:
        """Bytes a second of everybody who is there and has been for an hour, since the load is counted."""
        now = self.crowd.world.now
        return {
            peer: (one.host.counts.bytes_sent - self._before.get(one, 0)) / (now - max(self.began, one.since))
            for peer, one in self.crowd.alive.items()
            if now - one.since > HOUR
        }

    def summary(self) -> dict[str, Any]:
        rates = list(self.rates().values())
        mean = sum(size for size, _ in self.by_age) / sum(seconds for _, seconds in self.by_age)
        ages = [f"<{hours:g} h" for hours in _AGES] + [f">{_AGES[-1]:g} h"]
        return {
            "oldest_tenth": round(self.oldest / self.total, 4),
            "publisher": round(self.publisher / self.total, 4),
            "gini": round(gini(rates), 4),
            "lorenz": lorenz(rates),
            "load_by_age": {
                age: round(size / seconds / mean, 3)
                for age, (size, seconds) in zip(ages, self.by_age, strict=True)
                if seconds
            },
            "bytes": self.total,
            "hours": round((self.crowd.world.now - self.began) / HOUR, 1),
            "alive": len(self.crowd.alive),
        }


def measure(cell: dict[str, Any]) -> dict[str, Any]:
    """One run: its load, how requests went, and what is left when the most loaded are gone."""
    began = time.process_time()
    plan = Plan(cell["joins"], contact=cell["contact"])
    if cell["policy"] == BEST_KNOWN:
        plan = replace(plan, make_register=Mentions, make_picker=BestKnown)
    found: dict[str, Any] = dict(cell)

    def watch(crowd: Crowd) -> Iterator[float]:
        while crowd.joined < _WARM_UP * plan.joins:
            yield _SAMPLE_SECONDS
        load, crowd.asked = Load(crowd), Asked()
        while crowd.joined < plan.joins:
            yield _SAMPLE_SECONDS
            load.sample()
        found.update(load.summary(), joined=crowd.joined, virtual_days=round(crowd.world.now / DAY, 2))
        found["requests"] = _told(crowd.asked) | {"without_copy": crowd.without_copy}
        found["removed"] = {}
        heaviest = sorted(load.rates().items(), key=lambda item: -item[1])
        for count in _REMOVED:
            gone = [peer for peer, _ in heaviest[:count] if peer in crowd.alive]
            crowd.remove(gone)
            asked, failed_before = Asked(), crowd.without_copy
            crowd.ask_all(asked)
            newcomers = [crowd.come() for _ in range(10)]
            yield _WAIT_SECONDS
            served = sum(crowd.alive[peer].has_copy for peer in newcomers if peer in crowd.alive)
            told = _told(asked) | {"newcomers_served": served, "newcomers_failed": crowd.without_copy - failed_before}
            found["removed"][str(count)] = told

    play(plan, cell["seed"], watch)
    found["process_seconds"] = round(time.process_time() - began, 1)
    return found


def _told(asked: Asked) -> dict[str, Any]:
    """How requests went."""
    total = len(asked.seconds) + asked.unanswered
    return {
        "asked": total,
        "answered": round(len(asked.seconds) / total, 4) if total else None,
        "within_2_s": round(sum(seconds <= 2 for seconds in asked.seconds) / total, 4) if total else None,
        "failed_over": asked.failed_over,
        "seconds": percentiles(asked.seconds),
    }


def cells(joins: int, runs: int, seed: int) -> list[dict[str, Any]]:
    """What is run: the two policies, `joins` in so many runs together; and each once with other first contacts."""
    one = joins // runs
    contacts = [(PUBLISHER, seed + number, one) for number in range(runs)]
    contacts += [(contact, seed, min(one, joins // 10)) for contact in (FRIEND, VETERANS)]
    return [
        {"policy": policy, "contact": contact, "joins": count, "seed": number}
        for contact, number, count in contacts
        for policy in (LOTTERY, BEST_KNOWN)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--joins", type=int, default=10_000, help="of each policy")
    parser.add_argument("--runs", type=int, default=4, help="in which they come, each with a seed of its own")
    parser.add_argument("--seed", type=int, default=1, help="of the first run")
    parser.add_argument("--processes", type=int, help="at once; by default one for each core")
    given = parser.parse_args()
    results.run(measure, cells(given.joins, given.runs, given.seed), "load", given.processes)


if __name__ == "__main__":
    main()
