"""A regression test for each thing that py-libp2p gets wrong: red when the guard alone is off.

The numbers are those in the comments below. Where a test stands in another file, what it tests is named (yamux
stands for libp2p_yamux).

 #  what the library does                          test
 1  an exception out of a handler ends the host    test_a_handler_that_fails_costs_one_stream
                                                   test_bytes_that_are_no_negotiation_cost_one_stream
 2  inbound slots are never given back             test_a_listener_outlives_its_connections
    silent connections hold them, in any number    test_silent_clients_keep_nobody_out (libp2p_arrivals)
    good ones do not count among those             test_silent_clients_end_no_good_connection (libp2p_arrivals)
 3  a cancelled write corrupts the connection      test_a_cancelled_send_leaves_the_connection_whole
                                                   test_a_send_that_waits_for_its_turn_can_be_cancelled_and_loses_nothing
                                                   test_a_send_that_its_peer_never_takes_costs_the_connection
                                                   test_a_send_cancelled_between_frames_resets_its_stream
                                                   test_what_a_cancelled_write_gives_back_others_may_use (yamux_stream)
    so does a cancelled opening of a stream        test_opening_that_is_given_up_leaves_nothing_open
 4  dialling waits 250 ms after a success          test_nor_does_the_library_when_it_dials
 5  the window is not enforced                     test_a_byte_past_the_window_costs_the_connection
                                                   test_what_is_forbidden_ends_the_connection (yamux)
    what nobody reads is not bounded               test_all_streams_of_a_connection_share_a_bound
                                                   test_so_much_may_be_unread (yamux)
    nor are streams                                test_silent_streams_of_a_connection_are_bounded
                                                   test_a_stream_too_many_is_reset (yamux)
                                                   test_streams_reset_before_anybody_looks_are_bounded (yamux)
                                                   test_streams_of_a_peer_under_one_protocol_are_bounded
                                                   test_a_stream_on_which_nothing_is_said_is_reset
    nor what waits to be sent                      test_answers_queued_for_a_peer_that_does_not_read_are_bounded
                                                   test_so_many_answers_may_wait (yamux)
 6  a closed window is no reset for the peer       test_a_peer_that_does_not_read_costs_one_stream
                                                   test_a_peer_that_opens_no_window_costs_its_stream (yamux_stream)
 7  100 partial reads end a message                test_a_message_may_arrive_byte_by_byte
                                                   test_connections_are_read_so
 8  streams leak                                   test_a_handler_that_returns_leaves_nothing_open
                                                   test_what_comes_on_a_closed_stream_is_not_kept
                                                   test_a_closed_stream_does_not_wait_for_its_peer_for_ever
                                                   test_a_stream_is_over_when_both_sides_have_finished (yamux_stream)
    opening one too many waits for ever            test_one_stream_too_many_is_refused_at_once
 9  a failed dial blocks the peer for a minute     test_a_peer_that_was_away_can_be_dialled_when_it_is_back
    and is tried three times more                  test_a_dial_is_tried_once
10  metrics that nobody takes end in a deadlock    test_no_metrics_are_made
11  a listener that cannot start says nothing      test_a_listener_that_failed_to_start_is_noticed (libp2p_swarm)
    and ports are shared                           test_a_port_shared_by_reuseport_is_taken
                                                   test_tcp_and_websocket_do_not_share_a_port (libp2p_swarm)
12  envelopes are made for peer records only       test_another_payload_type_is_no_head (index/head)
13  no keepalive                                   test_a_peer_that_falls_silent_is_disconnected
                                                   test_a_silent_peer_is_left_and_a_busy_one_is_not (yamux)
16  a reset looks like an end                      test_an_end_and_a_reset_are_told_apart
17  no deadlines                                   test_a_peer_that_does_not_negotiate_is_given_up
                                                   test_a_listener_that_says_nothing_is_given_up_in_time (libp2p_swarm)
                                                   test_a_dial_ends_in_time_wherever_the_peer_falls_silent
                                                   test_a_peer_that_says_nothing_is_given_up (link)
                                                   test_a_connection_that_is_stuck_is_ended_without_a_goodbye
                                                   test_a_write_that_is_cut_off_ends_the_connection_in_time (yamux)
                                                   test_closing_has_its_time_and_no_more (yamux)
18  it dials unasked                               test_nobody_is_dialled_unasked
20  importing it takes half a second               test_the_interface_does_not_import_libp2p (libp2p_swarm)
 -  it identifies at once, both ways               test_first_answers_do_not_wait_for_identify
    and in tasks that end the host                 test_a_peer_is_identified_once_and_what_goes_wrong_is_let_be
 -  it waits for a greeting before it asks         test_a_protocol_is_named_along_with_the_greeting
                                                   test_a_peer_that_does_not_agree_is_given_up
 -  it sleeps before it has closed                 test_a_connection_closes_at_once
                                                   test_a_closed_connection_is_forgotten_and_said_to_be_gone_once
                                                   test_one_of_two_wrappers_of_a_session_closes_alone
 -  it offers plaintext and mplex                  test_nothing_but_noise_and_yamux_is_offered
 -  what is no WebSocket peer ends who dials it    test_what_is_no_peer_costs_one_dial
 -  it dials 1,000 WebSockets and then no more     test_websockets_may_be_dialled_as_often_as_one_likes
 -  a WebSocket waits to be closed by its peer     test_a_dial_fails_soon_where_the_peer_does_not_close
 -  it refuses peers that come back quickly        test_a_peer_may_come_back_as_often_as_it_likes
                                                   test_the_librarys_own_accounting_is_off
 -  it prints                                      test_nothing_is_printed_or_left_open (libp2p_swarm)
                                                   test_the_library_is_quiet_unless_asked_otherwise
                                                   test_nothing_is_said_by_the_root_logger

14, 15 and 19 are about the library's gossipsub, DHT and mDNS, which are not used: we have our own. That its gossipsub
understands ours, and ours it: test_libp2p_gossip.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import math
import re
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from libp2p.network import swarm as network_swarm
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.protocol_muxer import multiselect_client
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable
from multiaddr import Multiaddr
from trio.testing import MockClock

from rhizome_index.errors import UnavailableError
from rhizome_index.limits import (
    CLOSE_TIMEOUT_SECONDS,
    DIAL_TIMEOUT_SECONDS,
    IDLE_TIMEOUT_SECONDS,
    STREAM_FRAME_BYTES,
)
from rhizome_index.node import libp2p_arrivals, libp2p_guards, libp2p_swarm, libp2p_yamux, libp2p_yamux_stream
from rhizome_index.node.libp2p_guards import BufferedTcpStream, postpone_identify
from rhizome_index.node.libp2p_swarm import Libp2pSwarm, open_swarm
from rhizome_index.node.libp2p_yamux import Session
from rhizome_index.node.swarm import Stream
from tests.node.test_libp2p_swarm import ADDRESSES, ECHO, LIMIT_SECONDS, LOOPBACK, NOBODY, echo, exchange, pair

SILENT = "/rhizome/silent/1"
ON_ITS_WAY_SECONDS = 0.1  # of the true time: what is within the kernel is no reason for virtual time to go on
WINDOW = libp2p_yamux_stream.STREAM_WINDOW_BYTES


async def be_silent(stream: Stream) -> None:
    await trio.sleep_forever()


async def wait_until(is_true: Callable[[], object]) -> None:
    with trio.fail_after(LIMIT_SECONDS):
        while not is_true():  # noqa: ASYNC110  the library has no events for it
            await trio.sleep(0.002)


def session_with(swarm: Libp2pSwarm, other: Libp2pSwarm) -> Session:
    found = swarm._session(ID.from_string(other.peer_id))
    assert found is not None
    return found


def transport_of(session: Session) -> Any:
    return session.secured_conn.conn.read_writer.read_write_closer.stream


async def open_raw(client: Libp2pSwarm, server: Libp2pSwarm, protocol: str) -> Any:
    """A stream, and below it the one of the muxer."""
    stream = await client.open_stream(server.peer_id, protocol, timeout_seconds=LIMIT_SECONDS)
    return stream, stream._stream


def test_the_table_above_names_tests_that_exist() -> None:
    written = "".join(path.read_text() for path in Path(__file__).parents[1].glob("*/test_*.py"))
    named = re.findall(r"\btest_[a-z_]+(?= \(|$)", __doc__ or "", re.MULTILINE)
    assert len(named) > 30
    assert [name for name in named if f"def {name}(" not in written] == []


# --- 1: an exception out of a stream handler ends the host ---


@pytest.mark.parametrize("error", [ValueError("x"), ExceptionGroup("x", [ValueError("x")]), AssertionError("x")])
async def test_a_handler_that_fails_costs_one_stream(error: Exception) -> None:
    async def fail(stream: Stream) -> None:
        raise error

    async with pair() as (server, client):
        server.handle("/rhizome/fail/1", fail)
        stream = await client.open_stream(server.peer_id, "/rhizome/fail/1", timeout_seconds=LIMIT_SECONDS)
        with trio.fail_after(LIMIT_SECONDS), pytest.raises(UnavailableError):
            await stream.receive()
        await exchange(client, server.peer_id)


async def test_bytes_that_are_no_negotiation_cost_one_stream() -> None:
    async with pair() as (server, client):
        raw = await session_with(client, server).open_stream()
        await raw.write(b"\x13/multistream/1.0.0\n\x04\xff\xff\xff\n")
        with trio.fail_after(LIMIT_SECONDS), pytest.raises(Exception, match="reset"):
            while await raw.read():
                pass
        await exchange(client, server.peer_id)


# --- 2: slots of inbound connections are given back at shutdown only ---


@pytest.mark.parametrize("listen", ADDRESSES)
async def test_a_listener_outlives_its_connections(listen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libp2p_arrivals, "HANDSHAKE_TIMEOUT_SECONDS", 600.0)  # no way of giving it back
    async with open_swarm(b"s" * 32, [listen]) as server:
        server.handle(ECHO, echo)
        slots = server._network._inbound_limiter
        slots.total_tokens = 2
        for number in range(5):
            async with open_swarm(bytes([number]) * 32, []) as client:
                await client.dial(server.addresses[0], timeout_seconds=LIMIT_SECONDS)
                await exchange(client, server.peer_id)
                assert slots.borrowed_tokens >= 1  # and it holds one while it lasts
            await wait_until(lambda: not slots.borrowed_tokens)


# --- 3: cancelling a write corrupts the connection ---


class Halting:
    """Makes a session's transport stop in the middle of its next write."""

    def __init__(self, session: Session) -> None:
        self.halfway, self.goes_on = trio.Event(), trio.Event()
        self._transport = transport_of(session)
        self._write = self._transport.write
        self._transport.write = self._halt

    async def _halt(self, data: bytes) -> None:
        self._transport.write = self._write
        await self._write(data[: len(data) // 2])
        self.halfway.set()
        await self.goes_on.wait()
        await self._write(data[len(data) // 2 :])


async def test_a_cancelled_send_leaves_the_connection_whole() -> None:
    async with pair() as (server, client):
        stream = await client.open_stream(server.peer_id, ECHO, timeout_seconds=LIMIT_SECONDS)
        halting = Halting(session_with(client, server))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send, b"x" * 1000)
            await halting.halfway.wait()
            nursery.cancel_scope.cancel()
            halting.goes_on.set()
        await exchange(client, server.peer_id)


async def test_a_send_that_waits_for_its_turn_can_be_cancelled_and_loses_nothing() -> None:
    async with pair() as (server, client):
        session = session_with(client, server)
        stream, raw = await open_raw(client, server, ECHO)
        other = await client.open_stream(server.peer_id, ECHO, timeout_seconds=LIMIT_SECONDS)
        before = raw._may_send
        halting = Halting(session)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other.send, b"stalled")
            await halting.halfway.wait()
            for size in (1, 1000, WINDOW):
                with trio.fail_after(LIMIT_SECONDS):
                    async with trio.open_nursery() as cancelled:
                        cancelled.start_soon(stream.send, bytes(size))
                        await wait_until(lambda: session._writing.statistics().tasks_waiting)
                        cancelled.cancel_scope.cancel()
                assert raw._may_send == before
            halting.goes_on.set()
        await stream.send(b"next")
        with trio.fail_after(LIMIT_SECONDS):
            assert await stream.receive() == b"next"


async def test_a_send_cancelled_at_a_later_turn_resets_its_stream() -> None:
    """Half of a message has gone: the next one would be read as its rest."""

    async def hold(lock: trio.Lock) -> None:
        async with lock:
            await trio.sleep_forever()

    async with pair() as (server, client):
        session = session_with(client, server)
        stream, raw = await open_raw(client, server, ECHO)
        halting = Halting(session)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(raw.write, bytes(2 * STREAM_FRAME_BYTES))
            await halting.halfway.wait()
            nursery.start_soon(hold, session._writing)  # the turn after its first frame
            await wait_until(lambda: session._writing.statistics().tasks_waiting)
            halting.goes_on.set()
            await wait_until(lambda: raw._may_send <= WINDOW - 2 * STREAM_FRAME_BYTES)
            nursery.cancel_scope.cancel()
        with pytest.raises(UnavailableError):
            await stream.send(b"next")


async def test_a_send_that_its_peer_never_takes_costs_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async with pair() as (server, client):
        stream = await client.open_stream(server.peer_id, ECHO, timeout_seconds=LIMIT_SECONDS)
        monkeypatch.setitem(Session.write_frame.__kwdefaults__, "timeout_seconds", 0.05)
        Halting(session_with(client, server))
        with trio.fail_after(LIMIT_SECONDS) as scope, pytest.raises(UnavailableError):
            await stream.send(b"x" * 1000)
        assert not scope.cancel_called and not client.connected_peers
        await wait_until(lambda: not server.connected_peers)


@pytest.mark.parametrize("window", [STREAM_FRAME_BYTES, STREAM_FRAME_BYTES + 1])
async def test_a_send_cancelled_between_frames_resets_its_stream(window: int) -> None:
    """Else the next message would be read as the rest of this one."""
    async with pair() as (server, client):
        ended = trio.Event()

        async def read(stream: Stream) -> None:
            await may_read.wait()
            try:
                while await stream.receive():
                    pass
            except UnavailableError:
                ended.set()

        may_read = trio.Event()
        server.handle("/rhizome/read/1", read)
        stream, raw = await open_raw(client, server, "/rhizome/read/1")
        raw._may_send = window
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send, bytes(2 * STREAM_FRAME_BYTES))
            await wait_until(lambda: not raw._may_send)
            nursery.cancel_scope.cancel()
        with trio.fail_after(LIMIT_SECONDS), pytest.raises(UnavailableError, match="stream is over"):
            await stream.send(b"next")
        may_read.set()
        with trio.fail_after(LIMIT_SECONDS):
            await ended.wait()
        await exchange(client, server.peer_id)


async def test_opening_that_is_given_up_leaves_nothing_open() -> None:
    async with pair() as (server, client):
        server._network.set_stream_handler(be_silent)
        session = session_with(client, server)
        for _ in range(3):
            with trio.fail_after(LIMIT_SECONDS), pytest.raises(UnavailableError):
                await client.open_stream(server.peer_id, ECHO, timeout_seconds=0.01)
            with trio.move_on_after(0.01):
                await client.open_stream(server.peer_id, ECHO, timeout_seconds=LIMIT_SECONDS)
        assert not session.streams


# --- 4 and 9: dialling waits after a success, and refuses after a failure ---


async def test_dialling_does_not_wait_after_it_succeeded(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_swarm(b"s" * 32, [LOOPBACK]) as server, open_swarm(b"c" * 32, []) as client:
        monkeypatch.setattr(network_swarm, "_HAPPY_EYEBALLS_DELAY", 60.0)
        await client.dial(server.addresses[0], timeout_seconds=LIMIT_SECONDS)


async def test_nor_does_the_library_when_it_dials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_swarm, "_HAPPY_EYEBALLS_DELAY", 60.0)
    async with open_swarm(b"s" * 32, [LOOPBACK]) as server, open_swarm(b"c" * 32, []) as client:
        with trio.fail_after(LIMIT_SECONDS):
            await client._host.connect(info_from_p2p_addr(Multiaddr(server.addresses[0])))


async def test_a_peer_that_was_away_can_be_dialled_when_it_is_back() -> None:
    async with open_swarm(b"c" * 32, []) as client:
        async with open_swarm(b"s" * 32, [LOOPBACK]) as server:
            address = server.addresses[0]
        with pytest.raises(UnavailableError, match="refused"):
            await client.dial(address, timeout_seconds=LIMIT_SECONDS)
        async with open_swarm(b"s" * 32, [address.partition("/p2p/")[0]]):
            await client.dial(address, timeout_seconds=LIMIT_SECONDS)


async def test_a_dial_is_tried_once() -> None:
    """The library goes on for seconds, three times more: who dials knows better."""
    accepted = 0

    async def refuse(stream: trio.SocketStream) -> None:
        nonlocal accepted
        accepted += 1

    async with trio.open_nursery() as nursery, open_swarm(b"c" * 32, []) as client:
        (listener,) = await nursery.start(partial(trio.serve_tcp, host="127.0.0.1"), refuse, 0)
        port = listener.socket.getsockname()[1]
        with pytest.raises(UnavailableError):
            await client.dial(f"/ip4/127.0.0.1/tcp/{port}/p2p/{NOBODY}", timeout_seconds=LIMIT_SECONDS)
        assert accepted == 1
        nursery.cancel_scope.cancel()


# --- 5: nothing bounds what a peer makes us hold ---


async def test_a_full_window_is_in_order() -> None:
    async with pair() as (server, client):
        server.handle(SILENT, be_silent)
        stream, raw = await open_raw(client, server, SILENT)
        await stream.send(bytes(raw._may_send))
        await exchange(client, server.peer_id)
        assert session_with(server, client).unread_bytes >= WINDOW - 100


async def test_a_byte_past_the_window_costs_the_connection() -> None:
    async with pair() as (server, client):
        server.handle(SILENT, be_silent)
        stream, raw = await open_raw(client, server, SILENT)
        await stream.send(bytes(raw._may_send))
        raw._may_send = 1
        await stream.send(b"x")
        await wait_until(lambda: not server.connected_peers)


async def test_all_streams_of_a_connection_share_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libp2p_yamux, "UNREAD_BYTES_MAX", WINDOW)
    async with pair() as (server, client):
        server.handle(SILENT, be_silent)
        first, raw = await open_raw(client, server, SILENT)
        second, _ = await open_raw(client, server, SILENT)
        await first.send(bytes(raw._may_send))
        await exchange(client, server.peer_id, b"")
        await second.send(bytes(1000))
        await wait_until(lambda: not server.connected_peers)


async def test_silent_streams_of_a_connection_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libp2p_yamux, "CONNECTION_STREAMS_MAX", 4)
    async with pair() as (server, client):
        session = session_with(client, server)
        for number in range(101, 121, 2):
            session.queue(libp2p_yamux_stream.WINDOW, libp2p_yamux_stream.SYN, number, 0)
        ponged = session._ponged = trio.Event()
        session._pinged = (7, 0.0)
        session.queue(libp2p_yamux_stream.PING, libp2p_yamux_stream.SYN, 0, 7)
        with trio.fail_after(LIMIT_SECONDS):
            await ponged.wait()  # so all of the above was read
        assert len(session_with(server, client).streams) == 4


async def test_streams_of_a_peer_under_one_protocol_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libp2p_swarm, "STREAMS_PER_PEER_MAX", 2)
    async with pair() as (server, client):
        server.handle(SILENT, be_silent)
        kept = [await open_raw(client, server, SILENT) for _ in range(3)]
        with trio.fail_after(LIMIT_SECONDS), pytest.raises(UnavailableError):
            await kept[-1][0].receive()
        await exchange(client, server.peer_id)
        await kept[0][0].reset()  # `be_silent` never looks, but the connection's end frees its place


async def test_a_stream_on_which_nothing_is_said_is_reset() -> None:
    async with pair() as (server, client):
        stream = await client.open_stream(server.peer_id, ECHO, timeout_seconds=LIMIT_SECONDS)
        assert stream._idle_seconds == IDLE_TIMEOUT_SECONDS
        stream._idle_seconds = 0.02
        with trio.fail_after(LIMIT_SECONDS), pytest.raises(UnavailableError, match="nothing was said"):
            await stream.receive()
        await wait_until(lambda: not server._inbound and not session_with(server, client).streams)


async def test_answers_queued_for_a_peer_that_does_not_read_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libp2p_yamux, "CONTROL_BYTES_MAX", 1200)
    async with pair() as (server, client):
        Halting(session_with(server, client))  # the server's next write gets nowhere
        session = session_with(client, server)
        with suppress(MuxedConnUnavailable):  # it may end before we have
            for number in range(300):
                await session.write_frame(struct.pack("!BBHII", 0, 2, 1, 0, number))
        await wait_until(lambda: not server.connected_peers)


# --- 6: a window that stays closed ---


async def test_a_peer_that_does_not_read_costs_one_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libp2p_yamux_stream, "WRITE_TIMEOUT_SECONDS", 0.02)
    async with pair() as (server, client):
        server.handle(SILENT, be_silent)
        stream, _ = await open_raw(client, server, SILENT)
        with trio.fail_after(LIMIT_SECONDS), pytest.raises(UnavailableError, match="does not read"):
            await stream.send(bytes(2 * WINDOW))
        await exchange(client, server.peer_id)


# --- 7: a message that arrives in more than 100 parts ---


class Crumbs(trio.abc.ReceiveStream):
    def __init__(self, data: bytes) -> None:
        self._data = data

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        part, self._data = self._data[:1], self._data[1:]
        return part

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def test_a_message_may_arrive_byte_by_byte() -> None:
    from libp2p.io.utils import read_exactly

    stream = BufferedTcpStream(Crumbs(b"x" * 300))  # type: ignore[arg-type]
    with trio.fail_after(LIMIT_SECONDS):
        assert await read_exactly(stream, 250) == b"x" * 250
        assert await stream.read(100) == b"x" * 50
        assert await stream.read(100) == b""
        assert await BufferedTcpStream(Crumbs(b"xy")).read() == b"x"  # type: ignore[arg-type]


async def test_connections_are_read_so() -> None:
    async with pair() as (server, client):
        for session in (session_with(server, client), session_with(client, server)):
            assert type(transport_of(session)) is BufferedTcpStream


# --- 8: streams leak ---


async def test_a_handler_that_returns_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ignore(stream: Stream) -> None:
        pass

    monkeypatch.setattr(libp2p_yamux, "CONNECTION_STREAMS_MAX", 3)
    async with pair() as (server, client):
        server.handle("/rhizome/ignore/1", ignore)
        for _ in range(8):
            stream = await client.open_stream(server.peer_id, "/rhizome/ignore/1", timeout_seconds=LIMIT_SECONDS)
            await stream.send(b"never read")
            with trio.fail_after(LIMIT_SECONDS):
                assert await stream.receive() == b""
            await stream.close()
        await wait_until(lambda: not session_with(server, client).streams)
        assert not session_with(client, server).streams and not server._inbound
        assert not session_with(server, client).unread_bytes


async def test_what_comes_on_a_closed_stream_is_not_kept() -> None:
    async def close(stream: Stream) -> None:
        await stream.close()
        await trio.sleep_forever()

    async with pair() as (server, client):
        server.handle("/rhizome/close/1", close)
        stream = await client.open_stream(server.peer_id, "/rhizome/close/1", timeout_seconds=LIMIT_SECONDS)
        with trio.fail_after(LIMIT_SECONDS):
            assert await stream.receive() == b""
        await stream.send(bytes(1000))
        await exchange(client, server.peer_id)
        assert not session_with(server, client).unread_bytes


async def test_one_stream_too_many_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libp2p_yamux, "CONNECTION_STREAMS_MAX", 2)
    async with pair() as (server, client):
        kept = [await client.open_stream(server.peer_id, ECHO, timeout_seconds=LIMIT_SECONDS) for _ in range(2)]
        with pytest.raises(UnavailableError, match="too many streams"):
            await client.open_stream(server.peer_id, ECHO, timeout_seconds=LIMIT_SECONDS)
        await kept[0].close()
        await wait_until(lambda: len(session_with(client, server).streams) == 1)
        await exchange(client, server.peer_id)


async def test_a_closed_stream_does_not_wait_for_its_peer_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libp2p_yamux, "LINGER_SECONDS", 0.02)
    async with pair() as (server, client):
        server.handle(SILENT, be_silent)
        stream, _ = await open_raw(client, server, SILENT)
        await stream.close()
        await wait_until(lambda: not session_with(client, server).streams)


# --- 10: metrics that nobody takes end in a deadlock after 100 connections ---


async def test_no_metrics_are_made() -> None:
    async with open_swarm(b"s" * 32, []) as swarm:
        assert swarm._network.metric_send_channel is None


# --- 11: a listener that cannot start says nothing, and ports are shared ---


async def test_a_port_shared_by_reuseport_is_taken() -> None:
    from rhizome_index.errors import UsageError

    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} is already in use"):
            async with open_swarm(b"s" * 32, [f"/ip4/127.0.0.1/tcp/{port}"]):
                pass


# --- 13: no keepalive ---


async def test_the_round_trip_is_known() -> None:
    async with pair() as (server, client):
        await wait_until(lambda: client.latency_seconds(server.peer_id) and server.latency_seconds(client.peer_id))
        assert 0 < (client.latency_seconds(server.peer_id) or 0) < LIMIT_SECONDS
        assert client.latency_seconds(client.peer_id) is None


async def test_a_peer_that_falls_silent_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libp2p_yamux, "PING_AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(libp2p_yamux, "PING_INTERVAL_SECONDS", 0.01)
    async with pair() as (server, client):
        Halting(session_with(server, client))  # its socket stays open
        monkeypatch.setattr(libp2p_yamux, "PING_TIMEOUT_SECONDS", 0.02)
        await wait_until(lambda: not client.connected_peers)


# --- 16: a reset looks like an end ---


async def test_an_end_and_a_reset_are_told_apart() -> None:
    async def end(stream: Stream) -> None:
        await stream.send(b"last")
        await stream.close()

    async def reset(stream: Stream) -> None:
        await stream.reset()

    async with pair() as (server, client):
        server.handle("/rhizome/end/1", end)
        server.handle("/rhizome/reset/1", reset)
        stream = await client.open_stream(server.peer_id, "/rhizome/end/1", timeout_seconds=LIMIT_SECONDS)
        with trio.fail_after(LIMIT_SECONDS):
            assert [await stream.receive() for _ in range(3)] == [b"last", b"", b""]
        stream = await client.open_stream(server.peer_id, "/rhizome/reset/1", timeout_seconds=LIMIT_SECONDS)
        with trio.fail_after(LIMIT_SECONDS), pytest.raises(UnavailableError):
            await stream.receive()


# --- 17: no deadlines ---


async def test_a_peer_that_does_not_negotiate_is_given_up() -> None:
    async with pair() as (server, client):
        server._network.set_stream_handler(be_silent)
        with trio.fail_after(LIMIT_SECONDS), pytest.raises(UnavailableError, match="does not answer"):
            await client.open_stream(server.peer_id, ECHO, timeout_seconds=0.02)


async def test_a_connection_that_is_stuck_is_ended_without_a_goodbye(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libp2p_yamux, "CLOSE_TIMEOUT_SECONDS", 2 * LIMIT_SECONDS)
    async with pair() as (server, client):
        session = session_with(client, server)
        stream = await client.open_stream(server.peer_id, ECHO, timeout_seconds=LIMIT_SECONDS)
        halting = Halting(session)

        async def send() -> None:
            with pytest.raises(UnavailableError):
                await stream.send(b"stuck")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await halting.halfway.wait()
            with trio.fail_after(LIMIT_SECONDS) as scope:
                await session.close()
            assert not scope.cancel_called


# --- what answers is no peer: the WebSocket library raises in the host's nursery, or keeps the dialler waiting ---

NO_PEERS = {
    "hangs up": b"",
    "a web server": b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno",
    "a WebSocket without its keys": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "another transport": b"\x13/multistream/1.0.0\n\x07/noise\n" + b"\0" * 100,
    "no key": b"\x13/multistream/1.0.0\n\x07/noise\n\0\x60" + b"\xff" * 96,
    "noise": b"\xff" * 5000,
}


@pytest.mark.parametrize("transport", ["", "/ws"])
@pytest.mark.parametrize("reply", NO_PEERS.values(), ids=NO_PEERS.keys())
async def test_what_is_no_peer_costs_one_dial(reply: bytes, transport: str) -> None:
    has_ended = trio.Event()

    async def answer(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            await stream.send_all(reply)
            if reply:
                await stream.receive_some(4096)
                await stream.send_eof()
                while await stream.receive_some(4096):
                    pass
        await stream.aclose()
        has_ended.set()

    async with pair() as (server, client), trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, answer, [listener])
        address = f"/ip4/127.0.0.1/tcp/{listener.socket.getsockname()[1]}{transport}/p2p/{NOBODY}"
        with trio.fail_after(LIMIT_SECONDS), pytest.raises(UnavailableError, match="no libp2p peer"):
            await client.dial(address, timeout_seconds=2 * LIMIT_SECONDS)
        with trio.fail_after(LIMIT_SECONDS):
            await has_ended.wait()
        await exchange(client, server.peer_id)
        nursery.cancel_scope.cancel()


async def test_a_dial_fails_soon_where_the_peer_does_not_close(autojump_clock: MockClock) -> None:
    """It speaks WebSocket, says in it what no peer says, and then nothing more."""

    async def answer(stream: trio.SocketStream) -> None:
        request = await stream.receive_some(4096)
        (key,) = re.findall(rb"(?i)sec-websocket-key: *([^\r]+)\r\n", request)
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        head = (
            b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n" % accept
        )
        said = NO_PEERS["another transport"]
        await stream.send_all(head + b"\x82\x7e" + len(said).to_bytes(2, "big") + said)
        while await stream.receive_some(4096):
            pass
        await stream.aclose()

    async with open_swarm(b"c" * 32, []) as client, trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, answer, [listener])
        address = f"/ip4/127.0.0.1/tcp/{listener.socket.getsockname()[1]}/ws/p2p/{NOBODY}"
        autojump_clock.autojump_threshold = ON_ITS_WAY_SECONDS
        began = trio.current_time()
        with pytest.raises(UnavailableError, match="no libp2p peer"):
            await client.dial(address, timeout_seconds=DIAL_TIMEOUT_SECONDS)
        assert trio.current_time() - began <= CLOSE_TIMEOUT_SECONDS < DIAL_TIMEOUT_SECONDS
        nursery.cancel_scope.cancel()


class Muting:
    """Stands between a peer that listens and those who dial it, and passes on so much of what it says and no more."""

    def __init__(self, port: int, bytes_max: float) -> None:
        self._port = port
        self._bytes_max = bytes_max
        self.said_bytes = 0

    async def serve(self, near: trio.SocketStream) -> None:
        far = await trio.open_tcp_stream("127.0.0.1", self._port)
        async with near, far, trio.open_nursery() as nursery:
            nursery.start_soon(self._mute, far, near)
            with suppress(trio.BrokenResourceError):
                while data := await near.receive_some(65536):
                    with suppress(trio.BrokenResourceError):
                        await far.send_all(data)
            nursery.cancel_scope.cancel()

    async def _mute(self, far: trio.SocketStream, near: trio.SocketStream) -> None:
        """What has ended at its end ends here for nobody."""
        with suppress(trio.BrokenResourceError):
            while data := await far.receive_some(65536):
                passed = data[: int(min(len(data), max(0, self._bytes_max - self.said_bytes)))]
                self.said_bytes += len(data)
                await near.send_all(passed)


@pytest.mark.parametrize("kind", ["", "/ws"])
async def test_a_dial_ends_in_time_wherever_the_peer_falls_silent(autojump_clock: MockClock, kind: str) -> None:
    """Before the HTTP upgrade, after it, while it shakes hands or agrees upon a muxer: after any of its bytes."""

    async def dial_through(bytes_max: float) -> tuple[float, bool, int]:
        """How long it took, whether they are connected, and how much the peer has said meanwhile."""
        muting = Muting(port, bytes_max)
        async with open_swarm(b"c" * 32, []) as client, trio.open_nursery() as nursery:
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, muting.serve, [listener])
            began = trio.current_time()
            with suppress(UnavailableError):
                address = server.addresses[0].replace(f"/tcp/{port}", f"/tcp/{listener.socket.getsockname()[1]}")
                await client.dial(address, timeout_seconds=DIAL_TIMEOUT_SECONDS)
            took = trio.current_time() - began
            found = took, server.peer_id in client.connected_peers, muting.said_bytes
            await client.disconnect(server.peer_id)
            nursery.cancel_scope.cancel()
            return found

    async with open_swarm(b"s" * 32, [LOOPBACK + kind]) as server:
        port = int(server.addresses[0].split("/")[4])
        autojump_clock.autojump_threshold = ON_ITS_WAY_SECONDS
        _, is_connected, said = await dial_through(math.inf)
        autojump_clock.autojump_threshold = 0
        assert is_connected and said > 100
        for bytes_max in {0, 1, said - 1, *range(0, said, 16)}:
            took, is_connected, _ = await dial_through(bytes_max)
            is_late = took == pytest.approx(DIAL_TIMEOUT_SECONDS)
            assert is_connected != is_late and (is_late or took < DIAL_TIMEOUT_SECONDS)


async def test_websockets_may_be_dialled_as_often_as_one_likes() -> None:
    async with open_swarm(b"s" * 32, [LOOPBACK + "/ws"]) as server, open_swarm(b"c" * 32, []) as client:
        transport: Any = client._network.transport_manager.transport_for_dialing(Multiaddr(server.addresses[0]))
        transport._config.max_connections = 1
        for _ in range(3):
            await client.dial(server.addresses[0], timeout_seconds=LIMIT_SECONDS)
            await client.disconnect(server.peer_id)
        assert not transport._connections


# --- 18: dialling unasked ---


async def test_nobody_is_dialled_unasked() -> None:
    async with open_swarm(b"s" * 32, [LOOPBACK]) as server, open_swarm(b"c" * 32, []) as client:
        info = info_from_p2p_addr(Multiaddr(server.addresses[0]))
        client._host.get_peerstore().add_addrs(info.peer_id, info.addrs, 60)
        await client._network.auto_connector.maybe_connect()
        assert client.connected_peers == ()


# --- identify and closing ---


async def test_identify_comes_late_and_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_swarm(b"s" * 32, [LOOPBACK]) as server, open_swarm(b"c" * 32, [LOOPBACK]) as client:
        server.handle(ECHO, echo)
        monkeypatch.setattr(libp2p_guards, "IDENTIFY_DELAY_SECONDS", 0.0)
        await client.dial(server.addresses[0], timeout_seconds=LIMIT_SECONDS)
        await wait_until(lambda: client._host._identified_peers and server._host._identified_peers)
        await wait_until(lambda: not session_with(client, server).streams)
        assert not server._inbound
        await exchange(client, server.peer_id)


async def test_first_answers_do_not_wait_for_identify() -> None:
    async with pair() as (server, client):
        await exchange(client, server.peer_id)
        assert not client._host._identified_peers and not server._host._identified_peers


class Unidentified:
    """A host with which identifying fails. `asked` are the peers with which it was tried."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._schedule_identify: Any = None

    def _has_cached_protocols(self, peer_id: str) -> bool:
        return peer_id == "known"

    async def _identify_peer(self, peer_id: str, *, reason: str) -> None:
        self.asked.append(peer_id)
        raise ValueError("says nothing of itself")


async def test_a_peer_is_identified_once_and_what_goes_wrong_is_let_be(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host = Unidentified()
    postpone_identify(host, nursery)
    for expected in (["new"], ["new", "new"]):
        for peer_id in ("known", "new", "new"):
            host._schedule_identify(peer_id, reason="connected")
        await trio.sleep(libp2p_guards.IDENTIFY_DELAY_SECONDS + 1)
        assert host.asked == expected


async def test_a_protocol_is_named_along_with_the_greeting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's own way takes a round trip more, and there are three negotiations before the first question."""

    async def forbidden(*_: object) -> None:
        raise AssertionError("waits for a greeting before it says what it wants")

    monkeypatch.setattr(multiselect_client.MultiselectClient, "handshake", forbidden)
    async with pair() as (server, client):
        await exchange(client, server.peer_id)


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (b"\x04abc\n\x10/rhizome/echo/1\n", "does not speak multistream"),
        (b"\x13/multistream/1.0.0\n\x03na\n", "does not speak /rhizome/echo/1"),
        (b"\x13/multistream/1.0.0\n\x02\xff\n", "no agreement"),
        (b"", "no agreement"),
    ],
)
async def test_a_peer_that_does_not_agree_is_given_up(reply: bytes, says: str) -> None:
    async def answer(stream: Any) -> None:
        await stream.muxed_stream.write(reply)
        await stream.muxed_stream.close()

    async with pair() as (server, client):
        server._network.set_stream_handler(answer)
        with pytest.raises(UnavailableError, match=says):
            await client.open_stream(server.peer_id, ECHO, timeout_seconds=LIMIT_SECONDS)
        assert not session_with(client, server).streams


async def test_a_closed_connection_is_forgotten_and_said_to_be_gone_once() -> None:
    told: list[object] = []

    class Notified:
        """Takes every notification, and notes who has gone."""

        async def disconnected(self, network: object, connection: object) -> None:
            told.append(connection)

        def __getattr__(self, name: str) -> Any:
            return self._nothing

        async def _nothing(self, *_: object) -> None:
            return

    async with pair() as (server, _):
        (connection,) = server._network.get_connections()
        server._network.register_notifee(Notified())
        await connection.close()
        await connection.close()
        assert connection.is_closed and connection.muxed_conn.is_closed
        assert told == [connection] and not server._network.connections


async def test_one_of_two_wrappers_of_a_session_closes_alone() -> None:
    """The library makes two when two tasks add one connection, and marks the one that goes."""
    async with pair() as (server, client):
        (connection,) = client._network.get_connections()
        second = SwarmConn(connection.muxed_conn, client._network)
        connection.muxed_conn.on_close = connection._on_muxed_conn_closed
        second._shared_muxed_conn = True
        await second.close()
        await exchange(client, server.peer_id)


async def test_a_connection_closes_at_once() -> None:
    """The library sleeps 0.1 s for each. The quickest of several counts, for the machine may be busy."""
    seconds = []
    async with open_swarm(b"s" * 32, [LOOPBACK]) as server, open_swarm(b"c" * 32, []) as client:
        for _ in range(5):
            await client.dial(server.addresses[0], timeout_seconds=LIMIT_SECONDS)
            started = trio.current_time()
            await client.disconnect(server.peer_id)
            seconds.append(trio.current_time() - started)
    assert min(seconds) < 0.1


# --- what a host offers, and what it says of itself ---


def test_the_library_is_quiet_unless_asked_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger("libp2p")
    monkeypatch.setattr(logger, "level", logging.NOTSET)
    monkeypatch.setenv("LIBP2P_DEBUG", "1")
    libp2p_guards.install()
    assert logger.level == logging.NOTSET
    monkeypatch.delenv("LIBP2P_DEBUG")
    libp2p_guards.install()
    assert logger.level > logging.CRITICAL


async def test_nothing_is_said_by_the_root_logger(caplog: pytest.LogCaptureFixture) -> None:
    """The library says it there, which makes a handler for it that prints what any other library says."""
    caplog.set_level(logging.DEBUG)
    async with pair() as (server, client):
        await exchange(client, server.peer_id)
    assert not [record for record in caplog.records if record.name == "root"]


async def test_nothing_but_noise_and_yamux_is_offered() -> None:
    async with open_swarm(b"s" * 32, [LOOPBACK]) as swarm:
        upgrader = swarm._network.upgrader
        assert list(upgrader.security_multistream.transports) == ["/noise"]
        assert list(upgrader.muxer_multistream.transports) == ["/yamux/1.0.0"]


async def test_no_wildcard_is_announced_nor_what_others_see(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_swarm(b"s" * 32, ["/ip4/0.0.0.0/tcp/0"]) as swarm:
        announced = [str(address) for address in swarm._host.get_addrs()]
        assert announced and not any("0.0.0.0" in address for address in announced)
        assert swarm._host._observed_addr_manager is None


async def test_the_librarys_own_accounting_is_off() -> None:
    async with open_swarm(b"s" * 32, []) as swarm:
        assert swarm._network._resource_manager is None


@pytest.mark.slow
async def test_a_peer_may_come_back_as_often_as_it_likes() -> None:
    """The library's own accounting refuses it after some 60 times, where those come quickly enough."""
    async with open_swarm(b"s" * 32, [LOOPBACK]) as server, open_swarm(b"c" * 32, []) as client:
        for _ in range(100):
            await client.dial(server.addresses[0], timeout_seconds=LIMIT_SECONDS)
            await client.disconnect(server.peer_id)
