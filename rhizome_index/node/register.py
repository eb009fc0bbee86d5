"""What a peer remembers beside blocks and heads: what it follows, and whom it has met.

All of it stands in the store, so that a restart changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from rhizome_index.blocks import cbor
from rhizome_index.errors import IntegrityError, StoreError, UsageError
from rhizome_index.index.address import Address
from rhizome_index.index.schema import check_name
from rhizome_index.limits import PEERS_REMEMBERED_MAX, PROVIDERS_REMEMBERED_MAX
from rhizome_index.node.disk import DiskStore

FULL, INDEX, WHERE = "full", "index", "where"


@dataclass(frozen=True, slots=True)
class Policy:
    """What is kept of a dataset that is followed.

    kind        FULL: all of it; INDEX: one index with the records it lists; WHERE: the answer to a query
    collection  of the index
    name        of the index
    query       text of the query
    """

    kind: str = FULL
    collection: str = ""
    name: str = ""
    query: str = ""

    def __post_init__(self) -> None:
        if self.kind == INDEX:
            check_name(self.collection, "a collection")
            check_name(self.name, "an index")
        elif self.kind not in (FULL, WHERE):
            raise UsageError(f"an unknown way to follow: {self.kind!r}")

    def __str__(self) -> str:
        if self.kind == INDEX:
            return f"index {self.collection}.{self.name}"
        return f"where {self.query}" if self.kind == WHERE else "all of it"

    def encode(self) -> bytes:
        return cbor.encode([self.kind, self.collection, self.name, self.query])

    @classmethod
    def decode(cls, data: bytes) -> Policy:
        """Raises IntegrityError, UsageError."""
        fields = cbor.decode(data)
        if type(fields) is not list or [type(field) for field in fields] != [str] * 4:
            raise IntegrityError("a way to follow that is none")
        return cls(*fields)


@dataclass(frozen=True, slots=True)
class Follow:
    """A dataset that is followed."""

    address: Address
    policy: Policy


class Register:
    """Follows, peers and providers, over a store."""

    def __init__(self, store: DiskStore) -> None:
        self._store = store
        self._room: dict[str, int] = {}  # rows that may come into a table before it has to be counted

    # --- follows ---

    def follow(self, follow: Follow) -> None:
        """Follow a dataset from now on; in place of an earlier way, if there was one."""
        dataset, policy = str(follow.address), follow.policy.encode()
        with self._store.transaction():
            if not self._store.execute("select 1 from follows where (dataset, policy) = (?, ?)", (dataset, policy)):
                self._store.execute("delete from held where dataset = ?", (dataset,))  # what is to be kept is another
            self._store.execute("insert or replace into follows values (?, ?)", (dataset, policy))

    def unfollow(self, address: Address) -> bool:
        """Follow it no longer; whether it was followed."""
        with self._store.transaction():
            was = self._store.execute("delete from follows where dataset = ? returning 1", (str(address),))
            self._store.execute("delete from held where dataset = ?", (str(address),))
        return bool(was)

    def follows(self) -> list[Follow]:
        """Everything that is followed, by address. What is damaged is left out, so that the others go on."""
        found = []
        for dataset, policy in self._store.execute(
            "select cast(dataset as blob), cast(policy as blob) from follows order by dataset"
        ):
            with suppress(IntegrityError, UsageError):
                address = Address.parse(str(dataset or b"", "utf-8", "replace"))
                found.append(Follow(address, Policy.decode(policy or b"")))
        return found

    def served(self, publisher: str) -> list[Address]:
        """What is published here under a peer id, and what is all here of what is followed."""
        published = [head.address for head in self._store.current_heads(publisher)]
        held = [follow.address for follow in self.follows() if self._store.held_head(follow.address) is not None]
        return list(dict.fromkeys([*published, *held]))

    # --- peers ---

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is noted within is written at once: a disk takes its time for each writing.

        Nor does it wait for the disk: whom we have met is a courtesy to the next start.
        """
        with suppress(StoreError), self._store.unhurried(), self._store.transaction():
            yield

    def note_peer(self, address: str, peer_id: str, now: float) -> None:
        """A peer was reached at this address."""
        self._remember("insert or replace into peers values (?, ?, ?)", (address, peer_id, now))
        self._forget("peers", PEERS_REMEMBERED_MAX)

    def note_hearsay(self, address: str, peer_id: str) -> None:
        """Somebody says that a peer can be reached at this address: the first to be forgotten."""
        with suppress(StoreError):
            if self._store.execute("select 1 from peers where address = ?", (address,)):
                return
        self._remember("insert or ignore into peers values (?, ?, 0)", (address, peer_id))
        self._forget("peers", PEERS_REMEMBERED_MAX)

    def peers(self) -> list[tuple[str, str]]:
        """Addresses of peers met, and their ids, the last met first."""
        rows = self._store.execute("select address, peer_id from peers order by seen_seconds desc, address")
        return [(address, peer_id) for address, peer_id in rows]

    def addresses_of(self, peer_id: str) -> list[str]:
        """Where a peer was reached, the newest first."""
        rows = self._store.execute(
            "select address from peers where peer_id = ? order by seen_seconds desc, address", (peer_id,)
        )
        return [address for (address,) in rows]

    def newest_addresses(self, peer_ids: Sequence[str]) -> list[str]:
        """Where each of these peers was reached last, in their order, without those of whom that is not known."""
        rows = self._store.execute(
            "select peer_id, address from peers where peer_id in (select value from json_each(?)) "
            "order by seen_seconds, address desc",
            (json.dumps(peer_ids),),
        )
        newest = dict(rows)
        return [newest[peer_id] for peer_id in peer_ids if peer_id in newest]

    def reached_at(self, peer_id: str) -> list[str]:
        """The same, without what is hearsay."""
        rows = self._store.execute(
            "select address from peers where peer_id = ? and seen_seconds > 0 order by seen_seconds desc, address",
            (peer_id,),
        )
        return [address for (address,) in rows]

    def note_provider(self, dataset: Address, peer_id: str, now: float) -> None:
        """A peer serves a dataset, and is there: it says so itself, or a peer that is connected to it."""
        self._remember("insert or replace into providers values (?, ?, ?)", (str(dataset), peer_id, now))
        self._forget("providers", PROVIDERS_REMEMBERED_MAX)

    def note_provider_unseen(self, dataset: Address, peer_id: str) -> None:
        """A peer served a dataset some time ago, if that was not known."""
        self._remember("insert or ignore into providers values (?, ?, 0)", (str(dataset), peer_id))
        self._forget("providers", PROVIDERS_REMEMBERED_MAX)

    def note_provider_absent(self, dataset: Address, peer_id: str) -> None:
        """A peer that serves a dataset is not there: the first to be forgotten."""
        self._remember(
            "update providers set seen_seconds = 0 where (dataset, peer_id) = (?, ?)", (str(dataset), peer_id)
        )

    def providers(self, dataset: Address, *, among: Iterable[str] | None = None, most: int = -1) -> list[str]:
        """Peers that serve a dataset, the last that did so first: those among some, or not more than so many."""
        if among is None:
            rows = self._store.execute(
                "select peer_id from providers where dataset = ? order by seen_seconds desc, peer_id limit ?",
                (str(dataset), most),
            )
        else:
            rows = self._store.execute(
                "select peer_id from providers where dataset = ? and peer_id in (select value from json_each(?)) "
                "order by seen_seconds desc, peer_id limit ?",
                (str(dataset), json.dumps(list(among)), most),
            )
        return [peer_id for (peer_id,) in rows]

    def is_provider(self, dataset: Address, peer_id: str) -> bool:
        """Whether a peer is known to serve a dataset."""
        statement = "select 1 from providers where (dataset, peer_id) = (?, ?)"
        return bool(self._store.execute(statement, (str(dataset), peer_id)))

    def _remember(self, statement: str, values: tuple[Any, ...]) -> None:
        with self.together():
            self._store.execute(statement, values)

    def _forget(self, table: str, rows_max: int) -> None:
        """Keep the newest only, now that a row has come."""
        self._room[table] = self._room.get(table, 0) - 1
        if self._room[table] >= 0:
            return
        with suppress(StoreError):
            (count,) = self._store.execute(f"select count(*) from {table}")[0]
            if count > rows_max:
                self._remember(
                    f"delete from {table} where seen_seconds <= "
                    f"(select seen_seconds from {table} order by seen_seconds desc limit 1 offset ?)",
                    (rows_max * 3 // 4,),
                )
            self._room[table] = max(0, rows_max - count)
