"""What it takes a fresh process to confirm a fraud proof: Python's own start, all that `rhizome verify` adds, and what
of that is the check, with nothing cached.

python -m tests.benchmarks.confirming [TIMES]
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rhizome_index.trust.fraud import ENTRY, Claim
from tests.benchmarks.report import say
from tests.trust.lying import accused, entries_of
from tests.trust.test_lies import INDEX, honest, lies_about

TIMES = 21


CHECK = """
import sys, time
from rhizome_index.node.archive import verify
with open(sys.argv[1], "rb") as file:
    started = time.perf_counter()
    verify(file)
    print((time.perf_counter() - started) * 1000)
"""


def milliseconds_of(times: int, *arguments: str) -> float:
    """The median time of a process from its start to its end."""
    found = []
    for _ in range(times):
        started = time.perf_counter()
        subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
        found.append((time.perf_counter() - started) * 1000)
    return statistics.median(found)


def report(times: int) -> None:
    """An entry missing, changed, and too many, of an index of 10,000 entries."""
    _, after, _ = honest()
    key, value = entries_of(after, INDEX)[5000]
    bare = milliseconds_of(times, "-c", "pass")
    say("Python starts and ends", f"{bare:.0f} ms")
    with tempfile.TemporaryDirectory() as folder:
        for what, wrong, lie in lies_about(after, key, value):
            path = Path(folder) / f"{what}.car"
            path.write_bytes(accused(lie, Claim(ENTRY, "posts", INDEX, wrong)).encode())
            whole = milliseconds_of(times, "-m", "rhizome_index.cli", "verify", str(path))
            checks = [subprocess.check_output([sys.executable, "-c", CHECK, str(path)]) for _ in range(times)]
            check = statistics.median(map(float, checks))
            say(f"an entry {what}: all of `rhizome verify`", f"{whole:.0f} ms", f"+ {whole - bare:.0f} ms")
            say("  of it the check itself", f"{check:.1f} ms", f"{path.stat().st_size:,} B", "", "50 ms, 100 kB")


if __name__ == "__main__":
    report(int(sys.argv[1]) if len(sys.argv) > 1 else TIMES)
