"""Asking a question of an open node, and printing what comes: for `query`, `explain` and `shell` alike."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rhizome_index.api import DEFAULT_DATASET, Node, Results
from rhizome_index.cli.archives import open_for_writing
from rhizome_index.cli.feeding import ask_feed, is_feed
from rhizome_index.cli.live import watch_query
from rhizome_index.cli.main import Settings
from rhizome_index.cli.show import print_hints, print_rows, summary, summary_line, to_json
from rhizome_index.errors import RhizomeError, UnknownCollectionError, UsageError
from rhizome_index.index.address import Address
from rhizome_index.index.freshness import ANY_AGE, Freshness
from rhizome_index.node.cost import Cost
from rhizome_index.node.saved import write_answer
from rhizome_index.node.weigh import Location
from rhizome_index.query.answer import Cursor
from rhizome_index.query.explain import Explained
from rhizome_index.query.expr import COUNT, Query
from rhizome_index.query.parse import at_collection, parse
from rhizome_index.query.phrases import is_extreme
from rhizome_index.trust.ladder import ANYTHING, Requirement


@dataclass(frozen=True, slots=True)
class Question:
    """A query as it was typed, and where and how it is to be asked.

    sources  addresses of datasets, or FOLLOWING; none: the only one there is
    scan     whether everything may be read where no index answers
    proof    where to save the answer with its proof
    watch    whether to stay, and print what changes
    """

    text: str
    query: Query
    cursor: Cursor | None
    sources: tuple[str, ...]
    scan: bool
    fresh: Freshness
    required: Requirement
    proof: Path | None
    watch: bool


def read_question(
    text: str,
    sources: tuple[str, ...],
    *,
    scan: bool,
    fresh: Freshness = ANY_AGE,
    required: Requirement = ANYTHING,
    proof: Path | None = None,
    watch: bool = False,
) -> Question:
    """Read the text, and check that all this goes together. Raises UsageError."""
    query, after = parse(text, int(time.time() * 1000))
    cursor = Cursor.parse(after, query) if after else None
    if sources and not is_feed(sources):
        Address.parse(sources[0])
    if is_feed(sources) and (cursor is not None or proof is not None):
        raise UsageError("a feed has no cursor, and no proof to save", hint="ask one dataset: --from ADDRESS")
    if watch and (cursor is not None or proof is not None or is_feed(sources)):
        raise UsageError("--watch is for one dataset, without a cursor and without --proof")
    return Question(text, query, cursor, sources, scan, fresh, required, proof, watch)


async def ask_question(settings: Settings, node: Node, question: Question, *, more: str = "") -> Results | None:
    """Ask it, and print the answer: rows to stdout, the rest to stderr. None where it was not asked of one dataset.

    more  how to go on behind the last row, if not with the cursor
    """
    query, scan, fresh, required = question.query, question.scan, question.fresh, question.required
    try:
        if is_feed(question.sources):
            await ask_feed(settings, node, query, question.sources, scan=scan, fresh=fresh, required=required)
            return None
        place = await _place(node, question)
        if question.watch:
            await watch_query(settings, node, place, query, scan=scan, fresh=fresh, required=required)
            return None
        keep = question.proof is not None
        results = Results(node, place, query, question.cursor, scan=scan, proof=keep, fresh=fresh, required=required)
        rows = await _print_answer(settings, results)
    except UnknownCollectionError as error:
        raise at_collection(question.text, error) from None
    if question.proof is not None:
        _save(results, question.proof)
    hints = await results.hints(ask=not settings.as_json)
    _say_summary(settings, results, rows, hints, more)
    return results


async def _print_answer(settings: Settings, results: Results) -> int:
    """Print rows as they come; how many there were."""
    rows = 0
    batch = []
    try:
        async for record in results:
            batch.append(record)
            rows += 1
            if len(batch) >= 1000:
                print_rows(batch, as_json=settings.as_json, key=_key(results))
                batch = []
        if results.resolution.query.kind == COUNT and results.resolution.answer is not None:
            print(to_json({"count": results.resolution.answer.count}))
        else:
            print_rows(batch, as_json=settings.as_json, key=_key(results))
    except UnknownCollectionError:
        raise
    except RhizomeError as error:
        print_rows(batch, as_json=settings.as_json, key=_key(results))
        if rows:
            _say_summary(settings, results, rows)
        elif type(error) is UsageError:  # it was not even tried
            hint = "\n".join([*await results.hints(), error.hint])
            raise UsageError(str(error), hint=hint) from None
        raise
    return rows


def _key(results: Results) -> str | None:
    """The primary key of what is asked, once it is known."""
    opening, query = results.resolution.opening, results.resolution.query
    return opening.manifest.collection(query.collection).key if opening else None


async def explain_question(settings: Settings, node: Node, question: Question, *, execute: bool) -> None:
    """Print every way to answer it, and where from; and with `execute` ask it, and say what it took."""
    place = await _place(node, question)
    query, scan = question.query, question.scan
    try:
        found, places = await node.explain(query, place, scan=scan)
    except UnknownCollectionError as error:
        raise at_collection(question.text, error) from None
    print_rows(list(map(asdict, found)), as_json=settings.as_json, key="plan")
    if places:
        rows = [{**asdict(item), "seconds": round(item.seconds, 6)} for item in places]
        _print_below(settings, rows)
    if execute:
        results = Results(node, place, query, None, scan=scan)
        count = len([record async for record in results])
        if places:
            _print_below(settings, beside_actuals(found[0], places[0], results))
        _say_summary(settings, results, count)


def _print_below(settings: Settings, rows: list[dict[str, object]]) -> None:
    """Another table below one."""
    if not settings.as_json and sys.stdout.isatty():
        print()
    print_rows(rows, as_json=settings.as_json)


def beside_actuals(plan: Explained, place: Location, results: Results) -> list[dict[str, object]]:
    """What each step was expected to take, beside what it took."""
    cost = results.resolution.cost
    return [
        {"step": "entries read", "expected": plan.entries, "actual": cost.entries_scanned},
        {"step": "blocks from peers", "expected": place.blocks, "actual": cost.blocks_remote},
        {"step": "bytes from peers", "expected": place.bytes, "actual": cost.bytes_received},
        {"step": "round trips", "expected": place.round_trips, "actual": cost.round_trips},
        {"step": "milliseconds", "expected": round(place.seconds * 1e3, 3), "actual": round(cost.seconds * 1e3, 3)},
    ]


def _say_summary(settings: Settings, results: Results, rows: int, hints: Sequence[str] = (), more: str = "") -> None:
    found = summary(results, rows, time.time()) | {"hints": list(hints)}
    if settings.as_json:
        print(to_json(found), file=sys.stderr)
        return
    print(summary_line(found), file=sys.stderr)
    if found["cursor"] and not is_extreme(results.resolution.query):
        print(f"more: {more or 'after ' + found['cursor']}", file=sys.stderr)
    print_hints(hints)


def _save(results: Results, path: Path) -> None:
    resolution = results.resolution
    assert resolution.opening is not None and resolution.answer is not None and resolution.proof is not None
    with open_for_writing(path) as file:
        write_answer(file, resolution.opening, resolution.answer, resolution.after, resolution.proof)


async def known_datasets(node: Node) -> list[Address]:
    """The datasets that a query may mean that names none: those of the peers that were named, or those known here."""
    if node.peers:
        return list(await node.peer.datasets_of(node.peers, Cost()))
    return sorted(node.catalog)


async def only_dataset(node: Node) -> Address | None:
    """The dataset that is meant where none is named, if there is exactly one; our own rather than another."""
    known = await known_datasets(node)
    own = node.peer.publisher.address(DEFAULT_DATASET)
    if not node.peers and (own in known or not known):
        return own
    return known[0] if len(known) == 1 else None


async def _place(node: Node, question: Question) -> Address:
    """The dataset to ask. Raises UsageError unless it is named, or there is exactly one."""
    if question.sources:
        return Address.parse(question.sources[0])
    if (only := await only_dataset(node)) is not None:
        return only
    listed = "; ".join(map(str, (await known_datasets(node))[:5])) or "none"
    raise UsageError(
        f"say which dataset to ask for {question.query.collection!r}: --from ADDRESS", hint=f"known here: {listed}"
    )
