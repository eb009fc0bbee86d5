"""One peer, put together: its store, its place in a swarm if it has joined one, and all it does there.

It knows neither libp2p nor the simulator: network, clock and chance are given.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress

import trio
from pyrsistent import PMap, pmap

from rhizome_index.errors import StoreError, UnavailableError, UsageError
from rhizome_index.index.address import Address
from rhizome_index.index.head import Head, Keys
from rhizome_index.limits import READERS_MET_SECONDS, RENEWALS_SECONDS, STORE_WATCH_SECONDS
from rhizome_index.node.carry import Carrier
from rhizome_index.node.collector import Collector
from rhizome_index.node.cost import Cost
from rhizome_index.node.dht import Dht
from rhizome_index.node.directory import Directory
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.feed import FeedParts
from rhizome_index.node.follow import Follower
from rhizome_index.node.gossip import Gossip
from rhizome_index.node.inquire import Inquirer
from rhizome_index.node.lent_swarm import LentSwarm
from rhizome_index.node.link import Links
from rhizome_index.node.part import PartKeeper, kept_by
from rhizome_index.node.publish import Publisher
from rhizome_index.node.readers import Readers
from rhizome_index.node.register import Follow, Policy, Register
from rhizome_index.node.reserve import Reservations
from rhizome_index.node.resolve import Resolver
from rhizome_index.node.serve import Server
from rhizome_index.node.swarm import Swarm
from rhizome_index.node.sync import Progress, Syncer
from rhizome_index.wire.pick import Picker

Clock = Callable[[], float]


class Membership:
    """What a peer has of a swarm that it has joined."""

    def __init__(
        self,
        store: DiskStore,
        register: Register,
        swarm: Swarm,
        nursery: trio.Nursery,
        keys: Keys,
        clock: Clock,
        chance: random.Random,
    ) -> None:
        self.swarm = swarm
        self.nursery = nursery
        self.links = Links(swarm, nursery, Picker(chance.random))
        self.links.is_relayed = swarm.is_relayed
        self.directory = Directory(swarm, self.links, register, clock)
        self.dht = Dht(store, register, swarm, self.links, nursery, clock)
        self.directory.search, self.directory.keep = self.dht.find, self.dht.keep
        self.server = Server(store, register, swarm, keys, chance.random)
        self.server.on_read = Readers(swarm, self.directory, nursery).note
        self.inquirer = Inquirer(store, register, self.links)
        self.resolver = Resolver(store, clock, self.links, self.directory, self.inquirer)
        syncer = Syncer(store, self.links, self.resolver.heads.check)
        self.carrier = Carrier(store, self.links, syncer)
        keeper = PartKeeper(store, self.links)
        self.follower = Follower(
            store, register, self.directory, syncer, keeper, self.inquirer, clock, chance, swarm.tally
        )
        self.collector = Collector(store, keys.peer_id, clock, swarm.tally)
        self.gossip = Gossip(store, register, swarm, self.links, keys, clock, chance, self.follower.hint)


class Peer:
    """A peer.

    named        peers that its user has named: they are asked whatever else is known
    unreachable  addresses that could not be dialled, with the reason
    chance       where everything comes from that nobody may foresee
    running      the swarm of our home's running node, where it is that which we have joined
    """

    def __init__(self, store: DiskStore, keys: Keys, clock: Clock, chance: random.Random) -> None:
        self.store = store
        self.keys = keys
        self.clock = clock
        self.register = Register(store)
        self.publisher = Publisher(store, keys, clock)
        self.membership: Membership | None = None
        self.named: tuple[str, ...] = ()
        self._named_at: tuple[str, ...] = ()  # the addresses at which some of them were reached
        self.unreachable: PMap[str, str] = pmap()
        self.running: LentSwarm | None = None
        self._looking = trio.Event()
        self._publishing = trio.Event()  # something of ours may be new
        self.chance = chance
        self._alone = Resolver(store, clock)
        self.feeds = FeedParts(store)

    @property
    def resolver(self) -> Resolver:
        return self.membership.resolver if self.membership else self._alone

    @property
    def catalog(self) -> PMap[Address, Head]:
        """The head to answer from of each dataset known here: a snapshot that is replaced, never changed."""
        return pmap({head.address: head for head in self.store.current_heads()})

    def join(self, swarm: Swarm, nursery: trio.Nursery) -> Membership:
        """Take part in a swarm, in tasks of `nursery`."""
        self.running = swarm if isinstance(swarm, LentSwarm) else None
        self.membership = Membership(self.store, self.register, swarm, nursery, self.keys, self.clock, self.chance)
        return self.membership

    async def connect(self, addresses: Iterable[str]) -> None:
        """Connect to peers that the user names. Those that cannot be reached are noted in `unreachable`."""
        tried = list(addresses)
        found, failed = await self.joined().directory.connect(tried)
        reached = [address for address in tried if address not in failed]
        self.named = tuple(dict.fromkeys([*self.named, *found]))
        self._named_at = tuple(dict.fromkeys([*self._named_at, *reached]))
        gone = {at: why for at, why in self.unreachable.items() if at not in reached}
        self.unreachable = pmap(gone | failed)

    def serve(self) -> None:
        """Answer what others ask, and listen to what they tell."""
        membership = self.joined()
        membership.server.start()
        membership.gossip.start()
        membership.dht.start()
        self.store.on_heads = self._tell_heads

    def _tell_heads(self, addresses: Collection[Address] | None = None) -> None:
        """Heads of these datasets may be new; without any: so may be what is followed and published."""
        membership = self.joined()
        membership.gossip.stir(addresses)
        membership.dht.stir(addresses)
        if addresses is None or any(address.publisher == self.keys.peer_id for address in addresses):
            self._publishing.set()

    def relay(self) -> None:
        """Let peers that nobody can dial be reached through us."""
        from rhizome_index.node.relay import Relay  # knows multiaddrs, which commands without a network do without

        Relay(self.joined().swarm, self.clock).start()

    async def reserve(self, addresses: Iterable[str]) -> None:
        """Be reached through these relays from now on. Those that fail are noted in `unreachable`, and tried again.

        Raises UsageError for what is no address of a relay.
        """
        membership = self.joined()
        reservations = Reservations(membership.swarm, self.clock)

        async def keep(address: str) -> None:
            if problem := await membership.nursery.start(reservations.keep, address):
                self.unreachable = self.unreachable.set(address, f"{problem}; it is tried again")

        async with trio.open_nursery() as nursery:
            for address in dict.fromkeys(addresses):
                nursery.start_soon(keep, address)

    async def meet_neighbours(self, *, on_loopback: bool = False) -> None:
        """Be heard on the local network, and connect to peers that are heard there, until cancelled."""
        from rhizome_index.node.mdns import Neighbours
        from rhizome_index.node.multicast import open_air  # of all commands only a node listens there

        membership = self.joined()
        await Neighbours(membership.swarm, membership.directory, self.chance, open_air, on_loopback=on_loopback).run()

    async def stay(self) -> None:
        """Follow what is followed, tell of new heads, meet peers met before, notice what other processes write.

        And make room.

        Until cancelled.
        """
        membership = self.joined()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(membership.follower.run)
            nursery.start_soon(membership.collector.run)
            nursery.start_soon(membership.gossip.run)
            nursery.start_soon(membership.dht.run)
            nursery.start_soon(self._meet_again)
            nursery.start_soon(self._watch_store)
            nursery.start_soon(self._meet_readers)
            nursery.start_soon(self._renew_heads)

    async def _meet_again(self) -> None:
        with suppress(StoreError):  # whom we have met is a courtesy
            await self._meet_known()

    async def _meet_known(self) -> None:
        directory = self.joined().directory
        follows = [follow.address for follow in self.register.follows()]
        await directory.meet(self.named, follows)
        known = [address for address, peer_id in self.register.peers() if peer_id not in self.named]
        found, _ = await directory.connect(known[:16], is_hearsay=True)
        await directory.meet(found, follows)
        for address in follows:
            self.joined().follower.hint(address)

    async def _meet_readers(self) -> None:
        """Learn who serves what we publish, so that others can be sent there: the newest first."""
        membership = self.joined()
        while True:
            await trio.sleep(READERS_MET_SECONDS)
            with suppress(StoreError):  # the next look may work
                heads = self.store.current_heads(self.keys.peer_id)
                for head in heads:
                    await membership.directory.introduce(head.address)
                if not heads:
                    await self._publishing.wait()
                    self._publishing = trio.Event()

    async def _renew_heads(self) -> None:
        """What we publish for a time is signed anew before that is over."""
        while True:
            with suppress(StoreError, UsageError):  # the next look may work; or nobody has opened the key
                self.publisher.renew_those_that_expire()
            await trio.sleep(RENEWALS_SECONDS)

    async def _watch_store(self) -> None:
        """Another process of this home may publish, or follow something."""
        seen = -1
        while True:
            with trio.move_on_after(STORE_WATCH_SECONDS if self.store.is_shared else math.inf):
                await self._looking.wait()
            self._looking = trio.Event()
            with suppress(StoreError):  # the next look may work
                if (now := self.store.data_version()) != seen:
                    seen = now
                    self._refresh()
                self.joined().collector.look()

    def look(self) -> None:
        """Another process of this home has written to the store: see what, at once."""
        self._looking.set()

    # --- follows ---

    def follow(self, address: Address, policy: Policy) -> None:
        """Follow a dataset from now on. Raises UsageError for a query to keep that is none."""
        self.register.follow(Follow(address, kept_by(policy, int(self.clock() * 1000))))
        self._refresh()

    def unfollow(self, address: Address) -> bool:
        """Follow it no longer; whether it was followed."""
        was = self.register.unfollow(address)
        self._refresh()
        return was

    def _refresh(self) -> None:
        """What is followed or published may have changed."""
        if self.membership:
            self.membership.follower.refresh()
            self._tell_heads()
        if self.membership and self.running:
            self.membership.nursery.start_soon(self.running.tell_changed)

    def followed(self, address: Address) -> Follow:
        """How a dataset is followed. Raises UsageError if it is not."""
        for follow in self.register.follows():
            if follow.address == address:
                return follow
        raise UsageError(f"{address} is not followed", hint=f"follow it: rhizome follow {address}")

    async def sync(self, address: Address) -> Head:
        """Bring what is followed of a dataset up to date now: here, or by having the running node do it.

        Raises UsageError if it is not followed.
        """
        follow, follower = self.followed(address), self.joined().follower
        if self.running is None:
            return await follower.bring(follow)
        state = follower.state(follow)

        def note(progress: Progress, cost: Cost) -> None:
            state.progress, state.cost = progress, cost

        await self.running.bring(address, note)
        held = self.store.held_head(address)
        if held is None:
            raise UnavailableError(f"{address} is no longer followed")
        return held

    # --- whom to ask ---

    async def providers(self, address: Address) -> list[str]:
        """Connected peers to ask about a dataset, in order: those the user named, else all that may serve it.

        Those who were named are dialled again where none of them is connected any more: one may be back.
        """
        membership = self.joined()
        if self.named:
            if not set(self.named) & set(membership.swarm.connected_peers):
                await self.connect(self._named_at)
            return membership.links.order(self.named)
        return await membership.directory.providers(address)

    async def datasets_of(self, peers: Sequence[str], cost: Cost) -> list[Address]:
        """The datasets that these peers serve."""
        known: set[Address] = set()
        for peer in peers:
            known |= (await self.joined().directory.ask(peer, (), cost)).keys()
        return sorted(known)

    def joined(self) -> Membership:
        """Our place in the swarm. Raises UnavailableError if we have joined none."""
        if self.membership is None:
            raise UnavailableError("not on the network", hint="name a peer, or an address to listen on")
        return self.membership
