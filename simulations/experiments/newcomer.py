"""A newcomer's time and bytes to the first right answer: a query, against playing logs, a copy of all, and following.

    python -m simulations.experiments.newcomer                            # every cell
    python -m simulations.experiments.newcomer --largest 1000             # a look
    python -m simulations.experiments.newcomer --measure-processing       # what PROCESSING is set from

One peer holds the datasets of so many authors, each of as many posts; a newcomer with an empty store knows its address
and wants the newest ten posts tagged #cats of all of them. Between the two is one and the same link of the simulated
network for all. The newcomer has its answer by

query   asking: the node's own code on both sides; of many authors it is a feed
follow  following all of them and answering from its own store: the node's own code, which brings the primaries and
        derives their indexes; for up to 100,000 posts in all
copy    having all blocks of records and indexes sent on one stream, checking each by its digest, and answering from
        them with the node's own code: what bytes a whole copy needs at least, with no question about what is there
log     having each author's log sent on one stream (`log.py`), and playing it

A post in ten is edited, and of the edits one in ten is a deletion, as `workload.Posts` makes them: logs have all of
that, the datasets what came of it. Virtual time passes for what the network takes. What processing takes was measured
and is the same in every run: see PROCESSING. Copies and logs are processed while they come.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import trio

from rhizome_index.api import DEFAULT_DATASET, Node
from rhizome_index.blocks.cid import CID_BYTES, check_block
from rhizome_index.index.address import Address, peer_id_of
from rhizome_index.index.head import Head, Identity, open_head
from rhizome_index.node.cost import Cost
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.peer import Peer
from rhizome_index.node.swarm import Stream
from rhizome_index.simulation.cluster import Cluster, Member, Observer, identity_of
from rhizome_index.simulation.network import Place
from rhizome_index.simulation.workload import Posts, Record, tagged
from rhizome_index.simulation.world import World
from simulations.experiments import ground, log, results

CELLS = (  # authors, and posts of each: what there is up to a million posts in all
    (1, 1_000),
    (1, 10_000),
    (10, 1_000),
    (1, 100_000),
    (10, 10_000),
    (100, 1_000),
    (1, 1_000_000),
    (10, 100_000),
    (100, 10_000),
    (1_000, 1_000),
)
QUERY, FOLLOW, COPY, LOG = METHODS = ("query", "follow", "copy", "log")
FOLLOWED_MOST = 100_000  # posts in all that are followed

_Candidate = tuple[int, str, Record]  # the negative time, by which the newest come first; of which dataset; the post

_QUESTION = tagged("cats", 10)
_ROWS = 10
_COMING = 2_000_000  # posts of an author, of which the first ones are there
_EDITED = 0.1
_BATCH = 100
_PROTOCOL = "/rhizome-experiment/all/1"
_CHUNK_BYTES = 256 * 1024
CHECKED = 100  # of the signatures of a log one in so many is checked, and all are charged
_HOLDER, _NEWCOMER = Place("us-east"), Place("europe")


@dataclass(frozen=True, slots=True)
class Processing:
    """Seconds of one core, beside what the network takes.

    query_dataset  of a query of many datasets, for each: on both sides, and with the simulator between them. The most
                   that any cell took: that of 1,000 authors of 1,000 posts
    follow_record  to check and derive one record of a dataset that is followed, likewise
    copy_byte      to check a byte of a block and write it
    log_entry      to check an entry's signature and place, read it, and write it with its tags
    """

    query_dataset: float
    follow_record: float
    copy_byte: float
    log_entry: float


PROCESSING = Processing(query_dataset=7.6e-3, follow_record=4.0e-5, copy_byte=5.5e-9, log_entry=9.5e-5)


# --- what there is ---


class Authors:
    """Datasets of some authors in a store, their logs in a file, and the right answer."""

    def __init__(self, folder: Path, seed: int, authors: int, posts: int) -> None:
        self.store, self.log, self.blocks = folder / "store.sqlite", folder / "log", folder / "blocks"
        self.operations = self.records = 0
        world = World(seed)
        newest: list[_Candidate] = []

        def contents() -> Iterator[tuple[Identity, Sequence[Record]]]:
            with self.log.open("wb") as file:
                for number in range(authors):
                    identity = identity_of(world, f"author-{number}")
                    made = Posts(_COMING, world.chance("posts", number).getrandbits(32))
                    file.writelines(log.written(identity, self._counted(history(made, posts))))
                    newest.extend(_candidates(identity.public_key, made.published))
                    self.records += len(made.published)
                    yield identity, list(made.published.values())

        self.heads = ground.publish(self.store, contents())
        self.held = ground.followed(self.store, self.heads)
        self.addresses = [head.address for head in self.heads]
        self.right = _first(newest)
        with closing(DiskStore(self.store)) as store, self.blocks.open("wb") as file:
            for head in self.heads:
                file.write(log.framed(head.envelope))
            for cid, data in store.all_blocks():
                file.write(log.framed(cid + data))

    def _counted(self, done: Iterable[log.Operation]) -> Iterator[log.Operation]:
        for one in done:
            self.operations += 1
            yield one

    def check(self, rows: Sequence[tuple[Address | str, Record]]) -> None:
        """Raises AssertionError for what is not the right answer."""
        assert [(str(address), record) for address, record in rows] == self.right, "a wrong answer"


def _candidates(publisher: bytes, records: Mapping[str, Record]) -> Iterator[_Candidate]:
    """What an author's posts have for the answer."""
    address = str(Address(peer_id_of(publisher), DEFAULT_DATASET))
    for record in _QUESTION.answer(records):  # type: ignore[union-attr]
        yield -record["created"], address, record


def _first(candidates: Iterable[_Candidate]) -> list[tuple[str, Record]]:
    """The answer: of all authors' posts the newest."""
    return [(address, record) for _, address, record in sorted(candidates, key=lambda it: it[:2])[:_ROWS]]


def history(posts: Posts, count: int) -> Iterator[log.Operation]:
    """An author's posts, and edits of those published until then."""
    known: dict[str, Record] = {}
    while count:
        size = min(count, _BATCH)
        count -= size
        for changes in (posts.more(size), posts.edits(int(size * _EDITED))):
            yield from log.operations(changes, known)
            for key, record in changes.items():
                if record is None:
                    known.pop(key, None)
                else:
                    known[key] = record


# --- ways to an answer ---


async def _answer(node: Node, addresses: Sequence[Address]) -> tuple[Sequence[tuple[Address, Record]], Cost]:
    """The rows that a node gives, and what that has cost."""
    if len(addresses) == 1:
        page = await node.query(_QUESTION.text, addresses[0]).page()
        return [(addresses[0], row) for row in page.rows], page.cost
    results_ = node.feed(_QUESTION.text, addresses)
    rows = [row async for row in results_]
    assert not results_.feed.problems, results_.feed.problems
    return rows, results_.feed.cost


def _told(cluster: Cluster, newcomer: Member, since: float, processing: float, **more: Any) -> dict[str, Any]:
    """How it went.

    network_seconds  until the last byte was there
    seconds          until it was processed, too
    """
    counts, seconds = newcomer.host.counts, cluster.world.now - since
    size = counts.bytes_received + counts.bytes_sent
    return {
        "network_seconds": round(seconds, 3),
        "seconds": round(seconds + processing, 3),
        "bytes": size,
        **more,
    }


async def _start(cluster: Cluster, store: Path | None) -> Member:
    """The peer that holds everything."""
    holder = cluster.add("holder", _HOLDER)
    if store is not None:
        ground.lay(holder, store)
    await cluster.start(holder)
    await trio.sleep(1.0)
    return holder


async def by_query(cluster: Cluster, there: Authors) -> dict[str, Any]:
    """Ask."""
    holder = await _start(cluster, there.held)
    since, newcomer = cluster.world.now, cluster.add("newcomer", _NEWCOMER)
    await cluster.start(newcomer, named=[holder])
    began = time.process_time()
    rows, cost = await _answer(newcomer.running, there.addresses)
    process_seconds = round(time.process_time() - began, 4)
    there.check(rows)
    processing = PROCESSING.query_dataset * len(there.addresses)
    return _told(cluster, newcomer, since, processing, round_trips=cost.round_trips, process_seconds=process_seconds)


class Held(Observer):
    """Waits until so many datasets are held."""

    def __init__(self, count: int) -> None:
        self._left, self.all = count, trio.Event()

    def on_head(self, member: Member, head: Head) -> None:
        self._left -= 1
        if not self._left:
            self.all.set()


async def by_following(cluster: Cluster, there: Authors) -> dict[str, Any]:
    """Follow everything, and answer from the store."""
    holder = await _start(cluster, there.held)
    held = Held(len(there.addresses))
    cluster.observers.append(held)
    since, newcomer = cluster.world.now, cluster.add("newcomer", _NEWCOMER)
    await cluster.start(newcomer, met=[holder])
    for address in there.addresses:
        cluster.follow(newcomer, address)
    await held.all.wait()
    told = _told(cluster, newcomer, since, PROCESSING.follow_record * there.records)
    rows, cost = await _answer(newcomer.running, there.addresses)
    assert not cost.bytes_received
    there.check(rows)
    return told


async def by_stream(cluster: Cluster, path: Path, take: Callable[[bytes], float]) -> dict[str, Any]:
    """Have a file sent; `take` takes its bytes, and says how long that takes to process."""
    holder = await _start(cluster, None)

    async def serve(stream: Stream) -> None:
        await stream.receive()
        with path.open("rb") as file:
            while data := file.read(_CHUNK_BYTES):
                await stream.send(data)

    _swarm(holder).handle(_PROTOCOL, serve)
    since, newcomer = cluster.world.now, cluster.add("newcomer", _NEWCOMER)
    await cluster.start(newcomer, named=[holder])
    stream = await _swarm(newcomer).open_stream(holder.peer_id, _PROTOCOL, timeout_seconds=10)
    await stream.send(b"all")
    done_at = cluster.world.now
    while data := await stream.receive():
        done_at = max(done_at, cluster.world.now) + take(data)
    return _told(cluster, newcomer, since, max(0.0, done_at - cluster.world.now))


def _swarm(member: Member) -> Any:
    membership = member.running.peer.membership
    assert membership is not None
    return membership.swarm


async def by_log(cluster: Cluster, there: Authors) -> dict[str, Any]:
    """Play all logs."""
    replay = log.Replay(CHECKED)
    told = await by_stream(cluster, there.log, lambda data: PROCESSING.log_entry * len(replay.feed(data)))
    there.check(_first(one for key, records in replay.records.items() for one in _candidates(key, records)))
    return told | {"entries": replay.entries}


class Copy:
    """Takes heads, and then blocks, into a store: how long that takes."""

    def __init__(self, heads: int, store: DiskStore) -> None:
        self.store = store
        self._heads = heads
        self._data = bytearray()

    def feed(self, data: bytes) -> float:
        """More bytes have come. Raises IntegrityError."""
        self._data += data
        blocks = []
        for found in log.taken(self._data):
            if self._heads:
                self.store.put_head(open_head(found))
                self._heads -= 1
            else:
                cid, block = found[:CID_BYTES], found[CID_BYTES:]
                check_block(cid, block)
                blocks.append((cid, block))
        with self.store.transaction():
            self.store.put_many(blocks)
        return PROCESSING.copy_byte * len(data)


async def by_copy(cluster: Cluster, there: Authors) -> dict[str, Any]:
    """Copy all blocks, and answer from them."""
    with closing(DiskStore(Path("/copy"), make=True, vfs="memdb")) as store:
        told = await by_stream(cluster, there.blocks, Copy(len(there.heads), store).feed)
        peer = Peer(store, identity_of(cluster.world, "newcomer"), cluster.world.clock, random.Random(0))
        rows, _ = await _answer(Node(peer), there.addresses)
    there.check(rows)
    return told


WAYS = {QUERY: by_query, FOLLOW: by_following, COPY: by_copy, LOG: by_log}


def measure(cell: dict[str, Any]) -> dict[str, Any]:
    """One cell, each way in a world of its own."""
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        there = Authors(Path(folder), cell["seed"], cell["authors"], cell["posts"])
        found: dict[str, Any] = {**cell, "operations": there.operations}
        for name, way in WAYS.items():
            if name != FOLLOW or cell["authors"] * cell["posts"] <= FOLLOWED_MOST:
                found[name] = ground.play(cell["seed"], partial(way, there=there))
    return found | {"process_seconds": round(time.process_time() - began, 1)}


def cells(largest: int, seed: int) -> list[dict[str, Any]]:
    """What is run, the smallest first."""
    return [
        {"authors": authors, "posts": posts, "seed": seed} for authors, posts in CELLS if authors * posts <= largest
    ]


def measure_processing() -> Processing:
    """What processing takes here and now: what PROCESSING was set from."""

    def seconds(job: Callable[[], Any]) -> float:
        began = time.process_time()
        job()
        return time.process_time() - began

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "many").mkdir()
        many, one = Authors(folder / "many", 1, 1000, 30), Authors(folder, 1, 1, 30_000)
        query: float = ground.play(1, partial(by_query, there=many))["process_seconds"]
        follow = seconds(partial(ground.play, 1, partial(by_following, there=one)))
        with closing(DiskStore(folder / "copy", make=True)) as store:
            copy = seconds(partial(_in_chunks, one.blocks, Copy(1, store).feed))
        replay, index = log.Replay(), log.Index(str(folder / "index"))

        def take(data: bytes) -> None:
            done = replay.feed(data)
            for records in replay.records.values():
                index.take(done, records)

        play = seconds(partial(_in_chunks, one.log, take))
        index.close()
        return Processing(
            query / len(many.addresses), follow / one.records, copy / one.blocks.stat().st_size, play / replay.entries
        )


def _in_chunks(path: Path, take: Callable[[bytes], Any]) -> None:
    with path.open("rb") as file:
        while data := file.read(_CHUNK_BYTES):
            take(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--largest", type=int, default=1_000_000, help="no cell of more posts in all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1, help="at once; a million posts take some 4 GB")
    parser.add_argument("--measure-processing", action="store_true", help="only say what processing takes here")
    given = parser.parse_args()
    if given.measure_processing:
        print(measure_processing())
    else:
        results.run(measure, cells(given.largest, given.seed), "newcomer", given.processes)


if __name__ == "__main__":
    main()
