"""How long an answer is waited for in parts, and how new a head may be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from rhizome_index.blocks.cid import cid_of
from rhizome_index.errors import PartialError, RemoteError
from rhizome_index.index.address import Address
from rhizome_index.index.head import sign_head
from rhizome_index.limits import CLOCK_SKEW_SECONDS_MAX, SEGMENTS_MAX
from rhizome_index.node import resolve
from rhizome_index.node.cost import Cost
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.resolve import Resolution, Resolver
from rhizome_index.query.expr import Query
from rhizome_index.wire import ask as ask_protocol
from rhizome_index.wire.ask import Ask, Asking
from tests.driving import replies
from tests.properties.test_conversations import ADDRESS, IDENTITY, Peer, things

NOW = 1_700_000_000.0


class OneLink:
    """Stands for the links of a node that knows one peer."""

    def __init__(self, peer: Peer) -> None:
        self.peer, self.asked = peer, 0

    async def converse(
        self, peer_id: str, protocol: str, fields: Mapping[str, Any], asking: Asking, **patience: float | None
    ) -> int:
        self.asked += 1
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


def test_a_head_from_the_future_at_the_limit_and_one_past_it(store: DiskStore) -> None:
    resolver = Resolver(store, lambda: NOW)
    last_ms = int((NOW + CLOCK_SKEW_SECONDS_MAX) * 1000)
    resolver.check_time(sign_head(IDENTITY, "main", 1, cid_of(b""), last_ms), "peer")
    with pytest.raises(RemoteError, match="a head from the future") as caught:
        resolver.check_time(sign_head(IDENTITY, "main", 1, cid_of(b""), last_ms + 1), "peer")
    assert caught.value.peer == "peer"
