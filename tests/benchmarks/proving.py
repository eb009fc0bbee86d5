"""What it costs to have more proven than an answer, over loopback: an audit of a large index from an empty home, and
the step to the next head.

python -m tests.benchmarks.proving HOME     a home made by `python -m tests.benchmarks.samples POSTS HOME`, of which
                                            some posts are changed
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import trio

from rhizome_index.api import open_node
from rhizome_index.index.address import Address
from rhizome_index.node.audit import Audited
from rhizome_index.node.carry import Carried
from rhizome_index.node.home import Home
from rhizome_index.node.publish import Publisher
from tests.benchmarks.asking import serving
from tests.benchmarks.report import say

INDEXES = ("by_tag", "by_author")
CHANGED = 100


async def audit_cold(home: Path, address: Address, index: str) -> Audited:
    """An audit of 99% confidence in less than 1% being wrong, by a peer that has nothing."""
    with serving(home) as peers, tempfile.TemporaryDirectory() as folder:
        async with open_node(Path(folder) / "auditor", peers=peers) as auditor:
            return await auditor.audit(address, "posts", index)


def changed(home: Path, keys: list[str]) -> None:
    """Publish other numbers of likes of some posts."""
    place = Home(home)
    with place.open_store() as store:
        publisher = Publisher(store, place.identity, time.time)
        posts = [publisher.get("main", "posts", key) for key in keys]
        publisher.put_many("main", "posts", [{**post, "likes": post["likes"] + 1} for post in posts if post])


async def carry_on(home: Path, address: Address, index: str, keys: list[str]) -> Carried:
    """The step over a head that changes some posts, by a peer that has audited the one before."""
    with serving(home) as peers, tempfile.TemporaryDirectory() as folder:
        async with open_node(Path(folder) / "auditor", peers=peers) as auditor:
            await auditor.audit(address, "posts", index)
            changed(home, keys)
            return await auditor.carry(address, "posts", index)


def report_steps(home: Path, address: Address, posts: int) -> None:
    """The last posts changed, and some that lie anywhere."""
    random_ = random.Random(time.time())
    choices = {"the last": range(posts - CHANGED, posts), "any": random_.sample(range(posts), CHANGED)}
    for what, numbers in choices.items():
        keys = [f"p{number:08}" for number in numbers]
        for index in INDEXES:
            found = trio.run(carry_on, home, address, index, keys)
            assert found.changes == CHANGED
            cost = f"{found.cost.bytes_received:,} B, {found.cost.round_trips} RTT"
            say(f"step of {index}, {what} {CHANGED} posts", cost, f"{found.cost.seconds:.1f} s", "", "1.5 MB")


def report(home: Path) -> None:
    """Audits of both indexes, and steps."""
    command = [sys.executable, "-m", "rhizome_index.cli", "--home", str(home), "id", "--json"]
    address = Address(json.loads(subprocess.check_output(command))["peer_id"], "main")
    for index in INDEXES:
        found = trio.run(audit_cold, home, address, index)
        what = f"audit of {index}, {found.entries:,} entries"
        samples = f"{found.record_samples} + {found.entry_samples}"
        cost = f"{found.cost.bytes_received:,} B, {found.cost.round_trips} RTT"
        say(what, cost, f"{found.cost.seconds:.1f} s", samples, "12 MB, 15 s")
    report_steps(home, address, found.records)


if __name__ == "__main__":
    report(Path(sys.argv[1]))
