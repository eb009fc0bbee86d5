"""Whom to ask: a lottery weighted by what was measured, never "the best-known one".

Load spreads because everybody who is good enough is drawn now and then, and a
newcomer serves at once: of whom nothing is known, the middle of what is known is
assumed. Failures make a peer rare, not impossible, and are forgotten with time.

It does not know sockets or clocks: time and chance are arguments.

Source: the lottery is that of Efraimidis and Spirakis, Weighted random sampling
with a reservoir, Information Processing Letters 97(5), 2006.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median

from rhizome_index.wire.counted import make_room

_REQUEST_BYTES = 32_768  # what a weight supposes a request to bring: about one answer
_SMOOTHING = 0.25  # weight of the newest measurement
_FORGIVEN_SECONDS = 60.0  # half of a failure is forgotten in this time
_ASSUMED_SECONDS = 0.1  # while nothing is known of anybody
_SECONDS_MIN = 0.001  # nobody wins by being next door


@dataclass(slots=True)
class _Measured:
    latency_seconds: float | None = None
    bytes_per_second: float | None = None
    failures: float = 0.0
    failed_at: float = 0.0


class Picker:
    """Remembers how peers did, and draws among them. `chance` gives numbers from 0 to 1."""

    def __init__(self, chance: Callable[[], float]) -> None:
        self._chance = chance
        self._peers: dict[str, _Measured] = {}

    def note_success(
        self, peer: str, seconds: float, size: int, latency_seconds: float | None, *, forgives: bool = True
    ) -> None:
        """A peer has answered `size` bytes in `seconds`; whether that makes up for a failure: cheap talk does not."""
        measured = self._of(peer)
        if size > _REQUEST_BYTES // 4 and seconds > 0:
            measured.bytes_per_second = _smooth(measured.bytes_per_second, size / seconds)
        else:  # how long a small answer took is latency too, however near the peer: it may be busy, or its disk slow
            latency_seconds = max(seconds, latency_seconds or 0.0)
        if latency_seconds is not None:
            measured.latency_seconds = _smooth(measured.latency_seconds, latency_seconds)
        if forgives:
            measured.failures *= 1 - _SMOOTHING

    def note_failure(self, peer: str, now: float) -> None:
        """A peer has not answered, or not well."""
        measured = self._of(peer)
        measured.failures = self._failures(measured, now) + 1
        measured.failed_at = now

    def speed(self, peer: str) -> tuple[float | None, float | None]:
        """What was measured of a peer: seconds of a round trip, and bytes a second."""
        measured = self._peers.get(peer)
        return (measured.latency_seconds, measured.bytes_per_second) if measured else (None, None)

    def order(self, peers: Iterable[str], now: float) -> list[str]:
        """All of these peers, in the order in which to ask them."""
        names = list(dict.fromkeys(peers))
        weights = self._weights(names, now)
        tickets = {name: self._chance() ** (1 / weights[name]) for name in names}
        return sorted(names, key=lambda name: tickets[name], reverse=True)

    def _weights(self, names: list[str], now: float) -> dict[str, float]:
        """Requests a second that a peer would answer, relative to the best, and less after failures."""
        seconds = {name: self._seconds(name) for name in names}
        known = [value for value in seconds.values() if value is not None]
        middle = median(known) if known else _ASSUMED_SECONDS
        weights = {}
        for name in names:
            expected = seconds[name]
            rate = 1 / max(_SECONDS_MIN, middle if expected is None else expected)
            measured = self._peers.get(name)
            failures = 0.0 if measured is None else self._failures(measured, now)
            weights[name] = rate * 0.25**failures
        best = max(weights.values(), default=1.0)
        return {name: max(weight / best, 1e-3) for name, weight in weights.items()}

    def _seconds(self, name: str) -> float | None:
        measured = self._peers.get(name)
        if measured is None or measured.latency_seconds is None:
            return None
        transfer = _REQUEST_BYTES / measured.bytes_per_second if measured.bytes_per_second else 0.0
        return measured.latency_seconds + transfer

    def _failures(self, measured: _Measured, now: float) -> float:
        forgiven: float = 0.5 ** ((now - measured.failed_at) / _FORGIVEN_SECONDS)
        return measured.failures * forgiven

    def _of(self, peer: str) -> _Measured:
        if peer not in self._peers:
            make_room(self._peers)
        return self._peers.setdefault(peer, _Measured())


def _smooth(known: float | None, measured: float) -> float:
    return measured if known is None else known + _SMOOTHING * (measured - known)
