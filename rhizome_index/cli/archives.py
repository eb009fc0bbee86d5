"""Commands for CAR files: verify, export, restore."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from rhizome_index.cli.main import Settings, common
from rhizome_index.cli.show import print_rows, size, to_json
from rhizome_index.errors import IntegrityError, UnavailableError, UsageError
from rhizome_index.index.address import Address
from rhizome_index.node.archive import read_dataset, verify_answer, write_dataset

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command("verify", epilog="\b\nExample:\n  rhizome verify cats.car --publisher 12D3KooW...")
@click.argument("file", type=_FILE)
@click.option("--publisher", metavar="PEER_ID", help="Insist that this peer has published the data.")
@common
def verify_command(settings: Settings, file: Path, publisher: str | None) -> None:
    """Check a saved answer offline and print its rows. Nothing is needed but the FILE."""
    try:
        with file.open("rb") as stream:
            found = verify_answer(stream)
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from None
    if publisher is not None and found.head.address.publisher != publisher:
        raise IntegrityError(f"this was published by {found.head.address.publisher}, not by {publisher}")
    if found.query.count:
        print(to_json({"count": found.answer.count}))
    else:
        print_rows([row.record for row in found.rows], as_json=settings.as_json)
    told = {
        "proof": "L1",
        "complete": True,
        "dataset": str(found.head.address),
        "head": {
            "sequence": found.head.sequence,
            "age_seconds": round(max(0.0, time.time() - found.head.time_ms / 1000), 3),
        },
        "rows": len(found.rows),
        "entries_scanned": found.answer.entries,
        "blocks": found.blocks,
        "bytes": found.bytes,
    }
    text = (
        f"L1: complete and right for head {found.head.sequence} of {found.head.address} · {len(found.rows)} rows · "
        f"{found.blocks} blocks, {size(found.bytes)}"
    )
    print(to_json(told) if settings.as_json else text, file=sys.stderr)


@click.command("export", epilog="\b\nExample:\n  rhizome export posts.car --dataset main")
@click.argument("file", type=_FILE)
@click.option("--dataset", default="main", show_default=True, help="Which dataset of yours.")
@click.option("--from", "source", metavar="ADDRESS", help="Somebody else's dataset that is all here.")
@common
def export_command(settings: Settings, file: Path, dataset: str, source: str | None) -> None:
    """Write a dataset with all its records and indexes to a CAR FILE."""
    address = Address.parse(source) if source else Address(settings.home.identity.peer_id, dataset)
    fresh = file.with_name(file.name + ".part")
    with settings.home.open_store() as store:
        head = store.current_head(address)
        if head is None:
            raise UnavailableError(f"no head of {address} here")
        try:
            try:
                with fresh.open("wb") as stream:
                    blocks = write_dataset(stream, store, head)
                fresh.replace(file)
            finally:
                fresh.unlink(missing_ok=True)
        except OSError as error:
            raise UsageError(f"cannot write {file}: {error.strerror}") from None
    found = {"address": str(address), "sequence": head.sequence, "blocks": blocks, "bytes": file.stat().st_size}
    text = f"{address} head {head.sequence}: {blocks:,} blocks, {size(file.stat().st_size)}"
    print(to_json(found) if settings.as_json else text)


@click.command("restore", epilog="\b\nExample:\n  rhizome restore posts.car")
@click.argument("file", type=_FILE)
@common
def restore_command(settings: Settings, file: Path) -> None:
    """Read a dataset from a CAR FILE: all of it, checked, or nothing."""
    settings.home.create()
    try:
        with file.open("rb") as stream, settings.home.open_store() as store:
            head, blocks = read_dataset(stream, store)
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from None
    found = {"address": str(head.address), "sequence": head.sequence, "blocks": blocks}
    print(to_json(found) if settings.as_json else f"{head.address} head {head.sequence}: {blocks:,} blocks")
