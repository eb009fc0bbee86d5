"""Processes are killed at any instant: what they said stands, and what they had received need not come again."""

from __future__ import annotations

import fcntl
import json
import os
import random
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import DEVNULL

import pytest
import trio

from rhizome_index.api import open_node
from rhizome_index.cli.samples import posts
from rhizome_index.errors import UnavailableError
from rhizome_index.index.head import Head, open_head
from rhizome_index.limits import FRAME_BYTES_MAX
from rhizome_index.node.mend import missing_blocks
from rhizome_index.node.reach import Place
from tests.durability.receiving import ENTRY_BYTES
from tests.durability.story import check_store
from tests.node.test_following import roots

CID_BYTES = 36
IN_THE_MIDST = 8


def killed(path: Path, seed: int, heads: int, seconds: float) -> list[Head]:
    """A publisher's life until so long after it has said so many heads; the heads that it said stand."""
    command = [sys.executable, "-m", "tests.durability.publishing", str(path), str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(heads)]
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        process.kill()
        said += process.stdout.readlines()
    assert process.returncode == -signal.SIGKILL
    return [open_head(bytes.fromhex(line.decode())) for line in said if line.endswith(b"\n")]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_what_a_killed_publisher_said_stands(tmp_path: Path, seed: int) -> None:
    """200 kills, in the first moments of a life or later on; one publisher goes on where the one before it was."""
    chance = random.Random(seed)
    told: list[Head] = []
    seen: set[Place] = set()
    for number in range(20):
        heads, seconds = chance.choice(((0, 1.0), (chance.randint(1, 15), 0.1)))
        told += killed(tmp_path / "store", chance.randrange(10**6), heads, seconds * chance.random())
        if number == 19:
            seen.clear()  # everything again
        check_store(tmp_path / "store", list(told), told.append, number + 1, seen)
    assert len(told) > 60


class Serving:
    """A home that serves, always at the same address."""

    def __init__(self, home: Path) -> None:
        self._command = [sys.executable, "-m", "rhizome_index.cli", "--home", str(home), "node", "--json", "--listen"]
        self._listen = "/ip4/127.0.0.1/tcp/0"
        self.process: subprocess.Popen[bytes] | None = None
        self.address = ""

    def start(self) -> None:
        self.process = subprocess.Popen([*self._command, self._listen], stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self.address = json.loads(self.process.stdout.readline())["addresses"][0]
        self._listen, _, _ = self.address.partition("/p2p/")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        with self.process:
            pass


@dataclass
class Reader:
    """A home that follows, and what it has received in all its lives."""

    home: Path
    sizes: dict[bytes, int] = field(default_factory=dict)
    received_bytes: int = 0

    async def sync(self, peer: str, blocks: int, seconds: float, other: Serving | None) -> bool:
        """Sync, but so long after so many blocks be killed, or else the other one; whether it came to its end."""
        read, write = os.pipe()
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, ENTRY_BYTES)  # so that it does not run ahead of what it says
        command = [sys.executable, "-m", "tests.durability.receiving", str(write), "--home", str(self.home), "sync"]
        process = await trio.lowlevel.open_process(
            [*command, "--peer", peer], pass_fds=[write], stdout=DEVNULL, stderr=DEVNULL
        )
        os.close(write)
        async with trio.lowlevel.FdStream(read) as told:
            while blocks > 0 and await self._note(told):
                blocks -= 1
            with trio.move_on_after(seconds):
                while await self._note(told):
                    pass
                await process.wait()
            (other or process).kill()  # which may be too late
            while await self._note(told):
                pass
        code = await process.wait()
        assert code in (0, -signal.SIGKILL if other is None else UnavailableError.exit_code)
        return code == 0

    async def _note(self, told: trio.lowlevel.FdStream) -> bool:
        """Note one block that the process says that it has received; whether there was one."""
        entry = bytes(await told.receive_some(ENTRY_BYTES))
        if len(entry) == ENTRY_BYTES:
            self.sizes[entry[:CID_BYTES]] = size = int.from_bytes(entry[CID_BYTES : CID_BYTES + 4], "big")
            self.received_bytes += size
        return bool(entry)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
async def test_a_sync_goes_on_where_it_was_whichever_side_is_killed(tmp_path: Path, seed: int) -> None:
    """Some 100 kills: in the midst of fetching or behind it, again and again until the sync has come to its end."""
    chance = random.Random(seed)
    reader, publisher = Reader(tmp_path / "reader"), Serving(tmp_path / "publisher")
    async with open_node(tmp_path / "publisher") as node:
        await node.collection("posts").create(indexes={"by_tag": "tags,-created"})
        node.peer.publisher.put_many("main", "posts", posts(30_000, 1), big=True)
        address = node.peer.publisher.address("main")
        published, wanted = node.catalog[address], roots(node, address)
    async with open_node(reader.home) as node:
        node.follow(address)
    kills = {"reader": 0, "publisher": 0}
    try:
        publisher.start()
        is_done = False
        while not is_done:
            # First each side in turn in the midst of fetching, however fast this machine is; then at any moment.
            count = sum(kills.values())
            side = list(kills)[count % 2] if count < IN_THE_MIDST else chance.choice(list(kills))
            seconds = 0 if count < IN_THE_MIDST else chance.choice((0, 0.3)) * chance.random()
            blocks = chance.randint(1, 120)
            is_done = await reader.sync(publisher.address, blocks, seconds, publisher if side == "publisher" else None)
            kills[side] += not is_done
            if side == "publisher":
                publisher.start()
    finally:
        publisher.kill()
    async with open_node(reader.home) as node:
        assert node.catalog[address] == published and roots(node, address) == wanted
        assert not missing_blocks(node.peer.store, published)
    distinct = sum(reader.sizes.values())
    print(f"{kills} killed; {len(reader.sizes):,} blocks, {reader.received_bytes:,} bytes received of {distinct:,}")
    assert min(kills.values()) >= IN_THE_MIDST / 2 and distinct > 5_000_000
    again = reader.received_bytes - distinct
    assert again <= min(0.05 * distinct, FRAME_BYTES_MAX * kills["reader"]), "a kill costs a frame"
