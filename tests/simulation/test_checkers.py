"""Checkers find what is wrong: bugs are planted in the node, and must be found within a few seeds.

Each bug is one that somebody could write. Without it the same scenario keeps every promise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import trio

from rhizome_index.blocks import cbor
from rhizome_index.errors import IntegrityError
from rhizome_index.node import follow, link
from rhizome_index.node.directory import Directory
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.resolve import Resolver
from rhizome_index.node.sync import _OneSync
from rhizome_index.query.proof import NeedNodes, Replay, decode_node
from rhizome_index.simulation.byzantine import Liar, Stale
from rhizome_index.simulation.checkers import (
    AnswersAreRight,
    HeadsConverge,
    HeadsOnlyRise,
    NothingCrashes,
    NothingIsLost,
    NoWrongRow,
)
from rhizome_index.simulation.scenario import Main, Simulation
from rhizome_index.simulation.workload import count_tagged, tagged
from rhizome_index.wire.ask import Asking
from tests.simulation.play import play

pytestmark = pytest.mark.slow

SEEDS = range(1, 6)
PATCH = pytest.MonkeyPatch


def broken_promises(main: Main) -> set[str]:
    """The promises broken at any of a few seeds; seeds are tried until one is."""
    for seed in SEEDS:
        found = {verdict.promise for verdict in play(main, seed).verdicts if not verdict.holds}
        if found:
            return found
    return set()


def check(main: Main, monkeypatch: PATCH, plant: Callable[[PATCH], None], *promises: str) -> None:
    """Nothing is broken without the bug, one of these promises with it."""
    assert broken_promises(main) == set()
    plant(monkeypatch)
    assert broken_promises(main) & set(promises)


class Hider(Liar):
    """Hides an entry of every leaf it sends, leaving everything else as it should be."""

    async def spoil(self, protocol: str, message: list[Any]) -> list[list[Any]]:
        if message[1] == "blocks":
            message[2] = [self._hide(block) for block in message[2]]
        return [message]

    def _hide(self, block: bytes) -> bytes:
        try:
            leaf = cbor.decode(block)
        except IntegrityError:
            return block
        if type(leaf) is not list or leaf[0] != 0 or len(leaf[1]) < 2:
            return block
        place = 1 + int(self.chance.random() * (len(leaf[1]) - 1))
        leaf[1][place] = leaf[1][place - 1] + b"\0"
        return cbor.encode(leaf)


async def ask_liars(sim: Simulation) -> None:
    """Three readers name two peers that hide entries, and the publisher, who is honest.

    They ask for counts: whoever hides an entry of a row must hide its record too.
    """
    publisher = await sim.publish(30)
    hiders = [
        await sim.peer(f"hider-{number}", met=[publisher], follows=[publisher], strategy=Hider(sim.chance))
        for number in range(2)
    ]
    await sim.sleep(5)
    for number in range(3):
        reader = await sim.peer(f"reader-{number}", named=[*hiders, publisher])
        for tag in ("photography", "music", "travel", "art", "food", "cats"):
            await sim.ask(reader, publisher, count_tagged(tag))


def test_a_proof_whose_digests_are_not_checked(monkeypatch: PATCH) -> None:
    def feed(self: Replay, data: bytes) -> None:
        if self.is_done:
            raise IntegrityError("the proof has more blocks than the query needs")
        cid = self._missing.pop()
        self._held[cid] = decode_node(data) if isinstance(self._need, NeedNodes) else data
        if not self._missing:
            self._reply()

    check(ask_liars, monkeypatch, lambda patch: patch.setattr(Replay, "feed", feed), AnswersAreRight.promise)


def test_an_answer_that_is_complete_because_somebody_says_so(monkeypatch: PATCH) -> None:
    def end(self: Asking, reply: Any) -> None:
        assert self.answer is not None and self.replay is not None
        self.is_over = True
        if reply.fields["complete"] is not self.replay.is_done:
            self.answer.finish(None)
        else:
            self.answer.finish(self.replay.result)

    async def drop_the_end(sim: Simulation) -> None:
        class Shortener(Liar):
            async def spoil(self, protocol: str, message: list[Any]) -> list[list[Any]]:
                if message[1] == "blocks" and protocol == "/rhizome/ask/1" and len(message[2]) > 1:
                    return [[message[0], "blocks", message[2][:-1]]]
                return [message]

        publisher = await sim.publish(200, strategy=Shortener(sim.chance))
        reader = await sim.peer("reader", named=[publisher])
        for tag in ("cats", "music", "food"):
            await sim.ask(reader, publisher, tagged(tag, 32))

    check(drop_the_end, monkeypatch, lambda patch: patch.setattr(Asking, "_end", end), AnswersAreRight.promise)


def test_a_stale_head_that_is_believed(monkeypatch: PATCH) -> None:
    async def main(sim: Simulation) -> None:
        publisher = await sim.publish(20)
        stale = Stale(sim.chance)
        behind = await sim.peer("behind", met=[publisher], follows=[publisher], strategy=stale)
        await sim.sleep(5)
        stale.is_stale = True
        sim.publish_more(publisher, 5)
        reader = await sim.peer("reader", named=[publisher, behind])
        for _ in range(6):
            await sim.ask(reader, publisher)

    check(
        main,
        monkeypatch,
        lambda patch: patch.setattr(Resolver, "_check_fresh", lambda *args, **options: None),
        HeadsOnlyRise.promise,
    )


async def follow_on(sim: Simulation) -> None:
    """Three followers of a publisher who goes on publishing."""
    publisher = await sim.publish(30)
    for number in range(3):
        await sim.peer(f"follower-{number}", met=[publisher], follows=[publisher])
    for _ in range(3):
        await sim.sleep(20)
        sim.publish_more(publisher, 3, edits=2)
    await sim.settle()


def test_a_sync_that_forgets_to_fetch(monkeypatch: PATCH) -> None:
    async def bring(self: _OneSync, *args: Any) -> bool:
        return True

    check(follow_on, monkeypatch, lambda patch: patch.setattr(_OneSync, "bring", bring), NothingIsLost.promise)


def test_a_sync_that_drops_a_range(monkeypatch: PATCH) -> None:
    """It leaves out the last change, and does not compare what it has made with what was signed."""
    honest = _OneSync.bring

    async def bring(self: _OneSync, old: Any, new: Any, name: str, syncing: Any) -> bool:
        delta = syncing.deltas.get(name)
        if old is None or delta is None:
            return await honest(self, old, new, name, syncing)
        changes = [(key, value) for key, value in delta.changes[:-1]]
        await self._derive(self._changed(new.rule, old.collections[name], new.collections[name], changes))
        return True

    check(follow_on, monkeypatch, lambda patch: patch.setattr(_OneSync, "bring", bring), NothingIsLost.promise)


def test_a_follower_that_gives_up(monkeypatch: PATCH) -> None:
    async def main(sim: Simulation) -> None:
        publisher = await sim.publish(10)
        cut = sim.network.cut([publisher.host])
        await sim.peer("follower", met=[publisher], follows=[publisher])
        await sim.sleep(30)
        sim.network.heal(cut)
        await sim.settle()

    def plant(patch: PATCH) -> None:
        patch.setattr(follow, "RETRY_SECONDS", 1e6)
        patch.setattr(follow, "HEADS_PULL_SECONDS", 1e6)

    check(main, monkeypatch, plant, HeadsConverge.promise)


async def lose_power(sim: Simulation) -> None:
    """The publisher loses power after a change was acknowledged, or in the midst of one."""
    publisher = await sim.publish(10)
    for _ in range(12):
        sim.publish_more(publisher, 2, edits=2)
        if sim.chance.random() < 0.7:
            publisher.host.disk.fuse = int(sim.chance.random() * 80)
            sim.publish_more(publisher, 2, edits=2)
        await sim.cluster.kill(publisher, power=True)
        await sim.cluster.start(publisher)


def test_blocks_that_are_not_synced(monkeypatch: PATCH) -> None:
    made = DiskStore.__init__

    def careless(self: DiskStore, *args: Any, **options: Any) -> None:
        made(self, *args, **options)
        self.execute("pragma synchronous = off")

    check(lose_power, monkeypatch, lambda patch: patch.setattr(DiskStore, "__init__", careless), NothingIsLost.promise)


def test_a_head_that_is_written_before_its_blocks(monkeypatch: PATCH) -> None:
    kept, put_head = DiskStore.put_many, DiskStore.put_head

    @contextmanager
    def none(self: DiskStore) -> Iterator[None]:
        yield

    def later(self: DiskStore, blocks: Any) -> None:
        waiting = self.__dict__.setdefault("waiting", [])
        waiting += blocks
        if len(waiting) > 1:
            kept(self, waiting[:-1])
            del waiting[:-1]

    def early(self: DiskStore, head: Any) -> None:
        put_head(self, head)
        kept(self, self.__dict__.pop("waiting", []))

    def plant(patch: PATCH) -> None:
        patch.setattr(DiskStore, "transaction", none)
        patch.setattr(DiskStore, "put_many", later)
        patch.setattr(DiskStore, "put_head", early)

    check(lose_power, monkeypatch, plant, NothingIsLost.promise)


def test_an_unfair_choice_of_peers(monkeypatch: PATCH) -> None:
    promise = "nobody carries all"

    async def main(sim: Simulation) -> None:
        publisher = await sim.publish(30)
        servers = [await sim.peer(f"server-{number}", met=[publisher], follows=[publisher]) for number in range(4)]
        await sim.sleep(10)
        asked: list[str] = []
        for number in range(6):
            reader = await sim.peer(f"reader-{number}", named=servers)
            for _ in range(3):
                page = await sim.ask(reader, publisher)
                asked += page.cost.peers if page else []
        most = max(asked.count(server.peer_id) for server in servers)
        sim.expect(promise, most <= 0.6 * len(asked), f"{most} of {len(asked)}")

    def best_known(self: link.Links, peers: Sequence[str]) -> list[str]:
        return sorted(peers)

    check(main, monkeypatch, lambda patch: patch.setattr(link.Links, "order", best_known), promise)


def test_a_task_that_dies(monkeypatch: PATCH) -> None:
    async def fail(self: Directory, *args: Any) -> None:
        await trio.lowlevel.checkpoint()
        raise KeyError("planted")

    check(follow_on, monkeypatch, lambda patch: patch.setattr(Directory, "providers", fail), NothingCrashes.promise)


def test_wrong_rows_before_an_answer_failed() -> None:
    async def main(sim: Simulation) -> None:
        publisher = await sim.publish(30)
        head = publisher.running.peer.catalog[publisher.dataset]
        question = tagged("photography", 3)
        right = question.answer(sim.model.records(head))
        checker = next(checker for checker in sim.checkers if isinstance(checker, NoWrongRow))
        checker.on_rows(publisher, question, head, right[:2])
        assert checker.verdict().holds and checker.checked == 2
        checker.on_rows(publisher, question, head, right[1:2])
        assert not checker.verdict().holds

    assert {verdict.promise for verdict in play(main).verdicts if not verdict.holds} == {NoWrongRow.promise}
