"""Commands that need this home only: init, id, status, import, put, get, delete, index, sample."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import click

from rhizome_index.cli.durations import VALID_FOR
from rhizome_index.cli.json_text import TOO_LONG, Flaw, parse_object
from rhizome_index.cli.main import Settings, common
from rhizome_index.cli.reading import Reading
from rhizome_index.cli.records import open_records
from rhizome_index.cli.show import many, print_hints, print_rows, printable, room_lines, say_expiry, to_json
from rhizome_index.errors import RecordError, UnknownCollectionError, UsageError
from rhizome_index.index.freshness import expires_in
from rhizome_index.index.head import Head
from rhizome_index.index.keys import decode_key, encode_component
from rhizome_index.index.record import Record
from rhizome_index.index.schema import SortPath, check_order
from rhizome_index.index.size import say_size
from rhizome_index.limits import RECORD_TEXT_BYTES_MAX
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.ladder import Ladder
from rhizome_index.node.local import LocalSource
from rhizome_index.node.publish import Declaration, Publisher
from rhizome_index.node.register import Policy, Register
from rhizome_index.query.parse import parse_index
from rhizome_index.query.wording import describe_index

if TYPE_CHECKING:
    from rhizome_index.node.status import RoomStatus

INDEX = "NAME=PATH,... [where CONDITION] [include PATH,...] [unique]"
DATASET = click.option("--dataset", default="main", show_default=True, help="Which dataset of yours.")


@contextmanager
def open_publisher(settings: Settings, valid_seconds: float | None = None) -> Iterator[Publisher]:
    """Write access to this home, which is made if it is missing; `valid_seconds`: as of a Publisher."""
    made = settings.home.create()
    settings.home.unlock()  # a passphrase is asked for before anything waits for it
    with open_published(settings, valid_seconds) as publisher:
        yield publisher
    if made and not settings.as_json:
        print(f"rhizome: made a new identity in {settings.home.path}", file=sys.stderr)


@contextmanager
def open_published(settings: Settings, valid_seconds: float | None = None) -> Iterator[Publisher]:
    """What this home has published. Raises UsageError if there is no home."""
    with settings.home.open_store() as store:
        yield Publisher(store, settings.home, time.time, valid_seconds)


def say(settings: Settings, found: dict[str, Any], text: str) -> None:
    """A result on stdout, for programs or for people."""
    print(to_json(found) if settings.as_json else text)


@click.command("init", epilog="\b\nExamples:\n  rhizome --home ~/rhizome init\n  rhizome init --encrypt")
@click.option("--encrypt", is_flag=True, help="Seal the private key with a passphrase.")
@common
def init_command(settings: Settings, encrypt: bool) -> None:
    """Make a home: an identity and an empty store."""
    home = settings.home
    made = home.create(passphrase=_new_passphrase(settings) if encrypt and not home.exists else None)
    peer_id = home.peer_id
    with home.open_store():
        pass
    if encrypt and not home.is_sealed:
        raise UsageError(
            f"there is a home in {home.path}, and its key is not sealed", hint="seal it: rhizome passphrase"
        )
    found = {"home": str(home.path), "peer_id": peer_id, "created": made, "encrypted": home.is_sealed}
    say(settings, found, f"{'made' if made else 'there is'} a home in {home.path}\npeer id {peer_id}")


def _new_passphrase(settings: Settings) -> str:
    from rhizome_index.cli.passphrase import given, new

    found = given(settings)
    return new(settings) if found is None else found


@click.command("id", epilog="\b\nExample:\n  rhizome id")
@common
def id_command(settings: Settings) -> None:
    """Print this home's peer id, under which it publishes."""
    peer_id = settings.home.peer_id
    say(settings, {"peer_id": peer_id}, peer_id)


@click.command("status", epilog="\b\nExample:\n  rhizome status --json")
@common
def status_command(settings: Settings) -> None:
    """Show what this home holds: its datasets, collections and indexes; and how its running node does."""
    peer_id = settings.home.peer_id
    with settings.home.open_store() as store:
        blocks, bytes_ = store.count_blocks()
        kept = {follow.address: follow.policy for follow in Register(store).follows()}
        datasets = []
        for head in store.current_heads():
            is_own = head.address.publisher == peer_id
            datasets.append(_describe(store, head, Policy() if is_own else kept.get(head.address), is_own=is_own))
        damaged = len(store.damaged())
        room = _room(store, datasets)
    found = {
        "home": str(settings.home.path),
        "peer_id": peer_id,
        "blocks": blocks,
        "bytes": bytes_,
        "damaged_blocks": damaged,
        "room": asdict(room),
        "datasets": datasets,
        "node": None,
    }
    lines = [
        f"home     {found['home']}",
        f"peer id  {peer_id}",
        f"store    {many(blocks, 'block')}, {say_size(bytes_)}",
    ]
    lines += room_lines(room)
    if damaged:
        lines.append(f"damaged  {many(damaged, 'block')} set aside")
    if settings.home.is_running:
        from rhizome_index.cli.watching import node_status, status_lines

        node = node_status(settings)
        found["node"] = node and node.fields()
        lines += status_lines(node) if node else []
    for dataset in datasets:
        lines += ["", *_dataset_lines(dataset)]
    say(settings, found, "\n".join(lines))


def _room(store: DiskStore, datasets: list[dict[str, Any]]) -> RoomStatus:
    """What takes how much room, as it is now."""
    from rhizome_index.node.measure import bytes_held
    from rhizome_index.node.pins import Pins
    from rhizome_index.node.room import Room
    from rhizome_index.node.status import room_status

    held = {is_own: sum(row["bytes_held"] or 0 for row in datasets if row["own"] == is_own) for is_own in (True, False)}
    pinned = sum(bytes_held(store, head, Policy()) for head in Pins(store).all())
    room = room_status(Room(store), time.time())
    others = Room(store).others_bytes(held[True])
    return replace(room, own_bytes=held[True], followed_bytes=held[False], pinned_bytes=pinned, others_bytes=others)


def _describe(store: DiskStore, head: Head, policy: Policy | None, *, is_own: bool) -> dict[str, Any]:
    """What is here of a dataset. `policy` says what is meant to be; None: what was asked for happens to be."""
    from rhizome_index.node.measure import bytes_held

    collections: dict[str, Any] = {}
    if store.has(head.manifest):
        manifest = LocalSource(store).manifest(head.manifest)
        rule, ladder = manifest.rule, Ladder(store)
        for name, collection in sorted(manifest.collections.items()):
            collections[name] = {
                "records": collection.primary.count,
                "indexes": {name: describe_index(one.definition) for name, one in sorted(collection.indexes.items())},
                "proof": {
                    label: str(one) for label, one in sorted(ladder.of_collection(rule, collection).items()) if label
                },
            }
    return {
        "address": str(head.address),
        "own": is_own,
        "sequence": head.sequence,
        "age_seconds": round(max(0.0, time.time() - head.time_ms / 1000), 3),
        "expires_in_seconds": expires_in(head, time.time()),
        "keeps": None if policy is None else str(policy),
        "bytes_held": None if policy is None else bytes_held(store, head, policy),
        "collections": collections,
    }


def _dataset_lines(dataset: dict[str, Any]) -> Iterator[str]:
    whose = "" if dataset["own"] else ", not ours"
    held = "" if dataset["bytes_held"] is None else f", {dataset['keeps']}, {say_size(dataset['bytes_held'])}"
    yield f"{dataset['address']}  head {dataset['sequence']}{whose}{say_expiry(dataset['expires_in_seconds'])}{held}"
    for name, content in dataset["collections"].items():
        yield f"  {name}: {content['records']:,} records"
        for label, definition in content["indexes"].items():
            yield f"    {label} = {printable(definition)}  {content['proof'][label]}"


@click.command(
    "import",
    epilog="""\b
Examples:
  rhizome import posts posts.jsonl --time created --order -created --index by_tag=tags,-created
  zcat packages.jsonl.gz | rhizome import packages - --index by_tag=tags
""",
)
@click.argument("collection")
@click.argument("file")
@DATASET
@click.option("--key", default="id", show_default=True, help="Path of the primary key.")
@click.option("--time", "time_path", help="Path that newest and oldest follow.")
@click.option("--order", help="What `first` follows, e.g. -created. Otherwise the primary key.")
@VALID_FOR
@click.option("--index", "indexes", multiple=True, metavar=INDEX, help="An index, e.g. by_tag=tags,-created.")
@common
def import_command(
    settings: Settings,
    collection: str,
    file: str,
    dataset: str,
    valid_seconds: float | None,
    key: str,
    time_path: str | None,
    order: str | None,
    indexes: tuple[str, ...],
) -> None:
    """Publish the records of a FILE (JSON lines, a JSON array or CSV; - is standard input) as one new head."""
    paths = check_order([SortPath.parse(path) for path in order.split(",")]) if order else ()
    declaration = Declaration(key, time_path, paths, dict(parse_index(text) for text in indexes))
    started = time.perf_counter()
    with (
        open_publisher(settings, valid_seconds) as publisher,
        open_records(file) as reader,
        Reading(reader) as reading,
    ):
        before = publisher.manifest(dataset)
        if collection in before.collections and not (order or time_path or indexes):
            known = before.collection(collection)
            same = {index.name: index.definition for index in known.indexes.values()}
            declaration = Declaration(known.key if key == "id" else key, known.time, known.order, same)
        with _progress(settings, reading) as records:
            try:
                head, count = publisher.put_many(
                    dataset,
                    collection,
                    records,
                    declaration,
                    big=True,
                    on_read=reading.note,
                    on_sorted=reading.note_kept,
                )
            except UsageError as error:
                raise reading.placed(error) from None
        hints = publisher.hints(dataset, collection)
        changed = publisher.manifest(dataset) != before
    seconds = time.perf_counter() - started
    found = {
        "address": str(head.address),
        "sequence": head.sequence,
        "records": reading.kept,
        "replaced": reading.count - reading.kept,
        "changed": changed,
        "seconds": round(seconds, 3),
        "indexes": sorted(declaration.indexes),
        "records_in_collection": count,
        "hints": hints,
    }
    rate = reading.count / seconds if seconds else 0
    text = f"{many(reading.kept, 'record')} in {seconds:.1f} s ({rate:,.0f}/s)"
    if reading.count > reading.kept:
        text += f"; {many(reading.count - reading.kept, 'record')} of {reading.reader.name} gave way to a later one "
        text += f"of the same {declaration.key}"
    if count != reading.kept:
        text += f"; {many(count, 'record')} in {collection} now"
    text += "" if changed else "; nothing has changed"
    say(settings, found, f"{head.address} head {head.sequence}: {text}")
    if not settings.as_json:
        print_hints(hints)


@contextmanager
def _progress(settings: Settings, reading: Reading) -> Iterator[Iterable[Record]]:
    """The records, with a progress bar on a terminal."""
    if settings.as_json or not sys.stderr.isatty():
        yield reading
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[records]:,} records, {task.fields[rate]:,.0f}/s"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("reading", total=reading.reader.bytes_total, records=0, rate=0.0)
        started = time.monotonic()

        def watched() -> Iterator[Record]:
            for count, record in enumerate(reading, 1):
                if count % 2048 == 0:
                    rate = count / max(1e-9, time.monotonic() - started)
                    progress.update(task, completed=reading.reader.bytes_read, records=count, rate=rate)
                yield record
            progress.update(task, description="indexing", total=None)

        yield watched()


@click.command("put", epilog="""\b\nExample:\n  rhizome put posts '{"id": "p1", "tags": ["cats"]}'""")
@click.argument("collection")
@click.argument("record")
@DATASET
@VALID_FOR
@common
def put_command(settings: Settings, collection: str, record: str, dataset: str, valid_seconds: float | None) -> None:
    """Put one RECORD, given as JSON (- reads it from standard input), and publish."""
    # Bytes, as they came: an argument that is no text has been decoded in a way that can be undone.
    text = sys.stdin.buffer.read(RECORD_TEXT_BYTES_MAX + 1) if record == "-" else os.fsencode(record)
    if len(text) > RECORD_TEXT_BYTES_MAX:
        raise UsageError(f"a record {TOO_LONG}")
    try:
        value = parse_object(text)
    except Flaw as flaw:
        raise UsageError(str(flaw), hint=flaw.hint) from None
    with open_publisher(settings, valid_seconds) as publisher:
        try:
            head, count = publisher.put_many(dataset, collection, [value])
        except UnknownCollectionError as error:
            hint = f"{error.hint}; a new one is made with: rhizome import {shlex.quote(collection)} FILE"
            raise UsageError(str(error), hint=hint.removeprefix("; ")) from None
    found = {"address": str(head.address), "sequence": head.sequence, "records": count}
    say(settings, found, f"{head.address} head {head.sequence}: {count:,} records")


def parse_key(text: str) -> Any:
    """A primary key from the command line: a JSON number or a quoted text, otherwise the text itself."""
    try:
        value = json.loads(text)
        encode_component(value)
    except (ValueError, RecursionError):  # no JSON, or a number that no record can hold
        return text
    return value if type(value) in (int, float, str) else text


@click.command("get", epilog="\b\nExample:\n  rhizome get posts p1")
@click.argument("collection")
@click.argument("key")
@DATASET
@common
def get_command(settings: Settings, collection: str, key: str, dataset: str) -> None:
    """Print the record with a primary KEY."""
    with open_published(settings) as publisher:
        record = publisher.get(dataset, collection, parse_key(key))
        if record is None and parse_key(key) != key:
            record = publisher.get(dataset, collection, key)
    if record is None:
        raise UsageError(f"no record {key!r} in {collection!r}")
    print(to_json(record))


@click.command("delete", epilog="\b\nExample:\n  rhizome delete posts p1 p2")
@click.argument("collection")
@click.argument("keys", nargs=-1, required=True)
@DATASET
@VALID_FOR
@common
def delete_command(
    settings: Settings, collection: str, keys: tuple[str, ...], dataset: str, valid_seconds: float | None
) -> None:
    """Delete records by primary key and publish."""
    with open_publisher(settings, valid_seconds) as publisher:
        wanted: list[Any] = []
        missing: list[str] = []
        for key in keys:
            there = publisher.get(dataset, collection, parse_key(key)) is not None
            wanted.append(parse_key(key) if there else key)
            missing += [] if there or publisher.get(dataset, collection, key) is not None else [key]
        head, deleted = publisher.delete_many(dataset, collection, wanted)
    found = {"address": str(head.address), "sequence": head.sequence, "deleted": deleted, "missing": missing}
    none = f", no record {', '.join(map(repr, missing))}" if missing else ""
    say(settings, found, f"{head.address} head {head.sequence}: {deleted} deleted{none}")


@click.group("index")
def index_command() -> None:
    """Add, list and drop indexes."""


@index_command.command(
    "add",
    epilog="""\b
Examples:
  rhizome index add posts by_author=author,-created
  rhizome index add posts 'popular=tags,-likes where likes > 100'
  rhizome index add posts 'titles=tags,-created include id, title'
  rhizome index add people 'by_email=email unique'
""",
)
@click.argument("collection")
@click.argument("definition", metavar=INDEX)
@DATASET
@common
def index_add(settings: Settings, collection: str, definition: str, dataset: str) -> None:
    """Add an index over the records that are there.

    It sorts by the paths given, descending behind a minus. With `where` it lists only records that
    meet a condition; with `include` its entries have a copy of what stands at some paths, so that
    queries that select nothing else read no records; with `unique` no two records may have the
    same values.
    """
    name, defined = parse_index(definition)
    with open_publisher(settings) as publisher:
        try:
            head, index = publisher.add_index(dataset, collection, name, defined)
        except RecordError as error:
            (key,) = decode_key(error.key)
            raise UsageError(f"the record {to_json(key)}: {error}", hint=error.hint) from None
        hints = publisher.hints(dataset, collection, name)
    found = {"address": str(head.address), "sequence": head.sequence, "index": name, "entries": index.tree.count}
    text = f"{head.address} head {head.sequence}: {name} has {many(index.tree.count, 'entry', 'entries')}"
    say(settings, found | {"hints": hints}, text)
    if not settings.as_json:
        print_hints(hints)


@index_command.command("list", epilog="\b\nExample:\n  rhizome index list posts")
@click.argument("collection")
@DATASET
@common
def index_list(settings: Settings, collection: str, dataset: str) -> None:
    """List a collection's indexes."""
    with open_published(settings) as publisher:
        indexes = publisher.manifest(dataset).collection(collection).indexes
    rows = [
        {"name": index.name, "definition": describe_index(index.definition), "entries": index.tree.count}
        for _, index in sorted(indexes.items())
    ]
    print_rows(rows, as_json=settings.as_json)


@index_command.command("drop", epilog="\b\nExample:\n  rhizome index drop posts by_author")
@click.argument("collection")
@click.argument("name")
@DATASET
@common
def index_drop(settings: Settings, collection: str, name: str, dataset: str) -> None:
    """Take an index away."""
    with open_publisher(settings) as publisher:
        head = publisher.drop_index(dataset, collection, name)
    found = {"address": str(head.address), "sequence": head.sequence, "dropped": name}
    say(settings, found, f"{head.address} head {head.sequence}: dropped {name}")


@click.group("sample")
def sample_command() -> None:
    """Print sample records as JSON lines."""


@sample_command.command("emoji", epilog="\b\nExample:\n  rhizome sample emoji | rhizome import emoji -")
@common
def sample_emoji(settings: Settings) -> None:
    """The emoji of Unicode CLDR, by way of emojibase (MIT)."""
    from rhizome_index.cli.samples import emoji

    for line in emoji():
        sys.stdout.buffer.write(line)


@sample_command.command("posts", epilog="\b\nExample:\n  rhizome sample posts --count 1000 --seed 7")
@click.option("--count", type=click.IntRange(1, 100_000_000), default=1000, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@common
def sample_posts(settings: Settings, count: int, seed: int) -> None:
    """Made-up posts, the same for the same seed everywhere."""
    from rhizome_index.cli.samples import posts

    for post in posts(count, seed):
        sys.stdout.write(to_json(post) + "\n")
