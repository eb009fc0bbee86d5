"""Fetching from several peers: every block once, whatever they lack, lie about or sit on. In virtual time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from rhizome_index.blocks.cid import Cid, cid_of
from rhizome_index.errors import IntegrityError, RemoteError, StoreError, UnavailableError
from rhizome_index.limits import FETCH_JOB_WANTS, FETCH_LATE_SECONDS, PROVIDERS_WANTED
from rhizome_index.node.cost import Cost
from rhizome_index.node.fetch import Fetcher, Wanted
from rhizome_index.wire import message as m
from rhizome_index.wire import want
from rhizome_index.wire.frame import FrameReader

BLOCKS = {cid_of(data): data for data in (b"%04d" % number * 16 for number in range(1000))}
ALL = [Wanted(cid) for cid in BLOCKS]
JOB_SECONDS = 0.1

Answering = Callable[[Cid], bytes | None]


class FakeLinks:
    """Peers by name, each with what it says for a CID, and how long an answer of it takes."""

    def __init__(self, peers: Mapping[str, Answering], seconds: Mapping[str, float] | None = None) -> None:
        self._peers = peers
        self._seconds = seconds or {}
        self.asked: dict[str, int] = dict.fromkeys(peers, 0)
        self.sent_bytes = 0

    async def converse(
        self, peer_id: str, protocol: str, fields: Mapping[str, Any], conversation: Any, *, silence_seconds: Any
    ) -> int:
        wanted = want.Want.read(fields)
        self.asked[peer_id] += len(wanted.names)
        await trio.sleep(self._seconds.get(peer_id, JOB_SECONDS))
        frames = list(want.answer(1, wanted, lambda _, name: self._peers[peer_id](name)))
        reader = m.ReplyReader()
        try:
            for frame in FrameReader().feed(b"".join(frames)):
                reply = reader.read(frame)
                if reply is not None:
                    conversation.take(reply)
        except IntegrityError as error:
            raise RemoteError(peer_id, str(error)) from None
        size = sum(map(len, frames))
        self.sent_bytes += size
        return size


async def fetch(links: Any, wanted: Sequence[Wanted] = ALL) -> tuple[dict[Cid, bytes], Cost, Fetcher]:
    cost, found = Cost(), {}
    fetcher = Fetcher(links, list(links.asked), cost)

    def take(blocks: Sequence[tuple[Cid, bytes]]) -> None:
        for cid, data in blocks:
            assert cid not in found
            found[cid] = data

    await fetcher.fetch(wanted, take)
    return found, cost, fetcher


async def test_one_peer_gives_everything_and_nothing_is_asked_twice(autojump_clock: MockClock) -> None:
    links = FakeLinks({"a": BLOCKS.get})
    found, cost, _ = await fetch(links)
    assert found == BLOCKS
    assert links.asked == {"a": len(BLOCKS)} and cost.round_trips == -(-len(BLOCKS) // FETCH_JOB_WANTS)


@pytest.mark.parametrize("peers", ["a", "abcd"])
async def test_all_bytes_are_counted_that_come_at_the_same_time(autojump_clock: MockClock, peers: str) -> None:
    links = FakeLinks(dict.fromkeys(peers, BLOCKS.get))
    _, cost, _ = await fetch(links)
    assert cost.bytes_received == links.sent_bytes > sum(map(len, BLOCKS.values()))


async def test_equal_peers_share_the_work(autojump_clock: MockClock) -> None:
    links = FakeLinks(dict.fromkeys("abcd", BLOCKS.get))
    found, _, _ = await fetch(links)
    assert found == BLOCKS
    assert max(links.asked.values()) <= 2 * min(links.asked.values()) and sum(links.asked.values()) == len(BLOCKS)


class BreakingLinks(FakeLinks):
    """Peer "a" is gone after three frames of each answer."""

    async def converse(self, peer_id: str, protocol: str, fields: Any, conversation: Any, **options: Any) -> int:
        if peer_id != "a":
            return await super().converse(peer_id, protocol, fields, conversation, **options)
        wanted = want.Want.read(fields)
        await trio.sleep(JOB_SECONDS)
        reader = m.ReplyReader()
        for frame in islice(want.answer(1, wanted, lambda _, name: self._peers[peer_id](name)), 3):
            for body in FrameReader().feed(frame):
                reply = reader.read(body)
                assert isinstance(reply, m.Blocks)
                self.asked["a"] += len(reply.blocks)
                conversation.take(reply)
        raise UnavailableError("gone")


async def test_no_more_are_asked_than_it_takes(autojump_clock: MockClock) -> None:
    """Those behind the first few are not worked for as long as the first are of use."""
    peers = [f"peer {number}" for number in range(PROVIDERS_WANTED + 3)]
    links = FakeLinks(dict.fromkeys(peers, BLOCKS.get))
    found, _, fetcher = await fetch(links)
    assert found == BLOCKS and fetcher.peers == tuple(peers)
    assert [peer for peer in peers if links.asked[peer]] == peers[:PROVIDERS_WANTED]


@pytest.mark.parametrize("useless", ["lacks all", "is gone", "lies"])
async def test_others_take_the_place_of_those_that_are_of_no_use(useless: str, autojump_clock: MockClock) -> None:
    def answer(cid: Cid) -> bytes | None:
        if useless == "is gone":
            raise UnavailableError("gone")
        return None if useless == "lacks all" else b"a lie"

    bad = [f"bad {number}" for number in range(PROVIDERS_WANTED)]
    links = FakeLinks({**dict.fromkeys(bad, answer), "good": BLOCKS.get, "spare": BLOCKS.get})
    found, _, _ = await fetch(links)
    assert found == BLOCKS and all(links.asked[peer] for peer in bad)


async def test_what_came_before_a_peer_was_gone_is_not_asked_for_again(autojump_clock: MockClock) -> None:
    large = {cid_of(data): data for data in (b"%04d" % number * 4096 for number in range(300))}
    links = BreakingLinks(dict.fromkeys("ab", large.get))
    found, _, fetcher = await fetch(links, [Wanted(cid) for cid in large])
    assert found == large and fetcher.peers == ("b",)
    assert links.asked["a"] > 0 and sum(links.asked.values()) == len(large)


async def test_blocks_that_cannot_be_kept_are_not_the_peers_fault(autojump_clock: MockClock) -> None:
    links = FakeLinks(dict.fromkeys("ab", BLOCKS.get))
    fetcher = Fetcher(links, list(links.asked), Cost())  # type: ignore[arg-type]

    def take(blocks: Sequence[tuple[Cid, bytes]]) -> None:
        raise StoreError("full")

    with pytest.raises(StoreError, match="full"):
        await fetcher.fetch(ALL, take)
    assert fetcher.peers == ("a", "b") and not fetcher.problems


async def test_what_one_lacks_another_has(autojump_clock: MockClock) -> None:
    even = {cid: data for place, (cid, data) in enumerate(BLOCKS.items()) if place % 2 == 0}
    odd = {cid: data for cid, data in BLOCKS.items() if cid not in even}
    found, _, _ = await fetch(FakeLinks({"even": even.get, "odd": odd.get}))
    assert found == BLOCKS


async def test_what_nobody_has_is_named(autojump_clock: MockClock) -> None:
    absent = cid_of(b"absent")
    with pytest.raises(UnavailableError, match="no peer has the block bafyrei"):
        await fetch(FakeLinks(dict.fromkeys("ab", BLOCKS.get)), [*ALL, Wanted(absent)])
    with pytest.raises(UnavailableError):
        await fetch(FakeLinks({}), ALL)


async def test_a_liar_loses_its_part_to_the_others(autojump_clock: MockClock) -> None:
    links = FakeLinks({"liar": lambda cid: b"lies", **dict.fromkeys("abc", BLOCKS.get)})
    found, _, fetcher = await fetch(links)
    assert found == BLOCKS and fetcher.peers == ("a", "b", "c")
    assert isinstance(fetcher.problems[0], RemoteError)


async def test_a_lie_is_told_when_nobody_else_has_it(autojump_clock: MockClock) -> None:
    with pytest.raises(RemoteError, match="liar"):
        await fetch(FakeLinks({"liar": lambda cid: b"lies", "empty": lambda cid: None}))


async def test_a_stalled_peer_costs_little(autojump_clock: MockClock) -> None:
    peers = dict.fromkeys("abcd", BLOCKS.get)
    started = trio.current_time()
    await fetch(FakeLinks(peers))
    honest = trio.current_time() - started
    started = trio.current_time()
    found, _, _ = await fetch(FakeLinks(peers, {"a": 1e6}))
    assert found == BLOCKS
    assert trio.current_time() - started <= 4 / 3 * honest + 3 * JOB_SECONDS + FETCH_LATE_SECONDS / 10


async def test_a_peer_that_stalls_at_the_only_job_is_not_waited_for(autojump_clock: MockClock) -> None:
    started = trio.current_time()
    found, _, _ = await fetch(FakeLinks(dict.fromkeys("ab", BLOCKS.get), {"a": 1e6}), ALL[:1])
    assert len(found) == 1
    assert trio.current_time() - started <= FETCH_LATE_SECONDS + JOB_SECONDS


async def test_a_failing_handler_of_blocks_comes_through(autojump_clock: MockClock) -> None:
    def fail(_: object) -> None:
        raise UnavailableError("the disk is full")

    fetcher = Fetcher(FakeLinks({"a": BLOCKS.get}), ["a"], Cost())  # type: ignore[arg-type]
    with pytest.raises(UnavailableError, match="disk is full"):
        await fetcher.fetch(ALL, fail)
