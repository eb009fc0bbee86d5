"""Things to do a little later, by one task for all of them: most turn out not to be needed by then.

What is done is short and waits for nothing; it may start tasks.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count

import trio


class Later:
    """What is to be done later. Its task runs in `nursery`, as long as there is anything."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._number = count()
        self._rest: trio.CancelScope | None = None  # until the next is due

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something that many seconds from now; things of one time in the order of their coming."""
        when = trio.current_time() + seconds
        heapq.heappush(self._due, (when, next(self._number), action))
        if self._rest is None:
            self._rest = trio.CancelScope()
            self._nursery.start_soon(self._run)
        elif when < self._rest.deadline:
            self._rest.deadline = when

    async def _run(self) -> None:
        try:
            while self._due:
                self._rest = trio.CancelScope(deadline=self._due[0][0])
                with self._rest:
                    await trio.Event().wait()
                while self._due and self._due[0][0] <= trio.current_time():
                    heapq.heappop(self._due)[2]()
        finally:
            self._rest = None
