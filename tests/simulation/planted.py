"""Bugs that somebody could write, each with the small scenario that brings it out and the promises that it breaks.

`caught.json` beside this file keeps the seed that caught each. Made anew, with up to SEEDS tries, by

    python -m tests.simulation.planted
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from rhizome_index.errors import IntegrityError, UnavailableError
from rhizome_index.index import envelope as envelope_module
from rhizome_index.index import head as head_module
from rhizome_index.node import disk, follow, link, local, publish, race
from rhizome_index.node.directory import Directory
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.newest import Newest
from rhizome_index.node.publish import Publisher
from rhizome_index.node.register import Register
from rhizome_index.node.resolution import Resolution
from rhizome_index.node.serve import Server
from rhizome_index.node.sync import Syncer, _OneSync
from rhizome_index.query.proof import NeedNodes, Replay, decode_node
from rhizome_index.simulation import checkers
from rhizome_index.simulation.scenario import Main
from rhizome_index.wire import sync as sync_protocol
from rhizome_index.wire import want
from rhizome_index.wire.ask import Asking
from tests.simulation.planted_scenes import (
    ANSWERED,
    EVIDENCE,
    FAIR,
    SOON,
    ask_a_crowd,
    ask_a_shortener,
    ask_hiders,
    ask_the_silent,
    ask_those_nearby,
    ask_who_is_behind,
    follow_across_a_cut,
    follow_after_an_answer,
    follow_forgers,
    follow_hiders,
    follow_on,
    follow_two_stories,
    lose_followers,
    lose_power,
    start_again_alone,
    sync_across_a_cut,
)
from tests.simulation.play import play

SEEDS = range(1, 201)
CAUGHT = Path(__file__).with_name("caught.json")
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


@bug(follow_on, *RIGHT)
def a_row_is_lost_on_the_way(patch: Patch) -> None:
    give = Resolution.give
    patch.setattr(Resolution, "give", lambda self: give(self)[1:])


# --- heads ---


@bug(ask_who_is_behind, RISING)
def a_reader_goes_back_to_an_older_head(patch: Patch) -> None:
    patch.setattr(Newest, "check_newest", lambda *args, **options: None)


@bug(follow_forgers, GENUINE)
def signatures_of_heads_are_not_checked(patch: Patch) -> None:
    for module in (head_module, envelope_module):
        patch.setattr(module, "verify_signature", lambda *args: None)


@bug(follow_two_stories, EVIDENCE)
def an_equivocation_is_kept_quiet(patch: Patch) -> None:
    put_head = DiskStore.put_head

    def quiet(self: DiskStore, head: Any, **options: bool) -> None:
        if all(other.sequence != head.sequence for other in self.all_heads() if other.address == head.address):
            put_head(self, head, **options)

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


@bug(sync_across_a_cut, KEPT)
def a_sync_that_was_cut_off_counts_as_done(patch: Patch) -> None:
    bring = _OneSync.bring

    async def careless(self: _OneSync, *args: Any) -> bool:
        try:
            return await bring(self, *args)
        except UnavailableError:
            return True

    patch.setattr(_OneSync, "bring", careless)


@bug(follow_hiders, KEPT, *RIGHT, CONVERGE)
def blocks_are_not_checked_against_their_names(patch: Patch) -> None:
    """Neither when they come nor when they are read."""
    for module in (want, sync_protocol, disk, local):
        patch.setattr(module, "check_block", lambda *args: None)


@bug(follow_after_an_answer, RISING)
def what_is_brought_counts_more_than_what_was_answered(patch: Patch) -> None:
    current_head = DiskStore.current_head
    patch.setattr(
        DiskStore, "current_head", lambda self, address: self.held_head(address) or current_head(self, address)
    )


# --- storage ---


@bug(lose_power, KEPT)
def writes_are_not_synced(patch: Patch) -> None:
    made = DiskStore.__init__

    def careless(self: DiskStore, *args: Any, **options: Any) -> None:
        made(self, *args, **options)
        self.execute("pragma synchronous = off")

    patch.setattr(DiskStore, "__init__", careless)


@bug(lose_power, KEPT)
def commits_do_not_wait_for_the_disk(patch: Patch) -> None:
    made = DiskStore.__init__

    def careless(self: DiskStore, *args: Any, **options: Any) -> None:
        made(self, *args, **options)
        self.execute("pragma synchronous = normal")

    patch.setattr(DiskStore, "__init__", careless)


@bug(lose_power, KEPT)
def a_publisher_writes_a_head_before_its_blocks(patch: Patch) -> None:
    """The blocks of a change are written when it has been committed."""
    transaction, put_many, get = DiskStore.transaction, DiskStore.put_many, DiskStore.get
    waiting: dict[int, dict[bytes, bytes]] = {}

    @contextmanager
    def split(self: DiskStore) -> Iterator[None]:
        is_outermost = not self._is_changing
        with transaction(self):
            yield
        blocks = waiting.pop(id(self), {}) if is_outermost else {}
        if blocks:
            with transaction(self):
                put_many(self, blocks.items())

    def wait(self: DiskStore, blocks: Iterable[tuple[bytes, bytes]]) -> None:
        if self._is_changing:
            waiting.setdefault(id(self), {}).update(blocks)
        else:
            put_many(self, blocks)

    patch.setattr(DiskStore, "transaction", split)
    patch.setattr(DiskStore, "put_many", wait)
    patch.setattr(DiskStore, "get", lambda self, cid: waiting.get(id(self), {}).get(cid) or get(self, cid))


@bug(lose_followers, KEPT)
def a_follower_writes_a_head_before_its_blocks(patch: Patch) -> None:
    bring = _OneSync.bring

    async def careless(self: _OneSync, *args: Any) -> bool:
        self._store.set_held(self._head)
        return await bring(self, *args)

    patch.setattr(_OneSync, "bring", careless)


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


@bug(ask_those_nearby, FAIR)
def the_nearest_peer_is_always_asked_first(patch: Patch) -> None:
    def nearest(self: link.Links, peers: Sequence[str]) -> list[str]:
        return sorted(peers, key=lambda peer: (self._swarm.latency_seconds(peer) or 0.0, peer))

    patch.setattr(link.Links, "order", nearest)


@bug(ask_the_silent, SOON, ANSWERED)
def silence_is_borne(patch: Patch) -> None:
    patch.setattr(link, "ANSWER_SILENCE_SECONDS", 30.0)
    patch.setattr(race, "FETCH_LATE_SECONDS", 30.0)


@bug(start_again_alone, CONVERGE)
def whom_it_has_met_is_forgotten(patch: Patch) -> None:
    patch.setattr(Register, "peers", lambda self: [])
    patch.setattr(Register, "providers", lambda self, dataset, **how: [])


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


def find_seed(one: Bug, known: int) -> int:
    """A seed at which a bug is caught, and nothing is broken without it: the one known, if that still is; or 0."""
    found = (seed for seed in (known, *SEEDS) if one.is_caught(seed) and not one.breaks(seed, planted=False))
    return next(found, 0)


if __name__ == "__main__":
    known = caught()
    seeds = {name: find_seed(one, known.get(name, 1)) for name, one in BUGS.items()}
    CAUGHT.write_text(json.dumps(seeds, indent=1) + "\n", encoding="utf-8")
    print("not caught:", [name for name, seed in seeds.items() if not seed])
