"""Things are done when they are due, in their order, by one task that is there only while it is needed."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from rhizome_index.node.later import Later


async def test_things_are_done_when_they_are_due(autojump_clock: MockClock) -> None:
    done: list[tuple[str, float]] = []
    started = trio.current_time()

    async with trio.open_nursery() as nursery:
        later = Later(nursery)

        def note(name: str) -> None:
            done.append((name, trio.current_time() - started))
            if name == "second":
                later.after(1, lambda: note("between"))

        for name, seconds in (("third", 5), ("second", 2), ("also second", 2), ("first", 1)):
            later.after(seconds, lambda name=name: note(name))  # type: ignore[misc]
        later.after(0, lambda: note("now"))
    assert done == [("now", 0), ("first", 1), ("second", 2), ("also second", 2), ("between", 3), ("third", 5)]
    async with trio.open_nursery() as nursery:
        later = Later(nursery)
        for _ in range(2):  # its task ends, and begins again
            later.after(1, lambda: note("again"))
            await trio.sleep(2)
            assert not nursery.child_tasks
    assert len(done) == 8
