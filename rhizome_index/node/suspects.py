"""Machines whose connections came to nothing, or were cut for what was done on them.

Promises: all of them together begin no more than so many handshakes a second, evenly
spaced, whatever their number and however fast they come back; nobody else waits for
theirs. One that behaves for a while is no suspect any more. What is remembered is
bounded.

A suspect is slowed down, not shut out: where nobody attacks, who shares a suspect's
address (a router's, say) notices nothing. It knows no clock: time is an argument, in
seconds.
"""

from __future__ import annotations

from rhizome_index.limits import (
    HANDSHAKE_TIMEOUT_SECONDS,
    SUSPECT_HANDSHAKES_PER_SECOND,
    SUSPECT_HANDSHAKES_WAITING,
    SUSPECT_SECONDS,
    SUSPECTS_MAX,
)


class Suspects:
    """Who is one, and when the next of them may have its turn."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}  # in the order of these times
        self._next_turn = 0.0

    def note(self, origin: str, now: float) -> None:
        """A machine's handshake came to nothing, or its connection was cut for a reason."""
        self._until.pop(origin, None)
        if len(self._until) >= SUSPECTS_MAX:
            del self._until[next(iter(self._until))]
        self._until[origin] = now + SUSPECT_SECONDS

    def admit(self, origin: str, waiting: int, now: float) -> float | None:
        """How long a new connection has to wait for its turn, at least; None if that is too long to be let in.

        waiting  how many of the same machine wait already
        """
        if self._until.get(origin, 0.0) <= now:
            return 0.0
        turn = max(now, self._next_turn)
        if waiting >= SUSPECT_HANDSHAKES_WAITING or turn - now >= HANDSHAKE_TIMEOUT_SECONDS:
            return None
        self._next_turn = turn + 1 / SUSPECT_HANDSHAKES_PER_SECOND
        return turn - now
