"""What happens during a run, for pictures: who runs and is connected, what is sent, how new heads spread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rhizome_index.blocks.cid import Cid
from rhizome_index.index.head import Head
from rhizome_index.simulation.cluster import Member, Observer

if TYPE_CHECKING:
    from rhizome_index.simulation.scenario import Simulation

SNAPSHOTS = 6
_SAMPLES_KEPT = 1000


@dataclass(frozen=True, slots=True)
class Sample:
    """One moment: how many peers run, and the bytes sent until then."""

    at: float
    running: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Who is there at one moment, and connected to whom.

    peers  by name: whether it runs, and whether it holds the newest head of all that it follows; None: follows nothing
    edges  pairs of names
    """

    at: float
    peers: Mapping[str, tuple[bool, bool | None]]
    edges: tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Spread:
    """How one head spreads: when it was published, who followed then, and after how many seconds who had it."""

    at: float
    followers: int
    seconds: list[float] = field(default_factory=list)


class Timeline(Observer):
    """Watches a run: an observer of its cluster, called every second of its time.

    minutes  that it is meant to last
    """

    def __init__(self, minutes: float) -> None:
        self.samples: list[Sample] = []
        self.snapshots: list[Snapshot] = []
        self.spreads: dict[Cid, Spread] = {}
        self._apart = max(1.0, 60 * minutes / SNAPSHOTS)
        self._newest: dict[Any, Head] = {}
        self._sim: Simulation | None = None

    def begin(self, sim: Simulation) -> None:
        """The run begins."""
        self._sim = sim
        sim.cluster.observers.append(self)

    def __call__(self, sim: Simulation) -> None:
        """A second has passed."""
        now = sim.world.now
        hosts = sim.network.hosts.values()
        sent = sum(host.counts.bytes_sent for host in hosts)
        self.samples.append(Sample(now, len(sim.cluster.running()), sent))
        if len(self.samples) > _SAMPLES_KEPT:
            del self.samples[::2]
        if now >= self._apart * (len(self.snapshots) + 1) and len(self.snapshots) < SNAPSHOTS:
            self.snapshots.append(self._look(sim))

    def _look(self, sim: Simulation) -> Snapshot:
        names = {host.peer_id: host.name for host in sim.network.hosts.values()}
        edges = {
            (min(host.name, names[other]), max(host.name, names[other]))
            for host in sim.network.hosts.values()
            for other in host.connections
        }
        peers = {member.name: (member.is_alive, self._is_fresh(member)) for member in sim.cluster.members.values()}
        return Snapshot(sim.world.now, peers, tuple(sorted(edges)))

    def _is_fresh(self, member: Member) -> bool | None:
        """Whether a member holds the newest head of all that it follows."""
        if not member.is_alive or not member.follows:
            return None
        store = member.running.peer.store
        held = [(store.held_head(address), self._newest.get(address)) for address in member.follows]
        return all(newest is None or (head is not None and head.sequence >= newest.sequence) for head, newest in held)

    def on_published(self, member: Member, head: Head, changes: Any, before: Head | None) -> None:
        assert self._sim is not None
        self._newest[head.address] = head
        followers = sum(head.address in other.follows for other in self._sim.cluster.running())
        self.spreads[head.manifest] = Spread(self._sim.world.now, followers)

    def on_head(self, member: Member, head: Head) -> None:
        assert self._sim is not None
        spread = self.spreads.get(head.manifest)
        if spread is not None and member.started_at < spread.at:
            spread.seconds.append(self._sim.world.now - spread.at)
