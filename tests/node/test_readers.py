"""Whom we ask what they serve, because they have copied something from us."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import trio
from trio.testing import MockClock

from rhizome_index.errors import UnavailableError
from rhizome_index.index.address import Address
from rhizome_index.limits import PEERS_COUNTED_MAX, READERS_AGAIN_SECONDS, READERS_MET_SECONDS
from rhizome_index.node.cost import Cost
from rhizome_index.node.readers import Readers


class Swarm:
    connected_peers = ("one", "other", "gruff")


class Directory:
    def __init__(self) -> None:
        self.asked: list[str] = []

    async def ask(self, peer: str, addresses: Sequence[Address], cost: Cost) -> dict[Address, Any]:
        self.asked.append(peer)
        if peer == "gruff":
            raise UnavailableError("it does not answer")
        return {}


def reading(nursery: trio.Nursery) -> tuple[Readers, Directory]:
    swarm: Any = Swarm()
    directory: Any = Directory()
    return Readers(swarm, directory, nursery), directory


async def test_each_is_asked_once_a_little_later_and_again_long_after(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    readers, directory = reading(nursery)
    for peer in ("one", "one", "gruff", "gone", "other", "one"):
        readers.note(peer)
    await trio.sleep(READERS_MET_SECONDS - 1)
    assert directory.asked == []
    await trio.sleep(2)
    assert sorted(directory.asked) == ["gruff", "one", "other"]
    readers.note("one")
    await trio.sleep(READERS_AGAIN_SECONDS)
    assert directory.asked.count("one") == 1
    readers.note("one")
    await trio.sleep(READERS_MET_SECONDS + 1)
    assert directory.asked.count("one") == 2


async def test_a_bounded_number_of_them_is_remembered(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    readers, _ = reading(nursery)
    for number in range(PEERS_COUNTED_MAX + 1):
        readers.note(f"peer {number}")
        assert len(readers._noted_until) == min(number + 1, PEERS_COUNTED_MAX)
