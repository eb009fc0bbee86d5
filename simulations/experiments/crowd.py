"""A crowd of many joins: who learns of whom, and who is asked, by the node's own code; what is served is made up.

Each peer has the node's own `Directory`, `Register`, `Picker` and `Fetcher`, and answers with the node's own `Server`,
in virtual time: it meets a first contact, hears of providers from those it asks, dials some of them, draws among them,
and fails over. Messages are the real ones, and their bytes are counted.

What is coarser than a scenario: a request and its answer pass as a whole, after the latency of the simulated network
and what the answering peer's uplink takes, with no streams and windows between; the dataset is a few blocks without
trees or queries, and a request is one of its blocks; one peer is asked for its head before each request, not three
every half minute; and there is neither gossip nor provider records. So thousands of joins over virtual days take
minutes.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import trio

from rhizome_index.blocks.cid import cid_of
from rhizome_index.errors import IntegrityError, UnavailableError
from rhizome_index.index.address import Address
from rhizome_index.index.head import Identity, sign_head
from rhizome_index.limits import READERS_MET_SECONDS
from rhizome_index.node.cost import Cost
from rhizome_index.node.directory import Directory
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.fetch import Fetcher, Wanted
from rhizome_index.node.link import Links, in_turn
from rhizome_index.node.readers import Readers
from rhizome_index.node.register import Register
from rhizome_index.node.serve import Server
from rhizome_index.simulation.disks import Disk, Speed
from rhizome_index.simulation.network import Host, SimNetwork
from rhizome_index.simulation.swarm import SimSwarm
from rhizome_index.simulation.workload import draw, somewhere
from rhizome_index.simulation.world import World
from rhizome_index.wire import message as m
from rhizome_index.wire import want
from rhizome_index.wire.frame import FrameReader
from rhizome_index.wire.pick import Picker

HOUR, DAY = 3600.0, 86_400.0
BLOCK_BYTES = 16 * 1024
_UPLINK = 2_500_000.0

MakePicker = Callable[[Callable[[], float], Any], Picker]
PUBLISHER, FRIEND, VETERANS = "publisher", "friend", "veterans"  # whom a newcomer knows at first
_VETERANS = 3
_SEED = bytes(32)  # of a key that nobody signs with
_HANDSHAKE_TRIPS = 4  # as SimSwarm has it


def lottery(chance: Callable[[], float], register: Register) -> Picker:
    """The node's own choice."""
    return Picker(chance)


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens.

    joins          how many peers come, one after another
    alive          how many are there at once, on average
    shortest       seconds that a peer stays at least: stays are spread as Pareto has it, with `tail`, up to `longest`
    copied         blocks that a newcomer copies
    pause_seconds  between requests of one peer, on average
    contact        whom a newcomer knows at first: PUBLISHER, FRIEND (anybody who is there), VETERANS (the oldest)
    """

    joins: int
    alive: int = 100
    shortest: float = 900.0
    longest: float = 4 * DAY
    tail: float = 1.2
    copied: int = 8
    pause_seconds: float = 1500.0
    contact: str = PUBLISHER
    make_register: Callable[[DiskStore], Register] = Register
    make_picker: MakePicker = lottery

    @property
    def stay_seconds(self) -> float:
        """The mean stay: of a Pareto distribution that is cut off."""
        low, high, tail = self.shortest, self.longest, self.tail
        return low**tail * tail / (tail - 1) * (low ** (1 - tail) - high ** (1 - tail)) + high * (low / high) ** tail

    @property
    def seconds(self) -> float:
        """How long it takes until the last has come."""
        return self.joins * self.stay_seconds / self.alive


@dataclass(eq=False, slots=True)
class One:
    """One peer that is there."""

    host: Host
    store: DiskStore
    register: Register
    links: Links
    directory: Directory
    server: Server
    readers: Readers
    nursery: trio.Nursery
    since: float
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    has_copy: bool = False
    free_at: float = 0.0  # its uplink
    counted: int = 0  # bytes that it has sent and that the load has counted

    def answer(self, protocol: str, request: m.Request) -> Iterator[bytes]:
        """What its server answers to a request."""
        return self.server.answering[protocol](request)


@dataclass(slots=True)
class Asked:
    """How requests went: seconds of each that was answered, and how many were not, or not by the first asked."""

    seconds: list[float] = field(default_factory=list)
    unanswered: int = 0
    failed_over: int = 0


class ShortSwarm(SimSwarm):
    """A place in the simulated network whose handshakes take one sleep instead of many."""

    async def dial(self, address: str, *, timeout_seconds: float) -> str:
        """See `node.swarm.Swarm`."""
        peer_id = address.rpartition("/p2p/")[2]
        target = self._network.dialled.get(address)
        self._host.counts.dials += 1
        if target is not None and peer_id not in self._host.connections:
            await trio.sleep(_HANDSHAKE_TRIPS * 2 * self._network.base_seconds(self._host, target))
        elif target is None:
            await trio.sleep(timeout_seconds)
        if self._network.dialled.get(address) is None:
            raise UnavailableError(f"cannot reach {address}")
        self._network.connect(self._host, self._network.dialled[address])
        return peer_id


class ShortLinks(Links):
    """The node's links, but that a request and its answer pass as a whole."""

    def __init__(self, swarm: SimSwarm, nursery: trio.Nursery, picker: Picker, crowd: Crowd) -> None:
        super().__init__(swarm, nursery, picker)
        self._crowd = crowd

    async def converse(
        self, peer_id: str, protocol: str, fields: Mapping[str, Any], conversation: Any, **how: Any
    ) -> int:
        """See `Links.converse`."""
        started, there = trio.current_time(), self._crowd.alive.get(peer_id)
        latency = self._swarm.latency_seconds(peer_id)
        if there is None or latency is None:
            self._picker.note_failure(peer_id, started)
            raise UnavailableError(f"peer {peer_id} is gone")
        data = b"".join(there.answer(protocol, m.Request(0, fields)))
        if protocol == want.PROTOCOL:
            there.readers.note(self._swarm.peer_id)
        there.free_at = max(there.free_at, started) + len(data) / there.host.place.up_bytes_per_second
        await trio.sleep(there.free_at - started + latency)
        if peer_id not in self._crowd.alive:
            self._picker.note_failure(peer_id, trio.current_time())
            raise UnavailableError(f"peer {peer_id} is gone")
        there.host.counts.bytes_sent += len(data)
        replies = m.ReplyReader()
        for body in FrameReader().feed(data):
            reply = replies.read(body)
            if reply is not None:
                conversation.take(reply)
        seconds = trio.current_time() - started
        self._picker.note_success(peer_id, seconds, len(data), latency, forgives=how.get("forgives", True))
        return len(data)


class Crowd:
    """Everybody who is there, in the order of their coming: the publisher first, who stays."""

    def __init__(self, plan: Plan, world: World, nursery: trio.Nursery) -> None:
        self.plan = plan
        self.world = world
        self.network = SimNetwork(world)
        self.alive: dict[str, One] = {}
        self.joined = 0
        self.without_copy = 0
        self.asked = Asked()
        self.on_leave: Callable[[One], None] = lambda one: None
        self._nursery = nursery
        self._chance = world.chance("crowd")
        self._blocks = [(cid_of(data), data) for data in map(self._chance.randbytes, [BLOCK_BYTES] * plan.copied)]
        identity = Identity(self._chance.randbytes(32))
        self.address = Address(identity.peer_id, "main")
        self._head = sign_head(identity, self.address.name, 1, self._blocks[0][0], int(world.clock() * 1000))
        self.publisher = identity.peer_id

    # --- coming and going ---

    async def run(self, seconds: float) -> None:
        """Let so many seconds pass: newcomers come at random, each for a while."""
        with trio.move_on_after(seconds):
            if not self.alive:
                self._nursery.start_soon(self._live, self.publisher, float("inf"))
            while True:
                await trio.sleep(self._chance.expovariate(self.plan.alive / self.plan.stay_seconds))
                self.come()

    def come(self) -> str:
        """A newcomer comes; its peer id."""
        peer_id = Identity(self._chance.randbytes(32)).peer_id
        self._nursery.start_soon(self._live, peer_id, self._stay())
        return peer_id

    def _stay(self) -> float:
        return min(self.plan.longest, self.plan.shortest * self._chance.paretovariate(self.plan.tail))

    def remove(self, peers: list[str]) -> None:
        """These peers are gone from one moment to the next."""
        for peer in peers:
            self._leave(self.alive[peer])

    def _leave(self, one: One) -> None:
        self.on_leave(one)
        del self.alive[one.host.peer_id], self.network.dialled[one.host.address], self.network.hosts[one.host.peer_id]
        self.network.leave(one.host)
        one.scope.cancel()

    async def _live(self, peer_id: str, stay_seconds: float) -> None:
        """One peer, from its coming to its going."""
        self.joined += 1
        chance = self.world.chance("peer", self.joined)
        contact = self._contact(chance)
        place = somewhere(chance, up_bytes_per_second=_UPLINK)
        name = f"peer-{self.joined}"
        host = self.network.add(name, peer_id, place, Disk(lambda: self.world.now, chance, Speed()))
        store = DiskStore(Path(f"/{name}"), make=True, vfs="memdb")
        try:
            async with trio.open_nursery() as nursery:
                one = self._make(host, store, nursery, chance)
                self.alive[peer_id] = one
                with one.scope:
                    nursery.start_soon(self._ask_on, one, contact, chance)
                    await trio.sleep(stay_seconds)
                    self._leave(one)
                nursery.cancel_scope.cancel()
        finally:
            store.close()

    def _make(self, host: Host, store: DiskStore, nursery: trio.Nursery, chance: random.Random) -> One:
        swarm = ShortSwarm(self.network, host, nursery)
        register = self.plan.make_register(store)
        links = ShortLinks(swarm, nursery, self.plan.make_picker(chance.random, register), self)
        directory = Directory(swarm, links, register, self.world.clock)
        server = Server(store, register, swarm, Identity(_SEED), chance.random)
        readers = Readers(swarm, directory, nursery)
        return One(host, store, register, links, directory, server, readers, nursery, self.world.now)

    def _contact(self, chance: random.Random) -> str | None:
        """The address of whom a newcomer knows at first."""
        if not self.alive:
            return None
        if self.plan.contact == PUBLISHER and self.publisher in self.alive:
            return self.alive[self.publisher].host.address
        there = [one.host.address for one in self.alive.values() if one.has_copy]
        if not there:
            return None
        return draw(chance, there[:_VETERANS] if self.plan.contact == VETERANS else there)

    # --- asking ---

    def ask_all(self, asked: Asked) -> None:
        """Have everybody who is there ask once, now."""
        for one in self.alive.values():
            one.nursery.start_soon(self.ask, one, asked)

    async def _ask_on(self, one: One, contact: str | None, chance: random.Random) -> None:
        """What a peer does: it copies the dataset, and then asks for a block now and then."""
        if one.host.peer_id == self.publisher:
            self._keep(one, self._blocks)
            met = trio.Event()
            one.host.watchers.append(lambda peer: met.set())
            while True:
                await met.wait()
                met = trio.Event()
                await trio.sleep(READERS_MET_SECONDS)
                await one.directory.introduce(self.address)
        await self._join(one, contact)
        while True:
            await trio.sleep(chance.expovariate(1 / self.plan.pause_seconds))
            await self.ask(one, self.asked)

    async def _join(self, one: One, contact: str | None) -> None:
        """As a node does that has met somebody and follows the dataset."""
        found, _ = await one.directory.connect([contact] if contact else [])
        await one.directory.meet(found, [self.address])
        try:
            peers = await self._providers(one)
            fetched: list[tuple[bytes, bytes]] = []
            await Fetcher(one.links, peers, Cost()).fetch([Wanted(cid) for cid, _ in self._blocks], fetched.extend)
            self._keep(one, fetched)
        except (UnavailableError, IntegrityError):
            self.without_copy += 1

    async def _providers(self, one: One) -> list[str]:
        """Whom to ask; the first of them is asked for its newest head before."""
        peers = await one.directory.providers(self.address)
        for peer in peers[:1]:
            with suppress(UnavailableError, IntegrityError):
                await one.directory.ask(peer, [self.address], Cost())
        return peers

    def _keep(self, one: One, blocks: list[tuple[bytes, bytes]]) -> None:
        with one.store.transaction():
            one.store.put_many(blocks)
            one.store.set_held(self._head)
        one.has_copy = True

    async def ask(self, one: One, asked: Asked) -> None:
        """One request, of whom the directory says first; of the others when it fails."""
        started = self.world.now
        cid, _ = draw(self._chance, self._blocks)
        problems: list[Exception] = []
        peers = await self._providers(one)
        for peer, patience in in_turn(peers, problems):
            wanting = want.Wanting(wanted := want.Want(None, (cid,)), [cid])
            try:
                await one.links.converse(peer, want.PROTOCOL, wanted.fields(), wanting, silence_seconds=patience)
                if wanting.failure is None and wanting.blocks[0] is not None:
                    asked.seconds.append(self.world.now - started)
                    asked.failed_over += bool(problems)
                    return
                problems.append(UnavailableError("it has not got it"))
            except (UnavailableError, IntegrityError) as problem:
                problems.append(problem)
        asked.unanswered += 1


def play(plan: Plan, seed: int, watch: Callable[[Crowd], Iterator[float]]) -> None:
    """Run a plan. `watch` looks at the crowd, and says for how many more seconds it is to go on."""
    world = World(seed)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            crowd = Crowd(plan, world, nursery)
            for seconds in watch(crowd):
                await crowd.run(seconds)
            nursery.cancel_scope.cancel()

    with suppress(KeyboardInterrupt):
        world.run(partial(main))
