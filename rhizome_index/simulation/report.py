"""What a run has shown, as JSON: verdicts, how to replay it, what it cost, who bore it.

All of it follows from the seed: two runs of one seed give equal reports.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any

from rhizome_index import __version__
from rhizome_index.simulation.checkers import Verdict

_LORENZ_POINTS = 20
_PERCENTILES = (50, 90, 99, 100)


@dataclass(slots=True)
class Report:
    """One run.

    replay    the command that does it again
    trace     hash over all its events
    messages  single sends on streams; bytes: what streams delivered
    sent, received  bytes by peer
    measured  what the scenario itself has measured
    """

    scenario: str
    about: str
    seed: int
    peers: int
    minutes: float
    values: dict[str, Any]
    replay: str
    verdicts: list[Verdict] = field(default_factory=list)
    virtual_seconds: float = 0.0
    events: int = 0
    trace: str = ""
    messages: int = 0
    bytes: int = 0
    dials: int = 0
    answered: int = 0
    unanswered: int = 0
    answer_seconds: list[float] = field(default_factory=list)
    answer_bytes: list[int] = field(default_factory=list)
    answer_round_trips: list[int] = field(default_factory=list)
    head_lag_seconds: list[float] = field(default_factory=list)
    sent: dict[str, int] = field(default_factory=dict)
    received: dict[str, int] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether every promise was kept, and there was something to keep."""
        return all(verdict.holds for verdict in self.verdicts) and any(verdict.checked for verdict in self.verdicts)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "scenario": self.scenario,
            "about": self.about,
            "holds": self.holds,
            "verdicts": [asdict(verdict) for verdict in self.verdicts],
            "seed": self.seed,
            "peers": self.peers,
            "minutes": self.minutes,
            "values": self.values,
            "replay": self.replay,
            "versions": {"rhizome": __version__, "trio": version("trio"), "python": platform.python_version()},
            "virtual_seconds": round(self.virtual_seconds, 3),
            "events": self.events,
            "trace": self.trace,
            "messages": self.messages,
            "bytes": self.bytes,
            "dials": self.dials,
            "answers": {
                "whole": self.answered,
                "none": self.unanswered,
                "seconds": percentiles(self.answer_seconds),
                "bytes": percentiles(self.answer_bytes),
                "round_trips": percentiles(self.answer_round_trips),
            },
            "head_lag_seconds": percentiles(self.head_lag_seconds),
            "load": {
                "gini": round(gini(list(self.sent.values())), 4),
                "lorenz": lorenz(list(self.sent.values())),
                "sent_bytes": self.sent,
                "received_bytes": self.received,
            },
            "measured": self.measured,
        }


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """The values below which a part of all lie, by nearest rank; nothing for no values."""
    ordered = sorted(values)
    return {f"p{part}": round(ordered[-(-part * len(ordered) // 100) - 1], 6) for part in _PERCENTILES if ordered}


def gini(values: Sequence[float]) -> float:
    """How unevenly something is spread: 0 if all have the same, towards 1 if one has all."""
    ordered, total, count = sorted(values), sum(values), len(values)
    if not total:
        return 0.0
    return 2 * sum(rank * value for rank, value in enumerate(ordered, 1)) / (count * total) - (count + 1) / count


def lorenz(values: Sequence[float]) -> list[float]:
    """The part of all that the least 0, 5, 10, ... percent have."""
    ordered, total = sorted(values), sum(values)
    if not total:
        return []
    points = []
    for point in range(_LORENZ_POINTS + 1):
        taken = ordered[: len(ordered) * point // _LORENZ_POINTS]
        points.append(round(sum(taken) / total, 4))
    return points
