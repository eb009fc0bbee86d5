"""A node that lends its swarm: streams are what they are without it, and whoever breaks off costs nobody else."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from rhizome_index.api import Node, open_node
from rhizome_index.blocks import cbor
from rhizome_index.errors import IntegrityError, UnavailableError, UsageError
from rhizome_index.index.address import Address
from rhizome_index.index.head import Head, Identity
from rhizome_index.limits import CONTROL_CONNECTIONS_MAX, STREAM_WINDOW_BYTES
from rhizome_index.node import lender, lent_swarm
from rhizome_index.node import peer as peer_module
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.home import Home
from rhizome_index.node.lender import Lender
from rhizome_index.node.lent_swarm import LentSwarm, borrow_swarm
from rhizome_index.node.peer import Peer
from rhizome_index.node.register import INDEX, Follow, Policy
from rhizome_index.node.swarm import Stream
from rhizome_index.node.sync import Syncer
from rhizome_index.node.unix_socket import connect, listening
from rhizome_index.wire import control
from rhizome_index.wire.frame import FrameReader, encode_frame
from tests.node import memory_swarm
from tests.node.memory_swarm import MemorySwarm
from tests.node.test_asking import TCP, newest_tagged, publish

PROTOCOL = "/rhizome/test/1"
QUERY = "first 8 posts tagged #cats"


class NodeSwarm(MemorySwarm):
    """The swarm of the node, whose peers are "other" and whoever is dialled."""

    connected_peers: tuple[str, ...] = ("other",)  # type: ignore[assignment]
    addresses: tuple[str, ...] = ("/ip4/127.0.0.1/tcp/1/p2p/us",)  # type: ignore[assignment]

    async def dial(self, address: str, *, timeout_seconds: float) -> str:
        await trio.lowlevel.checkpoint()
        if not address.startswith("/p2p/"):
            raise UsageError(f"not a peer's address: {address}", hint="name a peer")
        self.connected_peers = (*self.connected_peers, address[5:])
        return address[5:]

    def latency_seconds(self, peer_id: str) -> float | None:
        return 0.25 if peer_id == "other" else None


@asynccontextmanager
async def lending(
    path: Path, answering: Callable[[Stream], Awaitable[None]]
) -> AsyncIterator[tuple[NodeSwarm, Lender, LentSwarm]]:
    """A node with a peer "other" that answers streams, and its swarm, lent."""
    async with trio.open_nursery() as nursery:
        swarm = NodeSwarm(nursery, answering)
        lends = Lender(peer_on(path, swarm, nursery))
        with listening(path / "s") as listener, trio.fail_after(20):
            nursery.start_soon(lends.serve, listener)
            async with borrow_swarm(path / "s", "us") as lent:
                assert lent is not None
                yield swarm, lends, lent
        nursery.cancel_scope.cancel()


def peer_on(path: Path, swarm: NodeSwarm, nursery: trio.Nursery) -> Peer:
    """A peer with an empty store, on a swarm."""
    store = DiskStore(path / "store.sqlite", make=True)
    peer = Peer(store, Identity(bytes(32)), lambda: 0.0, random.Random(1))
    peer.join(swarm, nursery)
    return peer


async def echo(stream: Stream) -> None:
    """Send back what comes and, when that has ended, that it has."""
    while data := await stream.receive():
        await stream.send(data)


async def say_hello(stream: Stream) -> None:
    await stream.send(b"hello")


async def receive_all(stream: Stream) -> bytes:
    parts = []
    while data := await stream.receive():
        parts.append(data)
    return b"".join(parts)


async def until(holds: Callable[[], Any]) -> None:
    while not holds():
        await trio.lowlevel.checkpoint()


@pytest.fixture
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("s")


async def open_stream(lent: LentSwarm) -> Any:
    return await lent.open_stream("other", PROTOCOL, timeout_seconds=5)


# --- streams ---


@pytest.mark.parametrize("size", [1, 60_000, 70_000, 1_000_000])
async def test_bytes_go_both_ways(path: Path, size: int) -> None:
    async with lending(path, echo) as (_, _, lent):
        stream, data = await open_stream(lent), bytes(place % 253 for place in range(size))
        assert stream.peer_id == "other"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send, data)
            found = b""
            while len(found) < size:
                found += await stream.receive()
        assert found == data and lent.tally.peers["other"].bytes_received == lent.tally.bytes_sent[PROTOCOL] == size
        await stream.close()


async def test_what_a_peer_says_first_is_not_lost(path: Path) -> None:
    """Its bytes may come along with the word that the stream is there."""
    async with lending(path, say_hello) as (_, _, lent):
        for _ in range(20):
            stream = await open_stream(lent)
            assert await receive_all(stream) == b"hello"
            await stream.close()


async def test_the_peer_learns_whether_a_stream_was_closed_or_abandoned(path: Path) -> None:
    ends: list[str] = []

    async def note_end(stream: Stream) -> None:
        try:
            ends.append(f"closed behind {await receive_all(stream)!r}")
        except UnavailableError:
            ends.append("reset")

    async with lending(path, note_end) as (_, _, lent):
        for number in range(3):
            stream = await open_stream(lent)
            await stream.send(b"ab")
            await (stream.close, stream.reset, stream.close)[number]()
            await until(lambda number=number: len(ends) > number)  # type: ignore[misc]
        assert ends == ["closed behind b'ab'", "reset", "closed behind b'ab'"]
        for end in (stream.close, stream.reset):
            await end()
        with pytest.raises(UnavailableError):
            await stream.send(b"c")


async def test_a_peer_that_has_finished_may_still_be_told_something(path: Path) -> None:
    told: list[bytes] = []

    async def finish_first(stream: Any) -> None:
        stream._outgoing.sender.close()
        told.append(await receive_all(stream))

    async with lending(path, finish_first) as (_, _, lent):
        stream = await open_stream(lent)
        assert await stream.receive() == b""
        await stream.send(b"still here")
        await stream.close()
        await until(lambda: told)
        assert told == [b"still here"]


async def test_a_cancelled_send_abandons_the_stream(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As soon as its peer reads, or the node has waited for that long enough."""
    monkeypatch.setattr(memory_swarm, "WRITE_TIMEOUT_SECONDS", 0.05)

    async def never_read(stream: Stream) -> None:
        await trio.sleep_forever()

    async with lending(path, never_read) as (swarm, _, lent):
        stream = await open_stream(lent)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send, bytes(20 * STREAM_WINDOW_BYTES))
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        await until(lambda: swarm.streams["other"][0].is_reset)
        with pytest.raises(UnavailableError):
            await stream.receive()


async def test_who_does_not_read_holds_back_who_sends(path: Path) -> None:
    sent = 0

    async def send_much(stream: Stream) -> None:
        nonlocal sent
        for _ in range(100):
            await stream.send(bytes(STREAM_WINDOW_BYTES))
            sent += STREAM_WINDOW_BYTES

    async with lending(path, send_much) as (_, _, lent):
        stream = await open_stream(lent)
        await wait_all_tasks_blocked(0.05)
        assert sent < 20 * STREAM_WINDOW_BYTES
        assert len(await receive_all(stream)) == sent == 100 * STREAM_WINDOW_BYTES
        await stream.close()


async def test_no_stream_with_somebody_who_is_not_there(path: Path) -> None:
    async with lending(path, echo) as (swarm, _, lent):
        await lent.disconnect("other")
        assert swarm.disconnected == ["other"] and lent.connected_peers == ()
        with pytest.raises(UnavailableError, match="peer other is not connected"):
            await open_stream(lent)


# --- peers ---


async def test_who_is_connected_is_known_and_stays_known(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lender, "PEERS_WATCH_SECONDS", 0.0)
    async with lending(path, echo) as (swarm, _, lent):
        assert (lent.peer_id, lent.addresses, lent.connected_peers) == ("us", swarm.addresses, ("other",))
        assert (lent.latency_seconds("other"), lent.latency_seconds("nobody")) == (0.25, None)
        assert await lent.dial("/p2p/new", timeout_seconds=1) == "new"
        assert set(lent.connected_peers) == {"other", "new"}
        swarm.connected_peers = ("third",)
        await until(lambda: lent.connected_peers == ("third",))


def test_older_news_do_not_hide_whom_we_have_reached() -> None:
    def news(look: int, *peers: str) -> dict[str, Any]:
        return {"us": "us", "addresses": [], "peers": [[peer, None] for peer in peers], "look": look}

    lent = LentSwarm(Path("nowhere"))
    lent.take_news(news(1, "a"))
    lent._reached["b"] = 3
    lent.take_news(news(2, "a"))
    assert set(lent.connected_peers) == {"a", "b"}
    lent.take_news(news(4, "a"))
    assert lent.connected_peers == ("a",)
    for wrong in ({}, news(-1), news(5) | {"peers": [["x"]]}, news(5) | {"peers": [[1, None]]}, news(5) | {"us": 1}):
        with pytest.raises(IntegrityError):
            lent.take_news(wrong)


async def test_an_error_is_the_nodes_own(path: Path) -> None:
    async with lending(path, echo) as (_, _, lent):
        with pytest.raises(UsageError, match="not a peer's address: x") as caught:
            await lent.dial("x", timeout_seconds=1)
        assert caught.value.hint == "name a peer"


# --- nodes and guests that fail ---


async def test_a_node_that_stops_is_like_a_network_that_fails(path: Path) -> None:
    async with trio.open_nursery() as nursery:
        with trio.fail_after(20), listening(path / "s") as listener:
            running = trio.CancelScope()

            async def run() -> None:
                with running:
                    await Lender(peer_on(path, NodeSwarm(nursery, echo), nursery)).serve(listener)

            nursery.start_soon(run)
            async with borrow_swarm(path / "s", "us") as lent:
                assert lent is not None
                stream = await open_stream(lent)
                running.cancel()
                await until(lambda: not lent.connected_peers)
                assert await stream.receive() == b""
                for calling in (open_stream(lent), lent.dial("/p2p/x", timeout_seconds=1)):
                    with pytest.raises(UnavailableError, match="the running node of this home has stopped"):
                        await calling
                await lent.disconnect("other")
                await stream.close()
        nursery.cancel_scope.cancel()


async def garbage(stream: trio.SocketStream) -> None:
    await stream.send_all(b"\xff" * 99)


async def another_program(stream: trio.SocketStream) -> None:
    await stream.send_all(control.encode_end({"hello": "world"}))


async def silence(stream: trio.SocketStream) -> None:
    await trio.sleep_forever()


async def another_peer(stream: trio.SocketStream) -> None:
    await stream.send_all(control.encode_news({"us": "them", "addresses": [], "peers": [], "look": 1}))
    await trio.sleep_forever()


@pytest.mark.parametrize("answer", [garbage, another_program, silence, another_peer, None])
async def test_what_does_not_lend_is_done_without(path: Path, answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lent_swarm, "CONTROL_TIMEOUT_SECONDS", 0.05)
    async with trio.open_nursery() as nursery:
        with listening(path / "s") as listener:
            if answer is not None:
                listener.setblocking(False)
                made = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
                nursery.start_soon(trio.serve_listeners, answer, [made])
            async with borrow_swarm(path / "s", "us") as lent:
                assert lent is None
        nursery.cancel_scope.cancel()
    async with borrow_swarm(path / "s", "us") as lent:
        assert lent is None


async def say(path: Path, data: bytes) -> Any:
    """What a node answers to these bytes, and nothing more."""
    connection = connect(path / "s")
    assert connection is not None
    async with trio.SocketStream(trio.socket.from_stdlib_socket(connection)) as stream:
        await stream.send_all(data)
        answer = b""
        with suppress(trio.BrokenResourceError):  # it left without reading
            while part := await stream.receive_some():
                answer += part
    found = [cbor.decode(body) for body in FrameReader().feed(answer)]
    return found[-1] if found else None


@pytest.mark.parametrize(
    "data", [b"\0", b"\xff" * 10, encode_frame(b"\xff"), encode_frame(cbor.encode([9, "peers", {}]))], ids=repr
)
async def test_what_is_no_request_is_told_so(path: Path, data: bytes) -> None:
    async with lending(path, echo) as (_, lends, lent):
        kind, whose, text, _ = await say(path, data)
        assert (kind, whose) == ("error", "integrity") and text
        await (await open_stream(lent)).close()
        await until(lambda: lends.connections == 1)


async def test_who_says_nothing_does_not_stay(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lender, "CONTROL_TIMEOUT_SECONDS", 0.01)
    async with lending(path, echo) as (_, lends, _):
        assert (await say(path, b""))[:3] == ["error", "unavailable", "no request came"]
        assert (await say(path, control.encode_request(control.WatchPeers())[:3]))[2] == "no request came"
        await until(lambda: lends.connections == 1)


async def test_words_behind_a_request_end_it(path: Path) -> None:
    async with lending(path, echo) as (_, lends, _):
        found = await say(path, control.encode_request(control.WatchPeers()) + b"x")
        assert found is None or found[0] == "news"
        await until(lambda: lends.connections == 1)


async def test_nonsense_on_a_stream_resets_it(path: Path) -> None:
    ends: list[str] = []

    async def note_end(stream: Stream) -> None:
        with pytest.raises(UnavailableError):
            await receive_all(stream)
        ends.append("reset")

    async with lending(path, note_end) as (_, lends, _):
        request = control.encode_request(control.Borrow("other", PROTOCOL, 1000))
        assert await say(path, request + encode_frame(cbor.encode("text"))) == ["end", {}]
        await until(lambda: ends and lends.connections == 1)


async def test_as_many_connections_as_allowed_and_one_more(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert CONTROL_CONNECTIONS_MAX > 64
    monkeypatch.setattr(lender, "CONTROL_CONNECTIONS_MAX", 3)
    async with lending(path, echo) as (_, lends, lent):
        kept = [await open_stream(lent) for _ in range(2)]
        assert lends.connections == 3
        with pytest.raises(UnavailableError, match="too many processes"):
            await open_stream(lent)
        await kept.pop().close()
        await until(lambda: lends.connections == 2)
        await (await open_stream(lent)).close()


async def test_another_user_gets_no_answer(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with lending(path, echo) as (_, lends, _):
        monkeypatch.setattr(lender, "is_own", lambda connection: False)
        assert await say(path, control.encode_request(control.WatchPeers())) is None
        await until(lambda: lends.connections == 1)


# --- whole nodes ---


async def test_a_query_over_the_connections_of_a_running_node(tmp_path: Path) -> None:
    async with open_node(tmp_path / "publisher", listen=[TCP]) as publisher:
        await publish(publisher)
        address = publisher.peer.publisher.address("main")
        async with open_node(tmp_path / "reader", listen=[TCP], peers=publisher.addresses) as running:
            assert not running.is_lent and Home(tmp_path / "reader").is_running
            with trio.fail_after(30):
                for words in ({"join": True}, {"peers": publisher.addresses}):
                    async with open_node(tmp_path / "reader", **words) as asking:  # type: ignore[arg-type]
                        assert asking.is_lent and asking.addresses == running.addresses
                        page = await asking.query(QUERY, address).page()
                        assert page.rows == newest_tagged("cats", 8)
                        assert page.cost.peers in ([publisher.peer_id], [])
                    async with open_node(tmp_path / "reader") as alone:
                        assert not alone.is_lent and alone.peer.membership is None
        assert not Home(tmp_path / "reader").is_running
        async with open_node(tmp_path / "reader", peers=publisher.addresses) as asking:
            assert not asking.is_lent and asking.peers == (publisher.peer_id,)


async def test_a_home_has_one_node(tmp_path: Path) -> None:
    async with open_node(tmp_path, listen=[TCP]):
        with pytest.raises(UsageError, match="is running already"):
            async with open_node(tmp_path, listen=[TCP]):
                pass
    async with open_node(tmp_path, listen=[TCP]):
        pass


# --- following beside a running node ---


@pytest.fixture
def brought(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The datasets that any node here has synced; and none looks at its store unless it is told to."""
    syncs: list[str] = []
    honest = Syncer.sync

    async def counting(self: Syncer, newest: Head, *rest: Any) -> Head:
        syncs.append(f"{newest.address} {newest.sequence}")
        return await honest(self, newest, *rest)

    monkeypatch.setattr(Syncer, "sync", counting)
    monkeypatch.setattr(peer_module, "STORE_WATCH_SECONDS", 1000.0)
    return syncs


@asynccontextmanager
async def three(tmp_path: Path) -> AsyncIterator[tuple[Node, Node, Node, Address]]:
    """A publisher, a node that runs, somebody who asks beside it, and the publisher's dataset."""
    async with open_node(tmp_path / "publisher", listen=[TCP]) as publisher:
        await publish(publisher)
        address = publisher.peer.publisher.address("main")
        async with (
            open_node(tmp_path / "reader", listen=[TCP], peers=publisher.addresses) as running,
            open_node(tmp_path / "reader", join=True) as asking,
        ):
            with trio.fail_after(30):
                yield publisher, running, asking, address


async def test_what_is_followed_the_running_node_brings_and_nobody_else(tmp_path: Path, brought: list[str]) -> None:
    async with three(tmp_path) as (publisher, running, asking, address):
        with pytest.raises(UsageError, match="is not followed"):
            await asking.sync(address)
        asking.follow(address)
        head = await asking.sync(address)
        assert head == publisher.catalog[address] == running.catalog[address]
        membership = asking.peer.membership
        assert membership is not None
        state = membership.follower.states[address]
        assert state.progress.phase == "done" and state.progress.entries_done == state.progress.entries_total > 0
        assert state.cost.bytes_received > 10_000 and state.cost.peers == [publisher.peer_id]
        assert await asking.sync(address) == head
        assert state.cost.round_trips <= 2 and state.cost.bytes_received < 2000  # heads only
        assert brought == [f"{address} {head.sequence}"]
        await publisher.collection("posts").put({"id": "new"})
        assert (await asking.sync(address)).sequence == head.sequence + 1
        assert len(brought) == 2


async def test_a_follow_that_fails_says_why(tmp_path: Path) -> None:
    async with three(tmp_path) as (_, running, asking, _):
        nobodys = Address(running.peer_id, "other")
        asking.follow(nobodys)
        with pytest.raises(UnavailableError, match="nobody is known who serves"):
            await asking.sync(nobodys)
        asking.follow(nobodys, Policy(INDEX, "posts", "by_tag"))
        with pytest.raises(UnavailableError, match="nobody is known who serves"):
            await asking.sync(nobodys)


async def test_a_running_node_knows_at_once_what_is_followed(tmp_path: Path, brought: list[str]) -> None:
    async with three(tmp_path) as (publisher, running, asking, address):
        assert running.peer.membership is not None
        states = running.peer.membership.follower.states
        asking.follow(address)
        await until(lambda: running.peer.store.held_head(address) == publisher.catalog[address])
        assert asking.unfollow(address)
        await until(lambda: address not in states)
        assert len(brought) == 1


async def test_who_waits_for_what_is_no_longer_followed_is_told(tmp_path: Path, brought: list[str]) -> None:
    async with three(tmp_path) as (_, running, asking, address):
        assert running.peer.membership is not None
        follower = running.peer.membership.follower
        asking.follow(address)
        async with follower.state(Follow(address, Policy())).lock, trio.open_nursery() as nursery:

            async def wait() -> None:
                with pytest.raises(UnavailableError, match="no longer followed"):
                    await asking.sync(address)

            nursery.start_soon(wait)
            await until(lambda: follower.states[address].begun)
            running.unfollow(address)
        assert not brought


async def test_a_sync_goes_on_though_nobody_waits_for_it(tmp_path: Path, brought: list[str]) -> None:
    async with three(tmp_path) as (publisher, running, asking, address):
        assert running.peer.membership is not None
        follower = running.peer.membership.follower
        asking.follow(address)
        async with follower.state(Follow(address, Policy())).lock:
            with trio.move_on_after(0.1):
                await asking.sync(address)
        await until(lambda: running.peer.store.held_head(address) == publisher.catalog[address])
        assert len(brought) == 1
