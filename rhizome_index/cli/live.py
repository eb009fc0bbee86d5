"""A query that stays open on the command line: its rows, then a line for each that is added, removed or changed."""

from __future__ import annotations

import shutil
import signal
import sys
from datetime import datetime

import trio

from rhizome_index.api import Node, Watch
from rhizome_index.cli.main import Settings
from rhizome_index.cli.show import many, print_warning, printable, rows_as_table, to_json
from rhizome_index.errors import UnavailableError
from rhizome_index.index.address import Address
from rhizome_index.index.freshness import Freshness
from rhizome_index.index.size import say_size
from rhizome_index.node.live import Turn
from rhizome_index.query.expr import COUNT, Query
from rhizome_index.query.live import ADDED, CHANGED, REMOVED
from rhizome_index.trust.ladder import Requirement

_SIGNS = {ADDED: "+", REMOVED: "-", CHANGED: "~"}
_COLUMNS_ELSEWHERE = 120  # where the terminal does not say how wide it is


async def watch_query(
    settings: Settings,
    node: Node,
    address: Address,
    query: Query,
    *,
    scan: bool,
    fresh: Freshness,
    required: Requirement,
) -> None:
    """Print an answer, and what changes of it, until interrupted."""

    def tell(problem: UnavailableError) -> None:
        print_warning(str(problem), "the rows are those of the last head; it is tried again", as_json=settings.as_json)

    watch = Watch(node, address, query, scan=scan, fresh=fresh, on_problem=tell, required=required)
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_print_turns, settings, watch)
            async for _ in signals:
                break
            nursery.cancel_scope.cancel()


async def _print_turns(settings: Settings, watch: Watch) -> None:
    is_first = True
    async for turn in watch:
        if settings.as_json or not sys.stdout.isatty():
            _print_json(watch.query, turn)
        elif is_first:
            _print_answer(watch.query, turn)
        else:
            _print_changes(watch.query, turn)
        sys.stdout.flush()
        _say_cost(settings, turn, is_first=is_first)
        is_first = False


def _print_json(query: Query, turn: Turn) -> None:
    if query.kind == COUNT:
        print(to_json({"count": turn.count, "head": turn.head.sequence}))
    for change in turn.changes:
        print(to_json({"change": change.kind, "head": turn.head.sequence, "record": change.record}))


def _print_answer(query: Query, turn: Turn) -> None:
    if query.kind == COUNT:
        print(to_json({"count": turn.count}))
    else:
        rows_as_table([change.record for change in turn.changes], sys.stdout)


def _print_changes(query: Query, turn: Turn) -> None:
    signed = datetime.fromtimestamp(turn.head.time_ms / 1000).astimezone()
    title = f"{signed:%H:%M:%S}  head {turn.head.sequence}"
    if query.kind == COUNT:
        print(f"{title}  {to_json({'count': turn.count})}")
    elif turn.changes:
        print(title)
    columns = shutil.get_terminal_size((_COLUMNS_ELSEWHERE, 24)).columns
    for change in turn.changes:
        line = f"  {_SIGNS[change.kind]} {printable(to_json(change.record))}"
        print(line if len(line) <= columns else line[: columns - 1] + "…")


def _say_cost(settings: Settings, turn: Turn, *, is_first: bool) -> None:
    cost = turn.cost
    if settings.as_json:
        found = {
            "proof": str(turn.standing),
            "proven": turn.standing.proven,
            "not_proven": turn.standing.open,
            "head": {"sequence": turn.head.sequence},
            "rows": turn.count,
            "changes": len(turn.changes),
            "blocks_local": cost.blocks_local,
            "blocks_remote": cost.blocks_remote,
            "bytes_received": cost.bytes_received,
            "round_trips": cost.round_trips,
            "peers": cost.peers,
            "seconds": round(cost.seconds, 6),
        }
        print(to_json(found), file=sys.stderr, flush=True)
        return
    if is_first:
        parts = [
            f"{turn.standing}: {turn.standing.proven}",
            f"head {turn.head.sequence}",
            many(turn.count, "row"),
            f"{many(cost.blocks_local, 'block')} local, {cost.blocks_remote:,} remote",
        ]
        parts += [say_size(cost.bytes_received)] if cost.peers else []
        parts += [f"{cost.seconds * 1000:.1f} ms", "what changes follows; Ctrl-C ends"]
        print(" · ".join(parts), file=sys.stderr, flush=True)
