"""What it costs to have more proven than an answer: an audit of a large index from an empty home, over loopback.

python -m tests.benchmarks.proving HOME     a home made by `python -m tests.benchmarks.samples POSTS HOME`
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import trio

from rhizome_index.api import open_node
from rhizome_index.index.address import Address
from rhizome_index.node.audit import Audited
from tests.benchmarks.asking import serving
from tests.benchmarks.report import say

INDEXES = ("by_tag", "by_author")


async def audit_cold(home: Path, address: Address, index: str) -> Audited:
    """An audit of 99% confidence in less than 1% being wrong, by a peer that has nothing."""
    with serving(home) as peers, tempfile.TemporaryDirectory() as folder:
        async with open_node(Path(folder) / "auditor", peers=peers) as auditor:
            return await auditor.audit(address, "posts", index)


def report(home: Path) -> None:
    """Audits of both indexes."""
    command = [sys.executable, "-m", "rhizome_index.cli", "--home", str(home), "id", "--json"]
    address = Address(json.loads(subprocess.check_output(command))["peer_id"], "main")
    for index in INDEXES:
        found = trio.run(audit_cold, home, address, index)
        what = f"audit of {index}, {found.entries:,} entries"
        samples = f"{found.record_samples} + {found.entry_samples}"
        cost = f"{found.cost.bytes_received:,} B, {found.cost.round_trips} RTT"
        say(what, cost, f"{found.cost.seconds:.1f} s", samples, "12 MB, 15 s")


if __name__ == "__main__":
    report(Path(sys.argv[1]))
