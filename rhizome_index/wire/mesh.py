"""Who is told what: gossipsub's mesh, without its scores.

For each topic that we have joined we keep a few neighbours to whom every message
goes at once, and tell a few others now and then which messages there have been.
Our own messages go to everybody who subscribes. Nobody is introduced to anybody:
the mesh is made of peers that are connected for other reasons.

Nothing here is believed: whether a message is worth passing on is decided by who
drives this, between `take` and `forward`. What is to be sent gathers in `outbox`.
Time and chance are arguments.

Source: https://github.com/libp2p/specs/blob/master/pubsub/gossipsub/gossipsub-v1.1.md
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from rhizome_index.limits import GOSSIP_IDS_MAX, GOSSIP_SEEN_MAX, GOSSIP_TOPICS_MAX
from rhizome_index.wire.gossip import Message, Rpc

HEARTBEAT_SECONDS = 1.0
_DEGREE, _DEGREE_LOW, _DEGREE_HIGH, _DEGREE_LAZY = 6, 4, 12, 6
_PRUNE_SECONDS, _LEAVE_SECONDS, _PRUNE_SECONDS_LONGEST = 60, 10, 3600
_WINDOW, _HISTORY = 3, 5  # heartbeats for which messages are told of, and can be asked for
_SUBSCRIPTIONS_AT_ONCE = 100  # of at most 160 bytes each


@dataclass(slots=True)
class _Neighbour:
    """A peer that speaks gossipsub. `subscribed` and `resting` keep their order, so that runs can be repeated."""

    subscribed: dict[str, None] = field(default_factory=dict)
    resting: dict[str, float] = field(default_factory=dict)  # until when it is not asked into a topic's mesh
    asked: int = 0  # how many messages were asked of it since the last heartbeat


@dataclass(slots=True)
class _Recent:
    """A message there has been, and the peers that know of it: they said so, or have been told."""

    message: Message
    known_by: set[str]


class Mesh:
    """One peer's part in gossip.

    outbox  what is to be sent, and to whom, in order: whoever drives this takes it out
    """

    def __init__(self, chance: Callable[[], float]) -> None:
        self.outbox: deque[tuple[str, Rpc]] = deque()
        self._chance = chance
        self._neighbours: dict[str, _Neighbour] = {}
        self._topics: dict[str, dict[str, None]] = {}  # joined, each with its mesh
        self._seen: dict[bytes, None] = {}
        self._history: deque[dict[bytes, _Recent]] = deque([{}])  # by name, one for each heartbeat, the last first

    @property
    def topics(self) -> list[str]:
        return list(self._topics)

    def neighbours(self, topic: str) -> list[str]:
        """The peers to which messages of a topic go at once."""
        return list(self._topics.get(topic, ()))

    # --- peers come and go ---

    def meet(self, peer: str) -> None:
        """A peer can be told something from now on: what we subscribe to."""
        self._neighbours.setdefault(peer, _Neighbour())
        for recent in self._recent():
            recent.known_by.discard(peer)  # it may have started anew
        self._announce([peer], [(topic, True) for topic in self._topics])

    def part(self, peer: str) -> None:
        """A peer is gone."""
        self._neighbours.pop(peer, None)
        for mesh in self._topics.values():
            mesh.pop(peer, None)

    # --- topics ---

    def join(self, topic: str, now: float) -> None:
        """Hear and pass on what is said about a topic."""
        if topic not in self._topics:
            self._topics[topic] = {}
            self._announce(self._neighbours, [(topic, True)])
            self._fill(topic, now)

    def leave(self, topic: str, now: float) -> None:
        """Do so no longer."""
        for peer in self._topics.pop(topic, ()):
            self._prune(peer, topic, now, _LEAVE_SECONDS)
        self._announce(self._neighbours, [(topic, False)])

    def _announce(self, peers: Iterable[str], subscriptions: list[tuple[str, bool]]) -> None:
        for peer in peers:
            for start in range(0, len(subscriptions), _SUBSCRIPTIONS_AT_ONCE):
                self.outbox.append((peer, Rpc(subscriptions=subscriptions[start : start + _SUBSCRIPTIONS_AT_ONCE])))

    # --- messages ---

    def publish(self, message: Message) -> None:
        """Tell everybody who subscribes."""
        told = [peer for peer, neighbour in self._neighbours.items() if message.topic in neighbour.subscribed]
        self._remember(message, told)
        self.outbox.extend((peer, Rpc(messages=[message])) for peer in told)

    def forward(self, message: Message, source: str) -> None:
        """Pass on what a peer has told us and what was found good, its signature too: its name is taken now."""
        told = [peer for peer in self._topics.get(message.topic, ()) if peer != source]
        self._remember(message, [*told, source])
        self.outbox.extend((peer, Rpc(messages=[message])) for peer in told)

    def take(self, peer: str, rpc: Rpc, now: float) -> list[Message]:
        """What a peer tells: messages that are new, of topics that we have joined, to be looked at."""
        neighbour = self._neighbours.get(peer)
        if neighbour is None:
            return []
        for topic, is_on in rpc.subscriptions:
            self._note_subscription(peer, neighbour, topic, now, is_on=is_on)
        for topic in rpc.graft:
            self._take_graft(peer, neighbour, topic, now)
        for topic, seconds in rpc.prune:
            self._topics.get(topic, {}).pop(peer, None)
            self._rest(neighbour, topic, now + min(seconds or _PRUNE_SECONDS, _PRUNE_SECONDS_LONGEST))
        said = [message.id for message in rpc.messages] + [name for _, names in rpc.have for name in names]
        for name in said:
            if (recent := self._find(name)) is not None:
                recent.known_by.add(peer)
        self._answer_have(peer, neighbour, rpc)
        self._answer_want(peer, rpc)
        return [message for message in rpc.messages if message.topic in self._topics and message.id not in self._seen]

    def _note_subscription(self, peer: str, neighbour: _Neighbour, topic: str, now: float, *, is_on: bool) -> None:
        if is_on and (len(neighbour.subscribed) < GOSSIP_TOPICS_MAX or topic in neighbour.subscribed):
            neighbour.subscribed[topic] = None
            if topic in self._topics:
                self._fill(topic, now)
        elif not is_on:
            neighbour.subscribed.pop(topic, None)
            self._topics.get(topic, {}).pop(peer, None)

    def _take_graft(self, peer: str, neighbour: _Neighbour, topic: str, now: float) -> None:
        mesh = self._topics.get(topic)
        is_wanted = mesh is not None and len(mesh) < _DEGREE_HIGH and neighbour.resting.get(topic, now) <= now
        if mesh is not None and (is_wanted or peer in mesh):
            mesh[peer] = None
        else:
            self._prune(peer, topic, now, _PRUNE_SECONDS)

    def _prune(self, peer: str, topic: str, now: float, seconds: int) -> None:
        neighbour = self._neighbours[peer]
        self._rest(neighbour, topic, now + seconds)
        self.outbox.append((peer, Rpc(prune=[(topic, seconds)])))

    def _rest(self, neighbour: _Neighbour, topic: str, until: float) -> None:
        if topic in neighbour.resting or len(neighbour.resting) < GOSSIP_TOPICS_MAX:
            neighbour.resting[topic] = max(until, neighbour.resting.get(topic, 0.0))

    def _answer_have(self, peer: str, neighbour: _Neighbour, rpc: Rpc) -> None:
        names = [name for topic, ids in rpc.have if topic in self._topics for name in ids if name not in self._seen]
        wanted = list(dict.fromkeys(names))[: max(0, GOSSIP_IDS_MAX - neighbour.asked)]
        if wanted:
            neighbour.asked += len(wanted)
            self.outbox.append((peer, Rpc(want=wanted)))

    def _answer_want(self, peer: str, rpc: Rpc) -> None:
        for name in dict.fromkeys(rpc.want[:GOSSIP_IDS_MAX]):
            if (recent := self._find(name)) is not None:
                self.outbox.append((peer, Rpc(messages=[recent.message])))

    def _find(self, name: bytes) -> _Recent | None:
        return next((messages[name] for messages in self._history if name in messages), None)

    def _recent(self) -> Iterator[_Recent]:
        return (recent for messages in self._history for recent in messages.values())

    def _remember(self, message: Message, known_by: Iterable[str]) -> None:
        if len(self._seen) >= GOSSIP_SEEN_MAX:
            del self._seen[next(iter(self._seen))]
        self._seen[message.id] = None
        self._history[0][message.id] = _Recent(message, set(known_by))

    # --- heartbeats ---

    def beat(self, now: float) -> None:
        """Keep the meshes in shape, and tell others what there has been. When: see `next_beat`."""
        for neighbour in self._neighbours.values():
            neighbour.asked = 0
            neighbour.resting = {topic: until for topic, until in neighbour.resting.items() if until > now}
        recent: dict[str, list[_Recent]] = {}
        for messages in list(self._history)[:_WINDOW]:
            for one in messages.values():
                recent.setdefault(one.message.topic, []).append(one)
        for topic, mesh in self._topics.items():
            if topic in recent:
                self._tell_of(recent[topic], topic, [peer for peer in self._subscribers(topic) if peer not in mesh])
            self._fill(topic, now)  # only now: who is new in the mesh is told what there has been, too
        self._history.appendleft({})
        while len(self._history) > _HISTORY:
            self._history.pop()

    def _tell_of(self, recent: list[_Recent], topic: str, peers: list[str]) -> None:
        """Tell a few peers which messages there have been that they do not know of."""
        unaware = [peer for peer in peers if any(peer not in one.known_by for one in recent)]
        for peer in self._draw(unaware, _DEGREE_LAZY):
            fresh = [one for one in recent if peer not in one.known_by][:GOSSIP_IDS_MAX]
            for one in fresh:
                one.known_by.add(peer)
            self.outbox.append((peer, Rpc(have=[(topic, [one.message.id for one in fresh])])))

    def next_beat(self, now: float) -> float | None:
        """When the next heartbeat has anything to do; None if nothing is to come of it."""
        if any(self._history) or any(neighbour.asked for neighbour in self._neighbours.values()):
            return now + HEARTBEAT_SECONDS
        rests = [until for neighbour in self._neighbours.values() for until in neighbour.resting.values()]
        return max(now + HEARTBEAT_SECONDS, min(rests)) if rests else None

    def _fill(self, topic: str, now: float) -> None:
        """Take subscribers into a topic's mesh until it has enough."""
        mesh = self._topics[topic]
        if len(mesh) >= _DEGREE_LOW:
            return
        free = [
            peer
            for peer in self._subscribers(topic)
            if peer not in mesh and self._neighbours[peer].resting.get(topic, now) <= now
        ]
        for peer in self._draw(free, _DEGREE - len(mesh)):
            mesh[peer] = None
            self.outbox.append((peer, Rpc(graft=[topic])))

    def _subscribers(self, topic: str) -> list[str]:
        return [peer for peer, neighbour in self._neighbours.items() if topic in neighbour.subscribed]

    def _draw(self, peers: list[str], count: int) -> list[str]:
        """So many of these peers, by lot."""
        left = list(peers)
        return [left.pop(int(self._chance() * len(left))) for _ in range(min(count, len(left)))]
