"""The page of the experiment `newcomer`: `python -m simulations.experiments.newcomer_page` makes it from the numbers
kept."""

from __future__ import annotations

from typing import Any

from simulations.experiments import pages
from simulations.experiments.newcomer import CHECKED, COPY, FOLLOW, LOG, METHODS, PROCESSING, QUERY
from simulations.experiments.pages import Cells

_NAMES = {QUERY: "query", FOLLOW: "follow", COPY: "copy of all", LOG: "log"}


def plot(cells: Cells) -> None:
    """Seconds and bytes of each way, against the posts of one author, and against authors of 1,000 posts."""
    rows = (("posts", [cell for cell in cells if cell["authors"] == 1]),)
    rows += (("authors", [cell for cell in cells if cell["posts"] == 1_000]),)
    with pages.plotted("newcomer", 4, width=12.0) as axes:
        for place, (along, chosen) in enumerate(rows):
            for more, measure in enumerate(("seconds", "bytes")):
                one = axes[2 * place + more]
                for way, colour in zip(METHODS, pages.COLOURS, strict=False):
                    there = sorted((cell for cell in chosen if way in cell), key=lambda cell: cell[along])
                    values = [cell[way][measure] for cell in there]
                    one.plot([cell[along] for cell in there], values, "o-", color=colour, label=_NAMES[way])
                one.set_xscale("log")
                one.set_yscale("log")
                what = "posts of one author" if along == "posts" else "authors of 1,000 posts each"
                one.set(xlabel=what, ylabel=measure)
        axes[0].legend(frameon=False, fontsize=8)


def page(cells: Cells) -> list[str]:
    """What was found, as lines of markdown."""
    cells = sorted(cells, key=lambda cell: (cell["authors"], cell["posts"]))
    names = [_NAMES[way] for way in METHODS]
    lines = [_HEAD, "", "## Seconds to the first right answer", ""]
    rows: list[list[object]] = []
    for cell in cells:
        quickest = min(cell[way]["seconds"] for way in METHODS[1:] if way in cell)
        seconds = [f"{cell[way]['seconds']:,.2f}" if way in cell else "-" for way in METHODS]
        rows.append([*_size(cell), *seconds, f"{quickest / cell[QUERY]['seconds']:,.1f}"])
    lines += pages.table(["authors", "posts of each", *names, "quickest other, in queries"], rows)
    lines += ["", "## Bytes, received and sent by the newcomer", ""]
    rows = []
    for cell in cells:
        least = min(cell[way]["bytes"] for way in METHODS[1:] if way in cell)
        sizes = [f"{cell[way]['bytes'] / 1000:,.0f} kB" if way in cell else "-" for way in METHODS]
        rows.append([*_size(cell), *sizes, f"{least / cell[QUERY]['bytes']:,.0f}"])
    lines += pages.table(["authors", "posts of each", *names, "least other, in queries"], rows)
    lines += ["", "## What of it is the network", "", _PARTS, ""]
    rows = []
    for cell in cells:
        parts = [f"{cell[way]['network_seconds']:,.2f}" if way in cell else "-" for way in METHODS]
        log_seconds = cell[LOG]["entries"] * PROCESSING.log_entry
        rows.append([*_size(cell), *parts, cell[QUERY]["round_trips"], f"{log_seconds:,.2f}"])
    head = ["authors", "posts of each", *names, "round trips of the query", "to process the log"]
    return [*lines, *pages.table(head, rows), "", _READING]


def _size(cell: dict[str, Any]) -> list[str]:
    return [f"{cell['authors']:,}", f"{cell['posts']:,}"]


_HEAD = f"""# A newcomer's way to the first right answer: a query, against following, a copy of all and playing logs

What time and what bytes does it take somebody with an empty store, who knows one peer that has everything, until he
has the newest ten posts tagged #cats of the authors he is interested in?

`python -m simulations.experiments.newcomer`, then `python -m simulations.experiments.newcomer_page`; seed 1. The
numbers are in `newcomer.json`, with the code as it was at decision 33. Every answer, in every way, was compared with
the one worked out in plain Python.

The two are in Europe and at the east coast of the United States: 46 ms one way with 5% jitter, and 20 Mbit/s from the
one who has everything. All ways use this link of the simulated network, and begin with the dial. A post in ten is
edited later, and of the edits one in ten is a deletion.

- *query*: the node's own code on both sides. Of one author a query, of many a feed over all of them.
- *follow*: the node's own code on both sides, too: following all authors brings their primaries and derives their
  indexes, and then the answer comes from the own store. This is what a whole snapshot costs with this product. It was
  simulated up to 100,000 posts in all.
- *copy of all*: a model. All blocks of records and of both indexes (by tag and by author) come on one stream, real
  bytes, each checked by its digest; then the node's own code answers from them.
- *log*: a model. Every post, edit and deletion is an entry of its author's log, signed and chained one by one as
  append-only logs do; an edit has only what has changed. All entries come on one stream, real bytes, and are played. Of
  the signatures one in {CHECKED} is really checked, and all are charged.

Virtual time passes for the network only. What processing takes was measured once (`--measure-processing`, on a shared
machine with two cores under load, as process time) and is charged as a constant, so that runs repeat:

- {1e3 * PROCESSING.query_dataset:.1f} ms for each dataset of a query. That is both sides and the simulator between
  them, and the most that any cell took: that of 1,000 authors of 1,000 posts (`process_seconds` in the raw numbers);
- {1e6 * PROCESSING.follow_record:.0f} µs for each record that is followed;
- {1e9 * PROCESSING.copy_byte:.1f} ns for each byte of a copy;
- {1e6 * PROCESSING.log_entry:.0f} µs for each entry of a log, to verify it and to index it in SQLite.

Copies and logs are processed while they come, what is followed afterwards. When the cells were run, the constant of
queries was 4.2 ms, from `--measure-processing`. Since the largest feed took longer, it was raised afterwards to what
that one took, to the disadvantage of the query, and the seconds of queries in `newcomer.json` were worked out again:
network_seconds + constant × authors. No other number was touched.

Computed is what there is up to a million posts in all. More were not: a thousand authors with a million posts each are
a thousand times as much as was simulated here.

![Seconds and bytes](newcomer.svg)"""

_PARTS = """Seconds until the last byte was there, and what it takes one core to process the log alone: where that is
more than the network takes, a faster link would not help."""

_READING = """## What it means

The time of a query does not depend on how much one author has published: 0.59 s for a thousand posts and for a
million, two thirds of it the dial's handshakes, and 14 to 25 kB. The others bring everything first, so their time and
bytes grow with it. For one author of a million posts that is two minutes and 309 MB at the least, some 200 times as
long and 12,000 times the bytes.

The advantage is small where there is little: with a thousand posts of one author a log takes 0.76 s, a sixth of a
second more, and 306 kB.

A feed over many authors grows with their number, for each of them is asked: some 10 to 40 kB each, more the more they
have and the fewer they are. A thousand authors of a thousand posts take 9.8 MB and 12 s, of which 7.6 s are
processing, against 123 s and 307 MB for the logs. Ten times as fast, then, and a thirtieth of the bytes; that is by
far the worst case of the query, and the processor is what bounds it.

What speaks for the others: they pay once. After them every further question costs no bytes, and no peer is needed.
The last column of the second table says after how many different questions the bytes come out even: ten, for ten
authors of a thousand posts; a thousand and more, for one large author. (A newcomer that asks again has blocks of the
first answer already, so it would be some more.) A log that can be read from its end could stop once it has ten posts
tagged #cats, but would not know that it has all edits of them unless it reads further, and for a rare tag, or a
count, it reads everything. A log in larger signed batches would take less to verify than these.

At these bandwidths the network bounds copies and logs; a log would take 104 s of one core for a million posts
whatever the line. The node's own *follow* moves the fewest bytes of the three, for indexes are derived and not sent.

What was not varied: one seed, one question, one peer that has everything, one link. Following a million posts was not
simulated; from 10,000 to 100,000 it takes five times as long."""


if __name__ == "__main__":
    pages.make("newcomer", plot, page)
