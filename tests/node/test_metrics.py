"""Metrics as they are scraped: in a format that the library reads, documented, and bounded for whoever connects."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse

from rhizome_index.errors import StoreError, UsageError
from rhizome_index.limits import METRICS_CONNECTIONS_MAX, METRICS_REQUEST_BYTES_MAX
from rhizome_index.node import exposition
from rhizome_index.node.exposition import Scrapes, open_scrapes, parse_endpoint
from rhizome_index.node.metrics import Metrics
from rhizome_index.node.tally import DONE, Durations
from rhizome_index.wire import ask, heads
from tests.node.test_following import a_pair
from tests.node.test_full_disk import until

DOCUMENTED = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")


class Values(dict[tuple[str, tuple[tuple[str, str], ...]], float]):
    """Samples by name and labels."""

    def of(self, name: str, **labels: str) -> float:
        return self[name, tuple(sorted(labels.items()))]


def read(text: str, parser: Any = parse) -> Values:
    found = Values()
    for family in parser(text):
        for sample in family.samples:
            found[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    return found


async def connect(scrapes: Scrapes) -> trio.SocketStream:
    host, port = re.fullmatch(r"http://(.*):(\d+)/metrics", scrapes.url).groups()  # type: ignore[union-attr]
    return await trio.open_tcp_stream(host, int(port))


async def say(scrapes: Scrapes, data: bytes) -> tuple[int, dict[str, str], str]:
    """The status, headers and body of what is answered to these bytes; 0 for no answer."""
    async with await connect(scrapes) as stream:
        found = b""
        try:
            await stream.send_all(data)
            async for part in stream:
                found += part
        except trio.BrokenResourceError:
            pass
    if not found:
        return 0, {}, ""
    head, _, body = found.partition(b"\r\n\r\n")
    status, *headers = head.decode().split("\r\n")
    return int(status.split()[1]), {k.lower(): v for k, v in (h.split(": ", 1) for h in headers)}, body.decode()


def request(method: str = "GET", target: str = "/metrics", **headers: str) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: x", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@asynccontextmanager
async def scraping(tmp_path: Path) -> AsyncIterator[tuple[Any, Any, Any, Scrapes]]:
    async with (
        a_pair(tmp_path) as (publisher, reader, address),
        open_scrapes("0") as scrapes,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(scrapes.serve, reader.peer)
        yield publisher, reader, address, scrapes
        nursery.cancel_scope.cancel()


async def test_a_scrape_says_what_has_happened(tmp_path: Path) -> None:
    async with scraping(tmp_path) as (publisher, reader, address, scrapes):
        reader.follow(address)
        await reader.sync(address)
        status, headers, text = await say(scrapes, request())
        assert status == 200 and headers["content-type"].startswith("text/plain; version=0.0.4")
        assert int(headers["content-length"]) == len(text.encode())
        found = read(text)
        assert found.of("rhizome_connected_peers") == found.of("rhizome_listen_addresses") == 1
        assert found.of("rhizome_open_streams") >= 2  # heads and sync, kept open
        assert found.of("rhizome_received_bytes_total", protocol=heads.PROTOCOL) > 0
        assert found.of("rhizome_streams_total", protocol=heads.PROTOCOL, direction="out") == 1
        assert found.of("rhizome_dials_total", outcome=DONE) == 1
        assert found.of("rhizome_syncs_total", outcome=DONE) == found.of("rhizome_follows", state="kept") == 1
        assert found.of("rhizome_follow_head", dataset=str(address)) == publisher.catalog[address].sequence
        assert found.of("rhizome_follow_behind_heads", dataset=str(address)) == 0
        assert found.of("rhizome_store_writable") == 1 and found.of("rhizome_store_bytes") >= 16384
        assert found.of("process_open_fds") > 3
        reader.peer.store.problem = "the disk is full"
        assert read((await say(scrapes, request()))[2]).of("rhizome_store_writable") == 0
        served = read(Metrics(publisher.peer).exposed("")[0].decode())
        assert served.of("rhizome_answers_total", protocol=heads.PROTOCOL, outcome=DONE) >= 1
        assert served.of("rhizome_answer_wait_seconds_count") >= served.of("rhizome_answer_seconds_count") >= 2
        assert served.of("rhizome_answer_seconds_bucket", le="+Inf") == served.of("rhizome_answer_seconds_count")
        assert not any(publisher.peer_id in str(key) for key in found if not key[0].startswith("rhizome_follow_"))


async def test_every_metric_is_documented_and_none_besides(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as (_, reader, address):
        reader.follow(address)
        await reader.sync(address)
        reader.peer.joined().swarm.tally.note_answer("somebody", ask.PROTOCOL, DONE)
        await until(lambda: reader.peer.joined().follower.states[address].checked_at)
        text = Metrics(reader.peer).exposed("")[0].decode()
        documented = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", DOCUMENTED, re.MULTILINE))
        families = {family.name: family for family in parse(text) if family.name.startswith("rhizome_")}
        names = {f"{name}_total" if family.type == "counter" else name for name, family in families.items()}
        assert names == documented.keys()
        for name, labels in documented.items():
            family = families[name.removesuffix("_total")]
            assert family.documentation and family.samples, name
            for sample in family.samples:
                if not sample.name.endswith(("_sum", "_count")):
                    assert set(sample.labels) == set(re.findall(r"`(\w+)`", labels))


async def test_a_collector_may_want_another_format(tmp_path: Path) -> None:
    async with scraping(tmp_path) as (_, _, _, scrapes):
        accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
        status, headers, text = await say(scrapes, request(Accept=accept))
        assert status == 200 and headers["content-type"].startswith("application/openmetrics-text")
        assert read(text, parse_open).of("rhizome_connected_peers") == 1


async def test_a_store_that_cannot_be_read_hides_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_pair(tmp_path) as (_, reader, _):

        def fail(*_: Any) -> Any:
            raise StoreError("the disk fails")

        monkeypatch.setattr(reader.peer.store, "execute", fail)
        assert read(Metrics(reader.peer).exposed("")[0].decode()).of("rhizome_connected_peers") == 1


# --- whoever connects ---


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (request("HEAD"), 200),
        (request(target="/metrics?name[]=x"), 200),
        (request(target="/"), 404),
        (request(target="/metrics/x"), 404),
        (request("POST"), 405),
        (b"hello\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (request(Long="x" * (METRICS_REQUEST_BYTES_MAX - 200)), 200),
        (request(Long="x" * 2 * METRICS_REQUEST_BYTES_MAX), 431),
    ],
    ids=lambda item: repr(item)[:30],
)
async def test_what_is_asked_for_otherwise(tmp_path: Path, data: bytes, status: int) -> None:
    async with scraping(tmp_path) as (_, _, _, scrapes):
        found, headers, body = await say(scrapes, data)
        assert found == status and headers["connection"] == "close"
        assert bool(body) == (not data.startswith(b"HEAD"))


async def test_as_many_scrapes_as_allowed_and_one_more(tmp_path: Path) -> None:
    async with scraping(tmp_path) as (_, _, _, scrapes):
        waiting = [await connect(scrapes) for _ in range(METRICS_CONNECTIONS_MAX)]
        await until(lambda: scrapes._connections == METRICS_CONNECTIONS_MAX)
        assert (await say(scrapes, request()))[0] == 0
        await waiting.pop().aclose()
        await until(lambda: scrapes._connections < METRICS_CONNECTIONS_MAX)
        assert (await say(scrapes, request()))[0] == 200
        for stream in waiting:
            await stream.aclose()


async def test_who_says_nothing_does_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposition, "METRICS_TIMEOUT_SECONDS", 0.01)
    async with scraping(tmp_path) as (_, _, _, scrapes):
        assert (await say(scrapes, b"GET"))[0] == 0


# --- where ---


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("9464", ("127.0.0.1", 9464)),
        (":0", ("127.0.0.1", 0)),
        ("0.0.0.0:65535", ("0.0.0.0", 65535)),
        ("[::1]:9464", ("::1", 9464)),
        ("localhost:80", ("localhost", 80)),
    ],
)
def test_where_metrics_may_be_served(text: str, endpoint: tuple[str, int]) -> None:
    assert parse_endpoint(text) == endpoint


@pytest.mark.parametrize("text", ["", "x", "127.0.0.1", "1:2:3", "::1:80", "65536", "-1", "٣", "http://x:80", "[x]:80"])
def test_where_they_may_not(text: str) -> None:
    with pytest.raises(UsageError, match="cannot serve metrics on"):
        parse_endpoint(text)


async def test_a_port_that_is_taken() -> None:
    async with open_scrapes("0") as scrapes:
        port = scrapes.url.rpartition(":")[2].removesuffix("/metrics")
        with pytest.raises(UsageError, match=f"cannot serve metrics on {port}: "):
            async with open_scrapes(port):
                pass
    async with open_scrapes(port):
        pass


def test_a_histogram_adds_up(tmp_path: Path) -> None:
    from rhizome_index.node.metrics import _histogram

    durations = Durations()
    for seconds in (0.0005, 0.05, 0.05, 100.0):
        durations.note(seconds)
    buckets = {sample.labels["le"]: sample.value for sample in _histogram("x", "x", durations).samples if sample.labels}
    assert buckets == {"0.001": 1, "0.01": 1, "0.1": 3, "1.0": 3, "10.0": 3, "+Inf": 4}
