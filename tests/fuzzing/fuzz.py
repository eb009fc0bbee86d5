"""Fuzz every decoder for a while: `python -m tests.fuzzing.fuzz [--seconds 600] [--inputs N] [--target NAME]…`.

With coverage guidance by atheris where that is installed (`pip install atheris`), otherwise
by changing the conformance vectors at random. Each target has a process of its own and an
equal share of the seconds, which are those of computing. With --inputs it goes round again,
from other seeds, until the targets have been given so many altogether. Inputs that reached
something new are kept in --corpus, and the next round, or run, begins with them.

It ends with a table and, where something was found, with exit code 1: an exception that is
not documented, an input above INPUT_SECONDS_MAX of computing, or one that took more than
INPUT_MEMORY_BYTES_MAX of memory. What was found is kept in --keep.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from hashlib import sha256
from io import StringIO
from pathlib import Path
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


@dataclass(frozen=True)
class Course:
    """How one target is fuzzed: for so many seconds of computing, from a seed, with a corpus of its own."""

    seconds: float
    seed: int
    corpus: Path
    keep: Path


def fuzz_plainly(watch: Watch, course: Course) -> NoReturn:
    """Inputs that know nothing of coverage."""
    until = time.process_time() + course.seconds
    inputs = changed(watch.begin, course.seed)
    while time.process_time() < until:
        for _ in range(100):
            watch.take(next(inputs))
    end(watch)


def fuzz_guided(atheris: Any, watch: Watch, course: Course) -> None:
    """Inputs that atheris makes, by what they reach. It ends the process, and so does this."""
    until = time.process_time() + course.seconds

    def take(data: bytes) -> None:
        watch.take(data)
        if not watch.inputs % 16 and time.process_time() > until:
            end(watch)

    course.corpus.mkdir(parents=True, exist_ok=True)
    for data in watch.begin:
        (course.corpus / sha256(data).hexdigest()[:40]).write_bytes(data)
    limits = [
        f"-max_len={INPUT_BYTES_MAX}",
        "-rss_limit_mb=0",
        "-timeout=60",
        "-verbosity=0",
        "-print_final_stats=0",
    ]
    atheris.Setup([sys.argv[0], *limits, f"-seed={course.seed}", str(course.corpus)], take)
    atheris.Fuzz()


def end(watch: Watch) -> NoReturn:
    """Say what came of it, and leave at once: an engine would do it in its own way."""
    print(watch.report(), flush=True)
    os._exit(0)


def load(*, plainly: bool) -> tuple[Mapping[str, Any], Callable[[Watch, Course], None]]:
    """The targets, ready for the engine that is there, and that engine."""
    try:
        import atheris
    except ImportError:
        atheris = None
    if atheris is None or plainly:
        from tests.fuzzing.targets import TARGETS

        return TARGETS, fuzz_plainly
    with redirect_stderr(StringIO()), atheris.instrument_imports(include=["rhizome_index"]):
        from tests.fuzzing.targets import TARGETS
    return TARGETS, lambda watch, course: fuzz_guided(atheris, watch, course)


def fuzz_in_a_process(
    name: str, target: Any, engine: Callable[[Watch, Course], None], course: Course
) -> dict[str, Any]:
    """The report of a child of this process that fuzzes one target."""
    told, tell = os.pipe()
    child = os.fork()
    if not child:
        os.close(told)
        os.dup2(tell, 1)
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 (a device; the engine is talkative)
            os.dup2(nowhere.fileno(), 2)
        engine(Watch(name, target, course.keep), course)
        os._exit(1)
    os.close(tell)
    with os.fdopen(told, encoding="utf-8", errors="replace") as stream:
        lines = [line for line in stream if line.startswith("{")]
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code or not lines:
        what = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return {"target": name, "inputs": 0, "slowest_ms": 0.0, "grown_mib": 0.0, "found": [f"it ended with {what}"]}
    found: dict[str, Any] = json.loads(lines[-1])
    return found


@dataclass
class Tally:
    """What has come of a target in all rounds."""

    inputs: int = 0
    slowest_ms: float = 0.0
    grown_mib: float = 0.0
    found: list[str] = field(default_factory=list)

    def add(self, report: Mapping[str, Any]) -> None:
        self.inputs += report["inputs"]
        self.slowest_ms = max(self.slowest_ms, report["slowest_ms"])
        self.grown_mib = max(self.grown_mib, report["grown_mib"])
        self.found += [what for what in report["found"] if what not in self.found]

    def line(self, name: str) -> str:
        return f"{name:20}{self.inputs:>12,}{self.slowest_ms:>9.1f} ms{self.grown_mib:>6.0f} MiB"


def read_words() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Fuzz every decoder for a while.")
    parser.add_argument("--seconds", type=float, default=600, help="of computing, over all targets; of each round")
    parser.add_argument("--inputs", type=int, default=0, help="go round again until there were so many")
    parser.add_argument("--target", action="append", help="only this one; may be repeated")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=Path(".fuzz"), help="where what was found is kept")
    parser.add_argument(
        "--corpus", type=Path, default=Path(".fuzz/corpus"), help="where inputs are that reach something"
    )
    parser.add_argument("--plainly", action="store_true", help="without coverage, even where atheris is installed")
    return parser.parse_args()


def main() -> None:
    given = read_words()
    targets, engine = load(plainly=given.plainly)
    unknown = [name for name in given.target or () if name not in targets]
    if unknown:
        sys.exit(f"no such target: {unknown[0]!r}; there are: {', '.join(targets)}")
    tallies = {name: Tally() for name in given.target or targets}
    rounds = 0
    while not rounds or sum(tally.inputs for tally in tallies.values()) < given.inputs:
        for name, tally in tallies.items():
            corpus = given.corpus.absolute() / name.replace(" ", "-")
            course = Course(given.seconds / len(tallies), given.seed + rounds, corpus, given.keep)
            tally.add(fuzz_in_a_process(name, targets[name], engine, course))
        rounds += 1
        inputs, found = (
            sum(tally.inputs for tally in tallies.values()),
            any(tally.found for tally in tallies.values()),
        )
        print(f"round {rounds}: {inputs:,} inputs so far, {'something' if found else 'nothing'} found", flush=True)
    print(f"{'target':20}{'inputs':>12}{'slowest':>12}{'grown':>10}")
    for name, tally in tallies.items():
        print("\n".join([tally.line(name), *(f"    {what.strip()}" for what in tally.found)]))
    print(f"{'all':20}{inputs:>12,}   {f'see {given.keep}' if found else 'nothing found'}")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
