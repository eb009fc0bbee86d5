"""The page of the experiment `growth`: `python -m simulations.experiments.growth_page` makes it from the numbers kept,
with the fits."""

from __future__ import annotations

from collections.abc import Callable
from math import log2
from statistics import fmean, median
from typing import Any

from simulations.experiments import pages
from simulations.experiments.growth import HALF, PEERS, QUESTIONS, RECORDS, fit
from simulations.experiments.pages import Cells

Size = Callable[[dict[str, Any]], int]

BYTES, ROUND_TRIPS, RECEIVED, SECONDS = "bytes", "round_trips", "received", "seconds"
_MEASURES = {
    BYTES: "bytes of the query",
    RECEIVED: "bytes received in all",
    ROUND_TRIPS: "round trips",
    SECONDS: "seconds",
}
_NAMES = {"peers": "peers, half of them holders", "few": "peers, 5 of them holders", "records": "records"}


def series(cells: Cells) -> dict[str, tuple[str, Cells]]:
    """The three rows of runs, each with what grows along it."""
    smallest = [cell for cell in cells if cell["records"] == RECORDS[0]]
    return {
        "peers": ("peers", [cell for cell in smallest if cell["holders"] == HALF]),
        "few": ("peers", [cell for cell in smallest if cell["holders"] != HALF]),
        "records": ("records", [cell for cell in cells if cell["peers"] == PEERS[0] and cell["holders"] == HALF]),
    }


def answers(run: dict[str, Any], measure: str, question: int | None = None) -> list[float]:
    """A measure of every newcomer of a run that was answered."""
    told = [one for one in run["asked"] if BYTES in one and question in (None, one["question"])]
    return [one[measure] for one in told]


def fitted(size: str, runs: Cells, measure: str, question: int | None = None) -> dict[str, Any]:
    """The fit over every single answer of some runs."""
    points = [(run[size], value) for run in runs for value in answers(run, measure, question)]
    return fit([at for at, _ in points], [value for _, value in points])


def plot(cells: Cells) -> None:
    """Bytes and round trips against either size, with the fits."""
    found = series(cells)
    with pages.plotted("growth", 4) as axes:
        for place, (measure, names) in enumerate(
            (
                (BYTES, ("peers", "few")),
                (ROUND_TRIPS, ("peers", "few")),
                (BYTES, ("records",)),
                (ROUND_TRIPS, ("records",)),
            )
        ):
            one = axes[place]
            for name, colour in zip(names, pages.COLOURS, strict=False):
                size, runs = found[name]
                runs = sorted(runs, key=lambda run: run[size])
                sizes = [run[size] for run in runs]
                one.plot(sizes, [fmean(answers(run, measure)) for run in runs], "o", color=colour, label=_NAMES[name])
                line = fitted(size, runs, measure)
                one.plot(sizes, [line["a"] + line["b"] * log2(at) for at in sizes], "-", color=colour, linewidth=1)
            one.set_xscale("log")
            one.set(xlabel=size, ylabel=f"{_MEASURES[measure]}, mean", ylim=(0, None))
            one.legend(frameon=False, fontsize=7, loc="lower right")


def page(cells: Cells) -> list[str]:
    """What was found, as lines of markdown."""
    lines = [_HEAD, "", "## What it cost", "", _COST, ""]
    head = ["peers", "holders", "records", "answered", "bytes", "received in all", "round trips", "one", "seconds"]
    rows: list[list[object]] = []
    for run in sorted(cells, key=lambda run: (run["records"], run["holders"] != HALF, run["peers"])):
        trips = answers(run, ROUND_TRIPS)
        rows.append(
            [
                f"{run['peers']:,}",
                run["holders"],
                f"{run['records']:,}",
                f"{len(trips)} of {len(run['asked'])}",
                f"{fmean(answers(run, BYTES)):,.0f}",
                f"{fmean(answers(run, RECEIVED)):,.0f}",
                f"{fmean(trips):.1f} (most {max(trips)})",
                f"{sum(trip == 1 for trip in trips) / len(trips):.0%}",
                f"{median(answers(run, SECONDS)):.2f}",
            ]
        )
    lines += [*pages.table(head, rows), "", "## Fits", "", _FITS, ""]
    head = ["along", "of", "a", "b, for each doubling", "r²", "residuals of the means"]
    rows = []
    for name, (size, runs) in series(cells).items():
        for measure in _MEASURES:
            rows.append([_NAMES[name], _MEASURES[measure], *_fit(fitted(size, runs, measure), measure)])
    size, runs = series(cells)["records"]
    for number, question in enumerate(QUESTIONS):
        rows.append([_NAMES["records"], f"bytes of `{question.text}`", *_fit(fitted(size, runs, BYTES, number), BYTES)])
    return [*lines, *pages.table(head, rows), "", _READING]


def _fit(found: dict[str, Any], measure: str) -> list[str]:
    form = "{:,.0f}" if measure in (BYTES, RECEIVED) else "{:.2f}"
    left = ", ".join(form.replace(":", ":+").format(value) for value in found["residuals"].values())
    return [form.format(found["a"]), form.format(found["b"]), f"{found['r2']:.2f}", left]


_HEAD = """# What a newcomer's query costs, against the size of the swarm and of the dataset

`python -m simulations.experiments.growth --newcomers 80`, then `python -m simulations.experiments.growth_page`; seed 1.
The numbers of each newcomer are in `growth.json`, with the code as it was at decision 33.

How many bytes and round trips does the first answer take a newcomer with an empty store, who knows one peer that is
there, whoever that may be, and the address of a dataset? Either from 10 to 1,000 peers around a dataset of 1,000
records, or from 1,000 to 1,000,000 records among 10 peers. *Half*: every second peer holds the dataset whole and
follows it; *5*: five peers do, the publisher among them. The others have asked one question of it when they came.

All of it is the node's own code on the simulated network (jitter 20%, 0.2% of segments lost; five regions of the
world). Holders begin with a store that was made outside of the simulation, as publishing and following make it. Eighty
newcomers come to each swarm one after another, each with a new store and from somewhere; they ask these questions in
turn, and every answer was compared with the one worked out in plain Python:

""" + "\n".join(f"- `{question.text}`" for question in QUESTIONS)

_COST = """*Bytes* are those that the node itself counts for the query: what was asked for heads, providers and proofs.
*Received in all*: everything that came to the newcomer until it had the answer, whatever for. *One*: how many took a
single round trip. Means, and for *seconds*, from the start with its dials to the whole answer, the median."""

_FITS = """Each line is value = a + b × log2(size), by least squares over every single answer. *r²* is the part of the
variance between answers that the line accounts for; residuals are mean − line at each size, from the least size on."""

_READING = """## What it means

Everybody was answered, and rightly.

**The size of the swarm** hardly matters. From 10 to 1,000 peers of which half hold the dataset, bytes go from 12.1 to
13.0 kB; the line rises by 129 bytes for each doubling and accounts for 1% of the variance, so whether there is a trend
at all cannot be said from these runs. With five holders whatever the size it is clearer: some 360 bytes and 0.27 round
trips for each doubling, 2.4 round trips among 10 peers and 4.5 among 1,000, for the one peer that is known is less and
less likely to be a holder, and holders have to be heard of first. Even so most of the variance is between newcomers of
one swarm: those whose contact can answer take one round trip, the others three to nine.

**The size of the dataset** shows. A thousand times as many records cost 2.5 times the bytes, some 1.9 kB for each
doubling: far from linear, and as a logarithm would have it, but four sizes prove no law. The residuals are no noise:
they are steps, for what is read is whole chunks along paths whose length is a whole number, and between 10,000 and
100,000 records paths got longer. A count costs most, since it proves both ends of a range. Round trips do not grow
beyond 10,000 records. That they are fewer with 1,000 may be since peers that have asked one question of so small a
dataset have much of what the next one needs; this was not looked into.

What was not varied: one seed, one network, questions for ten rows at most, and holders that do nothing else."""


if __name__ == "__main__":
    pages.make("growth", plot, page)
