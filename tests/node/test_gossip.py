"""Gossip with made-up peers, in virtual time: what is told, what is kept and passed on, and what it may cost."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from rhizome_index.blocks.cid import cid_of
from rhizome_index.index.address import Address
from rhizome_index.index.head import Head, Identity, delegate, sign_head
from rhizome_index.limits import (
    CLOCK_SKEW_SECONDS_MAX,
    GOSSIP_AGAIN_SECONDS,
    GOSSIP_BYTES_AT_ONCE,
    GOSSIP_BYTES_PER_SECOND,
    GOSSIP_CHECKS_AT_ONCE,
    GOSSIP_CHECKS_PER_SECOND,
    GOSSIP_HEADS_AT_ONCE,
    GOSSIP_PAUSE_SECONDS,
    GOSSIP_QUEUE_MAX,
    GOSSIP_TOPICS_MAX,
    IDENTIFY_DELAY_SECONDS,
    IDLE_TIMEOUT_SECONDS,
)
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.gossip import Gossip
from rhizome_index.node.link import Links
from rhizome_index.node.register import Follow, Policy, Register
from rhizome_index.wire import counted
from rhizome_index.wire.frame import FrameReader, encode_frame
from rhizome_index.wire.gossip import PROTOCOL, Message, Rpc, sign_message, topic_of
from rhizome_index.wire.pick import Picker
from tests.node.memory_swarm import MemoryStream, MemorySwarm, stream_pair

NOW = 1_000_000.0
US, PUBLISHER, OTHER = (Identity(bytes([number]) * 32) for number in (1, 2, 3))
FOLLOWED, OURS = Address(PUBLISHER.peer_id, "main"), Address(US.peer_id, "main")
TOPIC = topic_of(FOLLOWED)


def head(
    sequence: int, manifest: bytes = b"", time_ms: int = 0, *, of: Identity = PUBLISHER, name: str = "main"
) -> Head:
    return sign_head(of, name, sequence, cid_of(manifest or b"%d" % sequence), time_ms)


def message(said: Head, number: int = 1, by: Identity = OTHER, topic: str = TOPIC) -> Message:
    return sign_message(by, (number + 1000 * said.sequence).to_bytes(8, "big"), topic, said.envelope)


class Swarm(MemorySwarm):
    """Notes what is said on the streams that we open."""

    def __init__(self, nursery: trio.Nursery) -> None:
        super().__init__(nursery)
        self.peer_id = US.peer_id
        self.connected_peers: tuple[str, ...] = ()
        self.told: dict[str, list[Rpc]] = {}

    async def open_stream(
        self, peer_id: str, protocol: str, *, timeout_seconds: float, lasting: bool = False
    ) -> MemoryStream:
        await trio.lowlevel.checkpoint()
        ours, theirs = stream_pair(self.peer_id, peer_id)
        self.streams[peer_id].append(ours)
        self._start(partial(self._take, peer_id), theirs)
        return ours

    async def _take(self, peer_id: str, stream: MemoryStream) -> None:
        frames = FrameReader()
        while data := await stream.receive():
            self.told.setdefault(peer_id, []).extend(Rpc.read(body) for body in frames.feed(data))


class Neighbourhood:
    """Our gossip, and made-up peers: what each was told, and the stream on which it tells us."""

    def __init__(self, folder: Path, nursery: trio.Nursery) -> None:
        self.store = DiskStore(folder / "store", make=True)
        self.register = Register(self.store)
        self.register.follow(Follow(FOLLOWED, Policy()))
        self.store.set_held(head(0))
        self.swarm = Swarm(nursery)
        self.told = self.swarm.told
        self.news: list[Address] = []
        self.streams: dict[str, MemoryStream] = {}
        links = Links(self.swarm, nursery, Picker(random.Random(1).random))
        clock = lambda: NOW + trio.current_time()  # noqa: E731
        chance = random.Random(1)
        self.gossip = Gossip(self.store, self.register, self.swarm, links, US, clock, chance, self.news.append)
        self.store.on_heads = self.gossip.stir
        self.gossip.start()

    async def connect(self, peer: str, *topics: str) -> None:
        """A peer connects, speaks at once and is spoken to."""
        self.swarm.connected_peers = (*self.swarm.connected_peers, peer)
        for notice in self.swarm.notices:
            notice(peer)
        self.streams[peer] = self.swarm.accept(peer, PROTOCOL)
        await self.say(peer, *([Rpc(subscriptions=[(topic, True) for topic in topics])] if topics else []))

    async def say(self, peer: str, *rpcs: Rpc) -> None:
        await self.streams[peer].send(b"".join(encode_frame(rpc.encode()) for rpc in rpcs))
        await wait_all_tasks_blocked()

    async def tell(self, peer: str, *messages: Message) -> None:
        await self.say(peer, *(Rpc(messages=[item]) for item in messages))

    def heads_told(self, peer: str) -> list[bytes]:
        return [item.data for rpc in self.told.get(peer, []) for item in rpc.messages]


@asynccontextmanager
async def neighbourhood(folder: Path) -> AsyncIterator[Neighbourhood]:
    async with trio.open_nursery() as nursery:
        found = Neighbourhood(folder, nursery)
        nursery.start_soon(found.gossip.run)
        await wait_all_tasks_blocked()
        yield found
        nursery.cancel_scope.cancel()
    found.store.close()


async def test_a_peer_is_greeted_a_little_later(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with neighbourhood(tmp_path) as found:
        found.swarm.connected_peers = ("a", "b")
        for notice in found.swarm.notices:
            notice("a")
        await trio.sleep(IDENTIFY_DELAY_SECONDS - 0.01)
        assert not found.swarm.streams["a"]
        await trio.sleep(0.02)
        assert found.told == {"a": [Rpc(subscriptions=[(TOPIC, True)])]}


async def test_who_speaks_to_us_is_spoken_to_at_once(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with neighbourhood(tmp_path) as found:
        await found.connect("a", TOPIC)
        assert found.told == {"a": [Rpc(subscriptions=[(TOPIC, True)]), Rpc(graft=[TOPIC])]}
        await trio.sleep(2 * IDLE_TIMEOUT_SECONDS)
        assert len(found.swarm.streams["a"]) == 2  # one each way, however silent


async def test_what_is_heard_is_kept_and_passed_on_once(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with neighbourhood(tmp_path) as found:
        for peer in "abc":
            await found.connect(peer, TOPIC)
        await found.tell("a", message(head(1)))
        await found.tell("b", message(head(1)), message(head(1), 2))
        assert found.news == [FOLLOWED] and found.store.newest_head(FOLLOWED) == head(1)
        assert [found.heads_told(peer) for peer in "abc"] == [[], [head(1).envelope], [head(1).envelope]]


async def test_what_is_heard_before_anything_is_held_is_passed_on_but_not_kept(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """What is being brought meanwhile may be older, and nobody goes back to an older head."""
    async with neighbourhood(tmp_path) as found:
        for peer in "ab":
            await found.connect(peer, TOPIC)
        found.store.execute("delete from held")
        await found.tell("a", message(head(7)), message(head(7), 2), message(head(6)))
        assert found.news == [FOLLOWED] and found.heads_told("b") == [head(7).envelope]
        assert found.store.newest_head(FOLLOWED) == head(0)


async def test_a_key_that_was_replaced_is_not_news_of_another_dataset_either(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """That it was is known from one dataset; of the other one nothing is known yet that could contradict."""
    all_from_5 = delegate(PUBLISHER, None, 5, OTHER.public_key)
    other = Address(PUBLISHER.peer_id, "other")
    async with neighbourhood(tmp_path) as found:
        found.register.follow(Follow(other, Policy()))
        found.gossip.stir()
        await trio.sleep(2 * GOSSIP_PAUSE_SECONDS)
        for peer in "ab":
            await found.connect(peer, topic_of(other))
        found.store.put_head(sign_head(OTHER, "main", 5, cid_of(b"5"), 0, None, [all_from_5]))
        await found.tell("a", message(head(7, name="other"), topic=topic_of(other)))
        assert not found.news and not found.heads_told("b")
        await found.tell("a", message(head(4, name="other"), topic=topic_of(other)))
        assert found.news == [other]


async def test_an_older_head_is_not_taken(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with neighbourhood(tmp_path) as found:
        for peer in "ab":
            await found.connect(peer, TOPIC)
        found.store.put_head(head(5))
        await found.tell("a", message(head(4)), message(head(5), 2), message(head(5, time_ms=7), 3))
        assert not found.news and not found.heads_told("b") and found.store.all_heads() == [head(0), head(5)]
        await found.tell("a", message(head(6)))
        assert found.heads_told("b") == [head(6).envelope] and not found.swarm.disconnected


async def test_one_contradiction_is_evidence_and_more_say_nothing_new(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with neighbourhood(tmp_path) as found:
        for peer in "ab":
            await found.connect(peer, TOPIC)
        told = [head(5), head(5, b"another story"), head(5, b"and another")]
        await found.tell("a", *(message(item, number) for number, item in enumerate(told)))
        assert found.heads_told("b") == [item.envelope for item in told[:2]]
        assert found.store.equivocation(FOLLOWED) is not None and len(found.store.all_heads()) == 3


async def test_a_key_that_was_replaced_is_evidence_once_and_never_news(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    word = delegate(PUBLISHER, None, 5, OTHER.public_key)
    newer = [sign_head(OTHER, "main", number, cid_of(b"%d" % number), 0, None, [word]) for number in (5, 6)]
    stolen = [head(number, b"stolen") for number in (98, 99)]
    async with neighbourhood(tmp_path) as found:
        for peer in "ab":
            await found.connect(peer, TOPIC)
        told = [head(4), newer[0], *stolen, newer[1]]
        await found.tell("a", *(message(item, number) for number, item in enumerate(told)))
        passed_on = [head(4), newer[0], stolen[0], newer[1]]
        assert found.heads_told("b") == [item.envelope for item in passed_on]
        assert found.store.newest_head(FOLLOWED) == newer[1]
        assert found.store.equivocation(FOLLOWED) == (newer[1], stolen[0])


async def test_a_head_from_the_future_is_not_taken(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with neighbourhood(tmp_path) as found:
        await found.connect("a", TOPIC)
        limit_ms = int((NOW + CLOCK_SKEW_SECONDS_MAX) * 1000)
        await found.tell("a", message(head(2, time_ms=limit_ms + 1000)), message(head(1, time_ms=limit_ms)))
        assert found.store.all_heads() == [head(0), head(1, time_ms=limit_ms)] and not found.swarm.disconnected


FORGED = replace(head(1), envelope=head(1).envelope[:-1] + bytes([head(1).envelope[-1] ^ 1]))


@pytest.mark.parametrize(
    "lie",
    [
        message(FORGED),
        message(head(1, of=OTHER)),
        message(head(1, name="other")),
        replace(message(head(1)), data=b""),
        replace(message(head(1)), data=bytes(2000)),
        replace(message(head(1)), signature=bytes(64)),
        replace(message(head(1)), seqno=bytes(8)),
    ],
    ids=["forged", "another publisher", "another dataset", "nothing", "too much", "unsigned", "signed for another"],
)
async def test_who_passes_on_what_is_no_head_loses_its_connection(
    tmp_path: Path, autojump_clock: MockClock, lie: Message
) -> None:
    async with neighbourhood(tmp_path) as found:
        for peer in "ab":
            await found.connect(peer, TOPIC)
        await found.tell("a", lie)
        assert found.swarm.disconnected == found.swarm.blamed == ["a"] and not found.news and not found.heads_told("b")
        assert found.store.all_heads() == [head(0)]
        await found.tell("b", message(head(1)))
        assert found.news == [FOLLOWED]


@pytest.mark.parametrize("data", [b"\x00", b"\x01\x07", b"\x02\x0a\x07", b"\xff\xff\xff\xff\x7f"])
async def test_who_sends_what_is_no_gossip_loses_its_connection(
    tmp_path: Path, autojump_clock: MockClock, data: bytes
) -> None:
    async with neighbourhood(tmp_path) as found:
        await found.connect("a", TOPIC)
        await found.streams["a"].send(data)
        await wait_all_tasks_blocked()
        assert found.swarm.disconnected == found.swarm.blamed == ["a"]


async def test_what_is_not_ours_is_passed_over(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Topics of others, datasets not followed, authors of another kind, and heads of our own datasets."""
    async with neighbourhood(tmp_path) as found:
        found.store.put_head(head(1, of=US))
        await trio.sleep(1)
        await found.connect("a", TOPIC, topic_of(OURS), "another topic")
        foreign = replace(message(head(1)), author=b"\x12\x20" + bytes(32))
        elsewhere = message(head(1, of=OTHER), topic=topic_of(Address(OTHER.peer_id, "main")))
        ours = message(head(9, of=US), topic=topic_of(OURS))
        await found.tell("a", foreign, elsewhere, ours, message(head(1), topic="another topic"))
        assert not found.news and not found.swarm.disconnected
        assert found.store.newest_head(FOLLOWED) == head(0) and found.store.newest_head(OURS) == head(1, of=US)


async def test_our_new_head_is_told_once_it_is_durable(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with neighbourhood(tmp_path) as found:
        found.store.put_head(head(1, of=US))
        await trio.sleep(1)
        await found.connect("a", topic_of(OURS))
        with found.store.transaction():
            found.store.put_head(head(2, of=US))
            await wait_all_tasks_blocked()
            await trio.sleep(1)
            assert not found.heads_told("a")
        await wait_all_tasks_blocked()
        assert found.heads_told("a") == [head(2, of=US).envelope]


async def test_a_head_that_was_brought_is_told_and_one_that_was_heard_is_not_told_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with neighbourhood(tmp_path) as found:
        for peer in "ab":
            await found.connect(peer, TOPIC)
        await trio.sleep(1)
        found.store.put_head(head(1))  # known, but not all here
        await trio.sleep(1)
        assert not found.heads_told("a")
        found.store.set_held(head(1))
        await wait_all_tasks_blocked()
        assert found.heads_told("a") == [head(1).envelope] == found.heads_told("b")
        await found.tell("a", message(head(2)))
        found.store.set_held(head(2))
        await trio.sleep(1)
        assert found.heads_told("a") == [head(1).envelope]
        assert found.heads_told("b") == [head(1).envelope, head(2).envelope]


async def test_of_many_heads_the_newest_is_told_now_and_then(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with neighbourhood(tmp_path) as found:
        found.store.put_head(head(1, of=US))
        await trio.sleep(1)
        await found.connect("a", topic_of(OURS))
        for sequence in range(2, 22):
            found.store.put_head(head(sequence, of=US))
            await trio.sleep(GOSSIP_PAUSE_SECONDS / 5)
        await trio.sleep(1)
        told = found.heads_told("a")
        assert 4 <= len(told) <= 6 and told[0] == head(2, of=US).envelope and told[-1] == head(21, of=US).envelope


async def test_what_is_followed_from_now_on_is_subscribed_to_and_no_longer_is_not(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with neighbourhood(tmp_path) as found:
        await found.connect("a")
        other = Address(OTHER.peer_id, "main")
        found.register.follow(Follow(other, Policy()))
        found.register.unfollow(FOLLOWED)
        found.gossip.stir()
        await trio.sleep(1)
        said = [item for rpc in found.told["a"] for item in rpc.subscriptions]
        assert said == [(TOPIC, True), (TOPIC, False), (topic_of(other), True)]


async def test_datasets_at_the_limit_and_one_past_it(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with neighbourhood(tmp_path) as found:
        with found.store.transaction():
            for number in range(GOSSIP_TOPICS_MAX):
                found.register.follow(Follow(Address(OTHER.peer_id, f"d{number:03}"), Policy()))
        await found.connect("a")
        found.gossip.stir()
        await trio.sleep(1)
        assert len(found.gossip.mesh.topics) == GOSSIP_TOPICS_MAX
        assert len({topic for rpc in found.told["a"] for topic, _ in rpc.subscriptions}) == GOSSIP_TOPICS_MAX


async def test_signatures_checked_for_a_peer_at_the_limit_and_one_past_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with neighbourhood(tmp_path) as found:
        for peer in "ab":
            await found.connect(peer, TOPIC)
        found.store.put_head(head(1000))
        old = [message(head(sequence)) for sequence in range(1, GOSSIP_CHECKS_AT_ONCE + 2)]
        await found.tell("a", *old[:-1])
        await found.tell("a", message(head(1001)))
        assert not found.news  # it has had its share: this was not even looked at
        await found.tell("b", message(head(1001)))
        assert len(found.news) == 1
        await trio.sleep(1 / GOSSIP_CHECKS_PER_SECOND)
        await found.tell("a", message(head(1002)), message(head(1003)))
        assert found.store.newest_head(FOLLOWED) == head(1002)


async def test_peers_counted_at_the_limit_and_one_past_it(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Identities cost nothing: of those whose checks are counted, the first is forgotten for one more."""
    monkeypatch.setattr(counted, "PEERS_COUNTED_MAX", 3)
    async with neighbourhood(tmp_path) as found:
        for number, peer in enumerate("abcd", 1):
            await found.connect(peer, TOPIC)
            await found.tell(peer, message(head(number)))
            assert list(found.gossip._checks) == [*"abcd"[max(0, number - 3) : number]]
        assert len(found.news) == 4


async def test_heads_of_a_dataset_at_the_limit_and_one_past_it(tmp_path: Path, autojump_clock: MockClock) -> None:
    """A publisher that signs and signs fills nobody's disk by gossip."""
    async with neighbourhood(tmp_path) as found:
        await found.connect("a", TOPIC)
        await found.tell("a", *(message(head(sequence)) for sequence in range(1, GOSSIP_HEADS_AT_ONCE + 2)))
        assert found.store.newest_head(FOLLOWED) == head(GOSSIP_HEADS_AT_ONCE)
        await trio.sleep(GOSSIP_PAUSE_SECONDS)
        await found.tell("a", message(head(100)))
        assert found.store.newest_head(FOLLOWED) == head(100)


async def test_bytes_read_of_a_peer_at_the_limit_and_one_past_it(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with neighbourhood(tmp_path) as found:
        await found.connect("a", TOPIC)
        await trio.sleep(10)
        empty = encode_frame(Rpc(want=[bytes(1000)]).encode())
        count = GOSSIP_BYTES_AT_ONCE // len(empty)
        started = trio.current_time()
        await found.streams["a"].send(empty * count)
        await found.tell("a", message(head(1)))
        assert found.news and trio.current_time() == started
        await found.streams["a"].send(empty * count)
        await wait_all_tasks_blocked()
        await found.tell("a", message(head(2)))
        seconds = len(empty * count) / GOSSIP_BYTES_PER_SECOND
        await trio.sleep(0.8 * seconds)
        assert len(found.news) == 1
        await trio.sleep(0.4 * seconds)
        assert len(found.news) == 2


async def test_what_waits_for_a_peer_that_does_not_read_is_bounded(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with neighbourhood(tmp_path) as found:
        await found.connect("a", TOPIC)
        await found.connect("b", TOPIC)
        streams = found.gossip._streams
        speaker = streams._speakers["a"]
        await trio.sleep(IDENTIFY_DELAY_SECONDS + 1)  # who has just connected is greeted once more
        for number in range(GOSSIP_QUEUE_MAX):
            streams.send("a", Rpc(graft=[f"topic {number}"]))
        assert not speaker._scope.cancel_called
        streams.send("a", Rpc(graft=["one more"]))
        await wait_all_tasks_blocked()
        assert speaker._scope.cancel_called and "a" not in streams._speakers and "b" in streams._speakers
        assert found.gossip.mesh.neighbours(TOPIC) == ["b"]
        await trio.sleep(GOSSIP_AGAIN_SECONDS - 1)
        assert "a" not in streams._speakers
        await trio.sleep(2)
        assert "a" in streams._speakers


async def test_a_new_stream_of_a_peer_takes_the_place_of_the_old_one(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with neighbourhood(tmp_path) as found:
        await found.connect("a", TOPIC)
        first = found.streams["a"]
        found.streams["a"] = found.swarm.accept("a", PROTOCOL)
        await found.tell("a", message(head(1)))
        assert found.news == [FOLLOWED]
        with trio.fail_after(1), pytest.raises(trio.EndOfChannel):
            await first._incoming.receiver.receive()
