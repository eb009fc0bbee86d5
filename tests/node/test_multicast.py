"""Multicast DNS for real, on the loopback interface; and what is kept of what is heard.

Everything on this machine shares that network, so tests look only for peers of their own.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
import trio
from zeroconf import Zeroconf

from rhizome_index.api import open_node
from rhizome_index.errors import UnavailableError
from rhizome_index.index.address import Address
from rhizome_index.index.head import Identity
from rhizome_index.limits import MDNS_HEARD_MAX, MDNS_TEXT_BYTES_MAX
from rhizome_index.node.directory import LOCAL
from rhizome_index.node.multicast import Ear, open_air
from rhizome_index.wire.mdns import name_of, read_text

LIMIT_SECONDS = 20
LOOPBACK = "/ip4/127.0.0.1/tcp/0"


def somebody() -> tuple[str, str]:
    """A name of a service, and an address of a peer that nobody else has."""
    return name_of(os.urandom(20)), f"/ip4/127.0.0.1/tcp/4711/p2p/{Identity(os.urandom(32)).peer_id}"


async def hear(ear: Ear, address: str) -> None:
    """Wait until an address is heard."""
    while True:
        for text in await ear.wait_texts():
            if read_text(text) == (address,):
                return


async def test_who_comes_later_hears_and_is_heard() -> None:
    (first, ours), (second, theirs) = somebody(), somebody()
    with trio.fail_after(LIMIT_SECONDS):
        async with open_air(first, [ours]) as one, open_air(second, [theirs]) as other:
            await hear(one, theirs)
            await hear(other, ours)


async def test_where_there_is_no_such_interface_it_is_said() -> None:
    name, address = somebody()
    with pytest.raises(UnavailableError, match=r"no multicast on 203\.0\.113\.9"):
        async with open_air(name, [address.replace("127.0.0.1", "203.0.113.9")]):
            pass


async def test_leaving_ends_zeroconfs_thread() -> None:
    name, address = somebody()
    before = threading.active_count()
    with trio.fail_after(LIMIT_SECONDS):
        async with open_air(name, [address]):
            assert any("zeroconf" in thread.name for thread in threading.enumerate())
    assert threading.active_count() <= before + 1  # trio keeps a thread of its own for a while


async def test_what_is_heard_is_bounded_until_somebody_looks() -> None:
    ear = Ear(trio.lowlevel.current_trio_token())
    for number in range(MDNS_HEARD_MAX + 1):
        ear.hear(str(number), b"first")
    ear.hear("0", b"last")  # of the same name
    ear.hear("1", bytes(MDNS_TEXT_BYTES_MAX))
    ear.hear("2", bytes(MDNS_TEXT_BYTES_MAX + 1))
    texts = await ear.wait_texts()
    assert len(texts) == MDNS_HEARD_MAX and texts[:3] == [b"last", bytes(MDNS_TEXT_BYTES_MAX), b"first"]
    ear.hear("new", b"x")
    assert await ear.wait_texts() == [b"x"]


async def test_what_is_heard_when_the_run_is_over_harms_nothing() -> None:
    ears: list[Ear] = []

    def another_run() -> None:
        async def listen() -> None:
            ears.append(Ear(trio.lowlevel.current_trio_token()))

        trio.run(listen)

    await trio.to_thread.run_sync(another_run)
    ears[0].hear("name", b"x")


async def test_a_network_that_fails_while_we_leave_harms_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    name, address = somebody()
    close = Zeroconf.close

    def fail(air: Zeroconf) -> None:
        close(air)
        raise OSError("the network is gone")

    monkeypatch.setattr(Zeroconf, "close", fail)
    with trio.fail_after(LIMIT_SECONDS):
        async with open_air(name, [address]):
            pass


@pytest.mark.slow
async def test_two_nodes_meet_that_nobody_has_introduced(tmp_path: Path) -> None:
    """And one answers from what the other publishes."""
    with trio.fail_after(LIMIT_SECONDS):
        async with open_node(tmp_path / "one", listen=[LOOPBACK], mdns=True) as one:
            things = one.collection("things")
            await things.create()
            await things.put({"id": "x"})
            async with open_node(tmp_path / "two", listen=[LOOPBACK], mdns=True) as two:
                membership = two.peer.joined()
                while one.peer_id not in membership.directory.local:  # noqa: ASYNC110  nothing tells of it
                    await trio.sleep(0.01)
                place = Address(one.peer_id, "main")
                rows = [row async for row in two.query("all things", place)]
                assert rows == [{"id": "x"}]
                assert membership.directory.how_heard(place, one.peer_id) == LOCAL
