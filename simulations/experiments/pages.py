"""What the pages of all experiments share: plots as SVG, tables and files in the folder of the results."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from simulations.experiments import results

Cells = list[results.Cell]

COLOURS = ("#2266aa", "#dd7722", "#228855", "#994488", "#777777")


@contextmanager
def plotted(name: str, columns: int, width: float = 11.0, height: float = 3.4) -> Iterator[Sequence[Any]]:
    """Axes side by side, to draw on; kept as `name`.svg afterwards. Equal drawings give equal files."""
    with rc_context({"svg.hashsalt": "rhizome", "svg.fonttype": "none"}):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = list(figure.subplots(1, columns, squeeze=False)[0])
        yield axes
        for one in axes:
            one.spines[["top", "right"]].set_visible(False)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    (results.FOLDER / f"{name}.svg").write_text("\n".join([*lines, ""]), encoding="utf-8")


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """The lines of a table in markdown."""
    lines = [f"| {' | '.join(str(cell) for cell in line)} |" for line in (head, *rows)]
    return [lines[0], "|---" * len(head) + "|", *lines[1:]]


def make(name: str, plot: Callable[[Cells], None], page: Callable[[Cells], list[str]]) -> None:
    """Make the page of an experiment and its plot, from the runs that were kept."""
    cells = results.load(name)
    plot(cells)
    (results.FOLDER / f"{name}.md").write_text("\n".join([*page(cells), ""]), encoding="utf-8")
