"""Peers in a world: made, started, stopped, killed and started again.

Promises: each member runs the node's own code, `node.peer.Peer`, on a host of the
simulated network with a store on a simulated disk. A member that is stopped or
killed comes back with what its disk has kept. Whoever observes is told of all that
happens to datasets; observing changes nothing.

It does not know what a scenario is about, nor what is right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any

import trio

from rhizome_index.api import DEFAULT_DATASET, Node, Page
from rhizome_index.errors import RhizomeError, StoreError
from rhizome_index.index.address import Address
from rhizome_index.index.head import Head, Identity
from rhizome_index.index.schema import SortPath
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.peer import Peer
from rhizome_index.node.publish import Declaration
from rhizome_index.node.register import Policy
from rhizome_index.node.swarm import Swarm
from rhizome_index.query.expr import COUNT
from rhizome_index.query.parse import parse_index
from rhizome_index.simulation.disks import Disk, FileSystem, Speed
from rhizome_index.simulation.network import Host, Place, SimNetwork
from rhizome_index.simulation.swarm import SimSwarm
from rhizome_index.simulation.world import World
from rhizome_index.tree.node import decode_node

COLLECTION = "posts"
_CHUNKS_SHARED = 20_000  # a thousand peers decode the same chunks, and nodes never change
_CACHE_PAGES = 16  # of SQLite's for each peer: its file is in memory already
_LOG_PAGES = 12  # a thousand logs are kept in memory, and one that is seldom written back is seldom torn while it is
DECLARATION = Declaration(
    time="created",
    order=(SortPath.parse("-created"),),
    indexes=dict(parse_index(text) for text in ("by_tag=tags,-created", "by_author=author,-created")),
)

ENDS = ("stop", "kill", "power")  # of a life: in good order, by a kill, by a loss of power

Changes = Mapping[str, Mapping[str, Any] | None]  # records by id; None: deleted


class Strategy:
    """How a member behaves. This one is honest; see `byzantine` for others."""

    is_honest = True

    def swarm(self, member: Member, swarm: Swarm) -> Swarm:
        """The network as its node is to see it."""
        return swarm

    async def run(self, member: Member) -> None:
        """What it does beside its node, until it is stopped."""


class Observer:
    """Is told what happens. Does nothing by itself."""

    def on_published(self, member: Member, head: Head, changes: Changes, before: Head | None) -> None:
        """A change of the head before has been acknowledged to its publisher."""

    def on_unsure(self, member: Member, changes: Changes) -> None:
        """A change was cut off: it has happened or not."""

    def on_head(self, member: Member, head: Head) -> None:
        """A follower has switched to a head."""

    def on_answer(self, member: Member, question: Any, address: Address, page: Page) -> None:
        """A query of a dataset was answered whole."""

    def on_rows(self, member: Member, question: Any, address: Address, head: Head, rows: Sequence[Any]) -> None:
        """Rows of a query were given, though not all."""

    def on_started(self, member: Member) -> None:
        """A member runs, for the first time or again."""

    def on_unreadable(self, member: Member, error: BaseException) -> None:
        """A member cannot start, for its store cannot be opened."""

    def on_crash(self, who: str, error: BaseException) -> None:
        """Something was raised that nobody should raise."""

    def on_healthy(self) -> None:
        """From now on nothing is made to fail any more."""


class Member:
    """One peer of a cluster.

    node      while it runs
    starts    how often it was started, the last time at `started_at`
    follows   what it was told to follow, and how: whatever it remembers of that itself
    """

    def __init__(self, name: str, identity: Identity, host: Host, folder: str, strategy: Strategy) -> None:
        self.name = name
        self.identity = identity
        self.host = host
        self.folder = folder
        self.strategy = strategy
        self.node: Node | None = None
        self.starts = 0
        self.started_at = 0.0
        self.generation = 0  # of its disk, when it was started
        self.scope = trio.CancelScope()
        self.gone = trio.Event()
        self.named: tuple[str, ...] = ()
        self.met: tuple[Member, ...] = ()
        self.follows: dict[Address, Policy] = {}

    @property
    def peer_id(self) -> str:
        return self.identity.peer_id

    @property
    def dataset(self) -> Address:
        """What it publishes, if it publishes."""
        return Address(self.peer_id, DEFAULT_DATASET)

    @property
    def is_alive(self) -> bool:
        """Whether it runs, and its disk does."""
        return self.node is not None and self.generation == self.host.disk.generation

    @property
    def running(self) -> Node:
        """The node of a member that must be running."""
        assert self.node is not None, f"{self.name} does not run"
        return self.node

    def __repr__(self) -> str:
        return self.name


def identity_of(world: World, name: str) -> Identity:
    """The key of a member: it follows from the seed and its name."""
    return Identity(world.chance("key", name).randbytes(32))


class Cluster:
    """All members, by name.

    files  where members have their disks; None if they are elsewhere
    """

    def __init__(
        self, world: World, network: SimNetwork, nursery: trio.Nursery, files: FileSystem | None = None
    ) -> None:
        self.world = world
        self.network = network
        self.members: dict[str, Member] = {}
        self.observers: list[Observer] = []
        self._files = files
        self._decode = lru_cache(_CHUNKS_SHARED)(decode_node)
        self._nursery = nursery

    def add(self, name: str, place: Place, speed: Speed | None = None, strategy: Strategy | None = None) -> Member:
        """A new member, which does not run yet."""
        identity = identity_of(self.world, name)
        disk = Disk(lambda: self.world.now, self.world.chance("disk", name), speed or Speed())
        host = self.network.add(name, identity.peer_id, place, disk)
        member = Member(name, identity, host, self.make_folder(name, identity, disk), strategy or Strategy())
        self.members[name] = member
        return member

    def make_folder(self, name: str, identity: Identity, disk: Disk) -> str:
        """Where a new member keeps what it has; the path."""
        assert self._files is not None
        return self._files.add(name, disk)

    @property
    def vfs(self) -> str:
        """SQLite's name of the file system that all disks are on."""
        assert self._files is not None
        return self._files.name

    def running(self) -> list[Member]:
        """Members that run, in the order of their making."""
        return [member for member in self.members.values() if member.is_alive]

    async def start(self, member: Member, named: Sequence[Member] = (), met: Sequence[Member] = ()) -> Node:
        """Start a member, or start it again.

        named  peers that its user names
        met    peers that it knows from earlier: it dials them by itself
        """
        assert member.node is None, f"{member.name} runs already"
        member.named = tuple(other.host.address for other in named) or member.named
        member.met = tuple(met)
        member.scope, member.gone = trio.CancelScope(), trio.Event()
        self._nursery.start_soon(self._live, member, started := trio.Event())
        await started.wait()
        return member.running

    async def _live(self, member: Member, started: trio.Event) -> None:
        """One life of a member."""
        world, host = self.world, member.host
        generation = member.generation = host.disk.generation
        try:
            path = Path(member.folder) / "store.sqlite"
            store = DiskStore(path, make=True, vfs=self.vfs, log_pages=_LOG_PAGES, is_shared=False, decode=self._decode)
            store.execute(f"pragma cache_size = {_CACHE_PAGES}")
            store.execute("pragma busy_timeout = 0")  # nobody else has it open, and SQLite asks before each statement
        except StoreError as error:
            self._tell("on_unreadable", member, error)
            started.set()
            return
        peer = Peer(store, member.identity, world.clock, world.chance("peer", member.name, member.starts))
        member.starts += 1
        member.started_at = world.now
        try:
            with member.scope:
                async with trio.open_nursery() as nursery:
                    for other in member.met:
                        peer.register.note_peer(other.host.address, other.peer_id, world.clock())
                    async with self.open_swarm(member, nursery) as swarm:
                        membership = peer.join(member.strategy.swarm(member, swarm), nursery)
                        membership.follower.on_head = lambda head: self._on_head(member, head)
                        peer.serve()
                        member.node = Node(peer)
                        world.trace.note("start", member.name)
                        self._tell("on_started", member)
                        nursery.start_soon(peer.stay)
                        nursery.start_soon(member.strategy.run, member)
                        await peer.connect(member.named)
                        started.set()
                        await trio.sleep_forever()
        except Exception as error:
            if host.disk.generation == generation:  # a peer that was killed may say what it likes
                self._tell("on_crash", member.name, error)
        finally:
            member.node = None
            self.network.leave(host)
            for failure in host.failures:
                if host.disk.generation == generation:
                    self._tell("on_crash", member.name, failure)
            host.failures.clear()
            try:
                store.close()
            except Exception:
                if host.disk.generation == generation:
                    raise
            started.set()
            member.gone.set()

    def open_swarm(self, member: Member, nursery: trio.Nursery) -> AbstractAsyncContextManager[Swarm]:
        """A member's place in the network; what it takes to keep it runs in `nursery`."""
        return nullcontext(SimSwarm(self.network, member.host, nursery))

    def _on_head(self, member: Member, head: Head) -> None:
        self.world.trace.note("head", member.name, f"{head.address} {head.sequence}")
        self._tell("on_head", member, head)

    def _tell(self, what: str, *args: Any) -> None:
        for observer in self.observers:
            getattr(observer, what)(*args)

    async def stop(self, member: Member) -> None:
        """Stop a member in good order."""
        self.world.trace.note("stop", member.name)
        member.scope.cancel()
        await member.gone.wait()

    async def kill(self, member: Member, *, power: bool = False) -> None:
        """Kill a member: at this very moment it can neither write nor send any more.

        power  its whole host loses power: what was not synced may be lost
        """
        self.world.trace.note("kill", member.name, "power" if power else "")
        member.host.disk.fuse = None
        if power:
            member.host.disk.cut_power()
        else:
            member.host.disk.kill()
        self.network.leave(member.host, "its peer was killed")
        member.scope.cancel()
        await member.gone.wait()

    async def end(self, member: Member, how: str) -> None:
        """End a member's life in one of the ways of ENDS."""
        if how == "stop":
            await self.stop(member)
        else:
            await self.kill(member, power=how == "power")

    # --- datasets ---

    def follow(self, member: Member, address: Address, policy: Policy | None = None) -> None:
        """Let a member follow a dataset from now on."""
        chosen = policy or Policy()
        member.running.follow(address, chosen)
        member.follows[address] = chosen

    def publish(self, member: Member, changes: Changes) -> Head | None:
        """Put records of a member's own dataset, and then delete some, all or nothing; None if its disk failed."""
        publisher = member.running.peer.publisher
        before = member.running.peer.store.newest_head(member.dataset)
        puts = {key: record for key, record in changes.items() if record is not None}
        deletes = {key: None for key in changes if key not in puts}
        heads: list[tuple[Head, Changes]] = []
        try:
            with member.running.peer.store.transaction():
                records = map(dict, puts.values())
                heads.append((publisher.put_many(DEFAULT_DATASET, COLLECTION, records, DECLARATION)[0], puts))
                if deletes:
                    heads.append((publisher.delete_many(DEFAULT_DATASET, COLLECTION, list(deletes))[0], deletes))
        except StoreError:
            self._tell("on_unsure", member, changes)
            return None
        for head, what in heads:
            if head != before:  # else nothing changed
                self.note_published(member, head, what, before)
            before = head
        return before

    def note_published(self, member: Member, head: Head, changes: Changes, before: Head | None) -> None:
        """A change has been acknowledged, or made up."""
        self.world.trace.note("publish", member.name, f"{head.sequence} {len(changes)}")
        self._tell("on_published", member, head, changes, before)

    async def ask(self, member: Member, question: Any, address: Address) -> Page:
        """Ask a question of a dataset. Raises RhizomeError."""
        results = member.running.query(question.text, address)
        rows: list[Any] = []
        try:
            async for row in results:
                rows.append(row)
            opening, answer = results.resolution.opening, results.resolution.answer
            assert opening is not None and answer is not None
        except RhizomeError as error:
            self.world.trace.note("no answer", member.name, f"{question.text}: {error}")
            if results.resolution.opening is not None:
                self._tell("on_rows", member, question, address, results.resolution.opening.head, rows)
            raise
        count = answer.count if answer.query.kind == COUNT else len(rows)
        standing = results.standing()
        page = Page(rows, count, str(standing), standing, None, opening.head, results.resolution.cost)
        self.world.trace.note("answer", member.name, f"{question.text}: {count} of head {page.head.sequence}")
        self._tell("on_answer", member, question, address, page)
        return page
