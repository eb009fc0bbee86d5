"""Connections that others open: silent ones are bounded in number and time, and keep nobody out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from rhizome_index.limits import (
    CONNECTIONS_PER_ADDRESS_MAX,
    HANDSHAKE_SILENCE_SECONDS,
    HANDSHAKE_TIMEOUT_SECONDS,
    HANDSHAKES_MAX,
    HANDSHAKES_PER_ADDRESS_MAX,
    SUSPECT_HANDSHAKES_PER_SECOND,
    SUSPECT_HANDSHAKES_WAITING,
)
from rhizome_index.node import libp2p_arrivals
from rhizome_index.node.libp2p_arrivals import Arrivals, arrivals, blame, finish_handshake
from rhizome_index.node.libp2p_swarm import open_swarm
from tests.node.test_libp2p_guards import wait_until
from tests.node.test_libp2p_swarm import ADDRESSES, ECHO, LIMIT_SECONDS, echo, exchange, pair

AWAY = "198.51.100.7"


class Guests:
    """Connections from somewhere.

    present  those being served, by their names
    said     names of those that have sent what has not been read
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self.present: list[object] = []
        self.said: set[object] = set()
        self._arrivals = Arrivals()
        self._nursery = nursery
        self._leaving: dict[object, trio.Event] = {}

    async def arrive(
        self, host: str, *names: object, finishes: bool = False, says: bool = False, misbehaves: bool = False
    ) -> None:
        """Connections, one after another, which stay until they are to leave; who misbehaves is to leave at once."""

        async def stay(name: object) -> None:
            self.present.append(name)
            try:
                if finishes:
                    finish_handshake()
                if misbehaves:
                    blame()
                    return
                await self._leaving[name].wait()
            finally:
                self.present.remove(name)

        for name in names:
            self._leaving[name] = trio.Event()
            self.said.update({name} if says else ())
            has_unread = partial(self.said.__contains__, name)
            self._nursery.start_soon(self._arrivals.serve, host, partial(stay, name), has_unread)
            await trio.testing.wait_all_tasks_blocked()

    async def leave(self, name: object) -> None:
        self._leaving[name].set()
        await trio.testing.wait_all_tasks_blocked()


@asynccontextmanager
async def guests() -> AsyncIterator[Guests]:
    async with trio.open_nursery() as nursery:
        yield Guests(nursery)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def a_crowd(*, says: bool = False) -> AsyncIterator[Guests]:
    """As many from one address as may shake hands at once."""
    async with guests() as found:
        await found.arrive(AWAY, *range(HANDSHAKES_PER_ADDRESS_MAX), says=says)
        assert found.present == [*range(HANDSHAKES_PER_ADDRESS_MAX)]
        yield found


async def test_a_handshake_has_a_few_seconds(autojump_clock: MockClock) -> None:
    async with guests() as found:
        await found.arrive(AWAY, "silent")
        await found.arrive(AWAY, "done", finishes=True)
        await trio.sleep(HANDSHAKE_TIMEOUT_SECONDS * 0.99)
        assert found.present == ["silent", "done"]
        await trio.sleep(HANDSHAKE_TIMEOUT_SECONDS * 0.02)
        assert found.present == ["done"]
        await trio.sleep(3600)
        assert found.present == ["done"]


async def test_who_comes_while_all_hands_are_full_waits_for_one_to_be_free(autojump_clock: MockClock) -> None:
    async with a_crowd(says=True) as found:
        await found.arrive(AWAY, "next", "last", says=True)
        await found.arrive("203.0.113.1", "other")
        await trio.sleep(HANDSHAKE_TIMEOUT_SECONDS * 0.9)  # that we are slow is not their fault
        assert found.present == [*range(HANDSHAKES_PER_ADDRESS_MAX), "other"]
        await found.leave(7)
        assert 7 not in found.present and found.present[-1] == "next"
        await trio.sleep(HANDSHAKE_TIMEOUT_SECONDS * 0.99)  # has its time from then on
        assert "next" in found.present and "last" not in found.present


async def test_a_finished_handshake_lets_the_next_begin() -> None:
    async with guests() as found:
        for number in range(CONNECTIONS_PER_ADDRESS_MAX):
            await found.arrive(AWAY, number, finishes=True, says=True)
        assert found.present == [*range(CONNECTIONS_PER_ADDRESS_MAX)]


async def test_who_has_been_silent_the_longest_makes_room(autojump_clock: MockClock) -> None:
    async with a_crowd() as found:
        found.said.add(0)
        await found.arrive(AWAY, "new", "newer", says=True)
        await trio.sleep(HANDSHAKE_SILENCE_SECONDS * 0.99)
        assert found.present == [*range(HANDSHAKES_PER_ADDRESS_MAX)]
        await trio.sleep(HANDSHAKE_SILENCE_SECONDS * 0.02)
        assert {*found.present} == {0, *range(3, HANDSHAKES_PER_ADDRESS_MAX), "new", "newer"}
        await found.arrive(AWAY, "newest", says=True)
        assert {*found.present} == {0, *range(4, HANDSHAKES_PER_ADDRESS_MAX), "new", "newer", "newest"}


async def test_who_has_said_nothing_takes_nobodys_place(autojump_clock: MockClock) -> None:
    async with a_crowd() as found:
        await found.arrive(AWAY, "silent", "late")
        await trio.sleep(2.5 * HANDSHAKE_SILENCE_SECONDS)
        assert found.present == [*range(HANDSHAKES_PER_ADDRESS_MAX)]
        found.said.add("late")
        await trio.sleep(HANDSHAKE_SILENCE_SECONDS)
        assert found.present == [*range(1, HANDSHAKES_PER_ADDRESS_MAX), "late"]


async def test_all_addresses_share_a_bound_and_who_has_most_makes_room(autojump_clock: MockClock) -> None:
    async with guests() as found:
        for number in range(HANDSHAKES_MAX - 2):
            await found.arrive(f"203.0.113.{number}", number)
        await found.arrive(AWAY, "first")
        await found.arrive(AWAY, "second")
        assert len(found.present) == HANDSHAKES_MAX
        await found.arrive("192.0.2.1", "new", says=True)
        assert len(found.present) == HANDSHAKES_MAX and "new" not in found.present
        await trio.sleep(HANDSHAKE_SILENCE_SECONDS * 1.01)
        assert len(found.present) == HANDSHAKES_MAX
        assert "first" not in found.present and "second" in found.present and "new" in found.present


async def test_so_many_wait_and_one_more_takes_the_place_of_who_has_said_nothing(autojump_clock: MockClock) -> None:
    async with a_crowd(says=True) as found:
        await found.arrive(AWAY, *(f"waiting {number}" for number in range(HANDSHAKES_MAX - 2)), says=True)
        await found.arrive("203.0.113.1", "done", finishes=True)  # waits for nobody
        await found.arrive(AWAY, "silent")
        await found.arrive(AWAY, "last", says=True)
        assert len(found._arrivals._present) == HANDSHAKES_PER_ADDRESS_MAX + HANDSHAKES_MAX + 1
        await found.arrive(AWAY, "one past", says=True)
        assert len(found._arrivals._present) == HANDSHAKES_PER_ADDRESS_MAX + HANDSHAKES_MAX + 1
        for number in range(HANDSHAKES_PER_ADDRESS_MAX):
            await found.leave(number)
        for number in range(HANDSHAKES_MAX - 2):
            await found.leave(f"waiting {number}")
        assert found.present == ["done", "last", "one past"]


async def test_finished_connections_make_no_room_for_handshakes() -> None:
    async with guests() as found:
        await found.arrive(AWAY, "done", finishes=True)
        await found.arrive(AWAY, *range(HANDSHAKES_PER_ADDRESS_MAX + 5))
        assert len(found.present) == HANDSHAKES_PER_ADDRESS_MAX + 1 and "done" in found.present


@pytest.mark.parametrize("how", ["blamed", "failed", "timed out"])
async def test_whoever_comes_from_where_things_went_wrong_comes_in_at_a_pace(
    how: str, autojump_clock: MockClock
) -> None:
    pause = 1 / SUSPECT_HANDSHAKES_PER_SECOND
    async with guests() as found:
        await found.arrive(AWAY, "bad", finishes=how == "blamed", misbehaves=how == "blamed")
        if how == "failed":
            await found.leave("bad")
        elif how == "timed out":
            await trio.sleep(HANDSHAKE_TIMEOUT_SECONDS * 1.01)
        assert found.present == []
        await found.arrive(AWAY, 1, 2, 3, says=True)
        await found.arrive("203.0.113.1", "other", says=True)
        assert found.present == [1, "other"]
        await trio.sleep(pause * 1.01)
        assert found.present == [1, "other", 2]
        await trio.sleep(pause)
        assert found.present == [1, "other", 2, 3]


async def test_silent_suspects_take_no_turns_and_make_room(autojump_clock: MockClock) -> None:
    async with guests() as found:
        await found.arrive(AWAY, "bad", finishes=True, misbehaves=True)
        await found.arrive(AWAY, *range(SUSPECT_HANDSHAKES_WAITING))
        await found.arrive("203.0.113.1", "worse", finishes=True, misbehaves=True)
        assert found.present == []
        await found.arrive(AWAY, "honest", says=True)
        await found.arrive("203.0.113.1", "other", says=True)
        await trio.sleep(2.02 / SUSPECT_HANDSHAKES_PER_SECOND)
        assert found.present == ["honest", "other"]


async def test_so_many_of_a_suspects_wait_and_one_more_is_sent_away(autojump_clock: MockClock) -> None:
    async with guests() as found:
        await found.arrive(AWAY, "bad", finishes=True, misbehaves=True)
        everybody = range(SUSPECT_HANDSHAKES_WAITING + 1)  # the first begins at once
        await found.arrive(AWAY, *everybody, "one more", says=True)
        for _ in everybody:
            await trio.sleep(1.01 / SUSPECT_HANDSHAKES_PER_SECOND)
        assert found.present == [*everybody]


@pytest.mark.parametrize("for_cause", [True, False])
async def test_whoever_is_disconnected_for_a_cause_is_a_suspect(for_cause: bool) -> None:
    async with pair() as (server, client):
        await exchange(client, server.peer_id)
        await server.disconnect(client.peer_id, for_cause=for_cause)
        await wait_until(lambda: not arrivals()._present)
        assert list(arrivals()._suspects._until) == (["127.0.0.1"] if for_cause else [])
        await client.dial(server.addresses[0], timeout_seconds=LIMIT_SECONDS)
        await exchange(client, server.peer_id)


async def test_who_leaves_after_a_good_connection_is_no_suspect() -> None:
    async with guests() as found:
        await found.arrive(AWAY, "good", finishes=True)
        await found.leave("good")
        await found.arrive(AWAY, 1, 2, 3)
        assert found.present == [1, 2, 3]


async def test_one_address_has_so_many_connections() -> None:
    async with guests() as found:
        for number in range(CONNECTIONS_PER_ADDRESS_MAX):
            await found.arrive(AWAY, number, finishes=True)
        await found.arrive(AWAY, "one past")
        assert found.present == [*range(CONNECTIONS_PER_ADDRESS_MAX)]
        await found.arrive("203.0.113.1", "other")
        assert "other" in found.present


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("::ffff:198.51.100.7", AWAY, True),
        (AWAY, "198.51.100.8", False),
    ],
)
def test_what_stands_for_a_machine(one: str, other: str, is_same: bool) -> None:
    assert (libp2p_arrivals._origin(one) == libp2p_arrivals._origin(other)) == is_same


async def test_who_has_gone_before_being_named_is_not_served() -> None:
    """Asking for the name of a connection that was reset fails; that must not end the listener."""
    with trio.socket.socket() as unconnected:
        await libp2p_arrivals._serve(trio.SocketStream(unconnected), trio.sleep_forever)


async def is_closed(stream: trio.SocketStream) -> None:
    """Wait until the other side has closed."""
    try:
        while await stream.receive_some():
            pass
    except trio.BrokenResourceError:
        pass


@asynccontextmanager
async def silent_clients(port: int, count: int) -> AsyncIterator[list[trio.SocketStream]]:
    clients: list[trio.SocketStream] = []
    try:
        for _ in range(count):
            clients.append(await trio.open_tcp_stream("127.0.0.1", port))
        yield clients
    finally:
        for client in clients:
            client.socket.close()


def port_of(address: str) -> int:
    return int(address.split("/")[4])


TCP, WS = ADDRESSES
UPGRADE = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
UPGRADE += b"Sec-WebSocket-Key: MDEyMzQ1Njc4OTAxMjM0NQ==\r\n\r\n"


@pytest.mark.parametrize(
    ("listen", "said"), [(TCP, b""), (TCP, b"\x13/multistream/1.0.0\n"), (WS, b""), (WS, UPGRADE[:20]), (WS, UPGRADE)]
)
async def test_a_silent_client_is_closed_upon(listen: str, said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library gives it 10 s on TCP, and 60 s on WebSocket."""
    monkeypatch.setattr(libp2p_arrivals, "HANDSHAKE_TIMEOUT_SECONDS", 0.05)
    async with (
        open_swarm(b"s" * 32, [listen]) as server,
        silent_clients(port_of(server.addresses[0]), 1) as (client,),
    ):
        await client.send_all(said)
        with trio.fail_after(LIMIT_SECONDS):
            await is_closed(client)


@pytest.mark.parametrize("listen", ADDRESSES)
async def test_silent_clients_keep_nobody_out(listen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libp2p_arrivals, "HANDSHAKE_SILENCE_SECONDS", 0.02)
    async with open_swarm(b"s" * 32, [listen]) as server, open_swarm(b"c" * 32, []) as honest:
        server.handle(ECHO, echo)
        async with silent_clients(port_of(server.addresses[0]), HANDSHAKES_PER_ADDRESS_MAX + 8) as clients:
            await honest.dial(server.addresses[0], timeout_seconds=LIMIT_SECONDS)
            await exchange(honest, server.peer_id)
            with trio.fail_after(LIMIT_SECONDS):
                await is_closed(clients[0])


@pytest.mark.parametrize("listen", ADDRESSES)
async def test_a_crowd_that_comes_at_once_gets_in(listen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libp2p_arrivals, "HANDSHAKES_PER_ADDRESS_MAX", 2)
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(open_swarm(b"s" * 32, [listen]))
        crowd = [await stack.enter_async_context(open_swarm(bytes([number]) * 32, [])) for number in range(6)]
        async with trio.open_nursery() as nursery:
            for one in crowd:
                nursery.start_soon(partial(one.dial, server.addresses[0], timeout_seconds=6 * LIMIT_SECONDS))
        await wait_until(lambda: len(server.connected_peers) == len(crowd))


@pytest.mark.parametrize("listen", ADDRESSES)
async def test_silent_clients_end_no_good_connection(listen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libp2p_arrivals, "HANDSHAKES_PER_ADDRESS_MAX", 1)
    monkeypatch.setattr(libp2p_arrivals, "HANDSHAKE_SILENCE_SECONDS", 0.0)
    async with pair(listen) as (server, client), silent_clients(port_of(server.addresses[0]), 3) as clients:
        for silent in clients:
            await silent.send_all(b"x")
        with trio.fail_after(LIMIT_SECONDS):
            for silent in clients[:-1]:
                await is_closed(silent)
        await exchange(client, server.peer_id)
        assert client.connected_peers == (server.peer_id,)


async def test_silent_clients_take_no_place_of_good_connections() -> None:
    """The library counts both against one number: there are as many more places as there may be silent ones."""
    async with open_swarm(b"s" * 32, []) as swarm:
        connections_max = swarm._network.connection_config.max_connections
        assert swarm._network._inbound_limiter.total_tokens == connections_max + HANDSHAKES_MAX
        assert connections_max > 2 * CONNECTIONS_PER_ADDRESS_MAX


@pytest.mark.slow
async def test_an_honest_peer_gets_past_hundreds_of_silent_clients() -> None:
    async with open_swarm(b"s" * 32, ADDRESSES) as server:
        server.handle(ECHO, echo)
        tcp, ws = server.addresses
        async with silent_clients(port_of(tcp), 300), silent_clients(port_of(ws), 300):
            for number, address in enumerate(server.addresses):
                async with open_swarm(bytes([number]) * 32, []) as honest:
                    await honest.dial(address, timeout_seconds=LIMIT_SECONDS)
                    await exchange(honest, server.peer_id)


@pytest.mark.parametrize("listen", ADDRESSES)
async def test_what_fails_on_one_connection_does_not_end_the_listener(
    listen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(arrivals: Arrivals, host: str, serve: Callable[[], Awaitable[None]], *_: object) -> Awaitable[None]:
        return honest(arrivals, host, partial(_raise, serve))

    async def _raise(serve: Callable[[], Awaitable[None]]) -> None:
        raise ExceptionGroup("x", [ValueError("x")])

    honest = Arrivals.serve
    async with open_swarm(b"s" * 32, [listen]) as server, open_swarm(b"c" * 32, []) as client:
        server.handle(ECHO, echo)
        with monkeypatch.context() as patch:
            patch.setattr(Arrivals, "serve", fail)
            async with silent_clients(port_of(server.addresses[0]), 1) as (broken,):
                with trio.fail_after(LIMIT_SECONDS):
                    await is_closed(broken)
        await client.dial(server.addresses[0], timeout_seconds=LIMIT_SECONDS)
        await exchange(client, server.peer_id)
