"""Bugs that somebody could write, each with the small scenario that brings it out and the promises that it breaks.

`caught.json` beside this file keeps the seed that caught each. Made anew, with up to SEEDS tries, by

    python -m tests.simulation.planted
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from rhizome_index.blocks import cbor
from rhizome_index.errors import IntegrityError, UnavailableError
from rhizome_index.index import envelope as envelope_module
from rhizome_index.index import head as head_module
from rhizome_index.node import follow, link, publish
from rhizome_index.node.directory import Directory
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.publish import Publisher
from rhizome_index.node.register import Register
from rhizome_index.node.resolve import Resolver
from rhizome_index.node.serve import Server
from rhizome_index.node.sync import Syncer, _OneSync
from rhizome_index.query.proof import NeedNodes, Replay, decode_node
from rhizome_index.simulation import checkers
from rhizome_index.simulation.byzantine import Spoiler, Stale
from rhizome_index.simulation.lies import Equivocator, Forger
from rhizome_index.simulation.scenario import Main, Simulation
from rhizome_index.simulation.workload import count_tagged, tagged
from rhizome_index.wire.ask import Asking
from tests.simulation.play import play

SEEDS = range(1, 201)
CAUGHT = Path(__file__).with_name("caught.json")
TAGS = ("photography", "music", "travel", "art", "food", "cats")
Patch = pytest.MonkeyPatch


@dataclass(frozen=True)
class Bug:
    """A bug: how it is planted, where it shows, and as what."""

    plant: Callable[[Patch], None]
    main: Main
    promises: tuple[str, ...]

    def breaks(self, seed: int, *, planted: bool = True) -> list[str]:
        """The promises broken at a seed."""
        head_module.open_head.cache_clear()
        with pytest.MonkeyPatch.context() as patch:
            if planted:
                self.plant(patch)
            report = play(self.main, seed)
        head_module.open_head.cache_clear()
        return [verdict.promise for verdict in report.verdicts if not verdict.holds]

    def is_caught(self, seed: int) -> bool:
        return any(promise in self.promises for promise in self.breaks(seed))


BUGS: dict[str, Bug] = {}


def bug(main: Main, *promises: str) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    """Add a bug under its function's name."""

    def added(plant: Callable[[Patch], None]) -> Callable[[Patch], None]:
        BUGS[plant.__name__] = Bug(plant, main, promises)
        return plant

    return added


RIGHT = (checkers.AnswersAreRight.promise, checkers.NoWrongRow.promise)
KEPT = checkers.NothingIsLost.promise
RISING = checkers.HeadsOnlyRise.promise
GENUINE = checkers.HeadsAreGenuine.promise
ONE_STORY = checkers.NobodyIsSlandered.promise
CONVERGE = checkers.HeadsConverge.promise
NO_CRASH = checkers.NothingCrashes.promise
FAIR, ANSWERED, EVIDENCE = "nobody carries all", "everybody was answered", "every follower holds the evidence"


# --- scenarios ---


class Hider(Spoiler):
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


class Shortener(Spoiler):
    """Leaves out the last block of every proof."""

    async def spoil(self, protocol: str, message: list[Any]) -> list[list[Any]]:
        if message[1] == "blocks" and protocol == "/rhizome/ask/1" and len(message[2]) > 1:
            return [[message[0], "blocks", message[2][:-1]]]
        return [message]


async def ask_hiders(sim: Simulation) -> None:
    """Readers name two peers that hide entries, and an honest one; counts, since a hidden row hides its record too."""
    publisher = await sim.publish(30)
    hiders = [
        await sim.peer(f"hider-{number}", met=[publisher], follows=[publisher], strategy=Hider(sim.chance))
        for number in range(2)
    ]
    await sim.sleep(5)
    for number in range(3):
        reader = await sim.peer(f"reader-{number}", named=[*hiders, publisher])
        for tag in TAGS:
            await sim.ask(reader, publisher, count_tagged(tag))


async def ask_a_shortener(sim: Simulation) -> None:
    publisher = await sim.publish(200, strategy=Shortener(sim.chance))
    reader = await sim.peer("reader", named=[publisher])
    for tag in TAGS:
        await sim.ask(reader, publisher, tagged(tag, 32))


async def ask_who_is_behind(sim: Simulation) -> None:
    publisher = await sim.publish(20)
    stale = Stale(sim.chance)
    behind = await sim.peer("behind", met=[publisher], follows=[publisher], strategy=stale)
    await sim.sleep(5)
    stale.is_stale = True
    sim.publish_more(publisher, 5)
    reader = await sim.peer("reader", named=[publisher, behind])
    for _ in range(6):
        await sim.ask(reader, publisher)


async def ask_a_crowd(sim: Simulation) -> None:
    """Readers who could ask any of four; and one of whom nothing comes."""
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
    sim.expect(FAIR, most <= 0.6 * len(asked), f"{most} of {len(asked)}")
    sim.expect(ANSWERED, not sim.unanswered, f"{sim.unanswered} were not")


async def follow_on(sim: Simulation) -> None:
    """Followers of a publisher who goes on publishing; one of them starts again."""
    publisher = await sim.publish(30)
    followers = [await sim.peer(f"follower-{number}", met=[publisher], follows=[publisher]) for number in range(3)]
    for _ in range(3):
        await sim.sleep(20)
        sim.publish_more(publisher, 3, edits=2)
    await sim.cluster.stop(followers[0])
    await sim.cluster.start(followers[0])
    sim.publish_more(publisher, 3, edits=2)
    await sim.ask(followers[1], publisher)
    await sim.settle()
    await sim.sleep(1)


async def follow_across_a_cut(sim: Simulation) -> None:
    publisher = await sim.publish(10)
    cut = sim.network.cut([publisher.host])
    await sim.peer("follower", met=[publisher], follows=[publisher])
    await sim.sleep(30)
    sim.network.heal(cut)
    await sim.settle()


async def follow_forgers(sim: Simulation) -> None:
    publisher = await sim.publish(10)
    forger = await sim.peer("forger", met=[publisher], follows=[publisher], strategy=Forger(sim.chance))
    await sim.sleep(5)
    await sim.peer("follower", met=[forger, publisher], follows=[publisher])
    await sim.sleep(20)


async def follow_two_stories(sim: Simulation) -> None:
    strategy = Equivocator(sim.chance)
    publisher = await sim.publish(20, strategy=strategy)
    followers: list[Any] = []
    for number in range(6):
        followers.append(await sim.peer(f"follower-{number}", met=[publisher, *followers[-2:]], follows=[publisher]))
    await sim.sleep(20)
    strategy.split(sim.cluster, publisher, sim.posts(publisher).more(3), sim.posts(publisher).more(4))
    await sim.sleep(90)
    told = {strategy.tells_other(member.peer_id) for member in followers}
    unaware = [member for member in followers if member.running.peer.store.equivocation(publisher.dataset) is None]
    sim.expect(EVIDENCE, not unaware or len(told) < 2, f"{unaware} do not")


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


# --- proofs ---


@bug(ask_hiders, *RIGHT)
def digests_of_a_proof_are_not_checked(patch: Patch) -> None:
    def feed(self: Replay, data: bytes) -> None:
        if self.is_done:
            raise IntegrityError("the proof has more blocks than the query needs")
        cid = self._missing.pop()
        self._held[cid] = decode_node(data) if isinstance(self._need, NeedNodes) else data
        if not self._missing:
            self._reply()

    patch.setattr(Replay, "feed", feed)


@bug(ask_a_shortener, *RIGHT, NO_CRASH)
def an_answer_is_complete_because_somebody_says_so(patch: Patch) -> None:
    def end(self: Asking, reply: Any) -> None:
        assert self.answer is not None and self.replay is not None
        self.is_over = True
        self.answer.finish(self.replay.result if self.replay.is_done else None)

    patch.setattr(Asking, "_end", end)


# --- heads ---


@bug(ask_who_is_behind, RISING)
def a_reader_goes_back_to_an_older_head(patch: Patch) -> None:
    patch.setattr(Resolver, "_check_newest", lambda *args, **options: None)


@bug(follow_forgers, GENUINE)
def signatures_of_heads_are_not_checked(patch: Patch) -> None:
    for module in (head_module, envelope_module):
        patch.setattr(module, "verify_signature", lambda *args: None)


@bug(follow_two_stories, EVIDENCE)
def an_equivocation_is_kept_quiet(patch: Patch) -> None:
    put_head = DiskStore.put_head

    def quiet(self: DiskStore, head: Any) -> None:
        if all(other.sequence != head.sequence for other in self.all_heads() if other.address == head.address):
            put_head(self, head)

    patch.setattr(DiskStore, "put_head", quiet)


@bug(follow_on, CONVERGE, RISING, KEPT)
def the_oldest_head_is_believed(patch: Patch) -> None:
    def oldest(self: DiskStore, address: Any) -> Any:
        heads = self._heads("where dataset = ? and not disowned order by sequence, envelope limit 1", (str(address),))
        return heads[0] if heads else None

    patch.setattr(DiskStore, "believed_head", oldest)


# --- sync ---


@bug(follow_on, KEPT)
def a_sync_forgets_to_fetch(patch: Patch) -> None:
    async def bring(self: _OneSync, *args: Any) -> bool:
        return True

    patch.setattr(_OneSync, "bring", bring)


@bug(follow_on, KEPT)
def a_sync_drops_a_range(patch: Patch) -> None:
    """It leaves out the last change, and does not compare what it has made with what was signed."""
    honest = _OneSync.bring

    async def bring(self: _OneSync, old: Any, new: Any, name: str, syncing: Any) -> bool:
        delta = syncing.deltas.get(name)
        if old is None or delta is None:
            return await honest(self, old, new, name, syncing)
        changes = [(key, value) for key, value in delta.changes[:-1]]
        await self._derive(self._changed(new.rule, old.collections[name], new.collections[name], changes))
        return True

    patch.setattr(_OneSync, "bring", bring)


@bug(follow_on, CONVERGE)
def a_follower_never_switches(patch: Patch) -> None:
    async def sync(self: Syncer, newest: Any, *args: Any) -> Any:
        held = self._store.held_head(newest.address)
        return held if held is not None else await honest(self, newest, *args)

    honest = Syncer.sync
    patch.setattr(Syncer, "sync", sync)


@bug(follow_across_a_cut, CONVERGE)
def a_follower_gives_up(patch: Patch) -> None:
    patch.setattr(follow, "RETRY_SECONDS", 1e6)
    patch.setattr(follow, "HEADS_PULL_SECONDS", 1e6)


# --- storage ---


@bug(lose_power, KEPT)
def writes_are_not_synced(patch: Patch) -> None:
    made = DiskStore.__init__

    def careless(self: DiskStore, *args: Any, **options: Any) -> None:
        made(self, *args, **options)
        self.execute("pragma synchronous = off")

    patch.setattr(DiskStore, "__init__", careless)


@bug(follow_on, KEPT, CONVERGE)
def collecting_garbage_frees_too_much(patch: Patch) -> None:
    """At each switch it frees a block of the head that is switched to."""
    set_held = DiskStore.set_held

    def careless(self: DiskStore, head: Any) -> None:
        set_held(self, head)
        self.execute("delete from blocks where cid = (select max(cid) from blocks where cid != ?)", (head.manifest,))

    patch.setattr(DiskStore, "set_held", careless)


@bug(lose_power, KEPT)
def the_newest_head_is_lost_when_a_store_is_opened(patch: Patch) -> None:
    made = DiskStore.__init__

    def careless(self: DiskStore, *args: Any, **options: Any) -> None:
        made(self, *args, **options)
        self.execute("delete from heads where sequence > 1 and sequence = (select max(sequence) from heads)")

    patch.setattr(DiskStore, "__init__", careless)


@bug(follow_on, KEPT, *RIGHT)
def a_publisher_loses_a_record(patch: Patch) -> None:
    put_many = Publisher.put_many

    def careless(self: Publisher, name: str, collection: str, records: Any, *args: Any) -> Any:
        return put_many(self, name, collection, list(records)[:-1], *args)

    patch.setattr(Publisher, "put_many", careless)


# --- gossip, follows ---


@bug(follow_on, CONVERGE)
def nobody_tells_of_a_new_head_and_nobody_asks(patch: Patch) -> None:
    patch.setattr(follow.Follower, "hint", lambda self, address: None)
    patch.setattr(follow, "HEADS_PULL_SECONDS", 1e6)


@bug(follow_on, CONVERGE)
def a_follow_is_not_kept(patch: Patch) -> None:
    patch.setattr(Register, "follows", lambda self: [])


@bug(follow_on, ONE_STORY)
def a_sequence_is_signed_twice(patch: Patch) -> None:
    sign_head = publish.sign_head

    def careless(identity: Any, name: str, sequence: int, *args: Any, **options: Any) -> Any:
        return sign_head(identity, name, min(sequence, 2), *args, **options)

    patch.setattr(publish, "sign_head", careless)


# --- choice of peers, serving ---


@bug(ask_a_crowd, FAIR)
def the_same_peer_is_always_asked_first(patch: Patch) -> None:
    def best_known(self: link.Links, peers: Sequence[str]) -> list[str]:
        return sorted(peers)

    patch.setattr(link.Links, "order", best_known)


@bug(ask_a_crowd, ANSWERED)
def a_server_does_not_start(patch: Patch) -> None:
    patch.setattr(Server, "start", lambda self: None)


@bug(follow_on, CONVERGE)
def nobody_is_known_to_serve(patch: Patch) -> None:
    async def none(self: Directory, *args: Any) -> list[str]:
        await trio.lowlevel.checkpoint()
        raise UnavailableError("planted")

    patch.setattr(Directory, "providers", none)


@bug(follow_on, NO_CRASH)
def a_task_dies(patch: Patch) -> None:
    async def fail(self: Directory, *args: Any) -> None:
        await trio.lowlevel.checkpoint()
        raise KeyError("planted")

    patch.setattr(Directory, "providers", fail)


def caught() -> dict[str, int]:
    """The seed that caught each bug."""
    found: dict[str, int] = json.loads(CAUGHT.read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    seeds = {name: next((seed for seed in SEEDS if one.is_caught(seed)), 0) for name, one in BUGS.items()}
    CAUGHT.write_text(json.dumps(seeds, indent=1) + "\n", encoding="utf-8")
    print("not caught:", [name for name, seed in seeds.items() if not seed])
