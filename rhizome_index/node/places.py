"""Places for answers under way: so many in all, and who keeps his answers waiting makes room.

Promises: a free place is given at once. When there is none, and somebody comes who has
fewer, the peer with the most loses the one that has waited for its reader the longest, if
that is long enough. So readers that take as long as they may, however many, keep nobody
out. While all answers are on their way, who comes later waits a while; of those that
wait, who has the fewest places is next.

It does not know what is answered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from rhizome_index.limits import HELD_UP_SECONDS, TURN_TIMEOUT_SECONDS


class Place:
    """One answer's place. `scope`, in which its holder answers, is cancelled when it must make room."""

    def __init__(self, peer_id: str) -> None:
        self.peer_id = peer_id
        self.scope = trio.CancelScope()
        self.held_up_at: float | None = None

    @contextmanager
    def held_up(self) -> Iterator[None]:
        """While the answer waits for its reader."""
        self.held_up_at = trio.current_time()
        try:
            yield
        finally:
            self.held_up_at = None


class Places:
    """So many places. `held` are those that are taken."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.held: set[Place] = set()
        self._queue: list[_Waiter] = []  # in the order in which they came

    async def take(self, peer_id: str) -> Place | None:
        """A place, to be given back with `leave`; None if there is none within TURN_TIMEOUT_SECONDS."""
        waiter = _Waiter(peer_id)
        self._queue.append(waiter)
        self._hand_out()
        try:
            with trio.move_on_after(TURN_TIMEOUT_SECONDS):
                while waiter.place is None:
                    self._make_room(peer_id)
                    with trio.move_on_after(HELD_UP_SECONDS):
                        await waiter.turn.wait()
        except trio.Cancelled:
            if waiter.place is not None:
                self.leave(waiter.place)
            raise
        finally:
            if waiter.place is None:
                self._queue.remove(waiter)
        return waiter.place

    def leave(self, place: Place) -> None:
        """Give a place back."""
        self.held.remove(place)
        self._hand_out()

    def _hand_out(self) -> None:
        while self._queue and len(self.held) < self._count:
            numbers = self._numbers()
            waiter = min(self._queue, key=lambda waiter: numbers[waiter.peer_id])
            self._queue.remove(waiter)
            waiter.place = Place(waiter.peer_id)
            self.held.add(waiter.place)
            waiter.turn.set()

    def _make_room(self, peer_id: str) -> None:
        numbers = self._numbers()
        longest = trio.current_time() - HELD_UP_SECONDS
        slow = [
            (-numbers[place.peer_id], place.held_up_at, place)
            for place in self.held
            if place.held_up_at is not None
            and place.held_up_at <= longest
            and not place.scope.cancel_called
            and numbers[place.peer_id] > (numbers[peer_id] + 1 if numbers[peer_id] else 0)
        ]
        if slow:
            min(slow, key=lambda found: found[:2])[2].scope.cancel()

    def _numbers(self) -> Counter[str]:
        return Counter(place.peer_id for place in self.held)


class _Waiter:
    def __init__(self, peer_id: str) -> None:
        self.peer_id = peer_id
        self.place: Place | None = None
        self.turn = trio.Event()
