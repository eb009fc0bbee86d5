"""The page of the experiment `load`: `python -m simulations.experiments.load_page` makes it from the numbers kept."""

from __future__ import annotations

from statistics import mean

from simulations.experiments import pages
from simulations.experiments.crowd import FRIEND, PUBLISHER, VETERANS
from simulations.experiments.load import BEST_KNOWN, LOTTERY
from simulations.experiments.pages import Cells

_BOUND = 0.2


def plot(cells: Cells) -> None:
    """Both policies side by side: share of the oldest, Lorenz curves, load by age."""
    with pages.plotted("load", 3) as (shares, curves, ages):
        for place, policy in enumerate((LOTTERY, BEST_KNOWN)):
            runs, colour = chosen(cells, policy, PUBLISHER), pages.COLOURS[place]
            values = [run["oldest_tenth"] for run in runs]
            shares.bar([place], [mean(values)], color=colour, width=0.6)
            shares.plot([place] * len(values), values, "k.", markersize=5)
            for run in runs:
                parts = [number / (len(run["lorenz"]) - 1) for number in range(len(run["lorenz"]))]
                label = policy if run is runs[0] else None
                curves.plot(parts, run["lorenz"], color=colour, linewidth=1, label=label)
            names = list(runs[0]["load_by_age"])
            ages.plot(names, [mean(run["load_by_age"][name] for run in runs) for name in names], "o-", color=colour)
        shares.axhline(_BOUND, color="grey", linestyle=":")
        shares.set_xticks([0, 1], [LOTTERY, BEST_KNOWN])
        shares.set(ylabel="bytes sent by the oldest tenth", ylim=(0, None))
        curves.plot([0, 1], [0, 1], color="lightgrey", zorder=0)
        curves.set(xlabel="part of peers", ylabel="part of bytes", xlim=(0, 1), ylim=(0, 1))
        curves.legend(frameon=False)
        ages.set_yscale("log")
        ages.set(xlabel="age", ylabel="load, as a multiple of the mean")
        ages.tick_params(axis="x", labelrotation=45)


def chosen(cells: Cells, policy: str, contact: str) -> Cells:
    """The runs of one policy and first contact."""
    return [cell for cell in cells if (cell["policy"], cell["contact"]) == (policy, contact)]


def page(cells: Cells) -> list[str]:
    """What was found, as lines of markdown."""
    rows: list[list[object]] = []
    for contact in (PUBLISHER, FRIEND, VETERANS):
        for policy in (LOTTERY, BEST_KNOWN):
            runs = chosen(cells, policy, contact)
            joins = sum(run["joins"] for run in runs)
            parts = [f"{_span(runs, name, 100)}%" for name in ("oldest_tenth", "publisher")]
            old = [run["load_by_age"]["<24 h"] for run in runs if "<24 h" in run["load_by_age"]]
            aged = f"{mean(old):.1f} × mean" if old else "-"
            gini = f"{mean(run['gini'] for run in runs):.2f}"
            rows.append([policy, contact, f"{joins:,}", *parts, gini, aged])
    head = ["policy", "first contact", "joins", "oldest tenth", "publisher", "Gini", "12 to 24 h old"]
    lines = [_HEAD, "", *pages.table(head, rows), "", _REMOVED, ""]
    rows = []
    for policy in (LOTTERY, BEST_KNOWN):
        runs = chosen(cells, policy, PUBLISHER)
        for count in runs[0]["removed"]:
            told = [run["removed"][count] for run in runs]
            asked = sum(item["asked"] for item in told)
            answered = sum(item["answered"] * item["asked"] for item in told) / asked
            over = sum(item["failed_over"] for item in told) / asked
            newcomers = sum(item["newcomers_served"] for item in told)
            rows.append([policy, count, f"{answered:.1%}", f"{over:.1%}", f"{newcomers} of {10 * len(told)}"])
    head = ["policy", "removed", "answered", "not by the first asked", "newcomers served"]
    return lines + pages.table(head, rows)


def _span(runs: Cells, name: str, times: float) -> str:
    values = [times * run[name] for run in runs]
    return f"{min(values):.1f}" if len(values) == 1 else f"{min(values):.1f} to {max(values):.1f}"


_HEAD = """# How load gathers in long-lived peers

`python -m simulations.experiments.load`, then `python -m simulations.experiments.load_page`; seeds 1 to 4. The
numbers of each run are in `load.json`.

Peers come at random and stay as Pareto has it (15 minutes at least, some for days), a hundred at a time on
average, and a few runs of 2,500 joins each are counted after their first fifth. Each copies a small dataset and
asks for more now and then. *lottery* is the node's own choice; *best-known* asks, and dials, whoever has
answered most and is named most; how peers hear of each other is the same. The oldest tenth are those of all
that are there at a moment, the publisher among them, which never leaves.

This is a model on a coarser level than a scenario: it drives the node's own `Directory`, `Register`, `Picker`,
`Fetcher`, `Server` and `Readers` in virtual time, over messages that pass as a whole, without trees, gossip or provider
records (`simulations/experiments/crowd.py`).

![Both policies](load.svg)

With the publisher as everybody's first contact the oldest tenth serve less than 20% under the lottery. With
other first contacts they do not: whoever is met there hears of a newcomer only once it has copied from him, and who
has been there long has copied to many, and is named by many. Before peers were asked what they serve once they have
copied, these were 43% and 42% of 2,500 joins (decision 31). Neither provider records nor gossip are modelled, by
which newcomers are heard of as well."""

_REMOVED = """Those that bear most are removed one after another, up to so many; each time all who are left ask at
once, and ten newcomers come. With the publisher as first contact:"""


if __name__ == "__main__":
    pages.make("load", plot, page)
