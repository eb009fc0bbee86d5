"""A query put to several peers: who stalls costs a moment, who is slow but speaks nothing, who leaves no row."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from rhizome_index.errors import UnavailableError, UsageError
from rhizome_index.index.address import Address
from rhizome_index.limits import ASK_TIMEOUT_SECONDS, FETCH_LATE_SECONDS
from rhizome_index.node.cost import Cost
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.link import Links
from rhizome_index.node.resolution import Resolution
from rhizome_index.node.resolve import Resolver
from rhizome_index.query.parse import parse
from rhizome_index.wire import ask as ask_protocol
from rhizome_index.wire import message as m
from rhizome_index.wire.ask import Ask
from rhizome_index.wire.frame import FrameReader
from rhizome_index.wire.pick import Picker
from tests.node.memory_swarm import MemoryStream, MemorySwarm
from tests.properties.test_conversations import ADDRESS, Peer, things

NOW = 1_700_000_000.0
STALLS, BUSY = "stalls", "busy"


class Scripted(MemorySwarm):
    """Peers that answer from memory, but those called STALLS and BUSY; `answers_left` of those that will leave."""

    def __init__(self, nursery: trio.Nursery, peer: Peer) -> None:
        super().__init__(nursery)
        self.peer = peer
        self.asked: list[str] = []
        self.answers_left: dict[str, int] = {}

    async def open_stream(self, peer_id: str, *args: Any, **options: Any) -> MemoryStream:
        async def answer(stream: MemoryStream) -> None:
            frames = FrameReader()
            while data := await stream.receive():
                for body in frames.feed(data):
                    self.asked.append(peer_id)
                    await self._answer(peer_id, stream, m.decode_request(body))

        self._answering = answer
        return await super().open_stream(peer_id, *args, **options)

    async def _answer(self, peer_id: str, stream: MemoryStream, request: m.Request) -> None:
        if peer_id == STALLS:
            await trio.sleep_forever()
        if self.answers_left.get(peer_id) == 0:
            await self.disconnect(peer_id)
            return
        if peer_id in self.answers_left:
            self.answers_left[peer_id] -= 1
        if peer_id == BUSY:
            await stream.send(m.encode_failure(request.number, m.BUSY, "too many answers are under way"))
            return
        for frame in ask_protocol.answer(request.number, Ask.read(request.fields), self.peer):
            await stream.send(frame)


@asynccontextmanager
async def a_reader(path: Path, count: int = 50) -> AsyncIterator[tuple[Scripted, Links, Resolver]]:
    store = DiskStore(path / "store", make=True)
    async with trio.open_nursery() as nursery:
        swarm = Scripted(nursery, things(count))
        links = Links(swarm, nursery, Picker(lambda: 0.5))
        yield swarm, links, Resolver(store, lambda: NOW, links)
        nursery.cancel_scope.cancel()
    store.close()


async def ask(resolver: Resolver, peers: Sequence[str], text: str = "all things") -> list[Any]:
    async def find(address: Address) -> Sequence[str]:
        return peers

    found = resolver.resolve(ADDRESS, Resolution(parse(text, 0)[0], Cost()), find, local=False, allow_scan=False)
    return [row.record["id"] async for rows in found for row in rows]


async def test_who_stalls_costs_a_moment_and_is_asked_last_from_then_on(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with a_reader(tmp_path) as (swarm, links, resolver):
        assert await ask(resolver, [STALLS, "good", "better"]) == list(range(50))
        assert swarm.asked == [STALLS, "good"]
        assert trio.current_time() == pytest.approx(FETCH_LATE_SECONDS, abs=0.01)
        assert links.order([STALLS, "good", "better"])[-1] == STALLS


async def test_who_answers_at_once_is_the_only_one_asked(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with a_reader(tmp_path) as (swarm, _, resolver):
        assert await ask(resolver, ["good", "better"]) == list(range(50))
        assert swarm.asked == ["good"] and trio.current_time() < 0.01


async def test_who_is_busy_costs_nothing(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with a_reader(tmp_path) as (swarm, _, resolver):
        assert await ask(resolver, [BUSY, "good"]) == list(range(50))
        assert swarm.asked == [BUSY, "good"] and trio.current_time() < 0.01


async def test_who_speaks_slowly_is_heard_out(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with a_reader(tmp_path, 1000) as (swarm, _, resolver):
        swarm.bytes_per_second = 5_000.0
        assert await ask(resolver, ["good", "better"]) == list(range(1000))
        assert set(swarm.asked) == {"good"} and trio.current_time() > 2 * FETCH_LATE_SECONDS


async def test_the_only_one_there_is_has_all_the_time(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with a_reader(tmp_path) as (_, _, resolver):
        with pytest.raises(UnavailableError, match="did not answer within"):
            await ask(resolver, [STALLS])
        assert trio.current_time() == pytest.approx(ASK_TIMEOUT_SECONDS, abs=0.01)


async def test_when_nobody_else_can_who_stalls_has_all_the_time(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with a_reader(tmp_path) as (swarm, _, resolver):
        with pytest.raises(UnavailableError, match="did not answer within"):
            await ask(resolver, [STALLS, BUSY])
        assert swarm.asked == [STALLS, BUSY]


async def test_who_leaves_in_the_middle_is_followed_by_another(
    autojump_clock: MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ask_protocol, "ASK_ROWS_MAX", 1)  # a part for each leaf
    async with a_reader(tmp_path, 1000) as (swarm, _, resolver):
        swarm.answers_left["leaves"] = 2
        assert await ask(resolver, [STALLS, "leaves", "good"]) == list(range(1000))
        assert swarm.asked[:4] == [STALLS, "leaves", "leaves", "leaves"] and swarm.asked[-1] == "good"


async def test_a_query_that_makes_no_sense_is_its_askers_fault(autojump_clock: MockClock, tmp_path: Path) -> None:
    """And is not put to all others, too."""
    async with a_reader(tmp_path, 5000) as (swarm, _, resolver):
        with pytest.raises(UsageError):
            await ask(resolver, ["good", "better"], "all things where unknown = 3")
        assert swarm.asked == ["good"]
