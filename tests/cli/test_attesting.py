"""`attestations` in a terminal: whom it asks, and what it says where it asks nobody."""

from __future__ import annotations

import json

from tests.cli.terminal import Terminal
from tests.cli.test_running import without_libp2p


def test_it_asks_those_whom_find_finds(published: Terminal, reader: Terminal) -> None:
    with published.serving() as address:
        peer = address.rpartition("/")[2]
        dataset = f"rhizome:{peer}/main"
        reader("find", dataset, "--peer", address)
        code, out, err = reader.in_a_child("attestations", dataset, "posts.by_tag", "--json")
        assert code == 0, err
        found = json.loads(out)
        assert found["peers"] == [peer] and found["round_trips"] > 0 and found["attestations"] == []


def test_it_says_that_nobody_was_asked(published: Terminal, reader: Terminal) -> None:
    dataset = json.loads(published("status", "--json")[0])["datasets"][0]["address"]
    published.child_fails("attestations", dataset, "posts.by_tag", code=3, says="nobody was asked")
    reader.child_fails("attestations", dataset, "posts.by_tag", code=3, says="nobody was asked")


def test_it_asks_over_the_connections_of_the_running_node(published: Terminal, reader: Terminal) -> None:
    with published.serving() as address, reader.serving(lambda: None, "--peer", address):
        peer = address.rpartition("/")[2]
        words = ("attestations", f"rhizome:{peer}/main", "posts.by_tag", "--json")
        code, out, err = reader.in_a_child(*words, prepare=without_libp2p)
        assert code == 0 and json.loads(out)["peers"] == [peer], err
