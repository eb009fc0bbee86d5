"""What a peer may make us do: so much a second, and some at once after it has been quiet."""

from __future__ import annotations


class Allowance:
    """An amount that fills up with time. It knows no clock: time is an argument.

    per_second  what is added in a second
    at_once     the most that gathers, which is what there is at first
    """

    def __init__(self, per_second: float, at_once: float) -> None:
        self._per_second = per_second
        self._at_once = self._left = at_once
        self._looked_at: float | None = None

    def spend(self, amount: float, now: float) -> bool:
        """Take an amount, if there is as much; whether there was."""
        self._fill(now)
        if amount > self._left:
            return False
        self._left -= amount
        return True

    def owe(self, amount: float, now: float) -> float:
        """Take an amount, whatever there is; the seconds until that is made good."""
        self._fill(now)
        self._left -= amount
        return max(0.0, -self._left / self._per_second)

    def _fill(self, now: float) -> None:
        passed = 0.0 if self._looked_at is None else now - self._looked_at
        self._left = min(self._at_once, self._left + passed * self._per_second)
        self._looked_at = now
