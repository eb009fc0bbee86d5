"""The command `simulate`: run a scenario in a simulated world and say what held."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from rhizome_index.cli.main import Settings, common
from rhizome_index.cli.show import to_json
from rhizome_index.errors import UsageError
from rhizome_index.index.size import say_size
from rhizome_index.simulation import page
from rhizome_index.simulation.backends import NAMES, SIMULATED
from rhizome_index.simulation.report import Report
from rhizome_index.simulation.scenario import Simulation, adapt, known, load, run
from rhizome_index.simulation.sweep import Point, Run, parse_sweep, replay_sweep, sweep
from rhizome_index.simulation.timeline import Timeline

_SHOW_SECONDS = 0.25


@click.command(
    "simulate",
    epilog="""\b
Examples:
  rhizome simulate --list
  rhizome simulate cold_start --peers 50 --seed 7
  rhizome simulate partition_and_heal --set posts=2000 --json
  rhizome simulate cold_start --sweep peers=10,100,1000
  rhizome simulate publisher_offline --backend libp2p --peers 50
  rhizome simulate cold_start --backend processes --peers 20
  rhizome simulate flash_crowd --html report.html
""",
)
@click.argument("name", required=False)
@click.option("--list", "listing", is_flag=True, help="List the scenarios there are, with their settings.")
@click.option("--peers", type=click.IntRange(1), help="How many peers.")
@click.option("--seed", type=int, default=1, show_default=True, help="Another seed, another run; the same, the same.")
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), help="Virtual minutes.")
@click.option("--set", "settings_", multiple=True, metavar="KEY=VALUE", help="Another setting of the scenario.")
@click.option("--sweep", "swept", metavar="KEY=V,V,...", help="Run it for each of these values: a table of curves.")
@click.option(
    "--backend", "on", type=click.Choice(NAMES), default=SIMULATED, show_default=True, help="What it runs on."
)
@click.option("--trace", type=click.Path(path_type=Path, dir_okay=False), help="Write every event to this file.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write a page with plots to this file.")
@common
def simulate_command(
    settings: Settings,
    name: str | None,
    listing: bool,
    peers: int | None,
    seed: int,
    minutes: float | None,
    settings_: tuple[str, ...],
    swept: str | None,
    on: str,
    trace: Path | None,
    html: Path | None,
) -> None:
    """Run a scenario: the node's own code on a simulated network, in virtual time.

    NAME is one of --list, or a file. With --backend libp2p the real stack runs on the simulated links; with --backend
    processes each peer is a `rhizome node` on loopback, in real time, and what takes a simulated world is refused.
    Neither is the same again for the same seed. Exit code 0 if every promise was kept, 4 if not.
    """
    if listing or name is None:
        _list(settings)
        return
    values = dict(_pair(text) for text in settings_)
    paper = _Page(html) if html is not None else None
    if swept is not None:
        if trace is not None:
            raise UsageError("--trace is for a single run", hint="run one of the sweep by itself")
        if on != SIMULATED:
            raise UsageError("a sweep runs on the simulated network", hint="leave --backend out")
        _sweep(settings, Run(name, seed, peers, minutes, values), swept, paper)
        return
    chosen = adapt(load(name), peers=peers, minutes=minutes, values=values)
    started = time.monotonic()
    progress = None if settings.as_json or not sys.stderr.isatty() else _Progress(started)
    with ExitStack() as stack:
        try:
            file = stack.enter_context(trace.open("w", encoding="utf-8")) if trace is not None else None
        except OSError as error:
            raise UsageError(f"cannot write {trace}: {error.strerror}") from None
        timeline = Timeline(chosen.minutes) if paper is not None else None
        report = run(chosen, seed, on=on, trace_file=file, on_progress=progress, timeline=timeline)
    if progress is not None:
        progress.clear()
    seconds = time.monotonic() - started
    if settings.as_json:
        print(to_json({**report.as_json(), "real_seconds": round(seconds, 3)}))
    else:
        _print(report, seconds)
    if paper is not None and timeline is not None:
        paper.write(report, timeline, quiet=settings.as_json)
    if not report.holds:
        raise click.exceptions.Exit(4)


def _pair(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign:
        raise UsageError(f"not KEY=VALUE: {text!r}")
    return key, value


class _Page:
    """Where a page with plots goes. Raises UsageError at once where it cannot be made."""

    def __init__(self, path: Path) -> None:
        page.check_installed()
        self._path = path
        self._write("")

    def write(self, report: Report, timeline: Timeline, *, quiet: bool) -> None:
        self._write(page.render(report, timeline), quiet=quiet)

    def write_sweep(self, setting: str, points: Sequence[Point], *, quiet: bool) -> None:
        self._write(page.render_sweep(setting, points), quiet=quiet)

    def _write(self, text: str, *, quiet: bool = True) -> None:
        try:
            self._path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UsageError(f"cannot write {self._path}: {error.strerror}") from None
        if not quiet:
            print(f"  page: {self._path}")


def _sweep(settings: Settings, base: Run, text: str, html: _Page | None) -> None:
    """Run a scenario for several values: a line of JSON each as it comes, or a table."""
    setting, values = parse_sweep(text)
    points: list[Point] = []
    is_shown = not settings.as_json and sys.stderr.isatty()
    for point in sweep(base, setting, values):
        points.append(point)
        if settings.as_json:
            costs = {"real_seconds": point.real_seconds, "memory_bytes_peak": point.memory_bytes_peak}
            print(to_json({"sweep": {setting: point.value}, **point.report.as_json(), **costs}), flush=True)
        elif is_shown:
            print(f"\r{len(points)} of {len(values)} runs\x1b[K", end="", file=sys.stderr, flush=True)
    if is_shown:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    if not settings.as_json:
        _print_curves(setting, points)
        print(f"again: {replay_sweep(base, setting, values)}")
    if html is not None:
        html.write_sweep(setting, points, quiet=settings.as_json)
    if not all(point.report.holds for point in points):
        raise click.exceptions.Exit(4)


def _print_curves(setting: str, points: Sequence[Point]) -> None:
    """One row for each value."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    rows = [_curve_row(setting, point) for point in points]
    for name in rows[0]:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*row.values())
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else 200).print(table)
    for point in points:
        for verdict in point.report.verdicts:
            if not verdict.holds:
                print(f"BROKEN at {setting}={point.value}: {verdict.promise}: {verdict.problem.splitlines()[0]}")


def _curve_row(setting: str, point: Point) -> dict[str, str]:
    """What one run comes to, by the heads of columns."""
    found: dict[str, Any] = point.report.as_json()
    answers, lags = found["answers"], found["head_lag_seconds"]

    def part(values: dict[str, float], name: str) -> str:
        return f"{values[name]:.3g}" if values else "-"

    return {
        setting: point.value,
        "holds": "yes" if point.report.holds else "NO",
        "answers": f"{answers['whole']:,}",
        "none": f"{answers['none']:,}",
        "s p50": part(answers["seconds"], "p50"),
        "s p99": part(answers["seconds"], "p99"),
        "bytes p50": say_size(int(answers["bytes"]["p50"])) if answers["bytes"] else "-",
        "trips p50": part(answers["round_trips"], "p50"),
        "head s p50": part(lags, "p50"),
        "head s p99": part(lags, "p99"),
        "gini": f"{found['load']['gini']:.2f}",
        "bytes": say_size(point.report.bytes),
        "took s": f"{point.real_seconds:.1f}",
        "memory": say_size(point.memory_bytes_peak),
    }


def _list(settings: Settings) -> None:
    for name in known():
        chosen = load(name)
        if settings.as_json:
            found = {"name": name, "about": chosen.about, "peers": chosen.peers, "minutes": chosen.minutes}
            print(to_json({**found, "values": chosen.values}))
        else:
            values = " ".join(f"{key}={value}" for key, value in chosen.values.items())
            print(f"{name:20} {chosen.about.splitlines()[0]}")
            print(f"{'':20} --peers {chosen.peers} --minutes {chosen.minutes:g}  {values}")


class _Progress:
    """One line on the terminal, a few times a second."""

    def __init__(self, started: float) -> None:
        self._started = started
        self._shown = 0.0

    def __call__(self, sim: Simulation) -> None:
        now = time.monotonic()
        if now - self._shown < _SHOW_SECONDS:
            return
        self._shown = now
        virtual = sim.world.now
        hosts = sim.network.hosts.values()
        messages = sum(host.counts.messages_sent for host in hosts)
        received = sum(host.counts.bytes_received for host in hosts)
        faster = virtual / max(now - self._started, 1e-9)
        text = f"{virtual:.0f} s, {faster:.0f} times as fast as the world · {sim.world.trace.events:,} events"
        print(f"\r{text} · {messages:,} messages · {say_size(received)}\x1b[K", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _print(report: Report, seconds: float) -> None:
    """The report for people."""
    found = report.as_json()
    print(report.about.splitlines()[0])
    for verdict in report.verdicts:
        sign = "holds" if verdict.holds else "BROKEN"
        print(f"  {sign:6} {verdict.promise} ({verdict.checked:,} checked)")
        if verdict.problem:
            print("         " + verdict.problem.replace("\n", "\n         "))
    answers = found["answers"]
    if report.answered or report.unanswered:
        print(f"  answers: {report.answered:,} whole, {report.unanswered:,} none; seconds {_short(answers['seconds'])}")
        print(
            f"           bytes {_short(answers['bytes'], in_bytes=True)}; round trips {_short(answers['round_trips'])}"
        )
    if report.head_lag_seconds:
        print(f"  new heads arrive after seconds {_short(found['head_lag_seconds'])}")
    print(f"  load: gini {_figure(found['load']['gini'])}")
    for name, value in report.measured.items():
        print(f"  {name.replace('_', ' ')}: {said(value)}")
    print(
        f"  {report.virtual_seconds:.0f} s of its time in {seconds:.1f} s · {report.events:,} events · "
        f"{report.messages:,} messages · {say_size(report.bytes)} · trace {report.trace[:16]}"
    )
    print(f"  again: {report.replay}")


def _short(values: dict[str, float], *, in_bytes: bool = False) -> str:
    return ", ".join(
        f"{name} {say_size(round(value)) if in_bytes else _figure(value)}" for name, value in values.items()
    )


def said(value: Any) -> str:
    """What a scenario has measured, for people."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {said(part)}" for name, part in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(said, value)) or "none"
    return _figure(value) if isinstance(value, int | float) else str(value)


def _figure(value: float) -> str:
    """A number: what is counted whole, what is measured with three significant digits."""
    return f"{value:,}" if isinstance(value, int) else f"{round(value):,}" if abs(value) >= 100 else f"{value:.3g}"
