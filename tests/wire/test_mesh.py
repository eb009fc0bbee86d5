"""The mesh: what is published reaches everybody who subscribes, and nobody is told, asked or remembered too much."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rhizome_index.limits import GOSSIP_IDS_MAX, GOSSIP_SEEN_MAX, GOSSIP_TOPICS_MAX
from rhizome_index.wire.gossip import Message, Rpc
from rhizome_index.wire.mesh import HEARTBEAT_SECONDS, Mesh

TOPIC = "topic"


def message(number: int, topic: str = TOPIC) -> Message:
    return Message(b"author", number.to_bytes(8), topic, b"payload", b"signature")


class Group:
    """Meshes that are connected with each other; what they say arrives in the order in which it was said."""

    def __init__(self, seed: int, count: int, links: set[tuple[int, int]]) -> None:
        chance = random.Random(seed).random
        self.meshes = [Mesh(chance) for _ in range(count)]
        self.heard: list[list[Message]] = [[] for _ in range(count)]
        self.said = 0
        self.now = 0.0
        self.is_losing: Any = lambda source, target, rpc: False
        for one, other in sorted(links):
            self.meshes[one].meet(str(other))
            self.meshes[other].meet(str(one))
        self.settle()

    def settle(self) -> None:
        """Deliver until nobody says anything any more."""
        waiting: deque[tuple[int, int, Rpc]] = deque()
        while True:
            for source, mesh in enumerate(self.meshes):
                waiting.extend((source, int(peer), rpc) for peer, rpc in mesh.outbox)
                mesh.outbox.clear()
            if not waiting:
                return
            source, target, rpc = waiting.popleft()
            rpc = Rpc.read(rpc.encode())
            self.said += len(rpc.messages)
            if self.is_losing(source, target, rpc):
                continue
            for found in self.meshes[target].take(str(source), rpc, self.now):
                self.heard[target].append(found)
                self.meshes[target].forward(found, str(source))

    def beat(self) -> None:
        self.now += HEARTBEAT_SECONDS
        for mesh in self.meshes:
            mesh.beat(self.now)
        self.settle()


@st.composite
def connected(draw: st.DrawFn) -> tuple[int, set[tuple[int, int]]]:
    """A connected graph of peers."""
    count = draw(st.integers(2, 20))
    links = {(draw(st.integers(0, number - 1)), number) for number in range(1, count)}
    pairs = st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)).map(lambda pair: (min(pair), max(pair)))
    return count, links | {pair for pair in draw(st.sets(pairs, max_size=60)) if pair[0] != pair[1]}


@given(connected(), st.integers(0, 99), st.integers(0, 19))
def test_what_is_published_reaches_every_subscriber_once(
    graph: tuple[int, set[tuple[int, int]]], seed: int, author: int
) -> None:
    count, links = graph
    group = Group(seed, count, links)
    for mesh in group.meshes:
        mesh.join(TOPIC, 0.0)
        group.settle()
    group.meshes[author % count].publish(message(1))
    group.settle()
    for _ in range(4):  # those whom nobody took into a mesh hear what there was, and ask for it
        group.beat()
    for number, heard in enumerate(group.heard):
        assert heard == ([] if number == author % count else [message(1)])


@given(connected(), st.integers(0, 99))
def test_meshes_have_neither_too_few_nor_too_many(graph: tuple[int, set[tuple[int, int]]], seed: int) -> None:
    count, links = graph
    group = Group(seed, count, links)
    for mesh in group.meshes:
        mesh.join(TOPIC, 0.0)
        group.settle()
    for _ in range(3):
        group.beat()
    sizes = [len(mesh.neighbours(TOPIC)) for mesh in group.meshes]
    for number, size in enumerate(sizes):
        others = [one + other - number for one, other in links if number in (one, other)]
        enough = min(4, sum(sizes[other] < 12 for other in others))  # those that are full send others away
        assert enough <= size <= 12


def star(count: int, seed: int = 1) -> Group:
    """One peer in the middle, connected with all others."""
    group = Group(seed, count, {(0, number) for number in range(1, count)})
    for mesh in group.meshes:
        mesh.join(TOPIC, 0.0)
    group.settle()
    return group


def test_a_message_that_was_lost_is_asked_for() -> None:
    group = star(3)
    group.is_losing = lambda source, target, rpc: target == 2 and bool(rpc.messages)
    group.meshes[0]._topics[TOPIC].pop("2")
    group.meshes[1].publish(message(1))
    group.settle()
    group.is_losing = lambda source, target, rpc: False
    assert group.heard[2] == []
    group.beat()
    assert group.heard[2] == [message(1)]


def test_nobody_is_told_twice_of_a_message_nor_who_has_it_but_who_starts_anew() -> None:
    mesh = Mesh(random.Random(1).random)
    mesh.join(TOPIC, 0.0)
    for number in range(20):
        mesh.meet(str(number))
        mesh.take(str(number), Rpc(subscriptions=[(TOPIC, True)]), 0.0)
    mesh.take("0", Rpc(messages=[message(1)]), 0.0)
    mesh.outbox.clear()
    mesh.forward(message(1), "0")
    given = {peer for peer, rpc in mesh.outbox if rpc.messages}
    mesh.take("1", Rpc(have=[(TOPIC, [message(1).id])]), 0.0)
    told: list[str] = []
    for beat in range(1, 4):
        mesh.outbox.clear()
        mesh.beat(float(beat))
        told += [peer for peer, rpc in mesh.outbox if rpc.have]
        if beat == 1:
            again = told[0]
            mesh.part(again)
            mesh.meet(again)
            mesh.take(again, Rpc(subscriptions=[(TOPIC, True)]), 1.0)
    others = {str(number) for number in range(20)} - given - {"0", "1"}
    assert set(told) == others and told.count(again) == 2 and len(told) == len(others) + 1


def test_our_own_go_to_everybody_and_those_of_others_into_the_mesh() -> None:
    group = star(30)
    assert len(group.meshes[0].neighbours(TOPIC)) == 12
    group.meshes[0].publish(message(1))
    group.said = 0
    group.settle()
    assert group.said == 29
    group.meshes[1].publish(message(2))
    group.said = 0
    group.settle()
    assert group.said <= 13


def test_who_was_sent_away_rests_for_a_minute() -> None:
    group = star(14)
    refused = [number for number in range(1, 14) if str(number) not in group.meshes[0].neighbours(TOPIC)]
    assert len(refused) == 1
    mesh = group.meshes[refused[0]]
    assert mesh.neighbours(TOPIC) == [] and mesh.next_beat(0.0) == 60.0
    for peer in group.meshes[0].neighbours(TOPIC)[:4]:
        group.meshes[0].part(peer)
    mesh.beat(59.0)
    assert not mesh.outbox
    mesh.beat(60.0)
    assert [rpc.graft for _, rpc in mesh.outbox] == [[TOPIC]]


def test_who_asks_again_too_soon_is_sent_away_again() -> None:
    mesh = Mesh(random.Random(1).random)
    mesh.meet("a")
    mesh.take("a", Rpc(graft=[TOPIC]), 0.0)
    assert mesh.outbox.pop() == ("a", Rpc(prune=[(TOPIC, 60)]))  # nobody has joined it here
    mesh.join(TOPIC, 0.0)
    mesh.outbox.clear()
    mesh.take("a", Rpc(graft=[TOPIC]), 59.0)
    assert mesh.outbox.pop() == ("a", Rpc(prune=[(TOPIC, 60)])) and mesh.neighbours(TOPIC) == []
    mesh.take("a", Rpc(graft=[TOPIC]), 119.0)
    assert not mesh.outbox and mesh.neighbours(TOPIC) == ["a"]


def test_who_leaves_says_so_and_hears_nothing_more() -> None:
    group = star(3)
    group.meshes[1].leave(TOPIC, 0.0)
    group.settle()
    assert group.meshes[0].neighbours(TOPIC) == ["2"]
    group.meshes[2].publish(message(1))
    group.settle()
    assert group.heard == [[message(1)], [], []]
    group.meshes[1].join(TOPIC, 10.0)
    group.now = 10.0
    group.settle()
    assert group.meshes[0].neighbours(TOPIC) == ["2", "1"]


def test_who_parts_is_forgotten() -> None:
    group = star(3)
    group.meshes[0].part("1")
    group.meshes[0].publish(message(1))
    assert [peer for peer, _ in group.meshes[0].outbox] == ["2"]
    assert group.meshes[0].take("1", Rpc(messages=[message(2)]), 0.0) == []


def test_nothing_is_to_do_while_nothing_happens() -> None:
    group = star(3)
    mesh = group.meshes[0]
    assert mesh.next_beat(5.0) is None
    mesh.publish(message(1))
    beats = 0
    while (when := mesh.next_beat(group.now)) is not None:
        assert when == group.now + HEARTBEAT_SECONDS
        group.beat()
        beats += 1
    assert beats == 5
    mesh.take("1", Rpc(want=[message(1).id]), group.now)
    assert not mesh.outbox  # it is forgotten by now


def test_topics_of_a_peer_at_the_limit_and_one_past_it() -> None:
    mesh = Mesh(random.Random(1).random)
    mesh.meet("a")
    topics = [f"topic {number}" for number in range(GOSSIP_TOPICS_MAX + 1)]
    mesh.take("a", Rpc(subscriptions=[(topic, True) for topic in topics]), 0.0)
    for topic in topics[-2:]:
        mesh.join(topic, 0.0)
    assert mesh.neighbours(topics[-2]) == ["a"] and mesh.neighbours(topics[-1]) == []
    mesh.take("a", Rpc(subscriptions=[(topics[0], False), (topics[-1], True)]), 0.0)
    assert mesh.neighbours(topics[-1]) == ["a"]


def test_topics_that_a_peer_rests_from_are_bounded() -> None:
    mesh = Mesh(random.Random(1).random)
    mesh.meet("a")
    mesh.take("a", Rpc(prune=[(f"topic {number}", 10**9) for number in range(GOSSIP_TOPICS_MAX + 100)]), 0.0)
    assert len(mesh._neighbours["a"].resting) == GOSSIP_TOPICS_MAX
    mesh.beat(3600.0)
    assert mesh.next_beat(3600.0) is None  # nobody is sent away for more than an hour


def test_messages_seen_at_the_limit_and_one_past_it() -> None:
    mesh = Mesh(random.Random(1).random)
    mesh.meet("a")
    mesh.join(TOPIC, 0.0)
    for number in range(GOSSIP_SEEN_MAX):
        mesh.forward(message(number), "b")
    assert mesh.take("a", Rpc(messages=[message(0)]), 0.0) == []
    mesh.forward(message(GOSSIP_SEEN_MAX), "b")
    assert mesh.take("a", Rpc(messages=[message(0), message(1)]), 0.0) == [message(0)]


def test_messages_asked_for_at_the_limit_and_one_past_it() -> None:
    mesh = Mesh(random.Random(1).random)
    mesh.meet("a")
    mesh.join(TOPIC, 0.0)
    mesh.outbox.clear()
    names = [bytes([number]) for number in range(GOSSIP_IDS_MAX + 1)]
    mesh.take("a", Rpc(have=[(TOPIC, names)]), 0.0)
    assert mesh.outbox.pop() == ("a", Rpc(want=names[:-1]))
    mesh.take("a", Rpc(have=[(TOPIC, names)]), 0.5)
    assert not mesh.outbox and mesh.next_beat(0.5) == 1.5
    mesh.beat(1.5)
    mesh.take("a", Rpc(have=[(TOPIC, names[-1:]), ("another topic", [b"more"])]), 1.5)
    assert mesh.outbox.pop() == ("a", Rpc(want=names[-1:]))


def test_messages_given_at_the_limit_and_one_past_it() -> None:
    mesh = Mesh(random.Random(1).random)
    mesh.meet("a")
    mesh.join(TOPIC, 0.0)
    for number in range(GOSSIP_IDS_MAX + 1):
        mesh.forward(message(number), "b")
    mesh.outbox.clear()
    mesh.take("a", Rpc(want=[message(number).id for number in range(GOSSIP_IDS_MAX + 1)]), 0.0)
    assert [rpc.messages for _, rpc in mesh.outbox] == [[message(number)] for number in range(GOSSIP_IDS_MAX)]
