"""Keep a part of a dataset: one index with the records it lists, or what a query needs.

A part is a walk: whatever it needs is fetched where it is not here, and kept. So the
part answers the same walk later, here and for others, without a word from anybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rhizome_index.errors import IntegrityError, UnavailableError, UsageError
from rhizome_index.index.head import Head
from rhizome_index.index.manifest import Manifest
from rhizome_index.index.schema import Collection, Index
from rhizome_index.index.write import RecordWalk
from rhizome_index.limits import PART_LEAVES, WANTS_MAX
from rhizome_index.node.cost import Cost
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.fetch import Fetcher
from rhizome_index.node.gather import Gatherer
from rhizome_index.node.ladder import Ladder
from rhizome_index.node.link import Links
from rhizome_index.node.local import LocalSource
from rhizome_index.node.register import FULL, INDEX, WHERE, Policy
from rhizome_index.node.sync import Progress
from rhizome_index.query.answer import Answer
from rhizome_index.query.choose import choose
from rhizome_index.query.found import Found
from rhizome_index.query.moments import at_moment
from rhizome_index.query.parse import parse
from rhizome_index.query.rows import index_reader
from rhizome_index.query.streams import Hit
from rhizome_index.tree.node import Node, Ref
from rhizome_index.tree.walk import load_many, load_root
from rhizome_index.trust.ladder import SIGNED, Standing, derivation_of


class PartKeeper:
    """Brings parts of datasets into one store."""

    def __init__(self, store: DiskStore, links: Links) -> None:
        self._store = store
        self._links = links

    async def keep(self, head: Head, policy: Policy, peers: Sequence[str], cost: Cost, progress: Progress) -> Head:
        """Hold the part that a policy names, as of a head. Raises UnavailableError, IntegrityError, UsageError."""
        gatherer = Gatherer(self._store, Fetcher(self._links, peers, cost))
        progress.phase = "fetching"
        _, manifest = await gatherer.manifest(head.manifest)
        await gatherer.run(read_part(manifest, policy, progress))
        progress.bytes_received = cost.bytes_received
        self._store.set_held(head)
        progress.phase = "done"
        return head


def kept_by(policy: Policy, now_ms: int) -> Policy:
    """A policy as it can be kept: a time that its query reckons from now is the one it means now.

    Raises UsageError for a query that is none, or goes on behind a cursor.
    """
    if policy.kind != WHERE:
        return policy
    text = at_moment(policy.query, now_ms)
    if parse(text)[1]:
        raise UsageError("a query to keep has no cursor")
    return replace(policy, query=text)


def check_part(store: DiskStore, head: Head, policy: Policy) -> None:
    """Raise UnavailableError unless the part of a dataset that a policy names is all here, as of a head."""
    source = LocalSource(store)
    source.run(read_part(source.manifest(head.manifest), policy, Progress()))


def standing_of(store: DiskStore, head: Head, policy: Policy) -> Standing:
    """What is proven of what a policy keeps of a dataset, as of a head: of a query's answer, what it was read from."""
    ladder, source = Ladder(store), LocalSource(store)
    try:
        manifest = source.manifest(head.manifest)
        if policy.kind == FULL:
            return ladder.of_manifest(manifest)
        if policy.kind == INDEX:
            collection = manifest.collection(policy.collection)
            return ladder.standing(derivation_of(manifest.rule, collection, policy.name))
        query, _ = parse(policy.query)
        collection = manifest.collection(query.collection)
        choice = source.run(choose(query, collection, allow_scan=False)).candidate
        return ladder.of_choice(manifest.rule, collection, choice)
    except (UnavailableError, IntegrityError, UsageError, KeyError):  # damaged, or not all here
        return Standing(SIGNED)


def find_index(manifest: Manifest, name: str, index_name: str) -> tuple[Collection, Index]:
    """An index of a dataset. Raises UsageError if there is none of that name."""
    collection = manifest.collection(name)
    return collection, collection.index(index_name)


def read_part(manifest: Manifest, policy: Policy, progress: Progress) -> RecordWalk[None]:
    """A walk over all that a policy keeps of a dataset. Raises UsageError if there is no such part."""
    return _read_index(manifest, policy, progress) if policy.kind == INDEX else _read_answer(manifest, policy)


def _read_answer(manifest: Manifest, policy: Policy) -> RecordWalk[None]:
    """What a query needs, and what choosing how to answer it needs."""
    query, _ = parse(policy.query)
    collection = manifest.collection(query.collection)
    answer = Answer(query, collection, (yield from choose(query, collection, allow_scan=False)).candidate)
    walk = answer.next_walk()
    reply: Any = None
    while True:
        try:
            step = walk.send(reply)
        except StopIteration:
            return
        reply = None
        if isinstance(step, Found):
            answer.take(step)
        else:
            reply = yield step


def _read_index(manifest: Manifest, policy: Policy, progress: Progress) -> RecordWalk[None]:
    """All entries of an index and the records they name, each checked."""
    collection, index = find_index(manifest, policy.collection, policy.name)
    progress.entries_total = index.tree.count
    read = index_reader(collection, policy.name)
    batch: list[Hit] = []
    leaves: list[Ref] = []
    ahead = [(yield from load_root(index.tree))] if index.tree.count else []
    while ahead or leaves or batch:
        node = ahead.pop() if ahead else None
        if node is not None and node.level == 1:
            leaves += _children(node)
        elif node is not None and node.level:
            ahead += reversed((yield from load_many(_children(node))))
        elif node is not None:
            batch += _hits(node)  # the root is all there is
        if len(leaves) >= PART_LEAVES or not ahead:
            for leaf in (yield from load_many(leaves)):
                batch += _hits(leaf)
            leaves = []
        while len(batch) >= WANTS_MAX or (batch and not ahead):
            yield from read(batch[:WANTS_MAX])
            progress.entries_done += len(batch[:WANTS_MAX])
            del batch[:WANTS_MAX]


def _children(node: Node) -> list[Ref]:
    return [node.child(place) for place in range(len(node.keys))]


def _hits(leaf: Node) -> list[Hit]:
    return [Hit(key, (key,), (value,)) for key, value in zip(leaf.keys, leaf.values, strict=True)]
