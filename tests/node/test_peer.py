"""What a peer does by itself, in virtual time."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from rhizome_index.index.head import Identity
from rhizome_index.limits import RENEWALS_SECONDS
from rhizome_index.node import keyfile
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.home import Home
from rhizome_index.node.peer import Peer
from rhizome_index.node.publish import Declaration, Publisher
from tests.node.memory_swarm import MemorySwarm

IDENTITY = Identity(b"k" * 32)


@pytest.mark.parametrize("held_seconds", [2 * RENEWALS_SECONDS + 1, 300])
async def test_what_a_running_peer_publishes_never_expires(
    tmp_path: Path, autojump_clock: MockClock, held_seconds: float
) -> None:
    store = DiskStore(tmp_path / "store", make=True)
    Publisher(store, IDENTITY, trio.current_time, held_seconds).put_many("main", "c", [{"id": 1}], Declaration())
    peer = Peer(store, IDENTITY, trio.current_time, random.Random(1))
    address = peer.publisher.address("main")
    async with trio.open_nursery() as nursery:
        swarm: Any = MemorySwarm(nursery)
        peer.join(swarm, nursery)
        nursery.start_soon(peer.stay)
        for _ in range(20):
            await trio.sleep(held_seconds / 7)
            head = store.newest_head(address)
            assert head is not None and head.expires_ms is not None
            assert head.expires_ms / 1000 > trio.current_time()
        assert 2 < head.sequence < 10
        nursery.cancel_scope.cancel()
    store.close()


async def test_a_peer_whose_key_is_sealed_goes_on_without_it(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyfile, "HARDNESS", keyfile.Hardness(14))
    home = Home(tmp_path / "home")
    home.create(IDENTITY.seed)
    with home.open_store() as store:
        Publisher(store, home, trio.current_time, 1).put_many("main", "c", [{"id": 1}], Declaration())
        home.seal("x")
        peer = Peer(store, Home(home.path), trio.current_time, random.Random(1))
        async with trio.open_nursery() as nursery:
            swarm: Any = MemorySwarm(nursery)
            peer.join(swarm, nursery)
            nursery.start_soon(peer.stay)
            await trio.sleep(5 * RENEWALS_SECONDS)
            nursery.cancel_scope.cancel()
        head = store.newest_head(peer.publisher.address("main"))
        assert head is not None and head.sequence == 1
