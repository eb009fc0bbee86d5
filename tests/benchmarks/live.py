"""A query that stays open over a large dataset: what it reads to see 100 changes, of all that its index is."""

from __future__ import annotations

from pathlib import Path

import trio

from rhizome_index.api import Node, open_node
from rhizome_index.cli.samples import posts
from rhizome_index.node.local import LocalSource
from rhizome_index.tree.node import Tree
from rhizome_index.tree.walk import Walk, load_many, load_root
from tests.benchmarks.report import say

CHANGES = 100
QUERIES = ("newest 32 posts tagged #cats", "all posts tagged #cats", "count posts tagged #cats where likes > 5")


def chunks(tree: Tree) -> Walk[int]:
    """How many chunks a tree has; its leaves are not read for that."""
    level = [(yield from load_root(tree))]
    found = 1
    while level and level[0].level:
        refs = [node.child(place) for node in level for place in range(len(node.keys))]
        found += len(refs)
        if level[0].level == 1:
            break
        level = list((yield from load_many(refs)))
    return found


async def _measure(home: Path, count: int) -> None:
    async with open_node(home) as node:
        total = await _chunks_of_index(node)
        for text in QUERIES:
            watch = node.watch(text)
            with trio.fail_after(600):
                await anext(watch)
                changes = list(posts(count + CHANGES, 1))[-CHANGES:]
                await node.collection("posts").put_many([{**post, "id": f"{text}/{post['id']}"} for post in changes])
                turn = await anext(watch)
            share = turn.cost.blocks_local / total
            say(f"{text}, watched", f"{turn.cost.blocks_local:,} of {total:,} chunks", "", f"{share:.2%}", "1%")


async def _chunks_of_index(node: Node) -> int:
    page = node.query("count posts")
    await page.page()
    assert page.resolution.opening is not None
    tree = page.resolution.opening.manifest.collection("posts").indexes["by_tag"].tree
    found: int = LocalSource(node.peer.store).run(chunks(tree))
    return found


def report(home: Path, count: int) -> None:
    say(f"{CHANGES} changes among {count:,} posts", "read", "", "of the index", "asked for")
    trio.run(_measure, home, count)
