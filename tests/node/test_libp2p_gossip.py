"""Gossip over the real network: followers hear at once, and gossipsub peers of another make hear and are heard."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.pubsub import Pubsub
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

from rhizome_index.api import Node, open_node
from rhizome_index.blocks.cid import cid_of
from rhizome_index.index.address import Address
from rhizome_index.index.head import Head, Identity, sign_head
from rhizome_index.node import libp2p_guards, libp2p_swarm
from rhizome_index.node.gossip import Gossip
from rhizome_index.wire.gossip import topic_of
from rhizome_index.wire.mesh import Mesh
from tests.node.test_asking import TCP, publish

LIMIT_SECONDS = 20


@pytest.fixture(autouse=True)
def nothing_but_gossip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads are hardly ever pulled, and peers are greeted as soon as they connect."""
    monkeypatch.setattr("rhizome_index.node.follow.HEADS_PULL_SECONDS", 1e6)
    monkeypatch.setattr("rhizome_index.node.gossip_streams.IDENTIFY_DELAY_SECONDS", 0.0)


@pytest.fixture
def wait_until(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Waits until something is so: looks whenever anybody has heard anything, or no longer speaks with a peer."""
    happened = trio.lowlevel.ParkingLot()

    def noticed(kind: Any, name: str) -> None:
        function = getattr(kind, name)

        def noticing(*arguments: Any) -> Any:
            try:
                return function(*arguments)
            finally:
                happened.unpark_all()

        monkeypatch.setattr(kind, name, noticing)

    async def wait(is_so: Callable[[], object]) -> None:
        with trio.fail_after(LIMIT_SECONDS):
            while not is_so():
                await happened.park()

    noticed(Gossip, "_hear")
    noticed(Mesh, "part")
    return wait


def neighbours(node: Node, address: Address) -> list[str]:
    return node.peer.membership.gossip.mesh.neighbours(topic_of(address))


async def test_a_new_head_reaches_a_follower_at_once(tmp_path: Path, wait_until: Any) -> None:
    async with open_node(tmp_path / "publisher", listen=[TCP]) as publisher:
        await publish(publisher)
        address = publisher.peer.publisher.address("main")
        async with open_node(tmp_path / "reader", listen=[TCP], peers=publisher.addresses) as reader:
            tell, switched = trio.open_memory_channel[Head](10)
            reader.peer.membership.follower.on_head = tell.send_nowait
            reader.follow(address)
            with trio.fail_after(LIMIT_SECONDS):
                await switched.receive()
            await wait_until(lambda: neighbours(publisher, address) and neighbours(reader, address))
            for number in range(3):
                await publisher.collection("posts").put({"id": f"new-{number}", "tags": ["cats"], "created": 2**50})
                with trio.fail_after(LIMIT_SECONDS):
                    assert await switched.receive() == publisher.catalog[address] == reader.catalog[address]


@asynccontextmanager
async def library_peer(address: str) -> AsyncIterator[Pubsub]:
    """A peer that has the library's own gossipsub, connected to an address."""
    libp2p_guards.install()
    host = libp2p_swarm._make_host(b"l" * 32)
    router = GossipSub([PROTOCOL_ID_V11], degree=6, degree_low=4, degree_high=12, heartbeat_interval=1)
    pubsub = Pubsub(host, router, strict_signing=True)
    async with (
        host.run([Multiaddr(TCP)]),
        background_trio_service(pubsub),
        background_trio_service(router),
    ):
        await pubsub.wait_until_ready()
        await host.connect(info_from_p2p_addr(Multiaddr(address)))
        yield pubsub


async def test_gossipsub_of_another_make_hears_and_is_heard(tmp_path: Path, wait_until: Any) -> None:
    other = Identity(b"o" * 32)
    followed = Address(other.peer_id, "main")
    async with open_node(tmp_path / "node", listen=[TCP]) as node:
        await publish(node)
        node.follow(followed)
        node.peer.store.set_held(sign_head(other, "main", 1, cid_of(b"manifest"), 1000))
        address = node.peer.publisher.address("main")
        async with library_peer(node.addresses[0]) as pubsub:
            with trio.fail_after(LIMIT_SECONDS):
                subscription = await pubsub.subscribe(topic_of(address))
                await pubsub.subscribe(topic_of(followed))
                await wait_until(lambda: neighbours(node, address) and neighbours(node, followed))
                await node.collection("posts").put({"id": "new", "tags": ["cats"], "created": 2**50})
                assert (await subscription.get()).data == node.catalog[address].envelope
                head = sign_head(other, "main", 9, cid_of(b"manifest"), 1000)
                await pubsub.publish(topic_of(followed), head.envelope)
                await wait_until(lambda: node.peer.store.newest_head(followed) == head)
                await pubsub.publish(topic_of(followed), b"which is no head")
                await wait_until(lambda: str(pubsub.my_id) not in node.peer.membership.swarm.connected_peers)
