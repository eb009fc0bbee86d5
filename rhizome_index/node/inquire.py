"""Ask peers what they have found out about a head.

What they can prove is kept; who cannot prove it is a liar. What they attest is kept too,
as their word, with the network at which they were reached.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import trio

from rhizome_index.errors import IntegrityError, UnavailableError
from rhizome_index.index.address import peer_id_of
from rhizome_index.index.head import Head
from rhizome_index.limits import ANSWER_SILENCE_SECONDS, ATTESTERS_ASKED_MAX, HEADS_ASKED
from rhizome_index.node.attested import Attestations, Word
from rhizome_index.node.cost import Cost
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.frauds import Frauds
from rhizome_index.node.link import Links
from rhizome_index.node.register import Register
from rhizome_index.trust.attest import Attestation
from rhizome_index.wire import trust as protocol
from rhizome_index.wire.multiaddr import network_of
from rhizome_index.wire.trust import About, AskingTrust


class Inquirer:
    """Asks on behalf of one store."""

    def __init__(self, store: DiskStore, register: Register, links: Links) -> None:
        self._store = store
        self._register = register
        self._links = links
        self._frauds = Frauds(store)
        self._attestations = Attestations(store)

    async def ask(self, head: Head, peers: Sequence[str], cost: Cost) -> None:
        """Ask a few peers about a head; whoever has nothing to say, or does not speak of such things, is passed over.

        Raises IntegrityError if the head is convicted, by what they know or what is known here.
        """
        self._frauds.check(head)
        async with trio.open_nursery() as nursery:
            for peer in peers[:HEADS_ASKED]:
                nursery.start_soon(self._ask_one, About(head.address, head.manifest), peer, cost)
        self._frauds.check(head)

    async def gather(self, head: Head, name: str, given: Collection[bytes], peers: Iterable[str], cost: Cost) -> None:
        """Ask peers which indexes of a collection they have made, and what came out. Raises as `ask` does.

        name   of the collection
        given  what the indexes are made of, by `Derivation.given`

        The publisher's own word is not asked for: the head is that.
        """
        own = {head.address.publisher, peer_id_of(head.signer)}
        others = [peer for peer in peers if peer not in own][:ATTESTERS_ASKED_MAX]
        about = About(head.address, head.manifest, name)
        words: list[Word] = []

        async def ask(peer: str) -> None:
            said = await self._ask_one(about, peer, cost)
            network = network_of(self._register.reached_at(peer))
            words.extend(Word(one, network) for one in said if one.derivation.given in given)

        async with trio.open_nursery() as nursery:
            for peer in others:
                nursery.start_soon(ask, peer)
        with self._store.transaction():
            for word in words:
                self._attestations.keep(word)
        self._frauds.check(head)

    async def _ask_one(self, about: About, peer: str, cost: Cost) -> tuple[Attestation, ...]:
        asking = AskingTrust(about, peer)
        cost.note_request(peer)
        try:
            received = await self._links.converse(
                peer, protocol.PROTOCOL, about.fields(), asking, silence_seconds=ANSWER_SILENCE_SECONDS, forgives=False
            )
            cost.note_received(received)
        except (UnavailableError, IntegrityError):
            return ()
        if asking.fraud is not None:
            self._frauds.keep(asking.fraud)
        return asking.attestations
