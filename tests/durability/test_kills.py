"""Processes are killed at any instant: what they said stands, and what they had received need not come again."""

from __future__ import annotations

import fcntl
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
from rhizome_index.index.head import Head, open_head
from rhizome_index.node.mend import missing_blocks
from rhizome_index.node.reach import Place
from tests.durability.story import check_store
from tests.node.test_following import roots
from tests.test_docs import node as serving

CID_BYTES = 36
ENTRY_BYTES = CID_BYTES + 4


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


@dataclass
class Reader:
    """A home that follows, and what it has received in all its lives."""

    home: Path
    sizes: dict[bytes, int] = field(default_factory=dict)
    received_bytes: int = 0

    async def sync(self, peer: str, blocks: int, seconds: float) -> bool:
        """Sync, but be killed so long after so many blocks; whether it came to its end before."""
        read, write = os.pipe()
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)  # so that it does not run far ahead of what it says
        command = [sys.executable, "-m", "tests.durability.receiving", str(write), "--home", str(self.home), "sync"]
        process = await trio.lowlevel.open_process([*command, "--peer", peer], pass_fds=[write], stdout=DEVNULL)
        os.close(write)
        async with trio.lowlevel.FdStream(read) as told:
            while blocks > 0 and await self._note(told):
                blocks -= 1
            with trio.move_on_after(seconds):
                while await self._note(told):
                    pass
                await process.wait()
            process.kill()  # which may be too late
            while await self._note(told):
                pass
        code = await process.wait()
        assert code in (0, -signal.SIGKILL)
        return code == 0

    async def _note(self, told: trio.lowlevel.FdStream) -> bool:
        """Note one block that the process says that it has received; whether there was one."""
        entry = bytes(await told.receive_some(ENTRY_BYTES))
        if entry:
            self.sizes[entry[:CID_BYTES]] = size = int.from_bytes(entry[CID_BYTES:], "big")
            self.received_bytes += size
        return bool(entry)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
async def test_a_killed_sync_goes_on_where_it_was(tmp_path: Path, seed: int) -> None:
    """Killed again and again, in the midst of fetching or behind it, until it comes to its end all the same."""
    chance = random.Random(seed)
    reader = Reader(tmp_path / "reader")
    async with open_node(tmp_path / "publisher") as publisher:
        await publisher.collection("posts").create(indexes={"by_tag": "tags,-created"})
        publisher.peer.publisher.put_many("main", "posts", posts(30_000, 1), big=True)
        address = publisher.peer.publisher.address("main")
        published, wanted = publisher.catalog[address], roots(publisher, address)
    async with open_node(reader.home) as node:
        node.follow(address)
    kills = 0
    with serving(tmp_path / "publisher") as peer:
        while not await reader.sync(peer, chance.randint(1, 300), chance.choice((0, 0.3)) * chance.random()):
            kills += 1
    async with open_node(reader.home) as node:
        assert node.catalog[address] == published and roots(node, address) == wanted
        assert not missing_blocks(node.peer.store, published)
    distinct = sum(reader.sizes.values())
    assert kills > 1 and distinct > 5_000_000
    assert reader.received_bytes <= 1.05 * distinct, (kills, reader.received_bytes, distinct)
