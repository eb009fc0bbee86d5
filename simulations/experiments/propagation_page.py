"""The page of the experiment `propagation`: `python -m simulations.experiments.propagation_page` makes it from the
numbers kept."""

from __future__ import annotations

from statistics import median

from simulations.experiments import pages
from simulations.experiments.pages import Cells
from simulations.experiments.propagation import APART_SECONDS, LIVES, PARTS


def reached(runs: Cells, part: int) -> list[float | None]:
    """Seconds until so many percent had each head; None: not before the next one."""
    return [head["reached"][str(part)] for run in runs for head in run["heads"]]


def _groups(cells: Cells) -> dict[tuple[int, float], Cells]:
    """The runs of each size and mean life."""
    found: dict[tuple[int, float], Cells] = {}
    for cell in cells:
        found.setdefault((cell["peers"], cell["life_seconds"]), []).append(cell)
    return found


def _life(seconds: float) -> str:
    return f"{seconds:g} s" if seconds else "for good"


def _median(values: list[float | None]) -> str:
    """The median, where one that was not reached counts as longer than all."""
    middle = median([float("inf") if value is None else value for value in values])
    return "-" if middle == float("inf") else f"{middle:.2f}"


def plot(cells: Cells) -> None:
    """Each mean life: seconds until so many had a head, against the number of peers."""
    groups = _groups(cells)
    with pages.plotted("propagation", len(LIVES)) as axes:
        for one, life in zip(axes, LIVES, strict=True):
            for part, colour in zip(PARTS, pages.COLOURS, strict=False):
                sizes = [size for size, other in groups if other == life]
                found = [[value for value in reached(groups[size, life], part) if value] for size in sizes]
                one.plot(sizes, [median(values) for values in found], "o-", color=colour, label=f"{part}%")
                for size, values in zip(sizes, found, strict=True):
                    one.plot([size] * len(values), values, ".", color=colour, alpha=0.3, markersize=3)
            one.set_xscale("log")
            one.set_yscale("log")
            one.set(title=f"mean life: {_life(life)}", xlabel="peers", ylim=(0.2, 60), xlim=(8, 1300))
        axes[0].set(ylabel="seconds since it was published")
        axes[0].legend(frameon=False, fontsize=8)


def page(cells: Cells) -> list[str]:
    """What was found, as lines of markdown."""
    rows: list[list[object]] = []
    for (size, life), runs in _groups(cells).items():
        values = [reached(runs, part) for part in PARTS]
        missed = sum(value is None for value in values[-1])
        last = max(value for value in values[-1] if value is not None)
        live = [head["live"] for run in runs for head in run["heads"]]
        stayed = max(run["continual_seconds"]["p99"] for run in runs)
        late = [run["catching_up_seconds"]["p50"] for run in runs if run["catching_up_seconds"]]
        seconds = sum(len(run["heads"]) for run in runs) * APART_SECONDS
        rate = sum(run["bytes"] for run in runs) / seconds / (sum(live) / len(live)) / 1000
        share = sum(run["publisher_bytes"] for run in runs) / sum(run["bytes"] for run in runs)
        rows.append(
            [
                f"{size:,}",
                _life(life),
                f"{sum(live) / len(live):.0f}",
                len(live),
                *map(_median, values),
                f"{last:.1f}" + (f", {missed} not" if missed else ""),
                f"{stayed:.1f}",
                f"{median(late):.1f}" if late else "-",
                f"{rate:.1f}",
                f"{share:.0%}",
            ]
        )
    head = ["peers", "mean life", "followers there", "heads", *(f"{part}%" for part in PARTS), "100%, worst"]
    head += ["who stayed, p99", "after a return", "kB/s each", "publisher's share"]
    broken = [f"{cell['peers']} peers, seed {cell['seed']}: {line}" for cell in cells for line in cell["broken"]]
    return [_HEAD, "", *pages.table(head, rows), "", *(broken or [_KEPT]), "", _READING]


_HEAD = """# How new heads reach followers, against the size of the swarm and its churn

How long does it take until 50, 90, 99 and 100% of the followers that are there have a new head?

`python -m simulations.experiments.propagation`, then `python -m simulations.experiments.propagation_page`; seeds 1 to
3 for 10 peers, 1 and 2 for 32, 1 for more. The numbers of each head are in `propagation.json`, with a hash over the
trace of each run, and the code was as at decision 33. All of it is the node's own code on the simulated network
(jitter 20%, 0.2% of segments lost, a connection breaks once an hour) and follows from the seed; bandwidth is 20
Mbit/s up and 100 Mbit/s down for each peer, which is drawn among five regions of the world.

One peer publishes two posts more every 40 s and stays. All others follow it whole. A life lasts as long as said on
average, short ones being the most frequent, and ends in good order, by a kill or by a loss of power; after a quarter of
a mean life, on average, the peer is back, dials up to four peers that are there, and has what its disk has kept.
Followers *that are there* are counted anew whenever one comes, goes or takes up the head: whoever comes back without
the head is one who has not got it. *For good*: nobody leaves.

![Seconds against peers](propagation.svg)

Columns with % are medians over all heads, in seconds. *Worst*: the slowest head of all until everybody had it, and how
many heads had not reached everybody when the next one came. *Who stayed*: seconds of those who were there when it was
published until they had it, the 99th percentile, of the worst run. *After a return*: from a start with an older head to
the newest one, the median. *kB/s each*: all bytes sent while heads were published, for each follower that was there,
whatever they were for. *Publisher's share* of these."""

_KEPT = "In every run all promises were kept that the checkers of scenarios watch."

_READING = """## What it means

Half of the followers have a head within a second and a quarter, and nine of ten within two and a half (medians),
whatever the size of the swarm and however short the lives. Where nobody leaves, everybody had every head within three
and a half seconds. Churn shows in the last percents, and there mostly by who is counted: a fifth of the followers are
away when a head comes, return during the next seconds, and are behind for some three seconds each. The more there are
of them, the longer it takes until there is a moment at which nobody has just come back. Those who were there and
stayed had the head within five seconds, all but one in a hundred, in every run. So 99 and 100% grow with the number
of those who come back, and not with the length of a head's way.

What peers send grows with churn, too: about fourfold with lives of two minutes and tenfold with lives of half a minute,
for all that those who come back ask and tell. The publisher's share falls.

What was not varied: heads are small (two posts), the publisher stays, nobody lies, and the network is one. Larger
swarms have one seed and few heads, so that their 99 and 100% are of few cases; shorter lives were not simulated in the
largest, since a run takes too long. Of 1,000 peers there is the run in which nobody leaves; the other one that the
command has, with lives of 600 s, was ended before it was done, so nothing is known of churn at that size."""


if __name__ == "__main__":
    pages.make("propagation", plot, page)
