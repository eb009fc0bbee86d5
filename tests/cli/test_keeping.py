"""Pins, the quota and gc, as they are used in a terminal: alone, and beside a running node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rhizome_index.cli.sizes import parse_size
from rhizome_index.errors import UsageError
from rhizome_index.limits import QUOTA_BYTES_DEFAULT, QUOTA_BYTES_MAX, QUOTA_BYTES_MIN
from tests.cli.terminal import Terminal
from tests.cli.test_running import QUERY, both_running


def as_json(terminal: Terminal, *words: str) -> Any:
    return json.loads(terminal(*words, "--json")[0])


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("500000000", 500_000_000),
        ("500MB", 500_000_000),
        ("2 GB", 2_000_000_000),
        ("2g", 2_000_000_000),
        ("1.5GiB", 3 * 2**29),
        ("3 mib", 3 * 2**20),
        ("1TB", 10**12),
        ("7 b", 7),
        (" 7kB ", 7000),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "2 XB", "2ib", "i", "1e9", "1,5GB", "٣GB", "2GBs", "1" * 19, "nan"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError, match="not a size"):
        parse_size(text)


def test_a_quota_is_shown_and_kept(published: Terminal) -> None:
    assert as_json(published, "quota")["quota_bytes"] == QUOTA_BYTES_DEFAULT
    assert "quota 2.0 GB for what is kept of others" in published("quota", "2GB")[0]
    assert as_json(published, "status")["room"]["quota_bytes"] == 2_000_000_000
    for least in (QUOTA_BYTES_MIN, QUOTA_BYTES_MAX):
        assert as_json(published, "quota", str(least))["quota_bytes"] == least
    for wrong in (QUOTA_BYTES_MIN - 1, QUOTA_BYTES_MAX + 1):
        published.fails("quota", str(wrong), code=2, says="is out of range")
    published.fails("quota", "plenty", code=2, says="not a size: 'plenty'")
    assert "no quota" in published("quota", "none")[0]
    room = as_json(published, "status")["room"]
    assert room["quota_bytes"] is None and room["own_bytes"] > 0 == room["followed_bytes"]


def test_a_snapshot_of_ones_own_is_pinned_and_let_go(published: Terminal) -> None:
    address = as_json(published, "status")["datasets"][0]["address"]
    published("put", "posts", '{"id": "z"}')
    said = as_json(published, "pin", address, "--head", "1")
    assert (said["address"], said["head"], said["bytes_received"]) == (address, 1, 0)
    published("pin", address)
    rows = [json.loads(row) for row in published("pins", "--json")[0].splitlines()]
    assert [(row["head"], row["bytes"] > 0) for row in rows] == [(1, True), (2, True)]
    assert rows[0]["manifest"] == said["manifest"]
    published("unpin", address, "--head", said["manifest"])
    published.fails("unpin", address, "--head", "1", code=2, says="no such head")
    assert published("unpin", address)[0] == f"unpinned 1 head of {address}\n"
    published.fails("unpin", address, code=2, says="no such head")
    published.fails("pin", address, "--head", "99", code=3, says="no head 99")
    published.fails("pin", address, "--head", "bafy", code=2, says="bafy")
    published.fails("pin", "nonsense", code=2, says="nonsense")
    assert published("pins")[0] == ""


def test_gc_without_a_node(published: Terminal) -> None:
    for number in range(20):
        published("put", "posts", f'{{"id": "z", "n": {number}}}')
    tried = as_json(published, "gc", "--dry-run")
    assert tried.pop("dry_run") and tried["freed_blocks"] > 0
    found = as_json(published, "gc")
    assert not found.pop("dry_run") and found == tried
    assert published("gc")[0].startswith("freed 0 blocks, 0 B\nkept ")
    assert "gc       " in published("status")[0]


def test_pins_and_gc_beside_a_running_node(published: Terminal, reader: Terminal) -> None:
    with both_running(published, reader) as (_, dataset):
        reader("query", QUERY, "--from", dataset)
        pinned = as_json(reader, "pin", dataset)
        assert pinned["head"] == 1 and pinned["bytes_received"] > 0
        published("put", "posts", '{"id": "z", "tags": ["cats"]}')
        reader("quota", "1MB")
        tried = as_json(reader, "gc", "--dry-run")
        found = as_json(reader, "gc")
        assert tried.pop("dry_run") and not found.pop("dry_run")
        assert found["pinned_bytes"] == tried["pinned_bytes"] == pinned["bytes"]
        node = as_json(reader, "status")["node"]
        assert node["room"]["pinned_bytes"] == pinned["bytes"] and node["room"]["collected_seconds"] >= 0
        assert "kept" in reader("gc")[0]
        assert "pinned" in reader("top")[0]
    assert [json.loads(row)["head"] for row in reader("pins", "--json")[0].splitlines()] == [1]
    assert as_json(reader, "gc")["pinned_bytes"] == pinned["bytes"]


def test_what_was_restored_stays(published: Terminal, reader: Terminal, tmp_path: Path) -> None:
    file = str(tmp_path / "x.car")
    published("export", file)
    assert reader("restore", file)[0].endswith(" blocks, pinned\n")
    (row,) = reader("pins", "--json")[0].splitlines()
    assert json.loads(row)["head"] == 1
    assert as_json(reader, "gc")["pinned_bytes"] == json.loads(row)["bytes"]
    assert "pinned" not in published("restore", file)[0], "one's own stays anyway"
