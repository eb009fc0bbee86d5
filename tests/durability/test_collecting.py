"""Freeing blocks between publishing, syncing and losses of power: no block that is needed is ever lost.

Each trial is a generated order of steps on a simulated disk. The power goes in the
midst of some of them, at any write; what was acknowledged before must be whole, after
that and at the end.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import apsw
import pytest

from rhizome_index.blocks.cid import Cid
from rhizome_index.errors import StoreError
from rhizome_index.index.head import Head, Identity
from rhizome_index.node import collect as collecting
from rhizome_index.node.collect import Root, collect
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.mend import missing_blocks
from rhizome_index.node.publish import Publisher
from rhizome_index.node.reach import dataset_blocks
from rhizome_index.node.register import Follow, Policy, Register
from rhizome_index.simulation.disks import Disk, FileSystem
from tests.durability.story import DECLARED, IDENTITY, some_records

OTHER = Identity(b"o" * 32)
HEADS_KEPT = 2  # here: older ones are waste soon
STEPS = 10
Version = tuple[Head, list[tuple[Cid, bytes]]]


def change(publisher: Publisher, chance: random.Random, count: int) -> Head:
    return publisher.put_many("main", "posts", some_records(chance, count), DECLARED)[0]


@pytest.fixture(scope="module")
def versions() -> Iterator[list[Version]]:
    """Somebody else's dataset, head after head, each with all its blocks."""
    files, chance = FileSystem(), random.Random(1)
    folder = files.add("other", Disk(lambda: 0.0, chance))
    with closing(DiskStore(_path(folder), make=True, vfs=files.name)) as store:
        publisher = Publisher(store, OTHER, lambda: 1_700_000_000.0)
        heads = [change(publisher, chance, 30) for _ in range(6)]
        yield [(head, list(dataset_blocks(store, head, set()))) for head in heads]
    files.close()


def _path(folder: str) -> Path:
    return Path(folder) / "store.sqlite"


class Trial:
    """One store, and what was acknowledged of it.

    own, held  the newest head of ours, and of the dataset that is followed, that must be whole
    """

    def __init__(self, seed: int, versions: list[Version], files: FileSystem) -> None:
        self._chance = random.Random(seed)
        self._versions = versions
        self._files = files
        self._disk = Disk(lambda: 0.0, self._chance)
        self._folder = files.add("home", self._disk)
        self._place = 0
        self.own: Head | None = None
        self.held: Head | None = None
        self.freed = self.cuts = 0
        self.store = self._open()

    def _open(self) -> DiskStore:
        return DiskStore(_path(self._folder), make=True, vfs=self._files.name, log_pages=12)

    def run(self) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(collecting, "HEADS_KEPT", HEADS_KEPT)
            for _ in range(STEPS):
                step = self._chance.choice([self._publish, self._sync, self._sync_in_part, self._collect])
                self._disk.fuse = self._chance.randrange(40) if self._chance.random() < 0.4 else None
                generation = self._disk.generation
                try:
                    step()
                except StoreError:
                    assert self._disk.generation != generation, "it failed by itself"
                if self._disk.generation != generation:
                    self.cuts += 1
                    self.close()
                    self.store = self._open()
                self._disk.fuse = None
                self.check()

    def close(self) -> None:
        with suppress(apsw.Error):  # its disk may be dead
            self.store.close()

    def check(self) -> None:
        for before, now in (
            (self.own, self.own and self.store.newest_head(self.own.address)),
            (self.held, self.held and self.store.held_head(self.held.address)),
        ):
            if before is not None:
                assert now is not None and now.sequence >= before.sequence, "an acknowledged head is lost"
                assert not missing_blocks(self.store, now), "a block that is needed is lost"

    def _publish(self) -> None:
        self.own = change(
            Publisher(self.store, IDENTITY, lambda: 1_700_000_000.0), self._chance, self._chance.choice([1, 3, 40])
        )

    def _sync(self) -> None:
        head, blocks = self._bring(1.0)
        self.store.put_fetched(blocks)
        self.store.set_held(head)
        self.held = head
        self._place = min(self._place + 1, len(self._versions) - 1)

    def _sync_in_part(self) -> None:
        """One that ends before its head is held."""
        head, blocks = self._bring(self._chance.random())
        self.store.put_heard(head)
        for block in blocks:
            self.store.put_fetched([block])

    def _bring(self, share: float) -> Version:
        """The next head, and some of its blocks that are not here, from above."""
        head, blocks = self._versions[self._place]
        Register(self.store).follow(Follow(head.address, Policy()))
        missing = [(cid, data) for cid, data in blocks if not self.store.has(cid)]
        return head, missing[: round(share * len(missing))]

    def _collect(self) -> None:
        self.freed += collect(self.store, IDENTITY.peer_id).freed_blocks


def trials(seeds: range, versions: list[Version]) -> tuple[int, int]:
    """How many blocks were freed, and how often the power went."""
    freed = cuts = 0
    for seed in seeds:
        files = FileSystem()
        trial = Trial(seed, versions, files)
        try:
            trial.run()
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
        finally:
            trial.close()
            files.close()
        freed, cuts = freed + trial.freed, cuts + trial.cuts
    return freed, cuts


def test_nothing_needed_is_lost(versions: list[Version]) -> None:
    freed, cuts = trials(range(20), versions)
    assert freed > 20 and cuts > 20


@pytest.mark.slow
@pytest.mark.parametrize("part", range(20))
def test_nothing_needed_is_lost_in_many_orders(versions: list[Version], part: int) -> None:
    """10,000 orders of steps."""
    trials(range(1000 + 500 * part, 1500 + 500 * part), versions)


Roots = Callable[[DiskStore, str], list[Root]]


def _only(is_kept: Callable[[Root], bool]) -> Callable[[Roots], Roots]:
    return lambda roots: lambda store, peer_id: [root for root in roots(store, peer_id) if is_kept(root)]


def _of_before(roots: Roots) -> Roots:
    """Marks of the heads that there were at the collection before."""
    last: list[Root] = []

    def stale(store: DiskStore, peer_id: str) -> list[Root]:
        found, last[:] = list(last), roots(store, peer_id)
        return found

    return stale


@pytest.mark.parametrize(
    "broken",
    [
        _only(lambda root: root.head.address.publisher != IDENTITY.peer_id),
        _only(lambda root: root.head.address.publisher == IDENTITY.peer_id),
        _of_before,
    ],
    ids=["forgets what is ours", "forgets what is followed", "marks before a publish"],
)
def test_a_broken_collection_is_caught(
    monkeypatch: pytest.MonkeyPatch, versions: list[Version], broken: Callable[[Roots], Roots]
) -> None:
    monkeypatch.setattr(collecting, "roots", broken(collecting.roots))
    with pytest.raises(AssertionError, match=r"a block that is needed is lost|failed by itself"):
        trials(range(20), versions)


def test_records_that_are_marked_as_whole_trees_only_are_caught(
    monkeypatch: pytest.MonkeyPatch, versions: list[Version]
) -> None:
    """A walk that stops above the leaves."""
    children = collecting.children
    monkeypatch.setattr(collecting, "children", lambda place, data: children(place, data)[:1])
    with pytest.raises(AssertionError, match="a block that is needed is lost"):
        trials(range(20), versions)
