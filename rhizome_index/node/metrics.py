"""What a node counts, as Prometheus metrics. docs/metrics.md lists them.

Names carry their units, counters end in `_total`; nothing is labelled by peer, of
which there is no end. They are made when somebody asks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from rhizome_index import __version__
from rhizome_index.errors import StoreError
from rhizome_index.node.peer import Peer
from rhizome_index.node.status import (
    FAILING,
    KEPT,
    SYNCING,
    WAITING,
    FollowStatus,
    RoomStatus,
    follow_statuses,
    room_of,
)
from rhizome_index.node.tally import DONE, FAILED, Durations
from rhizome_index.wire.multiaddr import RELAYED


class Metrics:
    """The metrics of one peer, for whoever scrapes them."""

    def __init__(self, peer: Peer) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_NodeCollector(peer))
        ProcessCollector(registry=self._registry)

    def exposed(self, accept: str) -> tuple[bytes, str]:
        """All of them in the format that an HTTP `Accept` header asks for, and what to call that format."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


class _NodeCollector(Collector):
    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def describe(self) -> Iterable[Metric]:
        return ()  # else it would be asked for everything when it is registered

    def collect(self) -> Iterator[Metric]:
        yield _gauge("rhizome_build_info", "The program's version, as a label.", ["version"], {(__version__,): 1})
        yield from self._network()
        yield from self._answering()
        yield from self._following()
        yield from self._store()

    def _network(self) -> Iterator[Metric]:
        swarm = self._peer.joined().swarm
        tally = swarm.tally
        addresses = {(): len(swarm.addresses)}
        yield _gauge("rhizome_listen_addresses", "Addresses that the node can be reached at.", [], addresses)
        yield _gauge("rhizome_connected_peers", "Peers connected now.", [], {(): len(swarm.connected_peers)})
        local = {(): len(set(swarm.connected_peers).intersection(self._peer.joined().directory.local))}
        yield _gauge("rhizome_local_peers", "Of these, heard on the local network.", [], local)
        relayed = {(): sum(map(swarm.is_relayed, swarm.connected_peers))}
        yield _gauge("rhizome_relayed_peers", "Of these, connected through a relay.", [], relayed)
        relays = {address.partition(RELAYED)[0].rpartition("/")[2] for address in swarm.addresses if RELAYED in address}
        yield _gauge("rhizome_relays", "Relays that keep a place for the node.", [], {(): len(relays)})
        labels = ["protocol"]
        received = {(protocol,): count for protocol, count in tally.bytes_received.items()}
        yield _counter("rhizome_received_bytes", "Bytes that streams have delivered.", labels, received)
        sent = {(protocol,): count for protocol, count in tally.bytes_sent.items()}
        yield _counter("rhizome_sent_bytes", "Bytes that streams have taken.", labels, sent)
        upgrades = {(how,): tally.upgrades[how] for how in (DONE, FAILED)}
        help_text = "Addresses dialled to replace a connection through a relay, by how that ended."
        yield _counter("rhizome_upgrades", help_text, ["outcome"], upgrades)
        help_text = "Streams opened, by protocol and by whom: in, the peer; out, this node."
        yield _counter("rhizome_streams", help_text, ["protocol", "direction"], tally.streams)
        yield _gauge("rhizome_open_streams", "Streams open now.", [], {(): tally.count_open_streams()})
        dials = {(how,): count for how, count in tally.dials.items()}
        yield _counter("rhizome_dials", "Addresses dialled, by how that ended.", ["outcome"], dials)

    def _answering(self) -> Iterator[Metric]:
        membership = self._peer.joined()
        tally, server = membership.swarm.tally, membership.server
        help_text = "Answers given, by protocol and how they ended."
        yield _counter("rhizome_answers", help_text, ["protocol", "outcome"], tally.answers)
        taken = {(): len(server.places.held)}
        yield _gauge("rhizome_answers_in_progress", "Answers being given now.", [], taken)
        yield _histogram("rhizome_answer_wait_seconds", "How long requests waited for their turn.", tally.waits)
        yield _histogram("rhizome_answer_seconds", "How long answers took from then on.", tally.answering)

    def _following(self) -> Iterator[Metric]:
        follows = follow_statuses(self._peer)
        states = Counter(follow.state for follow in follows)
        counts = {(state,): states[state] for state in (SYNCING, FAILING, KEPT, WAITING)}
        yield _gauge("rhizome_follows", "Datasets that are followed, by how that is going.", ["state"], counts)
        syncs = {(how,): count for how, count in self._peer.joined().swarm.tally.syncs.items()}
        yield _counter("rhizome_syncs", "Syncs, by how they ended.", ["outcome"], syncs)
        for name, help_text, value in _OF_FOLLOWS:
            values = {(follow.address,): value(follow) for follow in follows}
            known = {labels: number for labels, number in values.items() if number is not None}
            yield _gauge(name, help_text, ["dataset"], known)

    def _store(self) -> Iterator[Metric]:
        store = self._peer.store
        help_text = "1 while the store can be written; 0 while answers go on and nothing new is kept."
        yield _gauge("rhizome_store_writable", help_text, [], {(): 0 if store.problem else 1})
        with suppress(StoreError):
            pages, free, page_bytes = (
                store.execute(f"pragma {name}")[0][0] for name in ("page_count", "freelist_count", "page_size")
            )
            yield _gauge("rhizome_store_bytes", "Size of the store's file.", [], {(): pages * page_bytes})
            yield _gauge("rhizome_store_free_bytes", "Of that, not in use.", [], {(): free * page_bytes})
        if (room := room_of(self._peer)) is not None:
            yield from self._room(room)

    def _room(self, room: RoomStatus) -> Iterator[Metric]:
        tally = self._peer.joined().swarm.tally
        kept = {"own": room.own_bytes, "followed": room.followed_bytes, "pinned": room.pinned_bytes}
        known = {(kind,): size for kind, size in kept.items() if size is not None} | {("cached",): room.cached_bytes}
        help_text = "Bytes of blocks by what they are kept for, as of the last collection; cached as of now."
        yield _gauge("rhizome_store_kept_bytes", help_text, ["kept_for"], known)
        if room.quota_bytes is not None:
            help_text = "Room that what is kept of others may take."
            yield _gauge("rhizome_store_quota_bytes", help_text, [], {(): room.quota_bytes})
        ended = 0.0 if room.collected_seconds is None else self._peer.clock() - room.collected_seconds
        help_text = "When the last collection ended, since 1970; 0 if there was none."
        yield _gauge("rhizome_gc_timestamp_seconds", help_text, [], {(): ended})
        yield _gauge("rhizome_gc_in_progress", "1 while one is under way.", [], {(): int(room.is_collecting)})
        collections = {(how,): tally.collections[how] for how in (DONE, FAILED)}
        yield _counter("rhizome_gc_runs", "Collections, by how they ended.", ["outcome"], collections)
        freed = {("waste",): tally.freed_blocks, ("cached",): tally.evicted_blocks}
        yield _counter("rhizome_gc_freed_blocks", "Blocks freed, by what they were.", ["kind"], freed)
        freed = {("waste",): tally.freed_bytes, ("cached",): tally.evicted_bytes}
        yield _counter("rhizome_gc_freed_bytes", "Bytes of blocks freed, by what they were.", ["kind"], freed)


_OF_FOLLOWS: tuple[tuple[str, str, Callable[[FollowStatus], float | None]], ...] = (
    ("rhizome_follow_head", "Sequence of the head that is held.", lambda follow: follow.head),
    ("rhizome_follow_behind_heads", "Heads between that and the newest heard of.", lambda follow: follow.behind),
    ("rhizome_follow_age_seconds", "How long ago that head was signed.", lambda follow: follow.age_seconds),
    (
        "rhizome_follow_checked_seconds",
        "How long ago a newer one was asked for.",
        lambda follow: follow.checked_seconds,
    ),
)

_Values = Mapping[Any, float]  # by the values of the labels


def _gauge(name: str, text: str, labels: list[str], values: _Values) -> Metric:
    found = GaugeMetricFamily(name, text, labels=labels)
    for key, value in sorted(values.items()):
        found.add_metric(list(key), value)
    return found


def _counter(name: str, text: str, labels: list[str], values: _Values) -> Metric:
    found = CounterMetricFamily(name, text, labels=labels)
    for key, value in sorted(values.items()):
        found.add_metric(list(key), value)
    return found


def _histogram(name: str, text: str, durations: Durations) -> Metric:
    total, buckets = 0, []
    for bound, count in zip((*map(str, durations.BOUNDS), "+Inf"), durations.counts, strict=True):
        total += count
        buckets.append((bound, total))
    return HistogramMetricFamily(name, text, buckets=buckets, sum_value=durations.seconds)
