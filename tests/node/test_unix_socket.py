"""The socket of a home: its owner's alone, wherever the home lies, and never in the way of the next node."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from rhizome_index.errors import UnavailableError, UsageError
from rhizome_index.limits import SOCKET_PATH_BYTES_MAX
from rhizome_index.node.home import Home
from rhizome_index.node.unix_socket import connect, listening


def folder_for(tmp_path: Path, path_bytes: int) -> Path:
    """The path of a socket, with so many bytes, in a folder that is there."""
    folder = tmp_path
    while (left := path_bytes - len(os.fsencode(folder)) - len("/s")) > 200:
        folder = folder / ("d" * 99)
    folder = folder / ("é" * ((left - 1) // 2) + "d" * ((left - 1) % 2))
    folder.mkdir(parents=True)
    return folder / "s"


@pytest.fixture
def short_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("s")


@pytest.mark.parametrize("more", [0, 1, 500])
def test_a_socket_at_a_path_of_any_length(short_path: Path, more: int) -> None:
    path = folder_for(short_path, SOCKET_PATH_BYTES_MAX + more)
    assert len(os.fsencode(path)) == SOCKET_PATH_BYTES_MAX + more
    assert connect(path) is None
    before = set(Path("/proc/self/fd").iterdir())
    with listening(path) as listener:
        with connect(path) or pytest.fail("not there") as one, listener.accept()[0] as other:
            one.sendall(b"hello")
            assert other.recv(9) == b"hello"
        assert path.is_socket()
    assert not list(path.parent.iterdir()) and connect(path) is None
    assert set(Path("/proc/self/fd").iterdir()) == before


@pytest.mark.parametrize("mask", [0, 0o22, 0o777])
def test_it_is_for_its_owner_whatever_the_mask(short_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        with listening(short_path / "s"):
            assert stat.S_IMODE((short_path / "s").stat().st_mode) == 0o600
            assert os.umask(mask) == mask
    finally:
        os.umask(before)


def test_what_was_left_behind_is_replaced(short_path: Path) -> None:
    path = short_path / "s"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
        killed.listen()
    assert path.is_socket() and connect(path) is None
    with listening(path), connect(path) or pytest.fail("not there"):
        pass


def test_another_users_socket_is_not_used(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(short_path / "s"):
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        assert connect(short_path / "s") is None


def test_no_socket_where_there_can_be_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "nowhere" / "s", tmp_path / "file" / "s", tmp_path / ("n" * 200) / ("n" * 200) / "s"):
        with pytest.raises(UnavailableError), listening(path):
            pass
        assert connect(path) is None


def test_one_node_of_a_home(tmp_path: Path) -> None:
    home, again, other = Home(tmp_path / "one"), Home(tmp_path / "one"), Home(tmp_path / "other")
    for each in (home, other):
        each.path.mkdir()
    with home.claim():
        with pytest.raises(UsageError, match="is running already"), again.claim():
            pass
        with other.claim():
            pass
    with again.claim():
        pass


def test_one_node_of_a_home_where_there_are_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError("no locks")

    monkeypatch.setattr("fcntl.flock", refuse)
    home = Home(tmp_path)
    with home.claim(), listening(home.socket_path):
        assert home.is_running
        with pytest.raises(UsageError, match="is running already"), home.claim():
            pass
    with home.claim():
        assert not home.is_running
