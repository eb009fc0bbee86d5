"""What a person is told where the quota leaves no room, and that nothing is kept or followed then."""

from __future__ import annotations

import json
import random
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rhizome_index.node.disk import DiskStore
from rhizome_index.node.room import Room
from tests.cli.terminal import Terminal

CHANCE = random.Random(7)
LARGE = b"".join(b'{"id": %d, "text": "%s"}\n' % (n, CHANCE.randbytes(600).hex().encode()) for n in range(500))


@pytest.fixture
def large(rhizome: Terminal) -> Terminal:
    """A home that publishes 600 kB."""
    rhizome("import", "posts", "-", stdin=LARGE)
    return rhizome


def allow(terminal: Terminal, quota: int) -> None:
    """A quota that is too small to be set by hand."""
    with closing(DiskStore(terminal.home / "store.sqlite")) as store:
        Room(store).quota = quota


def status(terminal: Terminal) -> Any:
    return json.loads(terminal("status", "--json")[0])


def test_a_file_for_which_there_is_no_room_is_not_restored(large: Terminal, reader: Terminal, tmp_path: Path) -> None:
    file = str(tmp_path / "large.car")
    large("export", file)
    allow(reader, 300_000)
    reader.fails("restore", file, code=3, says="needs 62")
    told, hint = reader("restore", file, code=3)[1].splitlines()
    assert "of the room for what is kept of others, and the quota of 300.0 kB leaves 1" in told
    assert hint == "  allow more: rhizome quota SIZE; or free what nothing needs: rhizome gc"
    assert (status(reader)["blocks"], status(reader)["datasets"], reader("pins")[0]) == (0, [], "")
    reader("quota", "1MB")
    assert "pinned" in reader("restore", file)[0]
    allow(reader, 300_000)
    reader("restore", file)  # what is here already needs no room


def test_ones_own_needs_no_room(large: Terminal, tmp_path: Path) -> None:
    file, kept = str(tmp_path / "large.car"), status(large)
    large("export", file)
    (large.home / "store.sqlite").unlink()
    large("restore", file)
    allow(large, 1000)
    large("restore", file)
    assert status(large)["datasets"][0]["sequence"] == kept["datasets"][0]["sequence"]


def test_what_is_ours_takes_no_room_of_what_is_restored(large: Terminal, reader: Terminal, tmp_path: Path) -> None:
    file = str(tmp_path / "small.car")
    reader("put", "posts", '{"id": 1}', code=2)
    reader("import", "posts", "-", stdin=b'{"id": 1}')
    reader("export", file)
    allow(large, 500_000)
    assert "pinned" in large("restore", file)[0]


def test_a_follow_for_which_there_is_no_room_is_not_kept(large: Terminal, reader: Terminal) -> None:
    allow(reader, 300_000)
    with large.serving() as address:
        dataset = f"rhizome:{address.rpartition('/')[2]}/main"
        code, _, err = reader.in_a_child("follow", dataset, "--peer", address)
        assert code == 3 and "more than the quota of 300.0 kB" in err, err
        assert f"of 500 records of {dataset} are here, and all of them need about " in err, err
        assert "allow more: rhizome quota SIZE; or free what nothing needs: rhizome gc" in err
        assert "unfollow" not in err and reader("follows")[0] == ""
        told = status(reader)["room"]
        assert told["others_bytes"] > 300_000 > told["followed_bytes"], "what came is told"
        assert "unfinished, not needed or half-empty pages " in reader("status")[0]
        reader("quota", "2MB")
        code, _, err = reader.in_a_child("follow", dataset, "--peer", address)
        assert code == 0, err
        assert [json.loads(row)["address"] for row in reader("follows", "--json")[0].splitlines()] == [dataset]


def test_a_follow_that_nobody_serves_is_noted_and_said_to_be(large: Terminal, reader: Terminal) -> None:
    dataset = status(large)["datasets"][0]["address"]
    _, err = reader("follow", dataset, code=3)
    assert f"it is noted, and brought as soon as it can be: rhizome sync {dataset}" in err
    assert dataset in reader("follows")[0]


def test_where_something_can_be_let_go_it_is_said(large: Terminal, reader: Terminal, tmp_path: Path) -> None:
    file = str(tmp_path / "large.car")
    large("export", file)
    reader("restore", file)
    large("put", "posts", json.dumps({"id": 0, "text": "x" * 1000}))
    large("export", file)
    allow(reader, 300_000)
    err = reader("restore", file, code=3)[1]
    assert "leaves 0 B" in err and "or unpin something and free it: rhizome gc" in err
