"""The commands for what is kept here, and for how long: pin, unpin, pins, quota, gc."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import trio

from rhizome_index.api import Pinned, open_node
from rhizome_index.blocks.cid import format_cid
from rhizome_index.cli.main import Settings, common
from rhizome_index.cli.network import PEERS, check_reached, run
from rhizome_index.cli.scrubbing import progress_bar
from rhizome_index.cli.show import many, print_rows, room_lines, to_json
from rhizome_index.cli.sizes import NO_QUOTA, QUOTA
from rhizome_index.errors import UnavailableError, UsageError
from rhizome_index.index.address import Address
from rhizome_index.index.head import Head
from rhizome_index.index.size import say_size
from rhizome_index.node.call import Call, read_collected, read_collecting, tell_changed
from rhizome_index.node.collect import Collected, collect
from rhizome_index.node.measure import bytes_held
from rhizome_index.node.pins import Pins, find_head
from rhizome_index.node.register import Policy
from rhizome_index.node.room import Room
from rhizome_index.node.status import room_status
from rhizome_index.wire import control

HEAD = click.option("--head", "head_name", metavar="SEQUENCE|CID", help="Not the newest head but this one.")


@click.command(
    "pin",
    epilog="""\b
Examples:
  rhizome pin rhizome:12D3KooW.../main
  rhizome pin rhizome:12D3KooW.../main --head 7
""",
)
@click.argument("address")
@HEAD
@PEERS
@common
def pin_command(settings: Settings, address: str, head_name: str | None, peers: tuple[str, ...]) -> None:
    """Keep a dataset whole as it is now, whatever newer heads come: what is missing of it is fetched first."""
    place = Address.parse(address)
    settings.home.create()
    found: list[Pinned] = []

    async def pin(*, join: bool) -> None:
        async with open_node(settings.home, peers=peers, join=join) as node:
            check_reached(node)
            found.append(await node.pin(place, head_name))

    try:
        run(lambda: pin(join=bool(peers)))
    except UnavailableError:
        if peers:
            raise
        run(lambda: pin(join=True))
    pinned = found[0]
    row = {**_as_row(pinned.head), "bytes": pinned.bytes, "bytes_received": pinned.cost.bytes_received}
    text = f"pinned head {pinned.head.sequence} of {place}: {say_size(pinned.bytes)}"
    received = f", {say_size(pinned.cost.bytes_received)} received" if pinned.cost.bytes_received else ""
    print(to_json(row) if settings.as_json else f"{text}{received}")
    trio.run(tell_changed, settings.home.socket_path)


def _as_row(head: Head) -> dict[str, Any]:
    return {
        "address": str(head.address),
        "head": head.sequence,
        "manifest": format_cid(head.manifest),
        "age_seconds": round(max(0.0, time.time() - head.time_ms / 1000), 3),
    }


@click.command(
    "unpin",
    epilog="""\b
Examples:
  rhizome unpin rhizome:12D3KooW.../main
  rhizome unpin rhizome:12D3KooW.../main --head 7
""",
)
@click.argument("address")
@click.option("--head", "head_name", metavar="SEQUENCE|CID", help="Only this head; otherwise all of the dataset.")
@common
def unpin_command(settings: Settings, address: str, head_name: str | None) -> None:
    """Pin a dataset's heads no longer. Their blocks stay until space is needed."""
    place = Address.parse(address)
    with settings.home.open_store() as store:
        manifest = None if head_name is None else find_head(store, place, head_name).manifest
        count = Pins(store).remove(place, manifest)
    if not count:
        raise UsageError(f"no such head of {place} is pinned", hint="rhizome pins lists what is")
    trio.run(tell_changed, settings.home.socket_path)
    found = {"address": str(place), "unpinned": count}
    print(to_json(found) if settings.as_json else f"unpinned {many(count, 'head')} of {place}")


@click.command("pins", epilog="\b\nExample:\n  rhizome pins --json")
@common
def pins_command(settings: Settings) -> None:
    """List the heads that are pinned, and how much each takes; what several share is counted for each."""
    with settings.home.open_store() as store:
        heads = Pins(store).all()
        rows = [{**_as_row(head), "bytes": bytes_held(store, head, Policy())} for head in heads]
    print_rows(rows, as_json=settings.as_json)
    if not rows and not settings.as_json:
        print("none: nothing is pinned; rhizome pin ADDRESS", file=sys.stderr)


@click.command(
    "quota",
    epilog="""\b
Examples:
  rhizome quota
  rhizome quota 2GB
  rhizome quota none
""",
)
@click.argument("quota", type=QUOTA, required=False, metavar="[SIZE|none]")
@common
def quota_command(settings: Settings, quota: int | None) -> None:
    """Show how much room what is kept of others takes, or say how much it may take.

    Of others are datasets that are followed or pinned, and what queries leave here. Past the quota the latter goes,
    the least recently used first, and no more is brought of the others. What you publish does not count.
    """
    with settings.home.open_store() as store:
        room = Room(store)
        if quota is not None:
            room.quota = quota if quota != NO_QUOTA else None
        found = room_status(room, time.time())
    if quota is not None:
        trio.run(tell_changed, settings.home.socket_path)
    print(to_json(asdict(found)) if settings.as_json else "\n".join(room_lines(found)))


@click.command(
    "gc",
    epilog="""\b
Examples:
  rhizome gc --dry-run
  rhizome gc
""",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be freed.")
@common
def gc_command(settings: Settings, dry_run: bool) -> None:
    """Free the blocks that nothing needs any more, and give their room back to the disk.

    Kept is what the newest heads lead to, of datasets published or followed here also the heads shortly before, and
    what is pinned; of what queries have left as much as the quota has room for. A node of this home does it itself,
    and goes on serving; without one, no other command may use the home meanwhile.
    """
    peer_id = settings.home.peer_id
    if settings.home.is_running:
        with settings.home.open_store() as store:
            blocks = store.count_blocks()[0]
        with progress_bar(settings, 2 * blocks, "looking at") as on_blocks:
            found = trio.run(have_collected, settings.home.socket_path, dry_run, on_blocks, _say_waiting)
    else:
        with (
            settings.home.open_store(alone=True) as store,
            progress_bar(settings, 2 * store.count_blocks()[0], "looking at") as on_blocks,
        ):
            found = collect(store, peer_id, is_trial=dry_run, on_blocks=on_blocks)
    if settings.as_json:
        print(to_json({"dry_run": dry_run, **asdict(found)}))
        return
    print(f"{'would free' if dry_run else 'freed'} {many(found.freed_blocks, 'block')}, {say_size(found.freed_bytes)}")
    if found.evicted_blocks:
        print(f"made room: {many(found.evicted_blocks, 'block')} left by queries, {say_size(found.evicted_bytes)}")
    print(f"kept {many(found.kept_blocks, 'block')}, {say_size(found.kept_bytes)}")


async def have_collected(
    path: Path, dry_run: bool, on_blocks: Callable[[int], None], on_waiting: Callable[[], None]
) -> Collected:
    """Have the node whose socket is at a path collect. Raises UnavailableError, StoreError.

    on_blocks   told how many blocks have been looked at since it was last told
    on_waiting  called when the node waits for another process to end
    """
    call = await Call.make(path, control.Collect(dry_run))
    looked_at, has_waited = 0, False
    try:
        while isinstance(news := await call.hear(), control.News):
            progress = read_collecting(news.fields)
            on_blocks(max(0, progress.looked_at - looked_at))
            looked_at = progress.looked_at
            if progress.is_waiting and not has_waited:
                has_waited = True
                on_waiting()
        return read_collected(news.fields)
    finally:
        call.hang_up()


def _say_waiting() -> None:
    print("rhizome: waiting for another command that uses this home to end", file=sys.stderr)
