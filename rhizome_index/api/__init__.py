"""The Python interface: open a node, write collections, ask queries.

    async with open_node("~/.rhizome") as node:
        posts = node.collection("posts")
        await posts.create(time="created", order=["-created"], indexes={"by_tag": "tags,-created"})
        await posts.put({"id": "p1", "tags": ["cats"], "created": 1})
        async for post in posts.find({"tags": "cats"}).sort("-created").limit(32):
            print(post["id"])
        page = await posts.find({"tags": "cats"}).limit(32).page()
        print(page.rows, page.proof, page.cursor, page.cost)
        async for turn in posts.find({"tags": "cats"}).sort("-created").limit(32).watch():
            print(turn.head.sequence, turn.changes)

A node works offline until it is given addresses to listen on or peers to ask.
"""

from __future__ import annotations

from rhizome_index.api.collection import Batch, Collection, Find
from rhizome_index.api.node import DEFAULT_DATASET, Node, Pinned
from rhizome_index.api.opening import open_node
from rhizome_index.api.results import FeedResults, Page, Results, Watch

__all__ = [
    "DEFAULT_DATASET",
    "Batch",
    "Collection",
    "FeedResults",
    "Find",
    "Node",
    "Page",
    "Pinned",
    "Results",
    "Watch",
    "open_node",
]
