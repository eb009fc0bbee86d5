"""Dialling: several at a time, and not more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import trio

from rhizome_index.errors import UnavailableError
from rhizome_index.limits import DIALS_AT_ONCE_MAX
from rhizome_index.node.directory import Directory
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.register import Register


class SlowSwarm:
    """Every dial takes a second; those at odd addresses fail."""

    def __init__(self) -> None:
        self.dialling = self.most = 0

    async def dial(self, address: str, *, timeout_seconds: float) -> str:
        self.dialling += 1
        self.most = max(self.most, self.dialling)
        await trio.sleep(1)
        self.dialling -= 1
        if int(address) % 2:
            raise UnavailableError(f"cannot reach {address}")
        return f"peer {address}"


async def test_dials_at_the_limit_and_one_past_it(tmp_path: Path, autojump_clock: Any) -> None:
    store = DiskStore(tmp_path / "store", make=True)
    for count, seconds in ((DIALS_AT_ONCE_MAX, 1), (DIALS_AT_ONCE_MAX + 1, 2), (3 * DIALS_AT_ONCE_MAX, 3)):
        swarm: Any = SlowSwarm()
        started = trio.current_time()
        directory = Directory(swarm, None, Register(store), lambda: 0.0)  # type: ignore[arg-type]
        found, failed = await directory.connect(map(str, range(count)))
        assert found == [f"peer {number}" for number in range(0, count, 2)] and len(failed) == count // 2
        assert swarm.most == min(count, DIALS_AT_ONCE_MAX) and trio.current_time() - started == seconds
    store.close()
