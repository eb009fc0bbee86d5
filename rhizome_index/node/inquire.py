"""Ask peers what they have found out about a head. What they can prove is kept; who cannot prove it is a liar."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from rhizome_index.errors import IntegrityError, UnavailableError
from rhizome_index.index.head import Head
from rhizome_index.limits import ANSWER_SILENCE_SECONDS, HEADS_ASKED
from rhizome_index.node.cost import Cost
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.frauds import Frauds
from rhizome_index.node.link import Links
from rhizome_index.wire import trust as protocol
from rhizome_index.wire.trust import About, AskingTrust


class Inquirer:
    """Asks on behalf of one store."""

    def __init__(self, store: DiskStore, links: Links) -> None:
        self._links = links
        self._frauds = Frauds(store)

    async def ask(self, head: Head, peers: Sequence[str], cost: Cost) -> None:
        """Ask a few peers about a head; whoever has nothing to say, or does not speak of such things, is passed over.

        Raises IntegrityError if the head is convicted, by what they know or what is known here.
        """
        self._frauds.check(head)
        async with trio.open_nursery() as nursery:
            for peer in peers[:HEADS_ASKED]:
                nursery.start_soon(self._ask_one, About(head.address, head.manifest), peer, cost)
        self._frauds.check(head)

    async def _ask_one(self, about: About, peer: str, cost: Cost) -> None:
        asking = AskingTrust(about)
        cost.note_request(peer)
        try:
            received = await self._links.converse(
                peer, protocol.PROTOCOL, about.fields(), asking, silence_seconds=ANSWER_SILENCE_SECONDS, forgives=False
            )
            cost.note_received(received)
        except (UnavailableError, IntegrityError):
            return
        if asking.fraud is not None:
            self._frauds.keep(asking.fraud)
