"""Asking many datasets at once: the rows of a feed, and what is said of it."""

from __future__ import annotations

import sys
from typing import Any

from rhizome_index.api import FeedResults, Node
from rhizome_index.cli.main import Settings
from rhizome_index.cli.show import many, rows_as_table, to_json
from rhizome_index.errors import RhizomeError, UsageError
from rhizome_index.index.address import Address
from rhizome_index.index.freshness import Freshness
from rhizome_index.index.size import say_size
from rhizome_index.query.expr import Query
from rhizome_index.trust.ladder import Requirement

FOLLOWING = "@following"


def is_feed(sources: tuple[str, ...]) -> bool:
    """Whether these name more than one dataset, or may."""
    return len(sources) > 1 or FOLLOWING in sources


async def ask_feed(
    settings: Settings,
    node: Node,
    query: Query,
    sources: tuple[str, ...],
    *,
    scan: bool,
    fresh: Freshness,
    required: Requirement,
) -> None:
    """Ask a query of many datasets, and print what they have."""
    addresses = [address for source in sources for address in _named(node, source)]
    results = FeedResults(node, query, addresses, scan=scan, fresh=fresh, required=required)
    rows: list[tuple[Address, dict[str, Any]]] = []
    try:
        async for row in results:
            rows.append(row)
    except RhizomeError:
        _print_rows(settings, rows)
        if rows:
            _say_summary(settings, results, len(rows), complete=False)
        raise
    _print_rows(settings, rows)
    _say_summary(settings, results, len(rows), complete=True)


def _named(node: Node, source: str) -> list[Address]:
    if source != FOLLOWING:
        return [Address.parse(source)]
    followed = node.followed()
    if not followed:
        raise UsageError("nothing is followed yet", hint="follow a dataset: rhizome follow ADDRESS")
    return followed


def _print_rows(settings: Settings, rows: list[tuple[Address, dict[str, Any]]]) -> None:
    if settings.as_json or not sys.stdout.isatty():
        for address, record in rows:
            sys.stdout.write(to_json({"dataset": str(address), "record": record}) + "\n")
        sys.stdout.flush()
    else:
        rows_as_table([{**record, "dataset()": _short(address)} for address, record in rows], sys.stdout)


def _short(address: Address) -> str:
    return f"…{address.publisher[-6:]}/{address.name}"


def _say_summary(settings: Settings, results: FeedResults, rows: int, *, complete: bool) -> None:
    feed, cost, standing = results.feed, results.feed.cost, results.feed.standing()
    found = {
        "proof": str(standing) if complete else None,
        "proven": standing.proven if complete else None,
        "not_proven": standing.open,
        "complete": complete,
        "datasets": feed.datasets,
        "rows": rows,
        "entries_scanned": cost.entries_scanned,
        "blocks_local": cost.blocks_local,
        "blocks_remote": cost.blocks_remote,
        "bytes_received": cost.bytes_received,
        "round_trips": cost.round_trips,
        "peers": cost.peers,
        "connect_seconds": round(cost.connect_seconds, 6),
        "seconds": round(cost.seconds, 6),
        "problems": {str(address): str(problem) for address, problem in feed.problems.items()},
    }
    if settings.as_json:
        print(to_json(found), file=sys.stderr)
        return
    proven = f"{standing}: of each at least {standing.proven}" if complete else "unproven: not complete"
    parts = [
        proven,
        f"{many(rows, 'row')} from {many(feed.datasets, 'dataset')}",
        f"{many(cost.blocks_local, 'block')} local, {cost.blocks_remote:,} remote",
    ]
    if cost.peers:
        parts.append(f"{say_size(cost.bytes_received)} in {many(cost.round_trips, 'round trip')}")
        parts.append(f"from {many(len(cost.peers), 'peer')}")
    parts.append(f"{cost.seconds * 1000:.1f} ms")
    print(" · ".join(parts), file=sys.stderr)
