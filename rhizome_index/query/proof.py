"""Proofs: the blocks a walk touches, in the order in which it asks for them.

The answering peer records a walk while driving it over its own store. The asker
replays the same walk over what it is sent. No block travels with its name: the
walk knows which one comes next, so each must have the digest that is needed at
that moment. A proof with anything dropped, changed, added or in another order
fails at the first byte that is wrong, and it is no proof of any other query.

A block that the walk has asked for before is not sent again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from itertools import takewhile
from typing import Protocol

from rhizome_index.blocks.cid import Cid, cid_of_digest
from rhizome_index.errors import IntegrityError
from rhizome_index.index.write import Need, NeedRecords
from rhizome_index.query.execute import Counted, Found, Scan
from rhizome_index.tree.node import Node, decode_node
from rhizome_index.tree.walk import NeedNodes


class Source(Protocol):
    """Where an answering peer finds blocks: its own store."""

    def chunks(self, cids: Sequence[Cid]) -> Sequence[tuple[bytes, Node]]:
        """Chunks and their nodes. Raises UnavailableError if one is missing."""

    def records(self, need: NeedRecords) -> Sequence[bytes]:
        """Records, checked against their digests. Raises UnavailableError if one is missing."""


def names(need: Need) -> Sequence[Cid]:
    """The CIDs of what is needed."""
    if isinstance(need, NeedNodes):
        return need.cids
    return [cid_of_digest(digest) for digest in need.digests]


def record(walk: Scan, source: Source) -> Iterator[tuple[Cid, bytes] | Found | Counted | None]:
    """Drive a walk over a source: gives each block it touches the first time, what it finds, and last its result."""
    sent: set[Cid] = set()
    reply: object = None
    while True:
        try:
            step = walk.send(reply)
        except StopIteration as stop:
            yield stop.value
            return
        reply = None
        if isinstance(step, Found):
            yield step
            continue
        if isinstance(step, NeedNodes):
            chunks = source.chunks(step.cids)
            blocks = [data for data, _ in chunks]
            reply = [node for _, node in chunks]
        else:
            blocks = list(source.records(step))
            reply = blocks
        for cid, data in zip(names(step), blocks, strict=True):
            if cid not in sent:
                sent.add(cid)
                yield cid, data


class Replay:
    """Drives a walk with blocks that come from somebody who is not trusted.

    on_found  takes what the walk finds, as it finds it

    After construction and after each `feed`, either `is_done` or the walk waits for one more block.
    """

    def __init__(self, walk: Scan, on_found: Callable[[Found], None]) -> None:
        self._walk = walk
        self._on_found = on_found
        self._held: dict[Cid, bytes | Node] = {}
        self._need: Need | None = None
        self._missing: list[Cid] = []
        self.is_done = False
        self.result: Counted | None = None
        self.blocks: list[tuple[Cid, bytes]] = []
        self._advance(None)

    @property
    def next_cid(self) -> Cid:
        """The name of the block that is needed now."""
        return self._missing[-1]

    def feed(self, data: bytes) -> None:
        """Take the next block. Raises IntegrityError unless it is the one needed now, and sound."""
        if self.is_done:
            raise IntegrityError("the proof has more blocks than the query needs")
        cid = self._missing[-1]
        if sha256(data).digest() != cid[4:]:
            raise IntegrityError("the proof does not have the block that the query needs next", cid=cid)
        self._missing.pop()
        self._held[cid] = decode_node(data) if isinstance(self._need, NeedNodes) else data
        self.blocks.append((cid, data))
        if not self._missing:
            self._reply()

    def pause(self) -> None:
        """The proof goes on elsewhere: let the walk make what it can of the records that have come."""
        if not isinstance(self._need, NeedRecords):
            return
        came = list(takewhile(self._held.__contains__, names(self._need)))
        try:
            step = self._walk.send([self._take(cid) for cid in came])
        except StopIteration:
            return
        assert isinstance(step, Found)
        self._on_found(step)

    def close(self) -> None:
        """Raise IntegrityError unless the walk has come to its end."""
        if not self.is_done:
            raise IntegrityError("the proof ends before the query does")

    def _reply(self) -> None:
        assert self._need is not None
        self._advance([self._take(cid) for cid in names(self._need)])

    def _take(self, cid: Cid) -> bytes | Node:
        held = self._held[cid]
        if isinstance(self._need, NeedRecords) == isinstance(held, Node):
            raise IntegrityError("one block as both a node and a record", cid=cid)
        return held

    def _advance(self, reply: object) -> None:
        while True:
            try:
                step = self._walk.send(reply)
            except StopIteration as stop:
                self.is_done, self.result, self._need = True, stop.value, None
                return
            reply = None
            if isinstance(step, Found):
                self._on_found(step)
                continue
            self._need = step
            wanted = dict.fromkeys(names(step))
            self._missing = [cid for cid in wanted if cid not in self._held][::-1]
            if self._missing:
                return
            reply = [self._take(cid) for cid in names(step)]
