"""A scenario run several times, each time with another value of one setting: points of a curve.

Promises: each point is a run in a process of its own, and so equal to the same run by itself; points come in the order
of their values, as soon as they are there. No more processes than cores, so that no run waits for another.
"""

from __future__ import annotations

import os
import resource
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context

from rhizome_index.errors import RhizomeError, UsageError
from rhizome_index.simulation.report import Report
from rhizome_index.simulation.scenario import adapt, load, run

PEERS, MINUTES, SEED = "peers", "minutes", "seed"


@dataclass(frozen=True, slots=True)
class Run:
    """What a run is made from; `name` and `values` as they are written on a command line."""

    name: str
    seed: int
    peers: int | None
    minutes: float | None
    values: dict[str, str]

    def __call__(self) -> Report:
        """Run it. Raises UsageError for a scenario or a setting that there is not."""
        return run(adapt(load(self.name), peers=self.peers, minutes=self.minutes, values=self.values), self.seed)


@dataclass(frozen=True, slots=True)
class Point:
    """One run of several.

    value              what the setting was
    real_seconds       how long it took
    memory_bytes_peak  of its process
    """

    setting: str
    value: str
    report: Report
    real_seconds: float
    memory_bytes_peak: int


def parse_sweep(text: str) -> tuple[str, list[str]]:
    """A setting and its values: "peers=10,100,1000". Raises UsageError."""
    setting, _, rest = text.partition("=")
    values = [value.strip() for value in rest.split(",") if value.strip()]
    if not setting or not values:
        raise UsageError(f"not KEY=VALUE,VALUE,...: {text!r}", hint="for example: peers=10,100,1000")
    return setting, values


def replay_sweep(base: Run, setting: str, values: Sequence[str]) -> str:
    """The command that runs a sweep again."""
    words = [f"rhizome simulate {shlex.quote(base.name)} --seed {base.seed}"]
    words += [f"--peers {base.peers}"] if base.peers is not None and setting != "peers" else []
    words += [f"--minutes {base.minutes:g}"] if base.minutes is not None and setting != "minutes" else []
    words += [f"--set {shlex.quote(f'{name}={value}')}" for name, value in base.values.items() if name != setting]
    return " ".join([*words, f"--sweep {shlex.quote(f'{setting}=' + ','.join(values))}"])


def points_of(base: Run, setting: str, values: Sequence[str]) -> list[Run]:
    """The runs of a sweep. Raises UsageError before any of them has begun."""
    runs = [_with(base, setting, value) for value in values]
    for one in runs:
        adapt(load(one.name), peers=one.peers, minutes=one.minutes, values=one.values)
    return runs


def _with(base: Run, setting: str, value: str) -> Run:
    try:
        if setting == PEERS:
            base = replace(base, peers=int(value))
        elif setting == SEED:
            return replace(base, seed=int(value))
        elif setting == MINUTES:
            base = replace(base, minutes=float(value))
        else:
            return replace(base, values={**base.values, setting: value})
    except ValueError:
        raise UsageError(f"{setting}={value}: not a number") from None
    if not float(value) > 0:
        raise UsageError(f"{setting}={value}: not above 0")
    return base


def sweep(base: Run, setting: str, values: Sequence[str], processes: int | None = None) -> Iterator[Point]:
    """Run a scenario for each value of a setting: "peers", "minutes", "seed" or one of its own.

    Raises UsageError before the first run, and RhizomeError if a process ends in the midst of one.
    """
    runs = points_of(base, setting, values)
    cores = min(len(runs), processes or os.cpu_count() or 1)
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        coming = [pool.submit(_measure, setting, value, one) for value, one in zip(values, runs, strict=True)]
        try:
            for point in coming:
                yield point.result()
        except BrokenProcessPool:
            raise RhizomeError("a run ended in its midst", hint="perhaps it took more memory than there is") from None
        finally:
            pool.shutdown(cancel_futures=True)


def _measure(setting: str, value: str, one: Run) -> Point:
    """In a process of its own."""
    started = time.monotonic()
    report = one()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 1 if sys.platform == "darwin" else 1024
    return Point(setting, value, report, round(time.monotonic() - started, 3), peak * unit)
