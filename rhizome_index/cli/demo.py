"""`demo`: the main job on real input, with real processes and a real network.

One process publishes the bundled emoji and serves them. Another, whose home is
empty, asks it "first 32 emoji tagged #cat" over libp2p on the loopback
interface, proves the answer, and saves it; a third checks the saved answer
offline. Then the same over generated posts.
"""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from rhizome_index.cli.main import Settings, common
from rhizome_index.cli.show import many
from rhizome_index.errors import UnavailableError

_STEP_SECONDS = 120


@click.command("demo", epilog="\b\nExample:\n  rhizome demo --posts 10000")
@click.option("--posts", type=click.IntRange(1000), default=100_000, show_default=True, help="How many posts to make.")
@common
def demo_command(settings: Settings, posts: int) -> None:
    """Publish on one peer, ask from another, prove the answer: in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="rhizome-demo-") as folder:
        home = Path(folder)
        (home / "posts.jsonl").write_bytes(_rhizome(home, "sample", "posts", "--count", str(posts), show=False))
        (home / "emoji.jsonl").write_bytes(_rhizome(home, "sample", "emoji", show=False))
        publish = ["--home", "publisher", "import"]
        _rhizome(home, *publish, "emoji", "emoji.jsonl", "--order", "order", "--index", "by_tag=tags,order")
        _ask(home, "first 32 emoji tagged #cat", "reader")
        indexes = ["--index", "by_tag=tags,-created", "--index", "by_author=author,-created"]
        _rhizome(home, *publish, "posts", "posts.jsonl", "--time", "created", "--order", "-created", *indexes)
        _ask(home, "first 32 posts tagged #cats", "another-reader")


def _ask(home: Path, query: str, reader: str) -> None:
    with _serving(home) as address:
        _rhizome(home, "--home", reader, "query", query, "--peer", address, "--proof", f"{reader}.car")
    saved = _rhizome(home, "verify", f"{reader}.car", show=False)
    print(f"  the saved answer, checked offline by a fresh process: {many(len(saved.splitlines()), 'row')}\n")


@contextmanager
def _serving(home: Path) -> Iterator[str]:
    """The publisher as a node in a process of its own; gives its address."""
    print("$ rhizome --home publisher node &", flush=True)
    command = [sys.executable, "-m", "rhizome_index.cli", "--home", "publisher", "node", "--json"]
    with subprocess.Popen(command, cwd=home, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise UnavailableError("the node did not start")
            yield json.loads(line)["addresses"][0]
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(_STEP_SECONDS)


def _rhizome(home: Path, *words: str, show: bool = True) -> bytes:
    """Run one command of our own as a process; show it and what it prints, its rows shortened."""
    if show:
        print(f"$ rhizome {shlex.join(words)}", flush=True)
    command = [sys.executable, "-m", "rhizome_index.cli", *words]
    result = subprocess.run(command, cwd=home, capture_output=True, timeout=_STEP_SECONDS, check=False)
    if result.returncode:
        raise UnavailableError(f"`{shlex.join(words)}` failed: {result.stderr.decode(errors='replace').strip()}")
    if show:
        for line in result.stdout.decode().splitlines():
            print(f"  {line if len(line) <= 160 else line[:159] + '…'}")
        for line in result.stderr.decode().splitlines():
            if not line.startswith("rhizome: made"):
                print(f"  {line}")
    return result.stdout
