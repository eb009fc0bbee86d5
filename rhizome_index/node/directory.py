"""Who serves a dataset, and how to reach them.

Everything here is a hint: told by peers, remembered from earlier, found on the
network. What a provider then sends is proven anyway, so the worst that a false hint
costs is a dial. Hearsay never displaces what we saw ourselves.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial

import trio

from rhizome_index.errors import IntegrityError, UnavailableError, UsageError
from rhizome_index.index.address import Address
from rhizome_index.limits import (
    ABSENT_SECONDS,
    ANSWER_SILENCE_SECONDS,
    DIAL_TIMEOUT_SECONDS,
    DIALS_AT_ONCE_MAX,
    DRAWN_AMONG,
    DRAWN_SECONDS,
    HEADS_DATASETS_MAX,
    HEADS_PULL_SECONDS,
    KAD_ASKED_MAX,
    NOTED_SECONDS,
    PROVIDERS_MAX,
    PROVIDERS_WANTED,
    REACH_SECONDS,
    RELAY_HEAD_START_SECONDS,
    RETRY_SECONDS,
)
from rhizome_index.node.cost import Cost
from rhizome_index.node.events import DEBUG, note
from rhizome_index.node.link import Links
from rhizome_index.node.register import Register
from rhizome_index.node.swarm import Swarm
from rhizome_index.node.tally import DONE, FAILED
from rhizome_index.wire import heads as protocol
from rhizome_index.wire.counted import make_room
from rhizome_index.wire.heads import AskingHeads, DatasetHeads
from rhizome_index.wire.multiaddr import RELAYED, some_of

REMEMBERED = "remembered"  # how a provider was heard of: from an earlier start, or from the node that runs here
CONNECTED = "connected"  # it said so itself when it was asked
PEERS = "peers"  # another peer said so
DHT = "dht"  # a search found its provider record
LOCAL = "mdns"  # it said so itself, having been heard on the local network

Clock = Callable[[], float]
Search = Callable[[Address, Callable[[Sequence[str]], None]], Awaitable[None]]


class Directory:
    """Finds and reaches providers.

    search  looks further for a dataset's providers, and tells their full addresses as it hears of them
    keep    is told of peers whose connections are of use here
    """

    def __init__(self, swarm: Swarm, links: Links, register: Register, clock: Clock) -> None:
        self._swarm = swarm
        self._links = links
        self._register = register
        self._clock = clock
        self._dials = trio.CapacityLimiter(DIALS_AT_ONCE_MAX)
        self._absent_until: dict[str, float] = {}
        self._heard: dict[tuple[Address, str], str] = {}
        self._noted_until: dict[tuple[Address, str], float] = {}
        self._strangers: dict[tuple[Address, str], tuple[float, float]] = {}
        self.local: dict[str, None] = {}  # peers that were heard on the local network, the oldest first
        self._drawn: dict[Address, dict[str, float]] = {}  # and until when
        self.search: Search | None = None
        self.keep: Callable[[str], None] = lambda peer: None

    async def connect(self, addresses: Iterable[str], *, is_hearsay: bool = False) -> tuple[list[str], dict[str, str]]:
        """Dial full addresses, several at a time: the peers reached, in order, and why the others were not.

        What the user names is remembered even where it is not reached. Raises UsageError for what is no address,
        unless it is hearsay: anybody may say anything.
        """
        found: dict[int, str] = {}
        failed: dict[str, str] = {}
        wrong: list[UsageError] = []

        addresses = list(addresses)
        direct = {text.rpartition("/p2p/")[2] for text in addresses if RELAYED not in text}

        async def dial(place: int, address: str) -> None:
            if RELAYED in address and address.rpartition("/p2p/")[2] in direct:
                await trio.sleep(RELAY_HEAD_START_SECONDS)
            async with self._dials:
                try:
                    found[place] = await self._swarm.dial(address, timeout_seconds=DIAL_TIMEOUT_SECONDS)
                    self._swarm.tally.dials[DONE] += 1
                    note(DEBUG, "dialled", peer=found[place], address=address)
                    self.keep(found[place])
                    self._register.note_peer(address, found[place], self._clock())
                except UnavailableError as error:
                    failed[address] = str(error)
                    self._swarm.tally.dials[FAILED] += 1
                    note(DEBUG, "dial_failed", address=address, reason=str(error))
                    self._register.note_hearsay(address, address.rpartition("/p2p/")[2])
                except UsageError as error:
                    failed[address] = str(error)
                    wrong.append(error)

        async with trio.open_nursery() as nursery:
            for place, address in enumerate(addresses):
                nursery.start_soon(dial, place, address)
        if wrong and not is_hearsay:
            raise wrong[0]
        return list(dict.fromkeys(found[place] for place in sorted(found))), failed

    async def ask(self, peer: str, addresses: Sequence[Address], cost: Cost) -> dict[Address, DatasetHeads]:
        """What a peer knows of some datasets, or of all that it serves; who serves them is noted.

        Raises UnavailableError, RemoteError.
        """
        asking = AskingHeads(addresses)
        cost.note_request(peer)
        fields = protocol.request_fields(addresses)
        received = await self._links.converse(
            peer, protocol.PROTOCOL, fields, asking, silence_seconds=ANSWER_SILENCE_SECONDS, forgives=False
        )
        cost.note_received(received)
        if asking.failure is not None:
            raise UnavailableError(f"peer {peer} has no answer ({asking.failure.code}): {asking.failure.text}")
        named = [(known.address, text) for known in asking.known.values() for text in known.providers]
        if fresh := [pair for pair in named if self._is_fresh(pair)]:
            with self._register.together():
                for address, text in fresh:
                    self._note(peer, address, text)
        return asking.known

    def _is_fresh(self, named: tuple[Address, str]) -> bool:
        """Whether it is worth noting again that somebody serves a dataset: a disk takes its time for each writing."""
        now = trio.current_time()
        if self._noted_until.get(named, now) > now:
            return False
        make_room(self._noted_until)
        self._noted_until[named] = now + NOTED_SECONDS
        return True

    def _note(self, asked: str, address: Address, text: str) -> None:
        peer_id = text.rpartition("/p2p/")[2]
        if peer_id != self._swarm.peer_id and 0 < len(peer_id) <= 100:
            itself = LOCAL if peer_id in self.local else CONNECTED
            self._note_provider(address, peer_id, itself if peer_id == asked else PEERS)
            self._register.note_hearsay(text, peer_id)

    def _note_provider(self, address: Address, peer_id: str, how: str) -> None:
        key = (address, peer_id)
        if key not in self._heard:
            make_room(self._heard)
            self._heard[key] = REMEMBERED if self._register.is_provider(address, peer_id) else how
        if how == DHT:  # records stay for hours
            self._register.note_provider_unseen(address, peer_id)
        else:
            self._register.note_provider(address, peer_id, self._clock())

    def note_local(self, peer_id: str) -> None:
        """A peer was heard on the local network, and is connected."""
        if peer_id not in self.local:
            make_room(self.local)
        self.local[peer_id] = None

    def how_heard(self, address: Address, peer_id: str) -> str:
        """How it was first heard that a peer serves a dataset: REMEMBERED, CONNECTED, LOCAL, PEERS or DHT."""
        return self._heard.get((address, peer_id), REMEMBERED)

    async def providers(self, address: Address, wanted: int = PROVIDERS_WANTED) -> list[str]:
        """Connected peers that may serve a dataset, in the order in which to ask them; more are dialled if need be.

        First those that were drawn among all that are known, then whoever else is connected.
        """
        found = self._connected(address)
        if len(found) < wanted:
            await self.introduce(address)
            found = self._connected(address)
        if not found:
            await self._seek(address, wanted)
            found = self._connected(address)
        drawn, found = await self._draw(address, found, wanted)
        for peer in found:
            self.keep(peer)
        return [*self._links.order(drawn), *self._links.order(peer for peer in found if peer not in drawn)]

    async def _draw(self, address: Address, connected: list[str], wanted: int) -> tuple[list[str], list[str]]:
        """So many connected providers, drawn among all that are known; they stay drawn for a while. And all of those.

        Drawing among those alone who happen to be connected would send everybody to whom everybody meets first.
        """
        now, now_connected = trio.current_time(), connected
        drawn = {peer: end for peer, end in self._drawn.get(address, {}).items() if end > now and peer in connected}
        missing = wanted - len(drawn)
        if missing > 0 and connected:
            known = [peer for peer in self._likely(address, connected) if peer not in drawn]
            chosen = self._links.order(known)[:missing]
            far = [peer for peer in chosen if peer not in connected]
            if far:
                await self._reach(address, len(far), missing)
                now_connected = self._connected(address)
            reached = [peer for peer in now_connected if peer not in connected and peer not in chosen]
            fresh = [peer for peer in (*chosen, *reached) if peer in now_connected][:missing]
            drawn |= dict.fromkeys(fresh, trio.current_time() + DRAWN_SECONDS)
            make_room(self._drawn)
            self._drawn[address] = drawn
        return list(drawn), now_connected

    def _likely(self, address: Address, connected: list[str]) -> list[str]:
        """Providers that are connected, and those seen last, without those that were not there just now."""
        now = trio.current_time()
        known = self._register.providers(address, most=DRAWN_AMONG + len(connected))
        absent = [peer for peer in known if peer not in connected and self._absent_until.get(peer, now) <= now]
        return [*connected, *absent[:DRAWN_AMONG]]

    async def _seek(self, address: Address, wanted: int) -> None:
        """Nobody is connected who serves it: try whom we know and, unless that helps soon, everybody, until one is."""
        tried, moved = trio.Event(), trio.Event()
        ways, dialled, known = 3, set[str](), set(self._register.providers(address))

        async def dial(texts: list[str]) -> None:
            await self.connect(texts, is_hearsay=True)
            moved.set()

        def take(texts: Sequence[str]) -> None:
            places: dict[str, list[str]] = {}
            for text in texts:
                places.setdefault(text.rpartition("/p2p/")[2], []).append(text)
            with self._register.together():
                for peer_id, found in places.items():
                    self._note_provider(address, peer_id, DHT)
                    for text in found:
                        self._register.note_hearsay(text, peer_id)
                    if peer_id not in dialled and len(dialled) < KAD_ASKED_MAX:
                        dialled.add(peer_id)
                        nursery.start_soon(dial, found)
            moved.set()

        async def go(way: Callable[[], Awaitable[None]], *, is_first: bool = False) -> None:
            nonlocal ways
            if not is_first:
                with trio.move_on_after(REACH_SECONDS):
                    await tried.wait()
            if is_first or not self._connected(address):
                await way()
            if is_first:
                tried.set()
            ways -= 1
            moved.set()

        async def look() -> None:
            if self.search is not None:
                await self.search(address, take)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(go, partial(self._reach, address, wanted, wanted), is_first=True))
            nursery.start_soon(go, partial(self._meet_again, address))
            nursery.start_soon(go, look)
            while not self._connected(address) and ways:
                await moved.wait()
                moved = trio.Event()
            if self._connected(address):
                with trio.move_on_after(REACH_SECONDS):
                    await tried.wait()
                nursery.cancel_scope.cancel()
        if not self._connected(address) and known.union(dialled) < set(self._register.providers(address)):
            await self._reach(address, wanted, wanted)

    def _connected(self, address: Address) -> list[str]:
        return self._register.providers(address, among=self._swarm.connected_peers)

    async def introduce(self, address: Address, *, insists: bool = False) -> None:
        """Ask connected peers that have not been heard of as providers what they know.

        Those that could not help are asked ever more seldom, unless we insist.
        """
        known, now = set(self._connected(address)), trio.current_time()
        others = [peer for peer in self._swarm.connected_peers if peer not in known]
        if not insists:
            others = [peer for peer in others if self._strangers.get((address, peer), (now, 0.0))[0] <= now]

        async def ask(peer: str) -> None:
            with suppress(UnavailableError, IntegrityError):  # it is not one that can help
                await self.ask(peer, [address], Cost())

        async with trio.open_nursery() as nursery:
            for peer in self._links.order(others)[:DIALS_AT_ONCE_MAX]:
                self._note_stranger(address, peer, now)
                nursery.start_soon(ask, peer)

    def _note_stranger(self, address: Address, peer: str, now: float) -> None:
        _, pause = self._strangers.get((address, peer), (now, RETRY_SECONDS / 2))
        pause = min(2 * pause, HEADS_PULL_SECONDS)
        make_room(self._strangers)
        self._strangers[address, peer] = now + pause, pause

    async def _reach(self, address: Address, count: int, tried: int) -> None:
        """Dial providers that are known but not connected, until so many are reached.

        tried  half of how many are dialled: some may be gone

        Who has somebody to ask does not wait long for others, nor dials those again that were not there just now.
        """
        connected, serving = set(self._swarm.connected_peers), self._connected(address)
        is_alone = not serving
        known = self._register.providers(address) if is_alone else self._likely(address, serving)
        absent = [peer for peer in known if peer not in connected]
        places = {peer: some_of(self._register.addresses_of(peer)) for peer in self._links.order(absent)[: 2 * tried]}
        reached: list[str] = []

        async def dial(peer: str) -> None:
            self._note_absent(peer)
            direct = [text for text in places[peer] if RELAYED not in text]
            relayed = places[peer][len(direct) :]

            async def try_each(texts: list[str], delay_seconds: float = 0.0) -> None:
                if delay_seconds:
                    await trio.sleep(delay_seconds)
                for text in texts:
                    found, _ = await self.connect([text], is_hearsay=True)
                    if found and peer not in reached:
                        self._absent_until.pop(peer, None)
                        reached.extend(found)
                        scope.deadline = min(scope.deadline, trio.current_time() + REACH_SECONDS)
                        if len(reached) >= count:
                            scope.cancel()
                        ways.cancel_scope.cancel()

            async with trio.open_nursery() as ways:
                ways.start_soon(try_each, direct)
                ways.start_soon(try_each, relayed, RELAY_HEAD_START_SECONDS if direct else 0.0)

        with trio.move_on_after(math.inf if is_alone else REACH_SECONDS) as scope:
            async with trio.open_nursery() as nursery:
                for peer in places:
                    nursery.start_soon(dial, peer)
        if len(reached) < count and not is_alone:
            with self._register.together():
                for peer in places.keys() - self._swarm.connected_peers:
                    self._register.note_provider_absent(address, peer)

    def _note_absent(self, peer: str) -> None:
        """A peer is being dialled: it counts as absent until it is reached, or for a while."""
        make_room(self._absent_until)
        self._absent_until[peer] = trio.current_time() + ABSENT_SECONDS

    async def _meet_again(self, address: Address) -> None:
        """Of those known to serve it nobody is there: try others we have met, or heard of, its publisher first."""
        passed = {*self._swarm.connected_peers, *self._register.providers(address)}
        known = {peer: text for text, peer in reversed(self._register.peers()) if peer not in passed}
        chosen = sorted(self._links.order(known), key=lambda peer: peer != address.publisher)
        await self.connect([known[peer] for peer in chosen[:DIALS_AT_ONCE_MAX]], is_hearsay=True)
        await self.introduce(address, insists=True)

    async def widen(self, address: Address) -> bool:
        """Unless its publisher is connected, reach that, or else one more provider; whether somebody new was reached.

        Peers that know each other well can be behind together: a cut leaves such islands.
        """
        connected = self._connected(address)
        if address.publisher in (self._swarm.peer_id, *connected) or len(connected) >= PROVIDERS_MAX:
            return False
        absent = [peer for peer in self._links.order(self._register.providers(address)) if peer not in connected]
        for peer in dict.fromkeys([address.publisher, *absent[:1]]):
            reached, _ = await self.connect(self._register.addresses_of(peer)[:1], is_hearsay=True)
            if reached:
                self._register.note_provider(address, peer, self._clock())
                return True
        return False

    async def meet(self, peers: Sequence[str], follows: Sequence[Address]) -> None:
        """Tell ourselves to new peers, so to speak: learn what they serve, and what they know of our follows."""
        for peer in peers:
            try:
                told = await self.ask(peer, (), Cost())
                others = [address for address in follows if address not in told]
                for start in range(0, len(others), HEADS_DATASETS_MAX):
                    await self.ask(peer, others[start : start + HEADS_DATASETS_MAX], Cost())
            except (UnavailableError, IntegrityError):
                continue
