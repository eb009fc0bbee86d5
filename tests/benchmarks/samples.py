"""The posts that all benchmarks use, and how each side takes them in."""

from __future__ import annotations

import json
import resource
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from rhizome_index.cli.samples import posts
from rhizome_index.index.schema import SortPath
from rhizome_index.node.home import Home
from rhizome_index.node.publish import Declaration, Publisher
from rhizome_index.query.parse import parse_index

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


def lines(count: int) -> Iterator[bytes]:
    """Posts as JSON lines."""
    for post in posts(count, 1):
        yield json.dumps(post, separators=(",", ":")).encode()


def into_sqlite(source: list[bytes], path: Path) -> None:
    database = sqlite3.connect(path)
    database.executescript(SCHEMA)
    with database:
        tags, rows = [], []
        for line in source:
            post = msgspec.json.decode(line)
            row = (post["id"], post["author"], post["created"], post["text"], json.dumps(post["tags"]), post["likes"])
            rows.append(row)
            tags += [(tag, post["created"], post["id"]) for tag in post["tags"]]
        database.executemany("insert into posts values (?, ?, ?, ?, ?, ?)", rows)
        database.executemany("insert into post_tags values (?, ?, ?)", tags)
    database.close()


def into_rhizome(source: Iterator[bytes], path: Path) -> None:
    home = Home(path)
    home.create()
    with home.open_store() as store:
        publisher = Publisher(store, home.identity, time.time)
        publisher.put_many("main", "posts", map(msgspec.json.decode, source), DECLARED, big=True)


if __name__ == "__main__":  # a process of its own, so that its memory can be measured: COUNT FOLDER
    started = time.perf_counter()
    into_rhizome(lines(int(sys.argv[1])), Path(sys.argv[2]))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": time.perf_counter() - started, "peak_bytes": peak}))
