"""How long an answer is waited for in parts, and how new a head may be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from rhizome_index.blocks.cid import cid_of
from rhizome_index.errors import PartialError, RemoteError, UnavailableError
from rhizome_index.index.address import Address
from rhizome_index.index.freshness import ANY_AGE, Freshness
from rhizome_index.index.head import Delegation, Head, Identity, delegate, sign_head
from rhizome_index.limits import CLOCK_SKEW_SECONDS_MAX, SEGMENTS_MAX
from rhizome_index.node import resolve
from rhizome_index.node.cost import Cost
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.resolution import Resolution
from rhizome_index.node.resolve import Resolver
from rhizome_index.query.expr import Query
from rhizome_index.wire import ask as ask_protocol
from rhizome_index.wire.ask import Ask, Asking
from tests.driving import replies
from tests.properties.test_conversations import ADDRESS, IDENTITY, Peer, things

NOW = 1_700_000_000.0


class OneLink:
    """Stands for the links of a node that knows one peer, or a few that are all like it but for the head they know."""

    def __init__(self, peer: Peer, heads: Mapping[str, Head] | None = None) -> None:
        self.peer, self.asked = peer, 0
        self.heads = heads or {}

    def speed(self, peer_id: str) -> tuple[None, None]:
        return None, None

    async def converse(
        self, peer_id: str, protocol: str, fields: Mapping[str, Any], asking: Asking, **patience: float | None
    ) -> int:
        self.asked += 1
        self.peer.head = self.heads.get(peer_id, self.peer.head)
        for reply in replies(ask_protocol.answer(1, Ask.read(fields), self.peer)):
            asking.take(reply)
        return 1


async def the_peer(address: Address) -> Sequence[str]:
    return ["peer"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DiskStore]:
    store = DiskStore(tmp_path / "store", make=True)
    yield store
    store.close()


async def rows_of(resolver: Resolver) -> list[Any]:
    resolution = Resolution(Query("things"), Cost())
    found = resolver.resolve(ADDRESS, resolution, the_peer, local=False, allow_scan=True)
    return [row.record["id"] async for rows in found for row in rows]


async def test_parts_at_the_limit_and_one_past_it(store: DiskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ask_protocol, "ASK_ROWS_MAX", 1)  # a part for each leaf
    link = OneLink(things(1000))
    resolver = Resolver(store, lambda: NOW, link)  # type: ignore[arg-type]
    assert await rows_of(resolver) == list(range(1000))
    parts = link.asked
    assert 5 < parts < SEGMENTS_MAX
    monkeypatch.setattr(resolve, "SEGMENTS_MAX", parts)
    assert await rows_of(resolver) == list(range(1000))
    monkeypatch.setattr(resolve, "SEGMENTS_MAX", parts - 1)
    with pytest.raises(PartialError, match="did not come to an end"):
        await rows_of(resolver)


def known_heads(peer: Peer, *ages: float, held_for: float = 0) -> dict[str, Head]:
    """A peer for each age in seconds, with a head so old; the older, the lower its sequence."""
    now_ms = NOW * 1000
    return {
        f"{age:g} s": sign_head(
            IDENTITY,
            "main",
            int(10**6 - age),
            peer.head.manifest,
            int(now_ms - age * 1000),
            int(now_ms - age * 1000 + held_for * 1000) if held_for else None,
        )
        for age in ages
    }


async def answered_from(resolver: Resolver, peers: Sequence[str], fresh: Freshness) -> Head:
    """The head of the peer whose answer is taken: the first that is fresh enough."""
    resolution = Resolution(Query("things"), Cost(), freshness=fresh)

    async def find(address: Address) -> Sequence[str]:
        return peers

    rows = [
        row async for rows in resolver.resolve(ADDRESS, resolution, find, local=True, allow_scan=True) for row in rows
    ]
    assert len(rows) == 10 and resolution.opening is not None
    return resolution.opening.head


async def test_who_insists_on_a_fresh_head_asks_on_until_there_is_one(store: DiskStore) -> None:
    peer = things(10)
    heads = known_heads(peer, 7200, 3601, 3600, 5)
    resolver = Resolver(store, lambda: NOW, OneLink(peer, heads))  # type: ignore[arg-type]
    assert await answered_from(resolver, list(heads), ANY_AGE) == heads["7200 s"]
    hour = Freshness(age_seconds=3600)
    with pytest.raises(UnavailableError, match="head 996399 is 60 min old; wanted is one of at most 60 min"):
        await answered_from(resolver, ["7200 s", "3601 s"], hour)
    assert await answered_from(resolver, list(heads), hour) == heads["3600 s"]
    assert await answered_from(resolver, [], hour) == heads["3600 s"]  # kept here, and fresh still
    assert await answered_from(resolver, list(heads), Freshness(age_seconds=60)) == heads["5 s"]


async def test_who_insists_on_an_unexpired_head_asks_on_until_there_is_one(store: DiskStore) -> None:
    peer = things(10)
    never, heads = known_heads(peer, 9000), known_heads(peer, 7200, 3600, 3599, held_for=3600)
    resolver = Resolver(store, lambda: NOW, OneLink(peer, never | heads))  # type: ignore[arg-type]
    fresh = Freshness(is_unexpired=True)
    with pytest.raises(UnavailableError, match="does not say how long it holds"):
        await answered_from(resolver, list(never), fresh)
    with pytest.raises(UnavailableError, match="head 992800 expired 60 min ago"):
        await answered_from(resolver, ["7200 s"], fresh)
    with pytest.raises(UnavailableError, match="expired 0 s ago"):
        await answered_from(resolver, ["3600 s"], fresh)
    assert await answered_from(resolver, [*never, *heads], fresh) == heads["3599 s"]


async def test_a_head_signed_with_a_key_that_was_replaced_is_not_answered_from(store: DiskStore) -> None:
    peer = things(10)
    new = Identity(b"n" * 32)
    word = delegate(IDENTITY, None, 5, new.public_key)

    def signed(sequence: int, key: Identity = IDENTITY, *words: Delegation) -> Head:
        return sign_head(key, "main", sequence, peer.head.manifest, 0, None, words)

    heads = {"old": signed(4), "thief": signed(99), "new": signed(5, new, word)}
    resolver = Resolver(store, lambda: NOW, OneLink(peer, heads))  # type: ignore[arg-type]
    store.put_head(heads["new"])
    with pytest.raises(
        UnavailableError, match="peer thief has a head only that is signed with a key that was replaced"
    ):
        await answered_from(resolver, ["old", "thief"], ANY_AGE)
    assert await answered_from(resolver, list(heads), ANY_AGE) == heads["new"]


def test_a_head_from_the_future_at_the_limit_and_one_past_it(store: DiskStore) -> None:
    resolver = Resolver(store, lambda: NOW)
    last_ms = int((NOW + CLOCK_SKEW_SECONDS_MAX) * 1000)
    resolver.heads.check(sign_head(IDENTITY, "main", 1, cid_of(b""), last_ms), "peer")
    with pytest.raises(RemoteError, match="a head from the future") as caught:
        resolver.heads.check(sign_head(IDENTITY, "main", 1, cid_of(b""), last_ms + 1), "peer")
    assert caught.value.peer == "peer"
