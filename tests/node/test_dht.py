"""Provider records, in a simulated network and with made-up peers: who serves is found by whom nobody introduces."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from rhizome_index.blocks.cid import cid_of
from rhizome_index.errors import UnavailableError
from rhizome_index.index.address import Address
from rhizome_index.index.head import Identity, sign_head
from rhizome_index.limits import (
    KAD_ANSWER_SECONDS,
    KAD_LINGER_SECONDS,
    KAD_LOOK_SECONDS,
    KAD_REQUESTS_AT_ONCE,
    KAD_REQUESTS_PER_SECOND,
)
from rhizome_index.node.dht import Dht
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.link import Links
from rhizome_index.node.register import Register
from rhizome_index.node.swarm import Stream
from rhizome_index.simulation.scenario import Simulation
from rhizome_index.simulation.workload import Posts
from rhizome_index.wire.frame import FrameReader, encode_frame
from rhizome_index.wire.kad import ADD_PROVIDER, FIND_NODE, GET_PROVIDERS, PROTOCOL, Contact, Message, key_of
from rhizome_index.wire.pick import Picker
from tests.node.memory_swarm import MemoryStream, MemorySwarm, stream_pair
from tests.simulation.play import broken, play

US, ONE, OTHER, THIRD = (Identity(bytes([number]) * 32).peer_id for number in (1, 2, 3, 4))
OURS, ELSEWHERE = Address(US, "main"), Address(OTHER, "main")


def at(peer_id: str) -> str:
    return f"/ip4/10.0.0.1/tcp/4711/p2p/{peer_id}"


def test_followers_are_found_by_who_knows_nobody_that_serves_and_after_a_restart_of_everybody() -> None:
    async def main(sim: Simulation) -> None:
        hub = await sim.peer("hub")
        publisher = await sim.publish(20, named=[hub])
        followers = [
            await sim.peer(f"follower-{number}", named=[hub], met=[publisher], follows=[publisher])
            for number in range(2)
        ]
        await sim.sleep(60)
        await sim.cluster.stop(publisher)
        reader = await sim.peer("reader", named=[])
        reader.running.peer.register.note_peer(hub.host.address, hub.peer_id, 1.0)
        membership = reader.running.peer.joined()
        await membership.directory.connect([hub.host.address])
        heard: list[str] = []
        await membership.dht.find(publisher.dataset, heard.extend)
        ids = {text.rpartition("/p2p/")[2] for text in heard}
        sim.expect("followers are announced", {one.peer_id for one in followers} <= ids, repr(ids))
        await sim.ask(reader, publisher)
        everybody = [hub, *followers]
        for member in everybody:
            await sim.cluster.stop(member)
        for member in everybody:
            await sim.cluster.start(member)
        await sim.sleep(60)
        late = await sim.peer("late", named=[hub])
        heard.clear()
        await late.running.peer.joined().dht.find(publisher.dataset, heard.extend)
        ids = {text.rpartition("/p2p/")[2] for text in heard}
        sim.expect("they are announced again", {one.peer_id for one in followers} <= ids, repr(ids))
        await sim.ask(late, publisher)
        sim.expect("everybody was answered", not sim.unanswered, f"{sim.unanswered} were not")

    assert not broken(play(main, peers=8, minutes=4))


def test_a_running_node_announces_at_once_what_it_publishes_for_the_first_time() -> None:
    async def main(sim: Simulation) -> None:
        hub = await sim.peer("hub")
        publisher = await sim.peer("publisher", named=[hub])
        await sim.sleep(62)
        sim.cluster.publish(publisher, Posts(20, 1).more(20))
        await sim.sleep(1)
        heard = hub.running.peer.joined().dht.provided.providers(key_of(publisher.dataset), trio.current_time())
        sim.expect("it is announced", [one.peer_id for one in heard] == [publisher.peer_id], repr(heard))

    assert not broken(play(main, peers=2, minutes=2))


class Swarm(MemorySwarm):
    """Peers that are dialled at their addresses; `replies` says what each answers, None being nothing at all."""

    def __init__(self, nursery: trio.Nursery) -> None:
        super().__init__(nursery)
        self.peer_id = US
        self.addresses: tuple[str, ...] = (at(US),)  # type: ignore[assignment]
        self.connected_peers: tuple[str, ...] = ()  # type: ignore[assignment]
        self.replies: dict[str, Message | bytes | None] = {}
        self.asked: list[tuple[str, int]] = []
        self.requests: list[Message] = []

    async def dial(self, address: str, *, timeout_seconds: float) -> str:
        await trio.lowlevel.checkpoint()
        peer = address.rpartition("/p2p/")[2]
        if peer not in self.replies:
            raise UnavailableError("nobody is there")
        self.connected_peers = (*self.connected_peers, peer)
        return peer

    async def disconnect(self, peer_id: str, *, for_cause: bool = False) -> None:
        await super().disconnect(peer_id, for_cause=for_cause)
        self.connected_peers = tuple(peer for peer in self.connected_peers if peer != peer_id)

    async def open_stream(
        self, peer_id: str, protocol: str, *, timeout_seconds: float, lasting: bool = False
    ) -> MemoryStream:
        await trio.lowlevel.checkpoint()
        ours, theirs = stream_pair(self.peer_id, peer_id)
        self.streams[peer_id].append(ours)
        self._start(partial(self._reply, peer_id), theirs)
        return ours

    async def _reply(self, peer: str, stream: Stream) -> None:
        frames = FrameReader()
        while data := await stream.receive():
            for body in frames.feed(data):
                request = Message.read(body)
                self.asked.append((peer, request.kind))
                self.requests.append(request)
                reply = self.replies[peer]
                if isinstance(reply, Message):
                    answer = Message(request.kind, request.key, reply.closer, reply.providers)
                    await stream.send(encode_frame(answer.encode()))
                elif reply is not None:
                    await stream.send(reply)


@pytest.fixture
def store(tmp_path: Path) -> Any:
    made = DiskStore(tmp_path / "store", make=True)
    yield made
    made.close()


@asynccontextmanager
async def taking_part(store: DiskStore) -> AsyncIterator[tuple[Dht, Swarm]]:
    async with trio.open_nursery() as nursery:
        swarm = Swarm(nursery)
        links = Links(swarm, nursery, Picker(random.Random(1).random))
        dht = Dht(store, Register(store), swarm, links, nursery, trio.current_time)
        dht.start()
        yield dht, swarm
        nursery.cancel_scope.cancel()


async def find(dht: Dht, address: Address = ELSEWHERE) -> list[str]:
    heard: list[str] = []
    await dht.find(address, heard.extend)
    return heard


async def test_a_lookup_goes_on_past_those_who_lie_or_say_nothing(store: DiskStore, autojump_clock: MockClock) -> None:
    async with taking_part(store) as (dht, swarm):
        named = tuple(Contact(peer, (at(peer),)) for peer in (OTHER, THIRD, US, Identity(b"x" * 32).peer_id))
        swarm.replies = {
            ONE: Message(0, b"", named),
            OTHER: b"\x02\xff\xff",
            THIRD: None,
        }
        swarm.connected_peers = (ONE,)
        assert await find(dht) == []
        assert swarm.asked[0] == (ONE, GET_PROVIDERS)
        assert {peer for peer, _ in swarm.asked} == {ONE, OTHER, THIRD}
        assert OTHER in swarm.disconnected and trio.current_time() <= KAD_ANSWER_SECONDS + 1
        swarm.replies[THIRD] = Message(0, b"", (), (Contact(THIRD, (at(THIRD),)), Contact(US, (at(US),))))
        assert await find(dht) == [at(THIRD)]


async def test_who_was_dialled_for_a_question_is_let_go_unless_it_is_of_use(
    store: DiskStore, autojump_clock: MockClock
) -> None:
    async with taking_part(store) as (dht, swarm):
        contacts = tuple(Contact(peer, (at(peer),)) for peer in (OTHER, THIRD))
        swarm.replies = {
            ONE: Message(0, b"", contacts),
            OTHER: Message(0, b""),
            THIRD: Message(0, b"", (), contacts[1:]),
        }
        swarm.connected_peers = (ONE,)
        assert await find(dht) == [at(THIRD)]
        assert set(swarm.connected_peers) == {ONE, OTHER, THIRD}
        await trio.sleep(KAD_LINGER_SECONDS + 0.1)
        assert set(swarm.connected_peers) == {ONE, THIRD}


async def ask(stream: MemoryStream, message: Message) -> Message:
    await stream.send(encode_frame(message.encode()))
    (body,) = FrameReader().feed(await stream.receive())
    return Message.read(body)


async def test_a_peer_announces_itself_and_nobody_else(store: DiskStore, autojump_clock: MockClock) -> None:
    async with taking_part(store) as (dht, swarm):
        key = key_of(ELSEWHERE)
        stream = swarm.accept(ONE, PROTOCOL)
        providers = (Contact(ONE, (at(ONE),)), Contact(OTHER, (at(OTHER),)))
        await stream.send(encode_frame(Message(ADD_PROVIDER, key, (), providers).encode()))
        answer = await ask(stream, Message(GET_PROVIDERS, key))
        assert answer.providers == providers[:1] and len(dht.provided) == 1
        await stream.send(encode_frame(Message(ADD_PROVIDER, b"k", (), (Contact(ONE),)).encode()))
        assert not (await ask(stream, Message(GET_PROVIDERS, b"k"))).providers


async def test_who_says_where_it_is_need_not_be_asked(store: DiskStore, autojump_clock: MockClock) -> None:
    async with taking_part(store) as (dht, swarm):
        swarm.replies = {peer: Message(0, b"", (Contact(peer, (at(peer),)),)) for peer in (ONE, OTHER, THIRD)}
        swarm.connected_peers = (ONE, OTHER, THIRD)
        told = {ONE: (Contact(ONE, (at(ONE),)),), OTHER: (Contact(ONE, (at(OTHER),)), Contact(OTHER)), THIRD: ()}
        for peer, closer in told.items():
            await ask(swarm.accept(peer, PROTOCOL), Message(FIND_NODE, b"k", closer))
            assert (peer in dht.table) == (peer == ONE)
        await trio.sleep(1)
        assert {peer for peer, _ in swarm.asked} == {OTHER, THIRD}
        assert {request.closer for request in swarm.requests} == {(Contact(US, (at(US),)),)}
        assert dht.table.closest(0) and {ONE, OTHER, THIRD} == {contact.peer_id for contact in dht.table.closest(0)}


async def test_who_cannot_be_dialled_does_not_say_where_it_is(store: DiskStore, autojump_clock: MockClock) -> None:
    async with taking_part(store) as (dht, swarm):
        swarm.addresses = ()
        swarm.replies, swarm.connected_peers = {ONE: Message(0, b"")}, (ONE,)
        assert await find(dht) == []
        assert swarm.requests and not any(request.closer for request in swarm.requests)


async def test_what_is_served_is_announced_and_told_to_who_asks(store: DiskStore, autojump_clock: MockClock) -> None:
    store.put_head(sign_head(Identity(b"\x01" * 32), "main", 1, cid_of(b"manifest"), 1000))
    async with taking_part(store) as (dht, swarm):
        swarm.replies = {ONE: Message(0, b"", (Contact(ONE, (at(ONE),)),))}
        swarm.connected_peers = (ONE,)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dht.run)
            await trio.sleep(20)
            assert swarm.asked.count((ONE, ADD_PROVIDER)) == 1 and (ONE, FIND_NODE) in swarm.asked
            stream = swarm.accept(OTHER, PROTOCOL)
            answer = await ask(stream, Message(GET_PROVIDERS, key_of(OURS)))
            assert answer.providers == (Contact(US, (at(US),)),)
            assert [contact.peer_id for contact in answer.closer] == [ONE]
            await stream.send(
                encode_frame(Message(ADD_PROVIDER, key_of(OURS), (), (Contact(OTHER, (at(OTHER),)),)).encode())
            )
            await wait_all_tasks_blocked()
            assert Register(store).providers(OURS) == [OTHER]
            nursery.cancel_scope.cancel()


async def test_what_is_new_is_announced_at_once_and_only_once(store: DiskStore, autojump_clock: MockClock) -> None:
    async with taking_part(store) as (dht, swarm):
        store.on_heads = dht.stir
        swarm.replies = {ONE: Message(0, b"", (Contact(ONE, (at(ONE),)),))}
        swarm.connected_peers = (ONE,)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dht.run)
            await trio.sleep(2 * KAD_LOOK_SECONDS + KAD_LOOK_SECONDS / 2)
            assert (ONE, ADD_PROVIDER) not in swarm.asked
            for sequence in (1, 2):
                store.put_head(sign_head(Identity(b"\x01" * 32), "main", sequence, cid_of(b"manifest"), 1000))
                await wait_all_tasks_blocked()
                assert swarm.asked.count((ONE, ADD_PROVIDER)) == 1
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "said", [b"\x00", b"\x02\xff\xff", encode_frame(Message(0, b"k").encode()), b"\xff\xff\xff\x7f"]
)
async def test_whoever_breaks_the_protocol_is_dropped(store: DiskStore, autojump_clock: MockClock, said: bytes) -> None:
    async with taking_part(store) as (_, swarm):
        await swarm.accept(ONE, PROTOCOL).send(said)
        await wait_all_tasks_blocked()
        assert ONE in swarm.disconnected


async def test_requests_at_the_limit_and_past_it(store: DiskStore, autojump_clock: MockClock) -> None:
    async with taking_part(store) as (_, swarm):
        stream = swarm.accept(ONE, PROTOCOL)
        started = trio.current_time()
        for _ in range(KAD_REQUESTS_AT_ONCE):
            await ask(stream, Message(FIND_NODE, b"k"))
        assert trio.current_time() == started
        for _ in range(10):
            await ask(stream, Message(FIND_NODE, b"k"))
        assert trio.current_time() - started == pytest.approx(10 / KAD_REQUESTS_PER_SECOND, rel=0.2)
