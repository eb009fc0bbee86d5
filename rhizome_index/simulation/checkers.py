"""What must hold, whatever a scenario does. Each checker watches a cluster and gives a verdict.

They stand apart from workloads: no scenario can forget one, and none trusts what the
code under test says of itself where it can look for itself.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rhizome_index.api import Page
from rhizome_index.blocks.cbor import Link
from rhizome_index.blocks.cid import Cid
from rhizome_index.errors import RhizomeError
from rhizome_index.index.address import Address
from rhizome_index.index.head import Head
from rhizome_index.index.record import decode_record
from rhizome_index.node.local import LocalSource
from rhizome_index.node.register import FULL
from rhizome_index.simulation.cluster import COLLECTION, Cluster, Member, Observer
from rhizome_index.simulation.workload import Model
from rhizome_index.tree.cursor import Cursor
from rhizome_index.tree.node import Tree
from rhizome_index.tree.walk import Walk

CONVERGE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a promise was kept.

    checked  how often there was something to check
    problem  the first thing that was wrong, with its time; empty if all was right
    """

    promise: str
    holds: bool
    checked: int
    problem: str = ""


class Checker(Observer):
    """Watches one promise."""

    promise = ""

    def __init__(self, cluster: Cluster, model: Model) -> None:
        self.cluster = cluster
        self.model = model
        self.checked = 0
        self.problem = ""
        cluster.observers.append(self)

    def blame(self, text: str) -> None:
        """The promise was broken."""
        if not self.problem:
            self.problem = f"at {self.cluster.world.now:.3f} s: {text}"
            self.cluster.world.trace.note("broken", self.promise, text)

    def look(self) -> None:
        """Look at the cluster now: done every few seconds, and at the end."""

    def finish(self) -> None:
        """The scenario is over; everything still runs."""
        self.look()

    def verdict(self) -> Verdict:
        return Verdict(self.promise, not self.problem, self.checked, self.problem)


class AnswersAreRight(Checker):
    """Every whole answer equals the model's for its head."""

    promise = "every answer equals the model's"

    def on_answer(self, member: Member, question: Any, address: Address, page: Page) -> None:
        self.checked += 1
        if page.head.address != address:
            self.blame(f"{member}: an answer from {page.head.address} when {address} was asked of")
            return
        if page.head not in self.model:
            self.blame(f"{member}: an answer from head {page.head.sequence}, which nobody published")
            return
        wanted = question.answer(self.model.records(page.head))
        right = len(wanted) if isinstance(wanted, list) else wanted
        if page.count != right or (isinstance(wanted, list) and page.rows != wanted):
            self.blame(f"{member}: {question.text!r} of head {page.head.sequence}: {page.count} given, {right} right")


class NoWrongRow(Checker):
    """Rows that are given before an answer fails are right as far as they go."""

    promise = "no wrong row was accepted"

    def on_answer(self, member: Member, question: Any, address: Address, page: Page) -> None:
        self.on_rows(member, question, address, page.head, page.rows)

    def on_rows(self, member: Member, question: Any, address: Address, head: Head, rows: Sequence[Any]) -> None:
        if head not in self.model:
            return
        wanted = question.answer(self.model.records(head))
        if isinstance(wanted, list):
            self.checked += len(rows)
            if list(rows) != wanted[: len(rows)]:
                self.blame(f"{member}: wrong rows for {question.text!r} of head {head.sequence}")


class NothingIsLost(Checker):
    """What a publisher was told is kept, and what a follower says it holds, is there: all of it, after any restart."""

    promise = "no acknowledged record was lost"

    def on_started(self, member: Member) -> None:
        self._check(member)

    def on_unreadable(self, member: Member, error: BaseException) -> None:
        self.checked += 1
        self.blame(f"{member} cannot open its store: {error}")

    def finish(self) -> None:
        for member in self.cluster.running():
            if member.strategy.is_honest:
                self._check(member)

    def _check(self, member: Member) -> None:
        store = member.running.peer.store
        own = self.model.newest.get(member.dataset)
        if own is not None:
            head = store.newest_head(member.dataset)
            if head is None or head.sequence < own.sequence:
                self.checked += 1
                self.blame(f"{member} has lost head {own.sequence} of its own")
            else:
                self._compare(member, head)
        for address, policy in member.follows.items():
            held = store.held_head(address)
            if held is not None and policy.kind == FULL:
                self._compare(member, held)

    def _compare(self, member: Member, head: Head) -> None:
        if head not in self.model:
            self.checked += 1
            self.blame(f"{member} holds a head {head.sequence} that nobody published")
            return
        wanted = self.model.records(head)
        try:
            found = records_here(member, head)
        except RhizomeError as error:
            self.checked += 1
            self.blame(f"{member} cannot read head {head.sequence}: {error}")
            return
        self.checked += len(wanted)
        if found != wanted:
            missing = len(wanted.keys() - found.keys())
            self.blame(f"{member} holds head {head.sequence}, but {missing} of its {len(wanted)} records are missing")


class HeadsOnlyRise(Checker):
    """Nobody goes back to an older head, not even by a restart."""

    promise = "heads never go back"

    def __init__(self, cluster: Cluster, model: Model) -> None:
        super().__init__(cluster, model)
        self._seen: dict[tuple[str, Address], int] = {}
        self._looked_at: dict[str, tuple[int, ...]] = {}  # the version of each member's store

    def on_head(self, member: Member, head: Head) -> None:
        self._see(member, head)

    def on_answer(self, member: Member, question: Any, address: Address, page: Page) -> None:
        self._see(member, page.head)

    def on_started(self, member: Member) -> None:
        self._look_at(member)

    def look(self) -> None:
        for member in self.cluster.running():
            self._look_at(member)

    def _look_at(self, member: Member) -> None:
        version = (member.starts, *member.running.peer.store.version())
        if self._looked_at.get(member.name) != version:
            self._looked_at[member.name] = version
            for head in member.running.peer.store.current_heads():
                self._see(member, head)

    def _see(self, member: Member, head: Head) -> None:
        if not member.strategy.is_honest:
            return
        name = (member.name, head.address)
        before = self._seen.get(name, 0)
        self.checked += 1
        if head.sequence < before:
            self.blame(f"{member} went from head {before} back to {head.sequence}")
        self._seen[name] = max(before, head.sequence)


class HeadsAreGenuine(Checker):
    """What anybody honest keeps as a head was signed by its publisher, whoever brought it."""

    promise = "every head was signed by its publisher"

    def on_head(self, member: Member, head: Head) -> None:
        self._see(member, head)

    def on_started(self, member: Member) -> None:
        self._look_at(member)

    def finish(self) -> None:
        for member in self.cluster.running():
            self._look_at(member)

    def _look_at(self, member: Member) -> None:
        for head in member.running.peer.store.all_heads():
            self._see(member, head)

    def _see(self, member: Member, head: Head) -> None:
        if member.strategy.is_honest:
            self.checked += 1
            if head not in self.model:
                self.blame(f"{member} believes in head {head.sequence} of {head.address}, which nobody signed")


class NobodyIsSlandered(Checker):
    """There is no evidence against an honest publisher, who never signs one sequence twice."""

    promise = "no honest publisher contradicts itself"

    def on_published(self, member: Member, head: Head, changes: Any, before: Head | None) -> None:
        if member.strategy.is_honest:
            self.checked += 1
            if before is not None and head.sequence <= before.sequence:
                self.blame(f"{member} has signed head {head.sequence} after head {before.sequence}")

    def finish(self) -> None:
        honest = [member.dataset for member in self.cluster.members.values() if member.strategy.is_honest]
        published = [address for address in honest if address in self.model.newest]
        for member in self.cluster.running():
            for address in published:
                self.checked += 1
                if member.running.peer.store.equivocation(address) is not None:
                    self.blame(f"{member} has evidence against the publisher of {address}")


class HeadsConverge(Checker):
    """A while after nothing fails any more, all who follow a dataset hold its newest head."""

    promise = f"heads converge within {CONVERGE_SECONDS:g} s of the last failure"

    def __init__(self, cluster: Cluster, model: Model) -> None:
        super().__init__(cluster, model)
        self._healthy_at = 0.0
        self.lags: list[float] = []
        self._published: dict[Cid, float] = {}

    def on_healthy(self) -> None:
        self._healthy_at = self.cluster.world.now

    def on_published(self, member: Member, head: Head, changes: Any, before: Head | None) -> None:
        self._published[head.manifest] = self.cluster.world.now

    def on_head(self, member: Member, head: Head) -> None:
        published = self._published.get(head.manifest)
        if published is not None and published > member.started_at:
            self.lags.append(self.cluster.world.now - published)

    def finish(self) -> None:
        now = self.cluster.world.now
        if now < self._healthy_at + CONVERGE_SECONDS:
            return
        for member in self.cluster.running():
            if not member.strategy.is_honest:
                continue
            for address in member.follows:
                newest = self.model.newest.get(address)
                if newest is None or self._published[newest.manifest] > now - CONVERGE_SECONDS:
                    continue
                self.checked += 1
                held = member.running.peer.store.held_head(address)
                if held is None or held.sequence < newest.sequence:
                    has = "nothing" if held is None else f"head {held.sequence}"
                    membership = member.running.peer.membership
                    state = membership.follower.states.get(address) if membership else None
                    self.blame(f"{member} holds {has} instead of {newest.sequence}: {state.problem if state else ''}")


class NothingCrashes(Checker):
    """No exception but those that say whose fault it is, and where it may be raised."""

    promise = "nothing crashed"

    def on_started(self, member: Member) -> None:
        self.checked += 1

    def on_crash(self, who: str, error: BaseException) -> None:
        lines = traceback.format_exception(error)
        self.blame(f"{who}: {error!r}\n{''.join(lines)}")


EVERYWHERE: tuple[type[Checker], ...] = (
    AnswersAreRight,
    NoWrongRow,
    NothingIsLost,
    HeadsOnlyRise,
    HeadsAreGenuine,
    NobodyIsSlandered,
    HeadsConverge,
    NothingCrashes,
)


def records_here(member: Member, head: Head) -> dict[str, Any]:
    """All records of a head by id, read from a member's own store, and every index read through.

    Raises UnavailableError for what is not there.
    """
    source = LocalSource(member.running.peer.store)
    collection = source.manifest(head.manifest).collection(COLLECTION)
    found: dict[str, Any] = {}
    for _, value in source.run(_entries(collection.primary)):
        record = decode_record(source.block(bytes(value)) if type(value) is Link else value)
        found[record["id"]] = record
    for index in collection.indexes.values():
        source.run(_entries(index.tree))
    return found


def _entries(tree: Tree) -> Walk[list[tuple[bytes, Any]]]:
    cursor = Cursor(tree)
    found: list[tuple[bytes, Any]] = []
    while (entries := (yield from cursor.next_entries())) is not None:
        found += zip(*entries, strict=True)
    return found
