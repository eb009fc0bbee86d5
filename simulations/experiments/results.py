"""Where results of experiments go: raw numbers as JSON, one object for each run, kept as soon as it is there."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from os import cpu_count
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "results"

Cell = dict[str, Any]


def load(name: str) -> list[Cell]:
    """The runs of an experiment that were kept, in the order of their making."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def keep(name: str, found: Sequence[Cell]) -> None:
    """Keep the runs of an experiment."""
    FOLDER.mkdir(exist_ok=True)
    lines = ",\n".join(json.dumps(item) for item in found)
    (FOLDER / f"{name}.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def run(measure: Callable[[Cell], Cell], cells: Sequence[Cell], name: str, processes: int | None = None) -> list[Cell]:
    """Measure each cell in a process of its own, by default as many at once as there are cores; kept in their order."""
    found: dict[int, Cell] = {}
    with ProcessPoolExecutor(processes or cpu_count(), mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        places = {pool.submit(measure, cell): place for place, cell in enumerate(cells)}
        for done in as_completed(places):
            found[places[done]] = done.result()
            keep(name, [found[place] for place in sorted(found)])
            print(f"{len(found)} of {len(cells)}: {cells[places[done]]}", file=sys.stderr, flush=True)
    return [found[place] for place in sorted(found)]
