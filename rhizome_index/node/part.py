"""Keep a part of a dataset: one index with the records it lists, or what a query needs.

A part is a walk: whatever it needs is fetched where it is not here, and kept. So the
part answers the same walk later, here and for others, without a word from anybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rhizome_index.errors import UsageError
from rhizome_index.index.head import Head
from rhizome_index.index.manifest import Manifest
from rhizome_index.limits import WANTS_MAX
from rhizome_index.node.cost import Cost
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.fetch import Fetcher
from rhizome_index.node.gather import Gatherer
from rhizome_index.node.link import Links
from rhizome_index.node.local import LocalSource
from rhizome_index.node.register import INDEX, Policy
from rhizome_index.node.sync import Progress
from rhizome_index.query.answer import Answer
from rhizome_index.query.choose import choose
from rhizome_index.query.execute import Found
from rhizome_index.query.parse import parse
from rhizome_index.query.proof import record
from rhizome_index.query.rows import index_reader
from rhizome_index.query.streams import Hit, RangeStream
from rhizome_index.tree.cursor import EVERYTHING


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
        if policy.kind == INDEX:
            await gatherer.run(read_index(manifest, policy, progress))
        else:
            await self._keep_answer(manifest, policy, gatherer)
        progress.bytes_received = cost.bytes_received
        self._store.set_held(head)
        progress.phase = "done"
        return head

    async def _keep_answer(self, manifest: Manifest, policy: Policy, gatherer: Gatherer) -> None:
        query, _ = parse(policy.query)
        collection = manifest.collection(query.collection)
        candidate = (await gatherer.run(choose(query, collection, allow_scan=False))).candidate
        answer = Answer(query, collection, candidate)
        answer.finish(await gatherer.run(answer.next_walk(), answer.take))


def check_part(store: DiskStore, head: Head, policy: Policy) -> None:
    """Raise UnavailableError unless the part of a dataset that a policy names is all here, as of a head."""
    source = LocalSource(store)
    manifest = source.manifest(head.manifest)
    if policy.kind == INDEX:
        source.run(read_index(manifest, policy, Progress()))
        return
    query, _ = parse(policy.query)
    collection = manifest.collection(query.collection)
    answer = Answer(query, collection, source.run(choose(query, collection, allow_scan=False)).candidate)
    for step in record(answer.next_walk(), source):
        if isinstance(step, Found):
            answer.take(step)


def read_index(manifest: Manifest, policy: Policy, progress: Progress) -> Any:
    """A walk over all entries of an index and the records they name, each checked."""
    collection = manifest.collection(policy.collection)
    index = collection.indexes.get(policy.name)
    if index is None:
        known = ", ".join(sorted(collection.indexes)) or "none"
        raise UsageError(f"no index called {policy.name!r} in {policy.collection!r}", hint=f"there are: {known}")
    progress.entries_total = index.tree.count
    read = index_reader(collection, policy.name)
    stream = RangeStream(index.tree, EVERYTHING, reverse=False, after=None)
    batch: list[Hit] = []
    while True:
        found = yield from stream.next_entries()
        batch += found or ()
        if batch and (found is None or len(batch) >= WANTS_MAX):
            yield from read(batch)
            progress.entries_done += len(batch)
            batch = []
        if found is None:
            return
