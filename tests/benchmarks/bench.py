"""`make bench`: what things cost here and now, as ratios against SQLite and raw TCP in the same run.

Both sides get the same records and the same indexes, and are durable when they
say so. Imports are the best of two runs, queries the median of many: machines
are noisy, and noise only adds.

    python -m tests.benchmarks.bench [POSTS]     100,000 posts, and ten times as many, unless said otherwise
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median

import trio

from rhizome_index.api import open_node
from tests.benchmarks import asking, live, planning, trees
from tests.benchmarks.report import say, seconds_of
from tests.benchmarks.samples import into_rhizome, into_sqlite, lines

NEWEST = (
    "select p.id, p.author, p.created, p.text, p.tags, p.likes from post_tags t join posts p on p.id = t.id "
    "where t.tag = ? order by t.created desc limit 32"
)


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def imports(count: int, folder: Path) -> None:
    """Import the same posts into both; what is left behind is used by the others."""
    source = list(lines(count))
    ours, theirs = [], []
    for number in range(2):
        (folder / f"sqlite-{number}").mkdir()
        theirs.append(seconds_of(partial(into_sqlite, source, folder / f"sqlite-{number}" / "db")))
        ours.append(seconds_of(partial(into_rhizome, iter(source), folder / f"home-{number}")))
    mine, other = min(ours), min(theirs)
    say("import, durable", f"{count / mine:,.0f}/s", f"{count / other:,.0f}/s", f"{other / mine:.2f} x speed", "0.5 x")
    mine, other = size_of(folder / "home-0"), size_of(folder / "sqlite-0")
    ratio = f"{mine / other:.2f} x size"
    say("bytes on disk a post", f"{mine / count:,.0f} B", f"{other / count:,.0f} B", ratio, "1.6 x")


async def queries(folder: Path, tag: str) -> None:
    """The same query, asked of both in turn."""
    database = sqlite3.connect(folder / "sqlite-0" / "db")
    query = f"newest 32 posts tagged #{tag}"
    ours, theirs = [], []
    async with open_node(folder / "home-0") as node:
        for _ in range(200):
            started = time.perf_counter()
            page = await node.query(query).page()
            ours.append(time.perf_counter() - started)
            started = time.perf_counter()
            rows = [(*row[:4], json.loads(row[4]), row[5]) for row in database.execute(NEWEST, (tag,))]
            theirs.append(time.perf_counter() - started)
    database.close()
    assert [row["id"] for row in page.rows] == [row[0] for row in rows]
    mine, other = median(ours), median(theirs)
    say(f"{query}, local", f"{mine * 1e3:.3f} ms", f"{other * 1e3:.3f} ms", f"{mine / other:.1f} x time", "4 x")


def import_in_a_process(count: int, home: Path) -> None:
    command = [sys.executable, "-m", "tests.benchmarks.samples", str(count), str(home)]
    found = json.loads(subprocess.check_output(command))
    peak, rate = found["peak_bytes"], count / found["seconds"]
    say(f"import of {count:,}: peak memory", f"{peak / 1e6:,.0f} MB", f"{rate:,.0f}/s", "", "600 MB")


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    say(f"{count:,} posts", "rhizome", "sqlite", "ratio", "asked for")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        imports(count, folder)
        trio.run(queries, folder, "cats")
        planning.report()
        planning.report_packages()
        planning.report_intersections(folder / "home-0", ("cats", "nature"))
        import_in_a_process(10 * count, folder / "large")
        homes = {10 * count: folder / "large", count: folder / "home-0"}
        for smaller in (count // 10, count // 100):
            into_rhizome(lines(smaller), folder / str(smaller))
            homes[smaller] = folder / str(smaller)
        say("a cold peer, dialling included", "received", "time", "ratio")
        asking.report(homes)
        live.report(folder / "large", 10 * count)
    trees.report(10 * count)


if __name__ == "__main__":
    main()
