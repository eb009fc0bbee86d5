"""A simulated network: hosts, links, and connections over them, in virtual time.

Promises: what is sent on a connection arrives whole and in order, after the link's
latency and as fast as both hosts' bandwidth allows, or not at all; a host's uplink
takes turns among its streams; across a cut nothing passes, and a connection across
it dies unless the cut heals first. Everything costs a few entries in the world's
agenda and no task of its own.

What is modelled: a base latency for each pair of regions with exponential jitter,
loss as the delay of a retransmission (which holds up its whole connection, as with
TCP), connections that break by themselves, hosts that cannot be dialled. What is
not: congestion between hosts, and the bytes of headers and handshakes.

It does not know what streams carry. See `swarm.py` in this package for one peer's view.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from rhizome_index.limits import PING_INTERVAL_SECONDS, PING_TIMEOUT_SECONDS
from rhizome_index.simulation.disks import Disk
from rhizome_index.simulation.world import World, exponential

SEGMENT_BYTES = 16 * 1024  # what one stream sends before another has its turn
RETRANSMIT_SECONDS_MIN = 0.2  # as TCP has it

# One way, in milliseconds, between regions: about half of what public measurements of round trips show.
REGIONS = ("europe", "us-east", "us-west", "asia", "south-america")
_BASE_MS = {
    ("europe", "europe"): 10,
    ("europe", "us-east"): 42,
    ("europe", "us-west"): 70,
    ("asia", "europe"): 85,
    ("europe", "south-america"): 95,
    ("us-east", "us-east"): 8,
    ("us-east", "us-west"): 32,
    ("asia", "us-east"): 95,
    ("south-america", "us-east"): 60,
    ("us-west", "us-west"): 8,
    ("asia", "us-west"): 55,
    ("south-america", "us-west"): 85,
    ("asia", "asia"): 25,
    ("asia", "south-america"): 140,
    ("south-america", "south-america"): 20,
}


@dataclass(frozen=True, slots=True)
class Weather:
    """What is the same for all links.

    jitter           mean of what is added to each latency, as a part of it
    loss             how many segments of one are lost, and sent again
    breaks_per_hour  of one connection, by itself
    """

    jitter: float = 0.05
    loss: float = 0.0
    breaks_per_hour: float = 0.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where and how a host is connected. Bandwidths in bytes per second."""

    region: str = "europe"
    up_bytes_per_second: float = 2_500_000.0
    down_bytes_per_second: float = 12_500_000.0
    access_seconds: float = 0.002
    is_dialable: bool = True


@dataclass(slots=True)
class Counts:
    """What a host has sent and received on streams; messages are single sends."""

    messages_sent: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    dials: int = 0


class Host:
    """A host: at most one peer runs on it at a time.

    accept    opens this end of a stream that another host opens; None while no peer runs here
    watchers  told of each peer that is connected
    failures  exceptions that came out of handlers of streams
    """

    def __init__(self, world: World, name: str, peer_id: str, address: str, place: Place, disk: Disk) -> None:
        self.name = name
        self.peer_id = peer_id
        self.address = address
        self.place = place
        self.disk = disk
        self.counts = Counts()
        self.connections: dict[str, Connection] = {}
        self.accept: Callable[[Any], None] | None = None
        self.watchers: list[Callable[[str], None]] = []
        self.failures: list[BaseException] = []
        self._world = world
        self._sending: deque[End] = deque()  # ends of streams that have something to send
        self._up_free_at = 0.0
        self._down_free_at = 0.0
        self._is_waiting = False

    @property
    def is_running(self) -> bool:
        return self.accept is not None

    def offer(self, end: End) -> None:
        """An end of a stream may have something to send: it gets its turn."""
        if end.is_ready and not end.is_queued:
            end.is_queued = True
            self._sending.append(end)
        self._send()

    def _send(self) -> None:
        now = self._world.now
        while self._sending:
            begin = max(self._up_free_at, self.disk.busy_until)
            if begin > now:
                if not self._is_waiting:
                    self._is_waiting = True
                    self._world.at(begin, self._send_later)
                return
            end = self._sending.popleft()
            end.is_queued = False
            if not end.is_ready:
                continue
            size, action = end.take()
            self._up_free_at = now + size / self.place.up_bytes_per_second
            self.counts.bytes_sent += size
            end.connection.carry(self, self._up_free_at, size, action)
            if end.is_ready:
                end.is_queued = True
                self._sending.append(end)

    def _send_later(self) -> None:
        self._is_waiting = False
        self._send()

    def receive(self, size: int, action: Callable[[], None]) -> None:
        """Bytes have come in from the network: `action` when they are through the downlink."""
        now = self._world.now
        self._down_free_at = max(now, self._down_free_at) + size / self.place.down_bytes_per_second
        if self._down_free_at > now:
            self._world.at(self._down_free_at, action)
        else:
            action()


class End(Protocol):
    """One host's end of a stream, as its host and its connection see it."""

    host: Host
    connection: Connection
    is_queued: bool

    @property
    def is_ready(self) -> bool:
        """Whether it has something to send, and may."""

    def take(self) -> tuple[int, Callable[[], None]]:
        """The next segment's size, and what to do where it arrives."""

    def fail(self, reason: str) -> None:
        """The connection is gone."""


@dataclass(frozen=True, slots=True)
class _Cut:
    """Between some hosts and others; None: all the rest."""

    senders: frozenset[str]
    receivers: frozenset[str] | None
    is_one_way: bool

    def stops(self, sender: str, receiver: str) -> bool:
        return self._covers(sender, receiver) or (not self.is_one_way and self._covers(receiver, sender))

    def _covers(self, sender: str, receiver: str) -> bool:
        others = self.receivers
        return sender in self.senders and (receiver not in self.senders if others is None else receiver in others)


@dataclass(slots=True)
class _Way:
    """One direction of a connection."""

    arrived_at: float = 0.0
    held: deque[tuple[int, Callable[[], None]]] = field(default_factory=deque)


class Connection:
    """Two hosts that talk. What one direction carries arrives in order."""

    def __init__(self, network: SimNetwork, dialler: Host, listener: Host) -> None:
        self.hosts = (dialler, listener)
        self.is_open = True
        self.latency_seconds = network.base_seconds(dialler, listener)
        self.ends: dict[End, None] = {}  # of streams, in the order of their opening
        self.dying = 0
        self._network = network
        self._ways = {dialler: _Way(), listener: _Way()}

    def other(self, host: Host) -> Host:
        return self.hosts[1] if host is self.hosts[0] else self.hosts[0]

    def carry(self, sender: Host, departure: float, size: int, action: Callable[[], None]) -> None:
        """Do something at the other host as soon as bytes sent at `departure` have arrived there."""
        way = self._ways[sender]
        way.arrived_at = max(way.arrived_at, departure + self._network.delay_seconds(self.latency_seconds))
        self._network.world.at(way.arrived_at, self._arrive, sender, size, action)

    def signal(self, sender: Host, action: Callable[[], None]) -> None:
        """The same for what takes no bandwidth."""
        self.carry(sender, self._network.world.now, 0, action)

    def _arrive(self, sender: Host, size: int, action: Callable[[], None]) -> None:
        way = self._ways[sender]
        if not self.is_open:
            return
        if way.held or self._network.is_cut(sender, self.other(sender)):
            way.held.append((size, action))
        else:
            self.other(sender).receive(size, action)

    def release(self) -> None:
        """Send again what a cut has held up, if there is none any more."""
        for sender, way in self._ways.items():
            if way.held and not self._network.is_cut(sender, self.other(sender)):
                held, way.held = way.held, deque()
                for size, action in held:
                    self.carry(sender, self._network.world.now + RETRANSMIT_SECONDS_MIN, size, action)

    def leave(self, host: Host, reason: str) -> None:
        """End it at one host now, and at the other as soon as that hears of it."""
        if self._forget(host, reason):
            self.signal(host, partial(self.close, reason))

    def close(self, reason: str) -> None:
        """End it at both hosts now."""
        for host in self.hosts:
            self._forget(host, reason)
        self.is_open = False

    def _forget(self, host: Host, reason: str) -> bool:
        other = self.other(host)
        if host.connections.get(other.peer_id) is not self:
            return False
        del host.connections[other.peer_id]
        self._network.world.trace.note("disconnect", host.name, f"{other.name}: {reason}")
        for end in [end for end in self.ends if end.host is host]:
            del self.ends[end]
            end.fail(reason)
        return True


class SimNetwork:
    """All hosts and what lies between them."""

    def __init__(self, world: World, weather: Weather | None = None) -> None:
        self.world = world
        self.weather = weather or Weather()
        self.hosts: dict[str, Host] = {}
        self.dialled: dict[str, Host] = {}
        self._chance = world.chance("network").random
        self._cuts: dict[int, _Cut] = {}
        self._cut_pairs: dict[tuple[str, str], bool] = {}
        self._next = 0

    def add(self, name: str, peer_id: str, place: Place, disk: Disk) -> Host:
        """A new host. Nothing runs on it yet."""
        number = len(self.hosts) + 1
        address = f"/ip4/10.{number >> 16}.{number >> 8 & 255}.{number & 255}/tcp/4711/p2p/{peer_id}"
        host = Host(self.world, name, peer_id, address, place, disk)
        self.hosts[peer_id] = self.dialled[address] = host
        return host

    def full_address(self, transport: str) -> str:
        """The address of whoever is at a place, with its peer id; the place itself if nobody is."""
        return next((address for address in self.dialled if address.startswith(f"{transport}/p2p/")), transport)

    def number(self) -> int:
        """A number that was not given before."""
        self._next += 1
        return self._next

    def base_seconds(self, one: Host, other: Host) -> float:
        """The least latency between two hosts, one way."""
        first, second = sorted((one.place.region, other.place.region))
        return _BASE_MS[first, second] / 1000 + one.place.access_seconds + other.place.access_seconds

    def delay_seconds(self, base: float) -> float:
        """How long one segment takes now."""
        weather = self.weather
        delay = base * (1 + weather.jitter * exponential(self._chance()))
        wait = max(RETRANSMIT_SECONDS_MIN, 4 * base)
        while weather.loss and self._chance() < weather.loss:
            delay += wait
            wait *= 2
        return delay

    def connect(self, dialler: Host, listener: Host) -> Connection:
        """A connection between two running hosts: the one there is, or a new one."""
        connection = dialler.connections.get(listener.peer_id)
        if connection is None:
            connection = Connection(self, dialler, listener)
            dialler.connections[listener.peer_id] = listener.connections[dialler.peer_id] = connection
            self.world.trace.note("connect", dialler.name, listener.name)
            if self.weather.breaks_per_hour:
                seconds = exponential(self._chance()) * 3600 / self.weather.breaks_per_hour
                self.world.after(seconds, connection.close, "the connection broke")
            self._watch(connection)
            for host in connection.hosts:
                for notice in host.watchers:
                    notice(connection.other(host).peer_id)
        return connection

    # --- what goes wrong ---

    def is_cut(self, sender: Host, receiver: Host) -> bool:
        """Whether nothing gets from one host to another."""
        if not self._cuts:
            return False
        pair = (sender.peer_id, receiver.peer_id)
        found = self._cut_pairs.get(pair)
        if found is None:
            found = self._cut_pairs[pair] = any(cut.stops(*pair) for cut in self._cuts.values())
        return found

    def cut(self, some: Iterable[Host], others: Iterable[Host] | None = None, *, one_way: bool = False) -> int:
        """Let nothing pass from some hosts to others, nor back; a number to heal it by.

        others  by default everybody else, also those who come later
        """
        senders = frozenset(host.peer_id for host in some)
        receivers = None if others is None else frozenset(host.peer_id for host in others)
        number = self.number()
        self._cuts[number] = _Cut(senders, receivers, one_way)
        self._cut_pairs.clear()
        self.world.trace.note("cut", str(number), f"{len(senders)} hosts{' one way' if one_way else ''}")
        for connection in self._connections():
            self._watch(connection)
        return number

    def heal(self, number: int) -> None:
        """End a cut."""
        if self._cuts.pop(number, None) is None:
            return
        self._cut_pairs.clear()
        self.world.trace.note("heal", str(number))
        for connection in self._connections():
            connection.release()
            if not self._is_cut_off(connection):
                connection.dying = 0

    def leave(self, host: Host, reason: str = "its peer stopped") -> None:
        """The peer of a host stops or is killed: its operating system closes what it had open."""
        host.accept = None
        host.watchers.clear()
        for connection in list(host.connections.values()):
            connection.leave(host, reason)

    def _connections(self) -> Iterable[Connection]:
        found: dict[Connection, None] = {}
        for host in self.hosts.values():
            found |= dict.fromkeys(host.connections.values())
        return found

    def _is_cut_off(self, connection: Connection) -> bool:
        first, second = connection.hosts
        return self.is_cut(first, second) or self.is_cut(second, first)

    def _watch(self, connection: Connection) -> None:
        """A connection across a cut dies as soon as a ping is missed."""
        if not connection.dying and self._is_cut_off(connection):
            connection.dying = number = self.number()
            seconds = PING_INTERVAL_SECONDS * self._chance() + PING_TIMEOUT_SECONDS
            self.world.after(seconds, self._end_if_dying, connection, number)

    def _end_if_dying(self, connection: Connection, number: int) -> None:
        if connection.dying == number:
            connection.close("no answer to a ping")


def checksum(data: bytes) -> str:
    """A short name of some bytes, for traces."""
    return f"{len(data)} {zlib.crc32(data):08x}"
