"""Freeing blocks between publishing, syncing, queries, pins and losses of power: no block that is needed is ever lost.

Each trial is a generated order of steps on a simulated disk: of tasks that go on
beside each other, a collection among them. The power goes in the midst of some steps,
at any write; what was acknowledged before must be whole whenever something was freed,
after losses of power, and at the end.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from contextlib import closing, nullcontext, suppress
from functools import lru_cache
from pathlib import Path

import apsw
import pytest

from rhizome_index.blocks.cid import Cid
from rhizome_index.errors import StoreError
from rhizome_index.index.head import Head, Identity
from rhizome_index.node import collect as collecting
from rhizome_index.node import reach as reaching
from rhizome_index.node.cache import Cache
from rhizome_index.node.collect import Collection, Root, collect
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.mend import missing_blocks
from rhizome_index.node.pins import Pins
from rhizome_index.node.publish import Publisher
from rhizome_index.node.reach import MANIFEST, Place, dataset_blocks, reach
from rhizome_index.node.register import Follow, Policy, Register
from rhizome_index.node.room import Room
from rhizome_index.node.uses import Kind, Uses
from rhizome_index.simulation.disks import Disk, FileSystem
from rhizome_index.tree.node import decode_node
from tests.durability.story import DECLARED, IDENTITY, some_records

OTHER, STRANGER = Identity(b"o" * 32), Identity(b"s" * 32)
HEADS_KEPT = 2  # here: older ones are waste soon
STEPS = 40
Version = tuple[Head, list[tuple[Cid, bytes]]]
Versions = tuple[list[Version], list[Version]]


_decode = lru_cache(4096)(decode_node)  # the same chunks again and again


def change(publisher: Publisher, chance: random.Random, count: int) -> Head:
    return publisher.put_many("main", "posts", some_records(chance, count), DECLARED)[0]


@pytest.fixture(scope="module")
def versions() -> Versions:
    """A dataset that may be followed, and one that is not."""
    return some_versions(OTHER), some_versions(STRANGER)


def some_versions(identity: Identity) -> list[Version]:
    """Somebody else's dataset, head after head, each with all its blocks."""
    files, chance = FileSystem(), random.Random(1)
    folder = files.add("other", Disk(lambda: 0.0, chance))
    with closing(DiskStore(_path(folder), make=True, vfs=files.name)) as store:
        publisher = Publisher(store, identity, lambda: 1_700_000_000.0)
        heads = [change(publisher, chance, 30) for _ in range(6)]
        found = [(head, list(dataset_blocks(store, head, set()))) for head in heads]
    files.close()
    return found


def _path(folder: str) -> Path:
    return Path(folder) / "store.sqlite"


class Trial:
    """One store, what was acknowledged of it, and what goes on in it, each a generator that pauses as a task does.

    own, held  the newest head of ours, and of the dataset that is followed, that must be whole
    pins       that must be whole
    reading    what queries that go on have found at their head, and must go on to find
    """

    def __init__(self, seed: int, versions: Versions, files: FileSystem) -> None:
        self._chance = random.Random(seed)
        self._versions, strangers = versions
        self._all_versions = self._versions + strangers
        self._files = files
        self._disk = Disk(lambda: 0.0, self._chance)
        self._folder = files.add("home", self._disk)
        self._place = 0
        self._tasks: dict[str, Generator[None, None, None]] = {}
        self._unchecked = 0
        self.own: Head | None = None
        self.held: Head | None = None
        self.pins: list[Head] = []
        self.reading: dict[str, set[Cid]] = {}
        self.counts: Counter[str] = Counter()
        self.store = self._open()

    def _open(self) -> DiskStore:
        return DiskStore(_path(self._folder), make=True, vfs=self._files.name, log_pages=12, decode=_decode)

    def run(self) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(collecting, "HEADS_KEPT", HEADS_KEPT)
            patch.setattr(collecting, "_BLOCKS_AT_ONCE", 8)
            patch.setattr(collecting, "_EVICTED_AT_ONCE", 3)
            patch.setattr(collecting, "decode_node", _decode)
            patch.setattr(reaching, "decode_node", _decode)
            for _ in range(STEPS):
                self._disk.fuse = self._chance.randrange(60) if self._chance.random() < 0.1 else None
                generation = self._disk.generation
                try:
                    self._step()
                except StoreError:
                    assert self._disk.generation != generation, "it failed by itself"
                if self._disk.generation != generation:
                    self._start_again()
                self._disk.fuse = None
                if self._unchecked:
                    self.check()
            for name in list(self._tasks):
                self._end(name)
            self.counts["freed"] += collect(self.store, IDENTITY.peer_id).freed_blocks
            self.check()

    def _start_again(self) -> None:
        self.counts["cuts"] += 1
        self._unchecked += 1
        for name in list(self._tasks):
            self._end(name)
        self.close()
        self.store = self._open()

    def close(self) -> None:
        with suppress(apsw.Error):  # its disk may be dead
            self.store.close()

    def _end(self, name: str) -> None:
        """A task is cancelled, or its process killed."""
        self.reading.pop(name, None)
        with suppress(StoreError):
            self._tasks.pop(name).close()

    def _step(self) -> None:
        """Some task goes on, begins or is given up."""
        begin = {
            "publish": self._publish,
            "sync": self._sync,
            "answer": self._keep_answer,
            "read": self._read_on,
            "pin": self._pin,
            "unpin": self._unpin,
            "quota": self._change_quota,
            "collect": self._collect,
        }
        name = self._chance.choice([*begin, *["collect"] * 5, *list(self._tasks) * 2])
        if name in self._tasks and self._chance.random() < 0.05:
            self._end(name)
            return
        task = self._tasks.setdefault(name, begin[name]())
        for _ in range(self._chance.choice([1, 1, 3, 20])):
            try:
                next(task)
            except StopIteration:
                self._tasks.pop(name, None)
                return
            except BaseException:
                self._tasks.pop(name, None)
                raise

    def check(self) -> None:
        """All that was acknowledged is here, and all that is being read."""
        self._unchecked = 0
        for before, now in (
            (self.own, self.own and self.store.newest_head(self.own.address)),
            (self.held, self.held and self.store.held_head(self.held.address)),
            *((pin, pin) for pin in self.pins),
        ):
            if before is not None:
                assert now is not None and now.sequence >= before.sequence, "an acknowledged head is lost"
                assert not missing_blocks(self.store, now), "a block that is needed is lost"
        assert set(self.pins) <= set(Pins(self.store).all()), "a pin is lost"
        for cids in self.reading.values():
            assert all(map(self.store.is_here, cids)), "a block that is being read is lost"

    # --- tasks ---

    def _publish(self) -> Generator[None, None, None]:
        yield
        publisher = Publisher(self.store, IDENTITY, lambda: 1_700_000_000.0)
        self.own = change(publisher, self._chance, self._chance.choice([1, 3, 40]))
        self.counts["published"] += 1

    def _sync(self) -> Generator[None, None, None]:
        """It may be given up in the middle, and what it has brought is found by the next one."""
        head, blocks = self._versions[self._place]
        with self.store.uses.guarding():
            Register(self.store).follow(Follow(head.address, Policy()))
            self.store.put_heard(head)
            yield from self._fetch(blocks)
            self.store.set_held(head)
        self.held = head
        self._place = min(self._place + 1, len(self._versions) - 1)
        self.counts["synced"] += 1

    def _fetch(self, blocks: list[tuple[Cid, bytes]]) -> Generator[None, None, None]:
        """What is not here of these, from above."""
        for start in range(0, len(blocks), 8):
            missing = [(cid, data) for cid, data in blocks[start : start + 8] if not self.store.has(cid)]
            self.store.put_fetched(missing)
            yield

    def _keep_answer(self) -> Generator[None, None, None]:
        """Of some head, known or not."""
        head, blocks = self._chance.choice(self._all_versions)
        yield
        with self.store.transaction():
            Cache(self.store).put([blocks[0], *self._chance.sample(blocks, len(blocks) // 3)])
            self.store.put_head(head)
        self.counts["answers"] += 1

    def _read_on(self) -> Generator[None, None, None]:
        """A query that goes on for long, at a head that may be old by then."""
        head = self._chance.choice([*(head for head, _ in self._all_versions), *([self.own] if self.own else [])])
        with self.store.uses.leasing(head.manifest):
            places = reach(self.store, [Place(head.manifest, MANIFEST)], set())
            self.reading["read"] = {place.cid for place, data in places if data is not None}
            for _ in range(12):
                yield
            self.check()
        self.reading.pop("read", None)
        self.counts["read"] += 1

    def _pin(self) -> Generator[None, None, None]:
        if self.own is not None and self._chance.random() < 0.3:
            yield
            head = self.store.newest_head(self.own.address)
            assert head is not None
            Pins(self.store).add(head)
        else:
            head, blocks = self._chance.choice(self._all_versions)
            with self.store.uses.guarding():
                yield from self._fetch(blocks)
                Pins(self.store).add(head)
        self.pins.append(head)
        self.counts["pinned"] += 1

    def _unpin(self) -> Generator[None, None, None]:
        yield
        if self.pins:
            head = self._chance.choice(self.pins)
            self.pins = [pin for pin in self.pins if (pin.address, pin.manifest) != (head.address, head.manifest)]
            Pins(self.store).remove(head.address, head.manifest)
            self.counts["unpinned"] += 1

    def _change_quota(self) -> Generator[None, None, None]:
        yield
        room = Room(self.store)
        room.quota = self._chance.choice([None, max(1, int(room.others_bytes() * self._chance.uniform(0.3, 1.1)))])

    def _collect(self) -> Generator[None, None, None]:
        collection = Collection(self.store, IDENTITY.peer_id)
        for _ in collection.steps():
            self._count(collection)
            yield
        self._count(collection)
        collection.measure(0.0, 0.0)
        self.counts["collected"] += 1

    def _count(self, collection: Collection) -> None:
        gone = collection.found.freed_blocks + collection.found.evicted_blocks
        if gone:
            self.counts["freed"] += collection.found.freed_blocks
            self.counts["evicted"] += collection.found.evicted_blocks
            self._unchecked += 1


def trials(seeds: range, versions: Versions) -> Counter[str]:
    """What has happened in them, and how often."""
    counts: Counter[str] = Counter()
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
        counts += trial.counts
    return counts


def test_nothing_needed_is_lost(versions: list[Version]) -> None:
    counts = trials(range(20), versions)
    happened = ("published", "synced", "answers", "read", "pinned", "unpinned", "collected", "freed", "evicted", "cuts")
    assert all(counts[what] >= 5 for what in happened), counts


@pytest.mark.slow
@pytest.mark.parametrize("part", range(20))
def test_nothing_needed_is_lost_in_many_orders(versions: list[Version], part: int) -> None:
    """10,000 orders of steps."""
    print(dict(trials(range(1000 + 500 * part, 1500 + 500 * part), versions)))


Roots = Callable[[DiskStore, str], Iterable[Root]]


def _only(is_kept: Callable[[Root], bool]) -> Callable[[Roots], Roots]:
    return lambda roots: lambda store, peer_id: [root for root in roots(store, peer_id) if is_kept(root)]


def _of_before(roots: Roots) -> Roots:
    """Marks of the heads that there were at the collection before."""
    last: list[Root] = []

    def stale(store: DiskStore, peer_id: str) -> Iterable[Root]:
        found, last[:] = list(last), list(roots(store, peer_id))
        return found

    return stale


@pytest.mark.parametrize(
    "broken",
    [
        _only(lambda root: root.address is None or root.address.publisher != IDENTITY.peer_id),
        _only(lambda root: root.address is not None and root.address.publisher == IDENTITY.peer_id),
        _only(lambda root: root.kind is not Kind.PINNED),
        _of_before,
    ],
    ids=["forgets what is ours", "forgets what is followed", "forgets pins", "marks before a publish"],
)
def test_a_broken_collection_is_caught(
    monkeypatch: pytest.MonkeyPatch, versions: Versions, broken: Callable[[Roots], Roots]
) -> None:
    monkeypatch.setattr(collecting, "roots", broken(collecting.roots))
    with pytest.raises(AssertionError, match=r"a block that is needed is lost|failed by itself"):
        trials(range(40), versions)


def test_a_collection_that_does_not_ask_what_is_in_use_is_caught(
    monkeypatch: pytest.MonkeyPatch, versions: Versions
) -> None:
    monkeypatch.setattr(Uses, "has", lambda uses, cid: False)
    with pytest.raises(AssertionError, match="a block that is needed is lost"):
        trials(range(100), versions)


def test_a_collection_that_does_not_ask_what_is_being_read_is_caught(
    monkeypatch: pytest.MonkeyPatch, versions: Versions
) -> None:
    monkeypatch.setattr(Uses, "leasing", lambda uses, manifest: nullcontext())
    with pytest.raises(AssertionError, match="a block that is being read is lost"):
        trials(range(60, 100), versions)


def test_records_that_are_marked_as_whole_trees_only_are_caught(
    monkeypatch: pytest.MonkeyPatch, versions: Versions
) -> None:
    """A walk that stops above the leaves."""
    children = collecting.children
    monkeypatch.setattr(collecting, "children", lambda place, data: children(place, data)[:1])
    with pytest.raises(AssertionError, match="a block that is needed is lost"):
        trials(range(20), versions)
