"""Tell others of new heads, and hear of them: a hint that comes at once, beside heads that are pulled.

We subscribe to what is followed or published here. Once a new head is current and
durable it is told, unless that is how it came here. What is heard is looked at
before it is kept and passed on: it must be a signed head of that very dataset,
newer than what is known. Whoever passes on anything else breaks the protocol. So a
head goes once through each peer, and nobody but its publisher can make us do more
than look, a few times a second for each peer.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from contextlib import suppress

import trio

from rhizome_index.errors import StoreError, UsageError
from rhizome_index.index.address import Address
from rhizome_index.index.head import Head, Keys
from rhizome_index.limits import (
    CLOCK_SKEW_SECONDS_MAX,
    GOSSIP_CHECKS_AT_ONCE,
    GOSSIP_CHECKS_PER_SECOND,
    GOSSIP_HEADS_AT_ONCE,
    GOSSIP_PAUSE_SECONDS,
    GOSSIP_TOPICS_MAX,
)
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.gossip_streams import GossipStreams
from rhizome_index.node.link import Links
from rhizome_index.node.register import Register
from rhizome_index.node.swarm import Swarm
from rhizome_index.wire.allowance import Allowance
from rhizome_index.wire.counted import make_room
from rhizome_index.wire.gossip import Message, Rpc, address_of, read_head, sign_message, topic_of
from rhizome_index.wire.mesh import Mesh


class _Dataset:
    """A dataset that we hear of. `newest` is the newest head that was told, heard, or known at first."""

    def __init__(self, newest: Head | None) -> None:
        self.newest = newest
        self.allowance = Allowance(1 / GOSSIP_PAUSE_SECONDS, GOSSIP_HEADS_AT_ONCE)


class Gossip:
    """One peer's part in gossip. `on_news` is told of each dataset of which a new head was heard and kept."""

    def __init__(
        self,
        store: DiskStore,
        register: Register,
        swarm: Swarm,
        links: Links,
        keys: Keys,
        clock: Callable[[], float],
        chance: random.Random,
        on_news: Callable[[Address], None],
    ) -> None:
        self._store = store
        self._register = register
        self._keys = keys
        self._clock = clock
        self._on_news = on_news
        self.mesh = Mesh(chance.random)
        self._streams = GossipStreams(swarm, links, self._meet, self.mesh.part, self._hear)
        self._checks: dict[str, Allowance] = {}
        self._datasets: dict[Address, _Dataset] = {}
        self._stirred: set[Address] | None = None  # whose heads may be new; None: anything may have changed
        self._stir = trio.Event()
        self._moved = trio.Event()
        self._seqno = 0

    def start(self) -> None:
        """Begin to listen."""
        self._streams.start()

    async def run(self) -> None:
        """Take part until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._streams.run)
            nursery.start_soon(self._keep_beating)
            self._subscribe()
            await self._keep_telling()

    def stir(self, addresses: Iterable[Address] | None = None) -> None:
        """Heads of these datasets may be new; without any: so may be what is followed and published."""
        if addresses is None:
            self._stirred = None
        elif self._stirred is not None:
            self._stirred.update(addresses)
        self._stir.set()

    # --- what is told ---

    async def _keep_telling(self) -> None:
        while True:
            stirred, self._stirred, self._stir = self._stirred, set(), trio.Event()
            with suppress(StoreError, UsageError):  # the next look may work; or nobody has opened the key
                if stirred is None or any(self._is_ours(address) for address in stirred - self._datasets.keys()):
                    self._subscribe()
                for address in list(self._datasets) if stirred is None else sorted(stirred & self._datasets.keys()):
                    self._tell(address)
            self._flush()
            await trio.sleep(GOSSIP_PAUSE_SECONDS)
            await self._stir.wait()

    def _is_ours(self, address: Address) -> bool:
        return address.publisher == self._keys.peer_id

    def _subscribe(self) -> None:
        """Hear of what is followed and published, and of nothing else."""
        followed = [follow.address for follow in self._register.follows()]
        published = [head.address for head in self._store.current_heads(self._keys.peer_id)]
        wanted = dict.fromkeys([*published, *followed][:GOSSIP_TOPICS_MAX])
        now = trio.current_time()
        for address in [address for address in self._datasets if address not in wanted]:
            del self._datasets[address]
            self.mesh.leave(topic_of(address), now)
        for address in wanted:
            if address not in self._datasets:
                self._datasets[address] = _Dataset(self._store.newest_head(address))
                self.mesh.join(topic_of(address), now)

    def _tell(self, address: Address) -> None:
        """Tell of a dataset's head that is new here, and not from hearsay."""
        dataset = self._datasets[address]
        whole = self._store.newest_head(address) if self._is_ours(address) else self._store.held_head(address)
        if whole is None or (dataset.newest is not None and whole.sequence <= dataset.newest.sequence):
            return
        dataset.newest = whole
        self._seqno = max(self._seqno + 1, int(self._clock() * 1e6))
        seqno = self._seqno.to_bytes(8, "big")
        key = self._keys.key(self._keys.peer_id)
        self.mesh.publish(sign_message(key, seqno, topic_of(address), whole.envelope))

    # --- what is heard ---

    def _hear(self, peer: str, rpc: Rpc) -> None:
        for message in self.mesh.take(peer, rpc, trio.current_time()):
            with suppress(StoreError):  # it is a hint, and comes again
                self._weigh(peer, message)
        self._flush()

    def _weigh(self, peer: str, message: Message) -> None:
        """Keep and pass on what is good and new. Raises IntegrityError for what no honest peer passes on."""
        address = address_of(message.topic)
        dataset = self._datasets.get(address) if address is not None else None
        if address is None or dataset is None or message.author_key is None:
            return
        is_known = dataset.newest is not None and dataset.newest.envelope == message.data
        if is_known or self._is_ours(address) or not self._may_check(peer):
            return
        head = read_head(address, message.data)
        if self._is_news(head, dataset.newest) and dataset.allowance.spend(1, trio.current_time()):
            message.verify()
            if self._store.held_head(address) is not None:  # else what is brought first may be older than this
                self._store.put_heard(head)
                dataset.newest = self._store.newest_head(address)
            else:
                dataset.newest = head
            self.mesh.forward(message, peer)
            self._on_news(address)

    def _may_check(self, peer: str) -> bool:
        allowance = self._checks.get(peer)
        if allowance is None:
            make_room(self._checks)
            allowance = self._checks[peer] = Allowance(GOSSIP_CHECKS_PER_SECOND, GOSSIP_CHECKS_AT_ONCE)
        return allowance.spend(1, trio.current_time())

    def _is_news(self, head: Head, heard: Head | None) -> bool:
        """Whether a head is newer than what we know or have heard, or the first to contradict that."""
        if head.time_ms / 1000 > self._clock() + CLOCK_SKEW_SECONDS_MAX:
            return False
        known = self._store.newest_head(head.address)
        newest = max(filter(None, (known, heard)), key=lambda other: other.sequence, default=None)
        if newest is not None and newest.contradicts(head):
            return self._store.equivocation(head.address) is None
        is_newer = newest is None or head.sequence > newest.sequence
        return is_newer and not self._store.successions.disowns(head)

    # --- the mesh ---

    def _meet(self, peer: str) -> None:
        self.mesh.meet(peer)
        self._flush()

    def _flush(self) -> None:
        """Hand out what the mesh wants to be said."""
        while self.mesh.outbox:
            self._streams.send(*self.mesh.outbox.popleft())
        self._moved.set()

    async def _keep_beating(self) -> None:
        while True:
            self._moved = trio.Event()
            when = self.mesh.next_beat(trio.current_time())
            if when is None:
                await self._moved.wait()
            else:
                await trio.sleep_until(when)
                self.mesh.beat(trio.current_time())
                self._flush()
