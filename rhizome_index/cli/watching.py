"""Watch the running node of this home: what `status` says of it, and `top`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
import trio

from rhizome_index.cli.main import Settings, common
from rhizome_index.cli.network import run
from rhizome_index.cli.show import many, print_warning, printable, rate, room_lines, shortened, to_json
from rhizome_index.errors import IntegrityError, UnavailableError
from rhizome_index.index.duration import say_duration
from rhizome_index.index.size import say_size
from rhizome_index.limits import CONTROL_TIMEOUT_SECONDS
from rhizome_index.node.call import ask
from rhizome_index.node.status import FAILING, SYNCING, FollowStatus, NodeStatus
from rhizome_index.wire import control

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table


async def fetch_status(settings: Settings) -> NodeStatus:
    """What the running node says of itself. Raises UnavailableError if there is none, or it does not answer."""
    if not settings.home.is_running:
        raise UnavailableError(f"no node of {settings.home.path} is running", hint="start one: rhizome node")
    call, end = await ask(settings.home.socket_path, control.Status(), CONTROL_TIMEOUT_SECONDS)
    call.hang_up()
    return NodeStatus.read(end.fields)


def node_status(settings: Settings) -> NodeStatus | None:
    """The same for a command that has more to say: where it cannot be had, a warning."""
    try:
        return trio.run(fetch_status, settings)
    except (UnavailableError, IntegrityError) as error:
        print_warning(str(error), error.hint or "stop it and start it again", as_json=settings.as_json)
        return None


def status_lines(node: NodeStatus) -> Iterator[str]:
    """A running node for people, below what `status` says of the home."""
    passed = f"{say_size(node.bytes_received)} received, {say_size(node.bytes_sent)} sent"
    doing = f"{many(node.connected, 'peer')}, {many(node.answers_given, 'answer')} given, {passed}"
    yield f"node     pid {node.pid}, up {say_duration(node.uptime_seconds)}: {doing}"
    for address in node.addresses:
        yield f"         {address}"
    if node.problem:
        yield f"problem  {node.problem}"
    for peer in node.peers:
        passed = f"{say_size(peer.bytes_received)} received, {say_size(peer.bytes_sent)} sent"
        where = ", on the local network" if peer.is_local else ""
        where += ", through a relay" if peer.is_relayed else ""
        yield f"  {peer.peer}  {_latency(peer.latency_seconds)}, {passed}, {many(peer.answers, 'answer')}{where}"
    for follow in node.follows:
        yield f"  follows {follow.address}, {follow.keeps}: {follow_state(follow)}"


def follow_state(follow: FollowStatus) -> str:
    """How a follow is doing, in a few words."""
    parts = [follow.state]
    if follow.state == SYNCING:
        total = follow.entries_total
        parts.append(f"{follow.phase} {min(1.0, follow.entries_done / total):.0%}" if total else follow.phase)
    if follow.head is not None and follow.age_seconds is not None:
        parts.append(f"head {follow.head}, {say_duration(follow.age_seconds)} old, {follow.proof}")
    if follow.behind:
        parts.append(f"{follow.behind} behind")
    if follow.state == FAILING:
        parts.append(printable(follow.problem))
    return ", ".join(parts)


def _latency(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1000:.1f} ms"


@click.command(
    "top",
    epilog="""\b
Examples:
  rhizome top
  rhizome top --every 5
  rhizome top --json
""",
)
@click.option(
    "--every", type=click.FloatRange(0.1, 3600), default=1.0, show_default=True, help="Seconds between two looks."
)
@common
def top_command(settings: Settings, every: float) -> None:
    """Watch the running node: its peers, follows and rates. q leaves.

    Where the output is no terminal it is shown once.
    """
    is_live = sys.stdout.isatty() and not settings.as_json
    run(lambda: _watch(settings, every) if is_live else _show_once(settings))


async def _show_once(settings: Settings) -> None:
    status = await fetch_status(settings)
    if settings.as_json:
        print(to_json(status.fields()))
        return
    from rich.console import Console

    Console(file=sys.stdout).print(picture(status, None, 1.0), soft_wrap=True)


async def _watch(settings: Settings, every: float) -> None:
    from rich.console import Console
    from rich.live import Live

    before = await fetch_status(settings)
    with (
        _single_keys() as keys,
        Live(picture(before, None, every), console=Console(), screen=True, auto_refresh=False) as live,
        trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals,
    ):
        async with trio.open_nursery() as nursery:

            async def leave_at_signal() -> None:
                async for _ in signals:
                    nursery.cancel_scope.cancel()

            async def leave_at_key() -> None:
                while keys is not None:
                    await trio.lowlevel.wait_readable(keys)
                    if os.read(keys, 64)[:1] in (b"q", b"Q", b"\x1b", b""):
                        nursery.cancel_scope.cancel()

            nursery.start_soon(leave_at_signal)
            nursery.start_soon(leave_at_key)
            while True:
                live.refresh()
                await trio.sleep(every)
                now = await fetch_status(settings)
                live.update(picture(now, before, now.uptime_seconds - before.uptime_seconds))
                before = now


@contextmanager
def _single_keys() -> Iterator[int | None]:
    """The terminal's file descriptor, read key by key and without an echo; None if there is none."""
    import termios
    import tty

    if not sys.stdin.isatty():
        yield None
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield descriptor
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def picture(now: NodeStatus, before: NodeStatus | None, seconds: float) -> RenderableType:
    """A node, and how much passed in the seconds since it looked like `before`."""
    from rich.console import Group
    from rich.text import Text

    known = before or now
    answers = now.answers_given - known.answers_given
    head = (
        f"peer {shortened(now.peer_id)} · up {say_duration(now.uptime_seconds)} · "
        f"in {rate(now.bytes_received - known.bytes_received, seconds)} · "
        f"out {rate(now.bytes_sent - known.bytes_sent, seconds)} · {answers / max(seconds, 1e-3):.1f} answers/s"
    )
    parts: list[RenderableType] = [
        Text(head, style="bold"),
        *(Text(f"  {shortened(address)}") for address in now.addresses),
    ]
    if now.room is not None:
        parts.append(_hanging(room_lines(now.room)))
    if now.problem:
        parts.append(Text(printable(now.problem), style="bold red"))
    peers = _peers_table(now, known, seconds) if now.peers else Text(many(now.connected, "peer"), style="bold")
    parts += [Text(""), peers]
    if now.follows:
        parts += [Text(""), _follows_table(now)]
    return Group(*parts)


def _hanging(lines: list[str]) -> Table:
    """Lines that begin with a word of nine columns: what does not fit goes on below what stands behind it."""
    from rich.table import Table

    table = Table.grid()
    for line in lines:
        _add_row(table, line[:9], line[9:])
    return table


def _peers_table(now: NodeStatus, before: NodeStatus, seconds: float) -> Table:
    found = _table(f"{many(now.connected, 'peer')}", "latency", "in/s", "out/s", "in", "out", "answers")
    earlier = {peer.peer: peer for peer in before.peers}
    for peer in sorted(now.peers, key=lambda peer: -peer.bytes_received - peer.bytes_sent):
        known = earlier.get(peer.peer, peer)
        _add_row(
            found,
            shortened(peer.peer),
            _latency(peer.latency_seconds),
            rate(peer.bytes_received - known.bytes_received, seconds),
            rate(peer.bytes_sent - known.bytes_sent, seconds),
            say_size(peer.bytes_received),
            say_size(peer.bytes_sent),
            f"{peer.answers:,}",
        )
    return found


def _follows_table(now: NodeStatus) -> Table:
    found = _table(f"follows {many(now.followed, 'dataset')}", "head", "age", "behind", "state", "")
    for follow in now.follows:
        progress = (
            f"{follow.phase} {follow.entries_done:,} of {follow.entries_total:,}, {say_size(follow.bytes_fetched)}"
        )
        _add_row(
            found,
            shortened(follow.address),
            "" if follow.head is None else str(follow.head),
            "" if follow.age_seconds is None else say_duration(follow.age_seconds),
            str(follow.behind),
            follow.state,
            progress if follow.state == SYNCING else printable(follow.problem),
        )
    return found


def _add_row(table: Table, *cells: str) -> None:
    from rich.text import Text

    table.add_row(*map(Text, cells))


def _table(first: str, *others: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="left" if name in ("state", "") else "right", no_wrap=bool(name))
    return table
