"""What a reader insists on of the head that it is answered from.

A signature says who has published something, and a proof that an answer is right for
it; neither says that there is nothing newer. Whoever answers may keep the newest head
back. So a reader may insist on a head that was signed lately, or on one whose
publisher still stands for it.
"""

from __future__ import annotations

from dataclasses import dataclass

from rhizome_index.errors import UnavailableError
from rhizome_index.index.duration import say_duration
from rhizome_index.index.head import Head

_HINT = "name a peer that may have a newer one: --peer; its publisher signs anew with: rhizome renew"


@dataclass(frozen=True, slots=True)
class Freshness:
    """By default, nothing.

    age_seconds   the head was signed at most so long ago; None: at any time
    is_unexpired  the head says until when it holds, and that is not over
    """

    age_seconds: float | None = None
    is_unexpired: bool = False

    def check(self, head: Head, now: float) -> None:
        """Raise UnavailableError unless a head is as fresh as that. `now`: seconds since 1970."""
        age = now - head.time_ms / 1000
        if self.age_seconds is not None and age > self.age_seconds:
            wanted = say_duration(self.age_seconds)
            raise UnavailableError(
                f"head {head.sequence} is {say_duration(age)} old; wanted is one of at most {wanted}", hint=_HINT
            )
        left = expires_in(head, now)
        if self.is_unexpired and left is None:
            raise UnavailableError(
                f"head {head.sequence} does not say how long it holds", hint="insist on its age instead: --fresh 1h"
            )
        if self.is_unexpired and left is not None and left <= 0:
            raise UnavailableError(f"head {head.sequence} expired {say_duration(abs(left))} ago", hint=_HINT)


ANY_AGE = Freshness()


def expires_in(head: Head, now: float) -> float | None:
    """The seconds until a head expires, negative since it has; None if it never does."""
    return None if head.expires_ms is None else round(head.expires_ms / 1000 - now, 3)
