"""Commands for CAR files: verify, evidence, export, restore."""

from __future__ import annotations

import errno
import os
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from rhizome_index.blocks.cid import format_cid
from rhizome_index.cli.main import Settings, common
from rhizome_index.cli.show import many, print_rows, say_expiry, to_json
from rhizome_index.errors import IntegrityError, StoreError, UnavailableError, UsageError
from rhizome_index.index.address import Address, public_key_of
from rhizome_index.index.freshness import expires_in
from rhizome_index.index.size import say_size
from rhizome_index.node.archive import read_dataset, verify, write_dataset
from rhizome_index.trust.evidence import Fraud

if TYPE_CHECKING:  # a fraud proof is checked without what answers are made of
    from rhizome_index.node.disk import DiskStore
    from rhizome_index.node.saved import Verified

_FILE = click.Path(path_type=Path, dir_okay=False)


@contextmanager
def open_for_writing(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes the place of one of that name when it is whole. Raises UsageError, StoreError."""
    try:
        if path.exists() and not path.is_file():  # a pipe or a device, which nothing should replace
            with path.open("wb") as stream:
                yield stream
        else:
            with _replacing(path) as stream:
                yield stream
    except OSError as error:
        message = f"cannot write {path}: {error.strerror}"
        if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            raise StoreError(message, hint="free some space and try again") from None
        raise UsageError(message) from None


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """Under a name that nobody can foresee, and for its owner alone, until it is whole and durable."""
    import tempfile

    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".rhizome-")
    fresh = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fchmod(descriptor, _mode_of(path))
            os.fsync(descriptor)
        fresh.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # a file that was synced is lost if its name was not
        finally:
            os.close(folder)
    finally:
        fresh.unlink(missing_ok=True)


def _mode_of(path: Path) -> int:
    """Who may use the file that is replaced or, where there is none, what this process makes."""
    with suppress(FileNotFoundError):
        return stat.S_IMODE(path.stat().st_mode)
    umask = os.umask(0o077)
    os.umask(umask)
    return 0o666 & ~umask


@contextmanager
def _open_for_reading(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as stream:
            yield stream
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None


@click.command(
    "verify",
    epilog="""\b
Examples:
  rhizome verify cats.car --publisher 12D3KooW...
  rhizome verify fraud.car
""",
)
@click.argument("file", type=_FILE)
@click.option("--publisher", metavar="PEER_ID", help="Insist that this peer has published the data.")
@common
def verify_command(settings: Settings, file: Path, publisher: str | None) -> None:
    """Check a saved answer offline and print its rows, or a fraud proof and what it proves. It needs only the FILE."""
    if publisher is not None:
        public_key_of(publisher)
    with _open_for_reading(file) as stream:
        found = verify(stream)
    head = found.heads[0] if isinstance(found, Fraud) else found.head
    if publisher is not None and head.address.publisher != publisher:
        raise IntegrityError(f"this was published by {head.address.publisher}, not by {publisher}")
    if isinstance(found, Fraud):
        text = f"proven fraud: head {head.sequence} of {head.address}: {found.verdict}"
        text += "".join(f"\n  attested by {one.peer_id}, who lies too" for one in found.attestations)
        print(to_json(_as_row(found)) if settings.as_json else text)
    else:
        _print_answer(settings, found)


def _print_answer(settings: Settings, found: Verified) -> None:
    from rhizome_index.query.expr import COUNT

    rows = len(found.rows)
    if found.query.kind == COUNT:
        print(to_json({"count": found.answer.count}))
        rows = 1
    else:
        print_rows([row.record for row in found.rows], as_json=settings.as_json)
    told = {
        "proof": "L1",
        "complete": True,
        "dataset": str(found.head.address),
        "head": {
            "sequence": found.head.sequence,
            "age_seconds": round(max(0.0, time.time() - found.head.time_ms / 1000), 3),
            "expires_in_seconds": expires_in(found.head, time.time()),
        },
        "rows": rows,
        "entries_scanned": found.answer.entries,
        "blocks": found.blocks,
        "bytes": found.bytes,
    }
    text = (
        f"L1: complete and right for head {found.head.sequence} of {found.head.address}"
        f"{say_expiry(expires_in(found.head, time.time()))} · {many(rows, 'row')} · "
        f"{many(found.blocks, 'block')}, {say_size(found.bytes)}"
    )
    print(to_json(told) if settings.as_json else text, file=sys.stderr)


@click.command(
    "evidence",
    epilog="""\b
Examples:
  rhizome evidence
  rhizome evidence --save proofs
""",
)
@click.option("--save", type=click.Path(path_type=Path, file_okay=False), help="Write each proof to a file in here.")
@common
def evidence_command(settings: Settings, save: Path | None) -> None:
    """List the fraud proofs kept here: heads that are refused, and why. Anybody can check them with `verify`."""
    from rhizome_index.node.frauds import Frauds

    with settings.home.open_store() as store:
        found = Frauds(store).known()
    if save is not None:
        _save(found, save)
    print_rows(map(_as_row, found), as_json=settings.as_json)
    if not found and not settings.as_json:
        print("none: nobody has been found to lie", file=sys.stderr)


def _save(frauds: list[Fraud], folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the folder {folder}: {error.strerror}") from None
    for fraud in frauds:
        with open_for_writing(folder / f"{format_cid(fraud.cid)}.car") as stream:
            fraud.write(stream)


def _as_row(fraud: Fraud) -> dict[str, Any]:
    return {
        "address": str(fraud.heads[0].address),
        "head": fraud.heads[0].sequence,
        "fraud": fraud.verdict,
        "attested_by": [one.peer_id for one in fraud.attestations],
        "proof": format_cid(fraud.cid),
        "bytes": sum(map(len, fraud.blocks)),
    }


@click.command("export", epilog="\b\nExample:\n  rhizome export posts.car --dataset main")
@click.argument("file", type=_FILE)
@click.option("--dataset", default="main", show_default=True, help="Which dataset of yours.")
@click.option("--from", "source", metavar="ADDRESS", help="Somebody else's dataset that is all here.")
@common
def export_command(settings: Settings, file: Path, dataset: str, source: str | None) -> None:
    """Write a dataset with all its records and indexes to a CAR FILE."""
    address = Address.parse(source) if source else Address(settings.home.peer_id, dataset)
    with settings.home.open_store() as store:
        head = store.current_head(address)
        if head is None:
            raise UnavailableError(f"no head of {address} here", hint="rhizome status lists what is")
        with open_for_writing(file) as stream:
            blocks = write_dataset(stream, store, head)
    found = {"address": str(address), "sequence": head.sequence, "blocks": blocks, "bytes": file.stat().st_size}
    text = f"{address} head {head.sequence}: {many(blocks, 'block')}, {say_size(file.stat().st_size)}"
    print(to_json(found) if settings.as_json else text)


def _measure_own(settings: Settings, store: DiskStore, size_bytes: int) -> None:
    """Before a file may be refused for want of room, find out how much of the store is ours, if that takes no time."""
    from rhizome_index.node.collect import make_room
    from rhizome_index.node.room import Room

    if Room(store).left_bytes() < size_bytes:
        with suppress(StoreError, UsageError), settings.home.claim():
            make_room(store, settings.home.peer_id, time.time)


@click.command("restore", epilog="\b\nExample:\n  rhizome restore posts.car")
@click.argument("file", type=_FILE)
@common
def restore_command(settings: Settings, file: Path) -> None:
    """Read a dataset from a CAR FILE: all of it, checked, or nothing.

    Somebody else's is pinned, so that it stays, and must fit the quota; your own counts for none.
    """
    from rhizome_index.node.pins import Pins

    with _open_for_reading(file) as stream:
        settings.home.create()
        with settings.home.open_store(make=True) as store:
            _measure_own(settings, store, os.fstat(stream.fileno()).st_size)
            head, blocks = read_dataset(stream, store, settings.home.peer_ids)
            is_kept = head.address.publisher in settings.home.peer_ids or store.is_held(head.address)
            if not is_kept:  # whoever brings it here himself wants it to stay
                Pins(store).add(head)
    found = {"address": str(head.address), "sequence": head.sequence, "blocks": blocks, "pinned": not is_kept}
    pinned = "" if is_kept else ", pinned"
    print(
        to_json(found) if settings.as_json else f"{head.address} head {head.sequence}: {many(blocks, 'block')}{pinned}"
    )
