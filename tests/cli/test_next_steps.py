"""What a person is told to do next: each hint fits what went wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.terminal import Terminal

SOMEBODY = "12D3KooWSxpeJpcAebtV9emdNM7bUNATFhTx2JirESHYLkxhVvHC"


def hints(terminal: Terminal, *words: str, code: int = 2) -> list[str]:
    """What stands below the error, from a child."""
    exited, _, err = terminal.in_a_child(*words)
    assert exited == code, err
    return [line.strip() for line in err.splitlines()[1:]]


def test_a_home_that_is_new_by_a_slip_is_told_of(rhizome: Terminal) -> None:
    found = hints(rhizome, "query", "first 1 posts", code=3)
    assert found[0] == f"{rhizome.home} is a home that was made just now: is --home right?"
    assert "rhizome import" in found[1] and "--from, --peer" in found[1]
    assert len(hints(rhizome, "query", "first 1 posts", code=3)) == 1, "it is there by now"


def test_a_home_without_a_name_is_refused(published: Terminal) -> None:
    published.fails("status", "--home", "", code=2, says="needs a name")


def test_why_a_peer_is_not_reached_tells_what_to_look_at(published: Terminal, reader: Terminal) -> None:
    with published.serving(lambda: None, "--listen", "/ip4/127.0.0.1/tcp/0/ws") as address:
        dataset = f"rhizome:{address.rpartition('/')[2]}/main"
        ask = ("query", "first 1 posts", "--from", dataset, "--peer")
        place = address.rpartition("/p2p/")[0]
        assert "peer id that `rhizome id` prints" in hints(reader, *ask, f"{place}/p2p/{SOMEBODY}", code=3)[0]
        assert "does its address end in /ws" in hints(reader, *ask, address.replace("/ws/", "/"), code=3)[0]
    assert hints(reader, *ask, address, code=3) == ["is that peer running?"]


@pytest.mark.parametrize(
    ("level", "says", "command"),
    [
        ("L2", "no peers attest it", "rhizome attestations {} posts.by_tag"),
        ("L3", "L3 is required", "rhizome audit {} posts.by_tag"),
    ],
)
def test_what_is_not_proven_enough_can_be_proven(
    published: Terminal, reader: Terminal, level: str, says: str, command: str
) -> None:
    published("import", "posts", "-", stdin=b"".join(b'{"id": %d, "tags": ["x"]}\n' % n for n in range(200)))
    with published.serving() as address:
        dataset = f"rhizome:{address.rpartition('/')[2]}/main"
        words = ("query", "first 1 posts tagged #cats", "--from", dataset, "--peer", address, "--require", level)
        code, _, err = reader.in_a_child(*words)
        assert code == 6 and says in err.splitlines()[0], err
        assert command.format(dataset) in err.splitlines()[1] and f"rhizome follow {dataset}" in err.splitlines()[-1]


def test_levels_are_those_that_the_help_names(published: Terminal) -> None:
    assert "levels are L1 to L5" in hints(published, "query", "first 1 posts", "--require", "L9")[0]


@pytest.mark.parametrize("port", ["65536", "99999", "99999/ws"])
def test_a_port_that_is_too_large_is_named(rhizome: Terminal, port: str) -> None:
    says = f"port {port.removesuffix('/ws')} is too large"
    rhizome.fails("node", "--listen", f"/ip4/127.0.0.1/tcp/{port}", code=2, says=says)


def test_a_scenario_that_is_not_there(rhizome: Terminal, tmp_path: Path) -> None:
    rhizome.fails("simulate", str(tmp_path / "nofile.py"), code=2, says="no file ")
    rhizome.fails("simulate", str(tmp_path / "nofile.py"), code=2, says="nofile.py")
    assert hints(rhizome, "simulate", "cold_strt")[0].startswith('did you mean "cold_start"?')


def test_how_far_behind_is_what_is_known_here(published: Terminal, reader: Terminal) -> None:
    with published.serving() as address:
        dataset = f"rhizome:{address.rpartition('/')[2]}/main"
        reader("follow", dataset, "--later")
        row = json.loads(reader("follows", "--json")[0])
        assert (row["head"], row["newest_known"], row["behind"]) == (None, None, None), "nobody was asked"
        assert reader.in_a_child("sync", "--peer", address)[0] == 0
        published("put", "posts", '{"id": "c"}')
        row = json.loads(reader("follows", "--json")[0])
        assert (row["head"], row["newest_known"], row["behind"]) == (1, 1, 0)
