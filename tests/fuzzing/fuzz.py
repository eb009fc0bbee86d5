"""Fuzz every decoder for a while: `python -m tests.fuzzing.fuzz --seconds 600 [--target NAME]… [--seed N]`.

With coverage guidance by atheris where that is installed (`pip install atheris`), otherwise
by changing the conformance vectors at random. Each target has a process of its own and an
equal share of the time. It ends with a table and, where something was found, with exit code
1: an exception that is not documented, an input above INPUT_SECONDS_MAX of computing, or one
that took more than INPUT_MEMORY_BYTES_MAX of memory. What was found is kept in --keep.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
import traceback
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

from tests.fuzzing.inputs import INPUT_BYTES_MAX, changed

INPUT_SECONDS_MAX = 0.1
INPUT_MEMORY_BYTES_MAX = 64 * 1024 * 1024


class Watch:
    """Gives inputs to one target and notes what they cost, and what went wrong."""

    def __init__(self, name: str, target: Any, keep: Path) -> None:
        self.name = name
        self.inputs = 0
        self.slowest_seconds = 0.0
        self.found: list[str] = []
        self._target = target
        self._keep = keep
        self.begin: list[bytes] = list(target.begin())
        for data in self.begin:  # what is made once and for all is no input's fault
            target.take(data)
        self._memory = self._begun_with = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def take(self, data: bytes) -> None:
        """One input."""
        self.inputs += 1
        started = time.thread_time()
        try:
            self._target.take(data)
        except Exception:
            self._note(data, traceback.format_exc(limit=-3))
        seconds = time.thread_time() - started
        self.slowest_seconds = max(self.slowest_seconds, seconds)
        if seconds > INPUT_SECONDS_MAX:
            self._note(data, f"{seconds:.3f} s")
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if (memory - self._memory) * 1024 > INPUT_MEMORY_BYTES_MAX:
            self._note(data, f"{(memory - self._memory) / 1024:.0f} MiB")
        self._memory = memory

    def _note(self, data: bytes, what: str) -> None:
        if what not in self.found and len(self.found) < 20:
            self.found.append(what)
            self._keep.mkdir(parents=True, exist_ok=True)
            name = f"{self.name.replace(' ', '-')}-{sha256(data).hexdigest()[:16]}"
            (self._keep / name).write_bytes(data)
            (self._keep / f"{name}.txt").write_text(what, encoding="utf-8")

    def report(self) -> str:
        """One line of JSON."""
        grown = (self._memory - self._begun_with) / 1024
        return json.dumps(
            {
                "target": self.name,
                "inputs": self.inputs,
                "slowest_ms": round(self.slowest_seconds * 1000, 2),
                "grown_mib": round(grown, 1),
                "found": self.found,
            }
        )


def fuzz_plainly(watch: Watch, seconds: float, seed: int) -> NoReturn:
    """Inputs that know nothing of coverage."""
    until = time.monotonic() + seconds
    inputs = changed(watch.begin, seed)
    while time.monotonic() < until:
        for _ in range(100):
            watch.take(next(inputs))
    end(watch)


def fuzz_guided(atheris: Any, watch: Watch, seconds: float, seed: int) -> None:
    """Inputs that atheris makes, by what they reach. It ends the process, and so does this."""
    until = time.monotonic() + seconds

    def take(data: bytes) -> None:
        watch.take(data)
        if time.monotonic() > until:
            end(watch)

    with TemporaryDirectory() as folder:
        for place, data in enumerate(watch.begin):
            (Path(folder) / str(place)).write_bytes(data)
        limits = [
            f"-max_len={INPUT_BYTES_MAX}",
            "-rss_limit_mb=0",
            "-timeout=60",
            "-verbosity=0",
            "-print_final_stats=0",
        ]
        atheris.Setup([sys.argv[0], *limits, f"-seed={seed}", folder], take)
        atheris.Fuzz()


def end(watch: Watch) -> NoReturn:
    """Say what came of it, and leave at once: an engine would do it in its own way."""
    print(watch.report(), flush=True)
    os._exit(0)


def fuzz_one(name: str, seconds: float, seed: int, keep: Path, *, plainly: bool) -> None:
    """Fuzz one target in this process, which it ends."""
    try:
        import atheris
    except ImportError:
        atheris = None
    if atheris is None or plainly:
        from tests.fuzzing.targets import TARGETS

        fuzz_plainly(Watch(name, TARGETS[name], keep), seconds, seed)
    with atheris.instrument_imports(include=["rhizome_index"]):
        from tests.fuzzing.targets import TARGETS
    fuzz_guided(atheris, Watch(name, TARGETS[name], keep), seconds, seed)


def fuzz_in_a_process(name: str, seconds: float, seed: int, keep: Path, *, plainly: bool) -> dict[str, Any]:
    """The report of a process that fuzzes one target."""
    words = ["--one", name, "--seconds", f"{seconds:g}", "--seed", str(seed), "--keep", str(keep)]
    child = subprocess.run(
        [sys.executable, "-m", "tests.fuzzing.fuzz", *words, *(["--plainly"] if plainly else [])],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in child.stdout.splitlines() if line.startswith("{")]
    if child.returncode or not lines:
        says = f"the process ended with {child.returncode}: {child.stderr[-500:]}"
        return {"target": name, "inputs": 0, "slowest_ms": 0.0, "grown_mib": 0.0, "found": [says]}
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Fuzz every decoder for a while.")
    parser.add_argument("--seconds", type=float, default=600, help="over all targets")
    parser.add_argument("--target", action="append", help="only this one; may be repeated")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=Path(".fuzz"), help="where what was found is kept")
    parser.add_argument("--plainly", action="store_true", help="without coverage, even where atheris is installed")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        fuzz_one(given.one, given.seconds, given.seed, given.keep, plainly=given.plainly)
    from tests.fuzzing.targets import TARGETS

    names = given.target or list(TARGETS)
    inputs, is_sound = 0, True
    print(f"{'target':20}{'inputs':>12}{'slowest':>12}{'grown':>10}")
    for name in names:
        report = fuzz_in_a_process(name, given.seconds / len(names), given.seed, given.keep, plainly=given.plainly)
        inputs += report["inputs"]
        print(
            f"{name:20}{report['inputs']:>12,}{report['slowest_ms']:>9.1f} ms{report['grown_mib']:>6.0f} MiB",
            flush=True,
        )
        for what in report["found"]:
            is_sound = False
            print(f"    {what.strip()}", flush=True)
    print(f"{'all':20}{inputs:>12,}   {'nothing found' if is_sound else f'see {given.keep}'}")
    sys.exit(0 if is_sound else 1)


if __name__ == "__main__":
    main()
