"""What experiments with large datasets stand on: a bare cluster, and datasets made once and laid on simulated disks.

A dataset is made by the node's own publisher in a store on a real disk, whose file is then what a member's simulated
disk holds when it starts. That is the store that it would have after publishing, or after following, and the member
does not know better; only the time that this takes is left out.
"""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import trio

from rhizome_index.api import DEFAULT_DATASET
from rhizome_index.index.head import Head, Identity
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.publish import Publisher
from rhizome_index.node.register import Follow, Policy, Register
from rhizome_index.simulation.backends import Simulated
from rhizome_index.simulation.checkers import NothingCrashes
from rhizome_index.simulation.cluster import COLLECTION, DECLARATION, Cluster, Member
from rhizome_index.simulation.network import Weather
from rhizome_index.simulation.workload import Model, Record
from rhizome_index.simulation.world import EPOCH_SECONDS, World

_BIG = 20_000  # records that are sorted on disk

T = TypeVar("T")


def play(seed: int, main: Callable[[Cluster], Awaitable[T]], weather: Weather | None = None) -> T:
    """Do something with a cluster in a world of its own. Raises AssertionError if anything has crashed meanwhile."""
    world, ground = World(seed), Simulated()

    async def run() -> T:
        with ground.open(world, weather or Weather()) as make_cluster:
            async with trio.open_nursery() as nursery:
                cluster = make_cluster(nursery)
                crashes = NothingCrashes(cluster, Model())
                found = await main(cluster)
                nursery.cancel_scope.cancel()
        assert crashes.verdict().holds, crashes.problem
        return found

    return world.run(run)


def publish(path: Path, contents: Iterable[tuple[Identity, Sequence[Record]]]) -> list[Head]:
    """Make a store with a dataset of each publisher, of the collection and the indexes that all scenarios have."""
    heads = []
    with closing(DiskStore(path, make=True)) as store, store.transaction():
        for identity, records in contents:
            publisher = Publisher(store, identity, lambda: EPOCH_SECONDS)
            is_big = len(records) > _BIG
            heads.append(
                publisher.put_many(DEFAULT_DATASET, COLLECTION, map(dict, records), DECLARATION, big=is_big)[0]
            )
    return heads


def followed(path: Path, heads: Sequence[Head]) -> Path:
    """The store of somebody who follows these datasets, and has brought them: made of the publisher's."""
    other = path.with_suffix(".followed")
    shutil.copy(path, other)
    with closing(DiskStore(other)) as store, store.transaction():
        register = Register(store)
        for head in heads:
            register.follow(Follow(head.address, Policy()))
            store.set_held(head)
    return other


def lay(member: Member, path: Path) -> None:
    """Let a member that does not run yet have this store."""
    member.host.disk.lay(f"{member.folder}/store.sqlite", path.read_bytes())
