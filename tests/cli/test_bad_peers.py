"""Peers that are not there, are no peers, lie or leave, and ports that are taken: what the asker is told, and how."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rhizome_index.node import directory, serve
from rhizome_index.wire import ask as ask_protocol
from rhizome_index.wire import message as m
from tests.cli.terminal import Terminal, check_json_error

NOBODY = "12D3KooWSxpeJpcAebtV9emdNM7bUNATFhTx2JirESHYLkxhVvHC"
QUERY = ["query", "first 2 posts tagged #cats", "--from", f"rhizome:{NOBODY}/main"]
NOT_A_PEER = "is no libp2p peer"


@contextmanager
def answering(reply: bytes | None) -> Iterator[int]:
    """The port of a server that says one thing to everybody, or nothing at all."""

    def serve_all() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:  # closed: the test is over
                return
            with connection:
                try:
                    if reply is not None:
                        connection.sendall(reply)
                    connection.recv(65536)
                except OSError:
                    continue
                if reply is None:
                    over.wait()

    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve_all)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            over.set()
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("transport", ["", "/ws"])
def test_nobody_there(published: Terminal, transport: str) -> None:
    state = published.state()
    address = f"/ip4/127.0.0.1/tcp/{free_port()}{transport}/p2p/{NOBODY}"
    for words in (QUERY, ["follow", f"rhizome:{NOBODY}/main"], ["sync"], ["find", f"rhizome:{NOBODY}/main"]):
        published.fails(*words, "--peer", address, code=3, says=f"cannot reach {address}: connection refused")
    assert published.state() == state


def test_no_such_host(published: Terminal) -> None:
    address = f"/dns4/no.such.host.invalid/tcp/4711/p2p/{NOBODY}"
    published.fails(*QUERY, "--peer", address, code=3, says=f"cannot reach {address}: ")


@pytest.mark.parametrize("transport", ["", "/ws"])
@pytest.mark.parametrize(
    "reply", [b"", b"SSH-2.0-OpenSSH_9.9\r\n", b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"], ids=len
)
def test_what_is_no_peer(published: Terminal, reply: bytes, transport: str) -> None:
    with answering(reply) as port:
        address = f"/ip4/127.0.0.1/tcp/{port}{transport}/p2p/{NOBODY}"
        published.fails(*QUERY, "--peer", address, code=3, says=NOT_A_PEER)


@pytest.mark.parametrize("transport", ["", "/ws"])
def test_what_says_nothing(published: Terminal, transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "DIAL_TIMEOUT_SECONDS", 0.02)
    with answering(None) as port:
        address = f"/ip4/127.0.0.1/tcp/{port}{transport}/p2p/{NOBODY}"
        published.fails(*QUERY, "--peer", address, code=3, says=f"cannot reach {address}: timed out after 0.02 s")


def test_another_peer_than_was_named(rhizome: Terminal, published: Terminal, tmp_path: Path) -> None:
    with published.serving() as address:
        rhizome.home = tmp_path / "reader"
        wrong = address[: address.index("/p2p/")] + f"/p2p/{NOBODY}"
        rhizome.fails(*QUERY, "--peer", wrong, code=3, says=f"cannot reach {wrong}: another peer answers there")


@pytest.mark.parametrize("transport", ["", "/ws"])
def test_a_port_that_is_taken(published: Terminal, transport: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        address = f"/ip4/127.0.0.1/tcp/{port}{transport}"
        says = f"cannot listen on {address}: port {port} is already in use"
        published.fails("node", "--listen", address, says=says)


# --- peers that lie or leave ---


def flipped(frames: Iterator[bytes]) -> Iterator[bytes]:
    """The frames of an answer whose last block has one bit changed."""
    *before, last, end = frames
    yield from before
    changed = bytearray(last)
    changed[-1] ^= 1
    yield bytes(changed)
    yield end


def lie() -> None:
    honest = ask_protocol.answer
    serve.ask.answer = lambda number, ask, peer: flipped(honest(number, ask, peer))  # type: ignore[attr-defined]


def leave_after_the_first_part() -> None:
    honest, asked = ask_protocol.answer, iter([True])

    def answer(number: int, ask: Any, peer: Any) -> Iterator[bytes]:
        return honest(number, ask, peer) if next(asked, False) else os._exit(0)

    ask_protocol.ASK_ROWS_MAX = 10
    serve.ask.answer = answer  # type: ignore[attr-defined]


def have_nothing() -> None:
    def answer(number: int, request: Any, source: Any) -> Iterator[bytes]:
        yield m.encode_failure(number, m.MISSING, "gone")

    serve.ask.answer = serve.want.answer = answer  # type: ignore[attr-defined]


@pytest.fixture
def publisher(published: Terminal) -> Terminal:
    more = b"".join(b'{"id": "p%03d", "tags": ["cats"], "created": %d}\n' % (n, n + 9) for n in range(900))
    published("import", "posts", "-", stdin=more)
    return published


def test_a_peer_that_lies(publisher: Terminal, tmp_path: Path) -> None:
    with publisher.serving(lie) as address:
        publisher.home = tmp_path / "reader"
        publisher.fails("query", "first 9 posts tagged #cats", "--peer", address, code=4, says=address[-52:])
        assert publisher.state() == []


def test_a_peer_that_lacks_it(publisher: Terminal, tmp_path: Path) -> None:
    with publisher.serving(have_nothing) as address:
        publisher.home = tmp_path / "reader"
        query = ["query", "first 9 posts tagged #cats", "--peer", address]
        publisher.fails(*query, code=3, says="no peer has the block")


def test_a_peer_that_leaves(publisher: Terminal, tmp_path: Path) -> None:
    """What was proven so far is given, and said to be incomplete."""
    with publisher.serving(leave_after_the_first_part) as address:
        publisher.home = tmp_path / "reader"
        query = ["query", "first 200 posts tagged #cats", "--peer", address]
        out, err = publisher("--json", *query, code=5)
        rows = [json.loads(line)["created"] for line in out.splitlines()]
        assert rows == list(range(908, 908 - len(rows), -1)) and 10 <= len(rows) < 200
        summary, error = err.splitlines()
        assert json.loads(summary)["complete"] is False and json.loads(summary)["rows"] == len(rows)
        check_json_error(error, 5, "right as far as it goes, but incomplete")
