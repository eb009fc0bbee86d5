"""A `rhizome node` in a process of its own, watched from outside: what it uses, counts and prints."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rhizome_index.cli.samples import posts
from rhizome_index.index.address import Address
from rhizome_index.node.home import Home
from rhizome_index.node.publish import Publisher
from rhizome_index.simulation.processes import read_metrics
from tests.benchmarks.samples import DECLARED

LISTEN = ("/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/0/ws")


class NodeProcess:
    """A running node. `errors` is the file with what it prints for people."""

    def __init__(self, home: Path, listen: Sequence[str] = LISTEN, peers: Sequence[str] = ()) -> None:
        options = [word for address in listen for word in ("--listen", address)]
        options += [word for address in peers for word in ("--peer", address)]
        command = [sys.executable, "-m", "rhizome_index.cli", "--home", str(home), "node", "--json", "--metrics", "0"]
        self.errors = home.parent / f"{home.name}.stderr"
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=errors)
        assert self.process.stdout is not None
        said = json.loads(self.process.stdout.readline())
        self.addresses: list[str] = said["addresses"]
        self._metrics_url: str = said["metrics"]

    @property
    def resident_bytes(self) -> int:
        return self._of_status("VmRSS")

    @property
    def peak_bytes(self) -> int:
        return self._of_status("VmHWM")

    def _of_status(self, name: str) -> int:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
        raise AssertionError(name)

    @property
    def open_files(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    @property
    def cpu_seconds(self) -> float:
        return self.metric("process_cpu_seconds_total")

    def metric(self, wanted: str) -> float:
        """A metric, summed over its labels."""
        return read_metrics(self._metrics_url, 30)[wanted]

    def said(self) -> str:
        """What it has printed for people."""
        return self.errors.read_text()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        with self.process:
            self.process.wait(30)

    def kill(self) -> None:
        self.process.kill()
        with self.process:
            pass


@contextmanager
def running(home: Path, listen: Sequence[str] = LISTEN, peers: Sequence[str] = ()) -> Iterator[NodeProcess]:
    node = NodeProcess(home, listen, peers)
    try:
        yield node
    finally:
        node.kill()


def publish(home: Path, count: int) -> Address:
    """So many posts, with two indexes, in a home that is made."""
    return change(home, posts(count, 1))


def change(home: Path, records: Any) -> Address:
    """Put records into a home, beside a node that may be running from it."""
    place = Home(home)
    place.create()
    with place.open_store() as store:
        head, _ = Publisher(store, place.identity, time.time).put_many("main", "posts", records, DECLARED, big=True)
    return head.address


def dialled(address: str) -> tuple[str, int]:
    """The host and port of a TCP multiaddr."""
    _, _, host, _, port, *_ = address.split("/")
    return host, int(port)
