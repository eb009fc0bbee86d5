"""Which head of a dataset to answer from: the newest that anybody asked knows, and never an older one than before.

Promises: a head that is convicted, comes from the future or is signed with a key that
was replaced is not taken, whoever has it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from rhizome_index.errors import RemoteError, RhizomeError, StoreError, UnavailableError
from rhizome_index.index.address import Address
from rhizome_index.index.head import Head
from rhizome_index.limits import CLOCK_SKEW_SECONDS_MAX
from rhizome_index.node.cost import Cost
from rhizome_index.node.directory import Directory
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.frauds import Frauds
from rhizome_index.query.answer import Cursor

Clock = Callable[[], float]


class Newest:
    """The heads of one home, and of those whom its directory reaches."""

    def __init__(self, store: DiskStore, clock: Clock, directory: Directory | None) -> None:
        self._store = store
        self._clock = clock
        self._directory = directory
        self._frauds = Frauds(store)

    async def newest(self, address: Address, peers: Sequence[str], cost: Cost) -> Head:
        """The newest head that we or these peers know; without peers, the one that we answer from.

        Raises UnavailableError if there is none, IntegrityError for one that is convicted.
        """
        known = self._store.believed_head(address) if peers else self._store.current_head(address)
        for peer in peers:
            assert self._directory is not None
            told = (await self._directory.ask(peer, [address], cost)).get(address)
            for head in told.heads if told else ():
                if self._store.successions.disowns(head):
                    continue  # perhaps it is shown as evidence
                self.check(head, peer)
                self._frauds.check(head)
                known = head if known is None or head.sequence > known.sequence else known
        if known is None and not peers:
            raise UnavailableError(
                f"no head of {address} is here, and nobody was asked", hint="name a peer that might know one: --peer"
            )
        if known is None:
            raise UnavailableError(f"nobody asked knows a head of {address}")
        return known

    async def wanted(self, address: Address, after: Cursor | None, peers: Sequence[str], cost: Cost) -> Head:
        """The head to answer from: the one a cursor names, or the newest. Raises UnavailableError."""
        if after is None:
            return await self.newest(address, peers, cost)
        known = self._store.head_of(address, after.manifest)
        if known is None:
            raise UnavailableError(f"nobody asked knows a head of {address}")
        return known

    def check(self, head: Head, peer: str) -> None:
        """Refuse a head that comes from the future, or that is signed with a key that was replaced."""
        if head.time_ms / 1000 > self._clock() + CLOCK_SKEW_SECONDS_MAX:
            raise RemoteError(peer, "a head from the future")
        if self._store.successions.disowns(head):
            raise UnavailableError(f"peer {peer} has a head only that is signed with a key that was replaced")

    def check_newest(self, head: Head, peer: str, *, pinned: bool) -> None:
        """Refuse a head that is convicted, not to be taken from a peer, or, unless asked for, older than ours."""
        self.check(head, peer)
        self._frauds.check(head)
        known = self._store.believed_head(head.address)
        if known is not None and head.sequence < known.sequence and not pinned:
            raise UnavailableError(f"peer {peer} knows head {head.sequence} only; we know {known.sequence}")

    def keep(self, head: Head) -> None:
        """Keep a head whose answer has been proven, and is worth giving even where it cannot be kept."""
        with suppress(UnavailableError):
            self._store.put_head(head)

    def never_back(self, address: Address, error: RhizomeError) -> RhizomeError:
        """The error, or what is to be known where an older head is all here, but is not answered from any more."""
        held, current = self._store.held_head(address), self._store.current_head(address)
        is_missing = isinstance(error, UnavailableError) and not isinstance(error, StoreError)
        if not is_missing or held is None or current is None or held.sequence >= current.sequence:
            return error
        return UnavailableError(
            f"an answer was given from head {current.sequence} of {address}, which nobody reached has; "
            f"what is all here is the older head {held.sequence}",
            hint=f"bring the newest here as soon as a peer has it: rhizome sync {address}",
        )
