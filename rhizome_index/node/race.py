"""Ask one peer after another, without waiting for those that keep silent.

Promises: the first answer counts, and the others are let go; the next peer is asked
when one has failed, or when nobody has been heard for a while. So a crowd that says
nothing costs a moment each, and two peers are rarely asked for the same.

It does not know what is asked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import trio

from rhizome_index.errors import IntegrityError, UnavailableError
from rhizome_index.limits import FETCH_LATE_SECONDS

T = TypeVar("T")


class Race(Generic[T]):
    """One question to several peers.

    problems  why peers did not answer, by peer
    late      peers that had not answered when somebody else was asked, as nobody had been heard for a while
    """

    def __init__(self) -> None:
        self.problems: dict[str, UnavailableError | IntegrityError] = {}
        self.late: set[str] = set()
        self._found: list[tuple[T, str]] = []
        self._running: set[str] = set()
        self._heard_at = 0.0
        self._changed = trio.lowlevel.ParkingLot()

    def note_heard(self) -> None:
        """Somebody is answering."""
        self._heard_at = trio.current_time()

    async def run(self, peers: Sequence[str], ask: Callable[[str], Awaitable[T]]) -> tuple[T, str] | None:
        """The first answer and whose it is; None if nobody has one.

        ask  gives a peer's answer, or raises UnavailableError or IntegrityError
        """
        async with trio.open_nursery() as nursery:
            for peer in peers:
                self._running.add(peer)
                nursery.start_soon(self._ask, peer, ask)
                await self._wait_until_late()
                if self._found:
                    break
            while self._running and not self._found:
                await self._changed.park()
            nursery.cancel_scope.cancel()
        return self._found[0] if self._found else None

    async def _wait_until_late(self) -> None:
        self.note_heard()
        while self._running and not self._found:
            with trio.move_on_at(self._heard_at + FETCH_LATE_SECONDS) as scope:
                await self._changed.park()
            if scope.cancelled_caught and trio.current_time() >= self._heard_at + FETCH_LATE_SECONDS:
                self.late |= self._running
                return

    async def _ask(self, peer: str, ask: Callable[[str], Awaitable[T]]) -> None:
        try:
            self._found.append((await ask(peer), peer))
        except (UnavailableError, IntegrityError) as problem:
            self.problems[peer] = problem
        finally:
            self._running.remove(peer)
            self._changed.unpark_all()
