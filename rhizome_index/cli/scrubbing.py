"""The command that looks after the store: scrub."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from rhizome_index.api import open_node
from rhizome_index.cli.main import Settings, common
from rhizome_index.cli.network import PEERS, run
from rhizome_index.cli.show import many, to_json
from rhizome_index.errors import PartialError
from rhizome_index.index.size import say_size
from rhizome_index.node.scrub import Scrubbed, mend, scrub


@click.command(
    "scrub",
    epilog="""\b
Examples:
  rhizome scrub
  rhizome scrub --peer /ip4/10.0.0.7/tcp/4711/p2p/12D3KooW...
""",
)
@PEERS
@common
def scrub_command(settings: Settings, peers: tuple[str, ...]) -> None:
    """Read all that is kept here, set aside what is damaged, and bring back what is missing.

    Exit code 5 says that something is missing still.
    """
    peer_id = settings.home.peer_id
    with settings.home.open_store() as store, progress_bar(settings, store.count_blocks()[0]) as on_blocks:
        found = scrub(store, peer_id, on_blocks)
    if not found.is_whole:
        run(lambda: _mend(settings, found, peers))
    if settings.as_json:
        print(to_json(_told(found)))
    else:
        print("\n".join(_lines(found)))
    if not found.is_whole:
        raise PartialError(
            "; ".join(found.problems) or "something is missing",
            hint="name a peer that has it: rhizome scrub --peer /ip4/.../tcp/.../p2p/...",
        )


async def _mend(settings: Settings, found: Scrubbed, peers: tuple[str, ...]) -> None:
    async with open_node(settings.home, peers=peers, join=True) as node:
        found.problems += node.unreachable.values()
        await mend(node.peer, found)


def _told(found: Scrubbed) -> dict[str, Any]:
    datasets = [
        {
            "address": str(kept.address),
            "keeps": str(kept.policy),
            "pinned": kept.is_pin,
            "head": kept.head.sequence if kept.head else None,
            "mended": kept.mended,
            "missing": kept.missing,
        }
        for kept in found.kept
    ]
    return {
        "blocks": found.blocks,
        "bytes": found.bytes,
        "damaged_blocks": found.damaged,
        "damaged_heads": found.damaged_heads,
        "whole": found.is_whole,
        "datasets": datasets,
        "problems": found.problems,
    }


def _lines(found: Scrubbed) -> Iterator[str]:
    yield f"read {many(found.blocks, 'block')}, {say_size(found.bytes)}"
    if found.damaged or found.damaged_heads:
        yield f"set aside {many(found.damaged, 'damaged block')} and {many(found.damaged_heads, 'damaged head')}"
    for kept in found.kept:
        state = f"head {kept.head.sequence}" if kept.head else "its newest head is lost"
        mended = f", {many(kept.mended, 'block')} mended" if kept.mended else ""
        missing = f", {many(kept.missing, 'block')} missing" if kept.missing else ""
        state += ", pinned" if kept.is_pin else ""
        yield f"{kept.address} {state}{mended}{missing or ', whole' * kept.is_whole}"


@contextmanager
def progress_bar(settings: Settings, blocks: int, doing: str = "reading") -> Iterator[Callable[[int], None]]:
    """Takes how many more blocks have been seen to: a bar on a terminal, else nothing."""
    if settings.as_json or not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn(doing), BarColumn(), MofNCompleteColumn(), TextColumn("blocks"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(doing, total=blocks)
        yield lambda count: bar.advance(task, count)
