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

from rhizome_index.limits import SUSPECT_HANDSHAKES_PER_SECOND, SUSPECT_SECONDS, SUSPECTS_MAX

PAUSE_SECONDS = 1 / SUSPECT_HANDSHAKES_PER_SECOND


class Suspects:
    """Who is one.

    next_turn  when another of them may begin
    """

    def __init__(self) -> None:
        self._until: dict[str, float] = {}  # in the order of these times
        self.next_turn = 0.0

    def note(self, origin: str, now: float) -> None:
        """A machine's handshake came to nothing, or its connection was cut for a reason."""
        self._until.pop(origin, None)
        if len(self._until) >= SUSPECTS_MAX:
            del self._until[next(iter(self._until))]
        self._until[origin] = now + SUSPECT_SECONDS

    def is_one(self, origin: str, now: float) -> bool:
        return self._until.get(origin, 0.0) > now

    def begin(self, now: float) -> None:
        """One of them begins a handshake, now that it is its turn."""
        self.next_turn = now + PAUSE_SECONDS
