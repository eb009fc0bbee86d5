"""`make bench`: what things cost here and now, as ratios against SQLite in the same run.

Both sides get the same records and the same indexes, and are durable when they
say so. Imports are the best of two runs, queries the median of many: machines
are noisy, and noise only adds.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import trio

from rhizome_index.api import open_node
from rhizome_index.blocks.store import MemoryStore
from rhizome_index.cli.samples import posts
from rhizome_index.index.schema import SortPath, parse_index
from rhizome_index.node.home import Home
from rhizome_index.node.publish import Declaration, Publisher
from rhizome_index.tree.boundary import Rule
from rhizome_index.tree.build import build
from rhizome_index.tree.edit import edit
from rhizome_index.tree.walk import run

DECLARED = Declaration(
    time="created",
    order=(SortPath("created", True),),
    indexes=dict(map(parse_index, ["by_tag=tags,-created", "by_author=author,-created"])),
)
SCHEMA = """
pragma journal_mode = wal; pragma synchronous = full;
create table posts (id text primary key, author text, created integer, text text, tags text, likes integer);
create table post_tags (tag text, created integer, id text);
create index by_author on posts (author, created desc);
create index by_tag on post_tags (tag, created desc, id);
"""
NEWEST = (
    "select p.id, p.author, p.created, p.text, p.tags, p.likes from post_tags t join posts p on p.id = t.id "
    "where t.tag = ? order by t.created desc limit 32"
)


def seconds_of(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def into_sqlite(lines: list[bytes], path: Path) -> None:
    database = sqlite3.connect(path)
    database.executescript(SCHEMA)
    with database:
        tags, rows = [], []
        for line in lines:
            post = msgspec.json.decode(line)
            row = (post["id"], post["author"], post["created"], post["text"], json.dumps(post["tags"]), post["likes"])
            rows.append(row)
            tags += [(tag, post["created"], post["id"]) for tag in post["tags"]]
        database.executemany("insert into posts values (?, ?, ?, ?, ?, ?)", rows)
        database.executemany("insert into post_tags values (?, ?, ?)", tags)
    database.close()


def into_rhizome(lines: list[bytes], home: Home) -> None:
    home.create()
    with home.open_store() as store:
        publisher = Publisher(store, home.identity, time.time)
        publisher.put_many("main", "posts", map(msgspec.json.decode, lines), DECLARED, big=True)


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def say(what: str, ours: str, theirs: str = "", ratio: str = "") -> None:
    print(f"{what:<42}{ours:>18}{theirs:>18}{ratio:>14}", flush=True)


async def queries(folder: Path, tag: str, database: sqlite3.Connection) -> None:
    async with open_node(folder / "home", listen=["/ip4/127.0.0.1/tcp/0"]) as node:
        query = f"newest 32 posts tagged #{tag}"
        ours, theirs = [], []
        for _ in range(200):
            started = time.perf_counter()
            page = await node.query(query).page()
            ours.append(time.perf_counter() - started)
            started = time.perf_counter()
            rows = [(*row[:4], json.loads(row[4]), row[5]) for row in database.execute(NEWEST, (tag,))]
            theirs.append(time.perf_counter() - started)
        assert [row["id"] for row in page.rows] == [row[0] for row in rows]
        mine, other = median(ours), median(theirs)
        say(query, f"{mine * 1e3:.3f} ms", f"{other * 1e3:.3f} ms", f"{mine / other:.1f} x time")
        address = node.publisher.address("main")
        times = []
        for number in range(5):
            async with open_node(folder / f"cold-{number}", peers=node.addresses) as cold:
                cost = (await cold.query(query, address).page()).cost
                times.append(cost.connect_seconds + cost.seconds)
        text = f"{cost.bytes_received:,} B, {cost.round_trips} RTT"
        say("the same from an empty home, over TCP", text, f"{median(times) * 1e3:.0f} ms")


def trees(entries: int) -> None:
    rule, store = Rule(b"bench"), MemoryStore()
    content = [(b"%032d" % number, (sha256(b"%d" % number).digest() * 4)[:100]) for number in range(entries)]
    seconds = seconds_of(lambda: build(rule, content, store.blocks.__setitem__))
    say(f"bulk build of {entries:,} entries of 132 bytes", f"{entries / seconds:,.0f}/s")
    tree = build(rule, content, store.blocks.__setitem__)
    times = []
    for number in range(200):
        change = [(b"%032d+" % (number * 7919 % entries), b"x" * 100)]
        started = time.perf_counter()
        tree = run(edit(tree, rule, change, store.blocks.__setitem__), store.blocks.get)
        times.append(time.perf_counter() - started)
    say("one insert into it, in memory", f"{median(times) * 1e3:.2f} ms")


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    lines = [json.dumps(post, separators=(",", ":")).encode() for post in posts(count, 1)]
    say(f"{count:,} posts", "rhizome", "sqlite", "ratio")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours, theirs = [], []
        for number in range(2):
            (folder / f"sqlite-{number}").mkdir()
            theirs.append(seconds_of(partial(into_sqlite, lines, folder / f"sqlite-{number}" / "db")))
            ours.append(seconds_of(partial(into_rhizome, lines, Home(folder / f"home-{number}"))))
        mine, other = min(ours), min(theirs)
        say("import, durable", f"{count / mine:,.0f}/s", f"{count / other:,.0f}/s", f"{other / mine:.2f} x speed")
        (folder / "home-0").rename(folder / "home")
        mine, other = size_of(folder / "home"), size_of(folder / "sqlite-0")
        say("bytes on disk a post", f"{mine / count:,.0f} B", f"{other / count:,.0f} B", f"{mine / other:.2f} x size")
        database = sqlite3.connect(folder / "sqlite-0" / "db")
        trio.run(queries, folder, "cats", database)
        database.close()
    trees(10 * count)


if __name__ == "__main__":
    main()
