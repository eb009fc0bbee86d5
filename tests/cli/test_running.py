"""The command line beside a running node of the same home: it uses the node's connections, and does without them."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import socket
import struct
import sys
import termios
import traceback
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

import rhizome_index.node.libp2p_swarm  # noqa: F401  here once, not in every child
from rhizome_index.cli import watching
from rhizome_index.cli.main import main
from rhizome_index.node.lender import Lender
from tests.cli.faulty_disk import give_up_rights, need_rights_that_can_be_given_up
from tests.cli.terminal import Terminal

QUERY = "first 2 posts tagged #cats"


@contextmanager
def both_running(published: Terminal, reader: Terminal) -> Iterator[tuple[str, str]]:
    """A publisher, and a reader's node that is connected to it; the address of the one, and its dataset."""
    with published.serving() as address:
        dataset = f"rhizome:{address.rpartition('/')[2]}/main"
        with reader.serving(lambda: None, "--peer", address):
            yield address, dataset


def without_libp2p() -> None:
    """Importing it fails from now on."""
    sys.modules["rhizome_index.node.libp2p_swarm"] = None  # type: ignore[assignment]


def ids(rows: str) -> list[str]:
    return [json.loads(row)["id"] for row in rows.splitlines()]


def test_queries_over_the_connections_of_the_running_node(published: Terminal, reader: Terminal) -> None:
    with both_running(published, reader) as (address, dataset):
        for words in ([], ["--peer", address]):
            code, out, err = reader.in_a_child("query", QUERY, "--from", dataset, *words, prepare=without_libp2p)
            assert (code, ids(out)) == (0, ["b", "a"]), err
            summary = err.splitlines()[0]
            assert "1 round trip" in summary and "over the running node's connections" in summary
        for words, is_over_it in ([], False), (["--peer", address], True):  # what is here needs nobody
            command = ["query", QUERY, "--from", dataset, "--json", *words]
            code, out, err = reader.in_a_child(*command, prepare=without_libp2p)
            assert code == 0 and json.loads(err)["over_running_node"] is is_over_it, err
        code, out, err = reader.in_a_child("find", dataset, prepare=without_libp2p)
        found = json.loads(out)
        assert code == 0 and found["peer"] == address.rpartition("/")[2], err
        assert found["heard"] in ("connected", "remembered")  # the node may have asked before
        code, out, err = reader.in_a_child("find", dataset, "--peer", address, prepare=without_libp2p)
        assert code == 0 and "named" in out and address in out, err
        code, out, err = reader.in_a_child("explain", QUERY, "--from", dataset, prepare=without_libp2p)
        assert code == 0 and out, err


def test_the_running_node_brings_what_is_followed(published: Terminal, reader: Terminal) -> None:
    with both_running(published, reader) as (address, dataset):
        code, out, err = reader.in_a_child("follow", dataset, "--json", prepare=without_libp2p)
        assert code == 0, err
        found = json.loads(out)
        assert (found["sequence"], found["before"], found["peers"]) == (1, None, [address.rpartition("/")[2]])
        assert found["bytes_received"] > 100 and found["round_trips"] >= 2
        published("put", "posts", '{"id": "c", "tags": ["cats"], "created": 3}')
        code, out, err = reader.in_a_child("sync", prepare=without_libp2p)
        assert code == 0 and f"{dataset} head 2" in out, err
        assert ids(reader("query", QUERY, "--from", dataset, "--offline")[0]) == ["c", "b"]
        code, out, err = reader.in_a_child("unfollow", dataset, prepare=without_libp2p)
        assert code == 0 and reader("follows")[0] == "", err
        code, out, err = reader.in_a_child("follow", f"{dataset}x", prepare=without_libp2p)
        assert code == 3 and ("nobody is known who serves" in err or "no peer asked knows a head" in err), err


def test_without_the_node_all_is_as_before(published: Terminal, reader: Terminal) -> None:
    with both_running(published, reader) as (address, dataset):
        reader.fails("query", QUERY, "--from", dataset, "--offline", code=3, says="here")
    with published.serving() as address:
        reader.fails("query", QUERY, "--from", dataset, code=3, says="here")
        out, err = reader("query", QUERY, "--from", dataset, "--peer", address)
        assert ids(out) == ["b", "a"] and "running node" not in err
    assert not (reader.home / "node.sock").exists()


def test_one_node_of_a_home_and_the_next_behind_a_killed_one(published: Terminal, reader: Terminal) -> None:
    with published.serving() as address:
        published.fails("node", says=f"a node of {published.home} is running already")
        with reader.serving():
            os.kill(pid_of_node(reader.home), signal.SIGKILL)
        assert (reader.home / "node.sock").is_socket()
        dataset = f"rhizome:{address.rpartition('/')[2]}/main"
        reader.fails("query", QUERY, "--from", dataset, code=3, says="here")
        out, _ = reader("query", QUERY, "--from", dataset, "--peer", address)
        assert ids(out) == ["b", "a"]
        with reader.serving(lambda: None, "--peer", address):
            code, _, err = reader.in_a_child("find", dataset, prepare=without_libp2p)
            assert code == 0, err
    assert not (reader.home / "node.sock").exists()


def pid_of_node(home: Path) -> int:
    """The process that listens on the socket of a home."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(home / "node.sock"))
        (pid,) = struct.unpack("i8x", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return int(pid)


def die_when_asked() -> None:
    async def die(self: Lender, guest: object, request: object) -> None:
        os._exit(1)

    Lender._lend = die  # type: ignore[assignment, method-assign]


def test_a_node_that_dies_in_the_middle_of_a_query(published: Terminal, reader: Terminal) -> None:
    with published.serving() as address:
        dataset = f"rhizome:{address.rpartition('/')[2]}/main"
        query = ["query", QUERY, "--from", dataset, "--peer", address]
        with reader.serving(die_when_asked):
            code, out, err = reader.in_a_child(*query)
            assert (code, out) == (3, "") and "the running node of this home has stopped" in err
            assert "do it again: it works without a node, too" in err
        assert ids(reader(*query)[0]) == ["b", "a"]


def test_a_node_of_a_home_that_cannot_be_written(published: Terminal, reader: Terminal) -> None:
    need_rights_that_can_be_given_up()
    home = published.home
    for path in (*home.iterdir(), home):
        path.chmod(0o555 if path.is_dir() else 0o444)
    with published.serving(give_up_rights) as address:
        dataset = f"rhizome:{address.rpartition('/')[2]}/main"
        assert ids(reader("query", QUERY, "--from", dataset, "--peer", address)[0]) == ["b", "a"]
        assert not (home / "node.sock").exists()
    home.chmod(0o755)


def test_a_home_with_a_long_name(published: Terminal, tmp_path: Path) -> None:
    long = tmp_path / ("a" * 200)
    shutil.move(published.home, long)
    published.home = long
    with published.serving():
        assert (long / "node.sock").is_socket()
        published.fails("node", says="is running already")
        code, _, err = published.in_a_child(
            "find", f"rhizome:{published('id')[0].strip()}/main", prepare=without_libp2p
        )
        assert code == 3 and "nobody was found" in err


# --- watching ---


def test_status_tells_of_the_running_node(published: Terminal, reader: Terminal) -> None:
    assert json.loads(reader("status", "--json")[0])["node"] is None
    reader.fails("top", code=3, says=f"no node of {reader.home} is running")
    with both_running(published, reader) as (address, dataset):
        peer = address.rpartition("/")[2]
        reader("follow", dataset)
        out, _ = reader("status")
        assert f"  {peer}  " in out and f"follows {dataset}, all of it: kept, head 1" in out and "1 peer" in out
        node = json.loads(reader("status", "--json")[0])["node"]
        assert [item["peer"] for item in node["peers"]] == [peer] and node["pid"] == pid_of_node(reader.home)
        assert json.loads(reader("top", "--json")[0]).keys() == node.keys()
        out, _ = reader("top")
        assert f"{peer[:8]}…{peer[-4:]}" in out and "kept" in out and "follows 1 dataset" in out


def test_a_node_that_hangs_is_said_to(published: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "CONTROL_TIMEOUT_SECONDS", 0.05)
    with published.serving():
        os.kill(pid_of_node(published.home), signal.SIGSTOP)
        out, err = published("status")
        assert "posts: 2 records" in out and "rhizome: the running node did not answer within 0.05 s" in err
        out, err = published("status", "--json")
        assert json.loads(out)["node"] is None and "did not answer" in json.loads(err)["warning"]
        published.fails("top", code=3, says="did not answer within 0.05 s")
        os.kill(pid_of_node(published.home), signal.SIGCONT)


@contextmanager
def top(home: Path) -> Iterator[tuple[int, int, list[Any]]]:
    """`rhizome top` in a terminal of its own: its process, the other side of that terminal, and how it was set."""
    waits, begins = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child, terminal = pty.fork()
    if not child:
        os.close(begins)
        os.read(waits, 1)  # until our parent has looked at the terminal
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.argv = ["rhizome", "--home", str(home), "top", "--every", "0.1"]
        try:
            main()
        except SystemExit as error:
            os._exit(int(error.code or 0))
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(99)
        os._exit(0)
    os.close(waits)
    try:
        before = termios.tcgetattr(terminal)[:4]
    finally:
        os.close(begins)
    try:
        yield child, terminal, before
    finally:
        os.close(terminal)


def read_until(terminal: int, text: str | None) -> str:
    """What is shown until a text comes; or until nobody shows anything any more."""
    found = b""
    with suppress(OSError if text is None else ()):
        while text is None or text.encode() not in found:
            found += os.read(terminal, 65536)
    return found.decode(errors="replace")


@pytest.mark.parametrize("leave", ["q", "\x1b", "\x03", "node"])
def test_top_is_left_as_one_leaves_it(published: Terminal, leave: str) -> None:
    """By a key, by ^C, or because the node stops: the terminal is as it was before."""
    with ExitStack() as stack:
        serving = stack.enter_context(ExitStack())
        address = serving.enter_context(published.serving())
        child, terminal, before = stack.enter_context(top(published.home))
        shown = read_until(terminal, "0 peers")
        assert "\x1b[?1049h" in shown and address[:25] in shown
        if leave == "node":
            serving.close()
        else:
            read_until(terminal, "0 peers")  # again: it is live
            os.write(terminal, leave.encode())
        rest = read_until(terminal, None)
        _, status = os.waitpid(child, 0)
        assert "\x1b[?1049l" in rest
        if leave == "node":
            assert os.waitstatus_to_exitcode(status) == 3 and "rhizome: " in rest and "running" in rest
        else:
            assert os.waitstatus_to_exitcode(status) == 0, rest
        assert termios.tcgetattr(terminal)[:4] == before


# --- metrics ---


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def test_a_node_that_is_scraped(published: Terminal, tmp_path: Path) -> None:
    port = str(free_port())
    with published.serving(lambda: None, "--metrics", port):
        with urlopen(f"http://127.0.0.1:{port}/metrics") as reply:
            families = {family.name: family for family in text_string_to_metric_families(reply.read().decode())}
        assert families["rhizome_connected_peers"].samples[0].value == 0
        published.home = tmp_path / "other"
        published.fails("node", "--metrics", port, says=f"cannot serve metrics on {port}: ")
        published.fails("node", "--metrics", "somewhere", says="cannot serve metrics on 'somewhere'")
