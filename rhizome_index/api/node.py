"""A node, as programs see it: what it holds, follows and asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import trio
from pyrsistent import PMap

from rhizome_index.api.collection import Collection
from rhizome_index.api.results import FeedResults, Results, Watch
from rhizome_index.errors import UsageError
from rhizome_index.index.address import Address
from rhizome_index.index.freshness import ANY_AGE, Freshness
from rhizome_index.index.head import Head
from rhizome_index.index.manifest import Manifest
from rhizome_index.limits import HEADS_ASKED
from rhizome_index.node.attested import Attestations, Attested
from rhizome_index.node.audit import Audited, Auditor
from rhizome_index.node.carry import Carried
from rhizome_index.node.cost import Cost
from rhizome_index.node.fetch import Fetcher
from rhizome_index.node.measure import bytes_held
from rhizome_index.node.part import find_index
from rhizome_index.node.peer import Peer
from rhizome_index.node.pins import Pins, bring, find_head
from rhizome_index.node.register import Policy
from rhizome_index.node.resolve import FindPeers
from rhizome_index.node.sync import Progress
from rhizome_index.node.weigh import Location
from rhizome_index.query.answer import Cursor
from rhizome_index.query.explain import Explained
from rhizome_index.query.expr import Query
from rhizome_index.query.parse import parse
from rhizome_index.trust.ladder import ANYTHING, Bound, Requirement, derivation_of

DEFAULT_DATASET = "main"


@dataclass(frozen=True, slots=True)
class Pinned:
    """A snapshot that stays.

    bytes   of all its blocks
    is_new  it was not pinned before
    """

    head: Head
    bytes: int
    is_new: bool
    cost: Cost


class Node:
    """A node, to ask and to write to.

    peer             what it is made of
    connect_seconds  what dialling the peers that were named took
    """

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.connect_seconds = 0.0

    @property
    def peer_id(self) -> str:
        return self.peer.keys.peer_id

    @property
    def is_lent(self) -> bool:
        """Whether its place in the swarm is lent by a node that runs in another process."""
        return self.peer.running is not None

    @property
    def addresses(self) -> tuple[str, ...]:
        """Full addresses this node listens on."""
        return self.peer.membership.swarm.addresses if self.peer.membership else ()

    @property
    def peers(self) -> tuple[str, ...]:
        """Peers that were named, and reached."""
        return self.peer.named

    @property
    def unreachable(self) -> PMap[str, str]:
        """Addresses that were named and could not be reached, with the reason."""
        return self.peer.unreachable

    @property
    def catalog(self) -> PMap[Address, Head]:
        """The head to answer from of each dataset known here: a snapshot that is replaced, never changed."""
        return self.peer.catalog

    def follow(self, address: Address | str, policy: Policy | None = None) -> None:
        """Follow a dataset from now on: all of it, unless a policy says otherwise."""
        place = _address(address)
        self.peer.follow(place, policy or Policy())

    def unfollow(self, address: Address | str) -> bool:
        """Follow it no longer; whether it was followed."""
        return self.peer.unfollow(_address(address))

    async def sync(self, address: Address | str) -> Head:
        """Bring what is followed of a dataset up to date now; the head that is held then.

        Raises UsageError if it is not followed, UnavailableError, IntegrityError.
        """
        place = _address(address)
        return await self.peer.sync(place)

    def collection(self, name: str, dataset: str = DEFAULT_DATASET) -> Collection:
        """A collection of this node's own."""
        return Collection(self, self.peer.publisher.address(dataset), name)

    def remote_collection(self, name: str, address: str | Address) -> Collection:
        """A collection of anybody's dataset, to ask."""
        return Collection(self, _address(address), name)

    def query(
        self,
        query: str | Query,
        address: Address | None = None,
        *,
        after: str | None = None,
        scan: bool = False,
        proof: bool = False,
        fresh: Freshness = ANY_AGE,
        require: str | Requirement = ANYTHING,
    ) -> Results:
        """Ask a query, in the text language or as a Query, of a dataset (by default this node's own).

        fresh    what is insisted on of the head that is answered from
        require  what has to be proven, such as "L3": of less, UnprovenError is raised before the first row
        """
        query, text_after = self._read(query)
        after = after or text_after
        place = address or self.peer.publisher.address(DEFAULT_DATASET)
        cursor = Cursor.parse(after, query) if after else None
        return Results(self, place, query, cursor, scan=scan, proof=proof, fresh=fresh, required=_required(require))

    def feed(self, query: str | Query, addresses: Sequence[Address | str], *, scan: bool = False) -> FeedResults:
        """Ask a query of many datasets: one order over all of them."""
        query, after = self._read(query)
        if after is not None:
            raise UsageError("a feed has no cursor", hint="ask for more rows at once")
        places = [_address(place) for place in addresses]
        return FeedResults(self, query, places, scan=scan)

    def watch(
        self,
        query: str | Query,
        address: Address | None = None,
        *,
        scan: bool = False,
        fresh: Freshness = ANY_AGE,
        require: str | Requirement = ANYTHING,
    ) -> Watch:
        """Keep a query open: its rows, and what changes of them from head to head."""
        query, after = self._read(query)
        if after is not None:
            raise UsageError("a query that is watched has no cursor", hint="leave out: after")
        place = address or self.peer.publisher.address(DEFAULT_DATASET)
        return Watch(self, place, query, scan=scan, fresh=fresh, required=_required(require))

    def _read(self, query: str | Query) -> tuple[Query, str | None]:
        """A query, and the cursor that its text names."""
        return parse(query, int(self.peer.clock() * 1000)) if isinstance(query, str) else (query, None)

    def followed(self) -> list[Address]:
        """The datasets that are followed."""
        return [follow.address for follow in self.peer.register.follows()]

    async def pin(self, address: Address | str, head: str | None = None) -> Pinned:
        """Keep a dataset whole as of a head, whatever newer ones come; what is missing is fetched from peers.

        head  its sequence, or the CID of its manifest; by default the newest

        Raises UnavailableError for what nobody has, or where there is no room; UsageError, IntegrityError.
        """
        place, cost, store = _address(address), Cost(), self.peer.store
        find_peers, _ = self.ways_to(place)
        peers = list(await find_peers(place)) if find_peers is not None else []
        if head is None:
            found = await self.peer.resolver.heads.newest(place, peers[:HEADS_ASKED], cost)
        else:
            found = find_head(store, place, head)
        links = self.peer.membership.links if self.peer.membership else None
        is_new = await bring(store, found, Fetcher(links, peers, cost) if links is not None and peers else None)
        return Pinned(found, bytes_held(store, found, Policy()), is_new, cost)

    def unpin(self, address: Address | str, manifest: bytes | None = None) -> int:
        """Pin heads of a dataset no longer: those with a manifest, or all; how many there were."""
        return Pins(self.peer.store).remove(_address(address), manifest)

    async def explain(
        self, query: str | Query, address: Address | None = None, *, scan: bool = False
    ) -> tuple[list[Explained], list[Location]]:
        """Every way to answer a query, what each would read, and why it lost; and where to answer the best from.

        The chosen ones first. No locations where nothing was chosen.
        """
        query, _ = self._read(query)
        place = address or self.peer.publisher.address(DEFAULT_DATASET)
        find_peers, _ = self.ways_to(place)
        return await self.peer.resolver.explain(place, query, find_peers, allow_scan=scan)

    async def manifest(self, address: Address | str) -> Manifest:
        """What a dataset has: that of the head that is answered from, or the newest that peers know.

        Raises UnavailableError.
        """
        place, cost = _address(address), Cost()
        resolver, store = self.peer.resolver, self.peer.store
        find_peers, _ = self.ways_to(place)
        peers = list(await find_peers(place)) if find_peers is not None else []
        head = store.current_head(place) or await resolver.heads.newest(place, peers[:HEADS_ASKED], cost)
        _, manifest = await resolver.gatherer(peers, cost).manifest(head.manifest)
        resolver.heads.keep(head)
        return manifest

    async def audit(
        self,
        address: Address | str,
        collection: str,
        index: str,
        *,
        confidence: float = 0.99,
        bad_fraction: float = 0.01,
        progress: Progress | None = None,
    ) -> Audited:
        """Audit an index of a dataset: samples that nobody can foresee, over what is here and what peers have.

        progress  is kept up to date meanwhile

        Raises IntegrityError if something is wrong, the proof of which is kept; UnavailableError, UsageError.
        """
        place = _address(address)
        find_peers, _ = self.ways_to(place)
        peers, cost = list(await find_peers(place)) if find_peers is not None else [], Cost()
        started = trio.current_time()
        head = await self.peer.resolver.heads.newest(place, peers[:HEADS_ASKED], cost)
        links = self.peer.membership.links if self.peer.membership else None
        auditor = Auditor(self.peer.store, self.peer.chance, links, progress or Progress())
        audited = await auditor.audit(head, collection, index, Bound(bad_fraction, confidence), peers, cost)
        cost.seconds = trio.current_time() - started
        return audited

    async def attested(self, address: Address | str, collection: str, index: str) -> Attested:
        """Ask peers whether they made an index of the newest head themselves, and what came out.

        Their words are kept, and count in what is proven of answers. Raises UnavailableError, UsageError, and
        IntegrityError where a peer proves that the head is wrong.
        """
        place = _address(address)
        find_peers, _ = self.ways_to(place)
        peers, cost, resolver = (
            list(await find_peers(place)) if find_peers is not None else [],
            Cost(),
            self.peer.resolver,
        )
        started = trio.current_time()
        head = await resolver.heads.newest(place, peers[:HEADS_ASKED], cost)
        _, manifest = await resolver.gatherer(peers, cost).manifest(head.manifest)
        found, _ = find_index(manifest, collection, index)
        await resolver.proven.gather_attestations(head, manifest.rule, found, cost)
        cost.seconds = trio.current_time() - started
        derivation = derivation_of(manifest.rule, found, index)
        words = tuple(Attestations(self.peer.store).about(derivation.given))
        standing = resolver.proven.ladder.standing(derivation)
        return Attested(head, collection, index, derivation, words, standing, cost)

    async def carry(self, address: Address | str, collection: str, index: str) -> Carried:
        """Verify an index of the newest head by what has changed since one of which at least L3 is proven.

        Raises UsageError if there is none; IntegrityError if it does not follow, the proof of which is kept;
        UnavailableError.
        """
        place = _address(address)
        peers, cost = list(await self.peer.providers(place)), Cost()
        started = trio.current_time()
        newest = await self.peer.resolver.heads.newest(place, peers[:HEADS_ASKED], cost)
        carried = await self.peer.joined().carrier.carry(newest, collection, index, peers, cost)
        cost.seconds = trio.current_time() - started
        return carried

    def ways_to(self, address: Address) -> tuple[FindPeers | None, bool]:
        """How to answer from a dataset: whom to ask, if anybody, and whether the store comes first."""
        own = address.publisher == self.peer_id
        find_peers = None if own or self.peer.membership is None else self.peer.providers
        return find_peers, own or not self.peer.named or self.peer.resolver.holds(address)


def _address(address: Address | str) -> Address:
    return address if isinstance(address, Address) else Address.parse(address)


def _required(require: str | Requirement) -> Requirement:
    return require if isinstance(require, Requirement) else Requirement.parse(require)
