"""A run, or a sweep of runs, as one page of HTML that needs nothing else: verdicts, figures, and plots as SVG.

The plots are matplotlib's and the page is jinja2's, both optional. Equal reports give equal pages.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.resources import files
from typing import Any

from rhizome_index.errors import UsageError
from rhizome_index.simulation.report import Report
from rhizome_index.simulation.sweep import Point
from rhizome_index.simulation.timeline import Snapshot, Spread, Timeline

_BLUE, _ORANGE, _GREY, _GREEN = "#2266aa", "#dd7722", "#bbbbbb", "#228855"
_SPREADS_SHOWN = 30

Draw = Callable[[Any], None]  # on axes


def render(report: Report, timeline: Timeline) -> str:
    """The page of one run. Raises UsageError where what it takes is not installed."""
    figures = list(_figures(report, timeline))
    return _page(title=report.scenario, reports=[report], points=[], figures=figures)


def render_sweep(setting: str, points: Sequence[Point]) -> str:
    """The page of a sweep: curves, and what held at each point. Raises UsageError as `render`."""
    reports = [point.report for point in points]
    title = f"{reports[0].scenario}: {setting} {', '.join(point.value for point in points)}"
    return _page(title=title, reports=reports, points=points, figures=list(_curves(setting, points)))


def check_installed() -> None:
    """Raises UsageError, before anything has run, where a page cannot be made."""
    for name in ("matplotlib", "jinja2"):
        try:
            import_module(name)
        except ImportError:
            raise UsageError(
                f"--html needs {name}, which is not installed", hint="pip install 'rhizome-index[report]'"
            ) from None


def _page(**what: Any) -> str:
    check_installed()
    import jinja2

    text = files("rhizome_index.simulation").joinpath("page.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(text).render(**what)


# --- one run ---


def _figures(report: Report, timeline: Timeline) -> Iterator[tuple[str, str, str]]:
    """Heading, what is to be seen, and SVG of each figure that there is something for."""
    numbers = f"{report.answered:,} whole answers, {report.unanswered:,} questions without one."
    if report.answer_seconds and not any([*report.answer_seconds, *report.answer_bytes]):
        yield "Answers", f"{numbers} All came from what their askers held: in no time, and no bytes.", ""
    elif report.answer_seconds:
        yield (
            "Answers",
            f"{numbers} Each curve says which part of the answers took at most so long, or so many bytes.",
            _draw(
                [
                    lambda axes: _cumulative(axes, report.answer_seconds, "seconds to the whole answer"),
                    lambda axes: _cumulative(axes, [size / 1000 for size in report.answer_bytes], "kB received"),
                ]
            ),
        )
    if any(report.sent.values()):
        yield (
            "Load",
            "Bytes that each peer has sent, the least first; and the Lorenz curve of them: the part of all bytes that "
            "the least loaded part of the peers has sent. On the diagonal all send the same.",
            _draw([lambda axes: _bars(axes, report.sent), lambda axes: _lorenz(axes, report)]),
        )
    spreads = [spread for spread in timeline.spreads.values() if spread.followers]
    if spreads:
        shown = spreads[-_SPREADS_SHOWN:]
        yield (
            "New heads",
            f"The part of the followers that holds a head, by the time since it was published: {len(shown)} of "
            f"{len(spreads)} heads that somebody followed.",
            _draw([lambda axes: _spread(axes, shown)]),
        )
    if len(timeline.samples) > 1:
        yield (
            "Over time",
            "Peers that run, and what all of them together send.",
            _draw([lambda axes: _running(axes, timeline), lambda axes: _sending(axes, timeline)]),
        )
    if timeline.snapshots:
        yield (
            "Who is connected to whom",
            "Green: holds the newest head of what it follows. Orange: does not. Blue: follows nothing. Grey: is not "
            "there.",
            _draw([_topology(snapshot) for snapshot in timeline.snapshots], columns=3, height=3.0),
        )


def _cumulative(axes: Any, values: Sequence[float], label: str) -> None:
    ordered = sorted(values)
    axes.step([*ordered, ordered[-1]], [number / len(ordered) for number in range(len(ordered) + 1)], color=_BLUE)
    for part in (0.5, 0.9, 0.99):
        value = ordered[math.ceil(part * len(ordered)) - 1]
        axes.plot([value], [part], "o", color=_ORANGE, markersize=4, clip_on=False)
        axes.annotate(f"p{part * 100:g}: {value:.3g}", (value, part), (6, -10), textcoords="offset points", fontsize=8)
    axes.set(xlabel=label, ylabel="part of answers", ylim=(0, 1.02), xlim=(0, None))


def _bars(axes: Any, sent: dict[str, int]) -> None:
    ordered = sorted((size / 1e6, name) for name, size in sent.items())
    axes.bar(range(len(ordered)), [size for size, _ in ordered], width=0.9, color=_BLUE)
    axes.set(xlabel="peers", ylabel="MB sent", xlim=(-0.7, len(ordered) - 0.3))
    axes.set_xticks([])
    size, name = ordered[-1]
    axes.annotate(name, (len(ordered) - 1, size), (-4, -3), textcoords="offset points", ha="right", fontsize=8)


def _lorenz(axes: Any, report: Report) -> None:
    found = report.as_json()["load"]
    parts = [number / (len(found["lorenz"]) - 1) for number in range(len(found["lorenz"]))]
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=1)
    axes.plot(parts, found["lorenz"], color=_BLUE)
    axes.fill_between(parts, found["lorenz"], parts, color=_BLUE, alpha=0.12, linewidth=0)
    axes.set(xlabel="part of peers", ylabel="part of bytes", xlim=(0, 1), ylim=(0, 1))
    axes.text(0.05, 0.9, f"Gini {found['gini']:.2f}", fontsize=10)


def _spread(axes: Any, spreads: Sequence[Spread]) -> None:
    longest = max((seconds for spread in spreads for seconds in spread.seconds), default=1.0)
    for spread in spreads:
        seconds = sorted(spread.seconds)[: spread.followers]
        parts = [number / spread.followers for number in range(len(seconds) + 1)]
        axes.step([0, *seconds, longest], [*parts, parts[-1]], where="post", color=_BLUE, alpha=0.45, linewidth=1)
    axes.set(xlabel="seconds since it was published", ylabel="part of followers", ylim=(0, 1.02), xlim=(0, longest))


def _running(axes: Any, timeline: Timeline) -> None:
    axes.step([sample.at for sample in timeline.samples], [sample.running for sample in timeline.samples], color=_BLUE)
    axes.set(xlabel="seconds", ylabel="peers that run", ylim=(0, None))


def _sending(axes: Any, timeline: Timeline) -> None:
    pairs = list(zip(timeline.samples, timeline.samples[1:], strict=False))
    rates = [(later.bytes - earlier.bytes) / 1000 / (later.at - earlier.at) for earlier, later in pairs]
    axes.step([later.at for _, later in pairs], rates, color=_BLUE, linewidth=1)
    axes.set(xlabel="seconds", ylabel="kB a second", ylim=(0, None))


def _topology(snapshot: Snapshot) -> Draw:
    def draw(axes: Any) -> None:
        names = list(snapshot.peers)
        turn = 2 * math.pi / max(1, len(names))
        places = {name: (math.sin(turn * place), math.cos(turn * place)) for place, name in enumerate(names)}
        for one, other in snapshot.edges:
            (left, bottom), (right, top) = places[one], places[other]
            axes.plot([left, right], [bottom, top], color=_BLUE, alpha=0.25, linewidth=0.6, zorder=1)
        colours = [_colour(*snapshot.peers[name]) for name in names]
        size = min(40.0, 2000 / max(1, len(names)))
        axes.scatter(*zip(*places.values(), strict=True), s=size, c=colours, zorder=2)
        axes.set_title(f"{snapshot.at:.0f} s, {len(snapshot.edges):,} connections", fontsize=9)
        axes.set_aspect("equal")
        axes.axis("off")

    return draw


def _colour(runs: bool, is_fresh: bool | None) -> str:
    if not runs:
        return _GREY
    return _BLUE if is_fresh is None else _GREEN if is_fresh else _ORANGE


# --- a sweep ---


def _curves(setting: str, points: Sequence[Point]) -> Iterator[tuple[str, str, str]]:
    found = [point.report.as_json() for point in points]
    panels: list[tuple[str, str, list[tuple[str, ...]]]] = [
        ("Answers", "seconds", [("answers", "seconds", part) for part in ("p50", "p99")]),
        ("Answers", "bytes", [("answers", "bytes", part) for part in ("p50", "p99")]),
        ("Answers", "round trips", [("answers", "round_trips", part) for part in ("p50", "p99")]),
        ("New heads", "seconds", [("head_lag_seconds", part) for part in ("p50", "p99")]),
        ("Load", "Gini", [("load", "gini")]),
        ("All", "bytes", [("bytes",)]),
    ]
    draws: list[Draw] = []
    for heading, unit, ways in panels:
        lines = {way[-1]: [_at(item, way) for item in found] for way in ways}
        if any(value is not None for line in lines.values() for value in line):
            draws.append(_curve(setting, [point.value for point in points], f"{heading}: {unit}", lines))
    yield "Curves", f"Each point is a run by itself, with another value of {setting}.", _draw(draws, columns=2)


def _at(found: Any, way: Sequence[str]) -> float | None:
    for name in way:
        found = found.get(name) if isinstance(found, dict) else None
    return None if found is None else float(found)


def _curve(setting: str, values: Sequence[str], label: str, lines: dict[str, list[float | None]]) -> Draw:
    def draw(axes: Any) -> None:
        try:
            places: list[float] = [float(value) for value in values]
            if min(places) > 0 and max(places) > 10 * min(places):
                axes.set_xscale("log")
        except ValueError:
            places = list(range(len(values)))
        for (name, line), colour in zip(lines.items(), (_BLUE, _ORANGE), strict=False):
            heights = [math.nan if value is None else value for value in line]
            axes.plot(places, heights, "o-", color=colour, label=name, clip_on=False)
        axes.set_xticks(places, values)
        axes.minorticks_off()
        axes.yaxis.set_major_formatter("{x:,.12g}")
        axes.set(xlabel=setting, ylabel=label, ylim=(0, None))
        if len(lines) > 1:
            axes.legend(frameon=False, fontsize=8)

    return draw


# --- drawing ---


def _draw(draws: Sequence[Draw], *, columns: int = 2, height: float = 2.8) -> str:
    """Some axes side by side, as SVG to stand in a page."""
    columns = min(columns, len(draws))
    rows = math.ceil(len(draws) / columns)
    with _plotting() as figure_of:
        figure = figure_of(figsize=(9.6, height * rows), layout="constrained")
        for place, draw in enumerate(draws):
            axes = figure.add_subplot(rows, columns, place + 1)
            axes.spines[["top", "right"]].set_visible(False)
            draw(axes)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]


@contextmanager
def _plotting() -> Iterator[Callable[..., Any]]:
    """Makes figures. Needs no display; text stays text, and ids are the same each time."""
    check_installed()
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "rhizome", "font.family": "sans-serif"}):
        yield Figure
