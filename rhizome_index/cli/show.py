"""What the command line prints: rows, summaries, errors. People get tables, programs get JSON."""

from __future__ import annotations

import json
import re
import sys
from base64 import b64encode
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from rhizome_index.blocks.cbor import Link
from rhizome_index.blocks.cid import format_cid
from rhizome_index.cli.tables import table_lines
from rhizome_index.errors import QueryError, RhizomeError
from rhizome_index.index.duration import say_duration
from rhizome_index.index.freshness import expires_in
from rhizome_index.index.size import say_size
from rhizome_index.limits import STORE_BYTES_EMPTY

if TYPE_CHECKING:
    from rhizome_index.api import Results
    from rhizome_index.node.status import RoomStatus


def to_json(value: Any) -> str:
    """One line of JSON. Bytes become {"/": {"bytes": base64}} and links {"/": CID}, as in DAG-JSON."""
    return json.dumps(value, ensure_ascii=False, default=_plain, separators=(", ", ": "))


def _plain(value: Any) -> Any:
    if isinstance(value, Link):
        return {"/": format_cid(bytes(value))}
    if isinstance(value, bytes):
        return {"/": {"bytes": b64encode(value).rstrip(b"=").decode()}}
    raise TypeError(type(value).__name__)


def rows_as_table(rows: Sequence[dict[str, Any]], file: TextIO, key: str | None = None) -> None:
    """Rows for people, as wide as the terminal: `tables` says how."""
    from rich.console import Console

    console = Console(file=file)
    for line in table_lines(rows, console.width, _cell, key):
        console.print(line, soft_wrap=True)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(map(printable, value))
    return printable(value if isinstance(value, str) else to_json(value))


def printable(text: str) -> str:
    """Text without anything that moves the cursor of a terminal: records come from strangers."""
    return "".join(char if char.isprintable() else " " for char in text)


def print_rows(rows: Iterable[dict[str, Any]], *, as_json: bool, key: str | None = None) -> None:
    """Rows on stdout: on a terminal a table with the field `key` first, otherwise a line of JSON each."""
    if as_json or not sys.stdout.isatty():
        for row in rows:
            sys.stdout.write(to_json(row) + "\n")
        sys.stdout.flush()
    elif found := list(rows):
        rows_as_table(found, sys.stdout, key)


def summary(results: Results, rows: int, now: float) -> dict[str, Any]:
    """What was proven, as of when, and at what cost."""
    resolution, cost = results.resolution, results.resolution.cost
    head = resolution.opening.head if resolution.opening else None
    cursor = resolution.cursor()
    standing = results.standing()
    found: dict[str, Any] = {
        "proof": str(standing) if resolution.is_complete else None,
        "proven": standing.proven if resolution.is_complete else None,
        "not_proven": standing.open,
        "complete": resolution.is_complete,
        "dataset": str(results.address),
        "head": {
            "sequence": head.sequence if head else None,
            "age_seconds": round(max(0.0, now - head.time_ms / 1000), 3) if head else None,
            "expires_in_seconds": expires_in(head, now) if head else None,
        },
        "rows": rows,
        "entries_scanned": cost.entries_scanned,
        "blocks_local": cost.blocks_local,
        "blocks_remote": cost.blocks_remote,
        "bytes_received": cost.bytes_received,
        "round_trips": cost.round_trips,
        "peers": cost.peers,
        "connect_seconds": round(cost.connect_seconds, 6),
        "over_running_node": results.node.is_lent and bool(cost.peers),
        "seconds": round(cost.seconds, 6),
        "cursor": None if cursor is None else str(cursor),
    }
    from rhizome_index.query.expr import COUNT

    if resolution.query.kind == COUNT and resolution.answer is not None:
        found["count"] = resolution.answer.count
        found["rows"] = 1  # which says it
    return found


def summary_line(found: dict[str, Any]) -> str:
    """The summary for people."""
    head = found["head"]
    proven = found["proven"] if found["complete"] else "not complete"
    parts = [
        f"{found['proof'] or 'unproven'}: {proven}",
        _say_head(head) if head["sequence"] is not None else "no head",
        f"{many(found['rows'], 'row')} from {many(found['entries_scanned'], 'entry', 'entries')}",
        f"{many(found['blocks_local'], 'block')} local, {found['blocks_remote']:,} remote",
    ]
    if found["peers"]:
        parts.append(f"{say_size(found['bytes_received'])} in {many(found['round_trips'], 'round trip')}")
        parts.append(f"from {', '.join(shortened(peer) for peer in found['peers'])}")
        milliseconds = found["connect_seconds"] * 1000
        over = "over the running node's connections" if found["over_running_node"] else "connected"
        parts.append(f"{over} in {milliseconds:.0f} ms")
    parts.append(f"{found['seconds'] * 1000:.1f} ms")
    return " · ".join(parts)


def _say_head(head: dict[str, Any]) -> str:
    return f"head {head['sequence']}, {say_duration(head['age_seconds'])} old{say_expiry(head['expires_in_seconds'])}"


def many(count: int, one: str, several: str = "") -> str:
    """So many of something."""
    return f"{count:,} {one if count == 1 else several or one + 's'}"


def say_expiry(seconds: float | None) -> str:
    """What to say behind a head of when it expires."""
    if seconds is None:
        return ""
    return f", holds for {say_duration(seconds)}" if seconds > 0 else f", EXPIRED {say_duration(abs(seconds))} ago"


def rate(count: int, seconds: float) -> str:
    """Bytes a second for people."""
    return f"{say_size(round(max(0, count) / max(seconds, 1e-3)))}/s"


def shortened(name: str) -> str:
    """A peer id, or an address with one in it, so that it fits a line."""
    return re.sub(r"\b(\w{8})\w{30,}(\w{4})\b", r"\1…\2", name)


def print_error(error: RhizomeError, *, as_json: bool, at: str = "", hint: str | None = None) -> None:
    """An error on stderr: what is wrong, where, and what to do next.

    at    where it was met, before what it says
    hint  what to do next, if not what it says itself
    """
    hint = error.hint if hint is None else hint
    if as_json:
        found = {"error": at + str(error), "hint": hint or None, "exit_code": error.exit_code}
        print(to_json(found), file=sys.stderr)
        return
    print(f"rhizome: {at}{printable(str(error))}", file=sys.stderr)
    if isinstance(error, QueryError) and error.pointer():
        print("\n".join("  " + line for line in error.pointer().splitlines()), file=sys.stderr)
    for line in hint.splitlines():
        print(f"  {printable(line)}", file=sys.stderr)


def print_hints(hints: Sequence[str]) -> None:
    """What may have been meant, for people, on stderr."""
    for hint in hints:
        print(f"rhizome: {printable(hint)}", file=sys.stderr)


def print_warning(text: str, hint: str, *, as_json: bool) -> None:
    """Something on stderr that should be known, though the command goes on."""
    if as_json:
        print(to_json({"warning": text, "hint": hint}), file=sys.stderr)
    else:
        print(f"rhizome: {printable(text)}\n  {printable(hint)}", file=sys.stderr)


def room_lines(room: RoomStatus) -> list[str]:
    """What takes how much, for people."""
    allowed = "no quota" if room.quota_bytes is None else f"quota {say_size(room.quota_bytes)}"
    parts = [f"{allowed} for what is kept of others"]
    for name, count in (("followed", room.followed_bytes), ("pinned", room.pinned_bytes)):
        parts += [f"{name} {say_size(count)}"] if count is not None else []
    parts.append(f"left by queries {say_size(room.cached_bytes)}")
    named = (room.followed_bytes or 0) + (room.pinned_bytes or 0) + room.cached_bytes
    if (rest := room.others_bytes - named) > STORE_BYTES_EMPTY:  # less may be pages of an empty store
        what = "not yet told apart" if room.own_bytes is None else "unfinished, not needed or half-empty pages"
        parts.append(f"{what} {say_size(rest)}")
    parts += [f"own {say_size(room.own_bytes)}"] if room.own_bytes is not None else []
    lines = [f"room     {', '.join(parts)}"]
    if room.is_collecting:
        lines.append("gc       under way" + (", waits for another command of this home" if room.is_waiting else ""))
    elif room.collected_seconds is not None:
        lines.append(f"gc       {say_duration(room.collected_seconds)} ago, freed {say_size(room.freed_bytes)}")
    return lines
