"""Proofs: the blocks a walk touches, in the order in which it asks for them.

The answering peer records a walk while driving it over its own store. The asker
replays the same walk over what it is sent. No block travels with its name: the
walk knows which one comes next, so each must have the digest that is needed at
that moment. A proof with anything dropped, changed, added or in another order
fails at the first byte that is wrong, and it is no proof of any other query.

A block that the walk has asked for before is not sent again.

A chunk that cannot be decoded is part of a proof like any other: the walk is told, and
that may be what is to be proven (`trust/fraud`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from hashlib import sha256
from itertools import takewhile
from typing import Any, Protocol

from rhizome_index.blocks.cid import Cid, cid_of_digest
from rhizome_index.errors import IntegrityError
from rhizome_index.index.write import Need, NeedRecords
from rhizome_index.query.found import Found
from rhizome_index.tree.node import Node, decode_node
from rhizome_index.tree.walk import NeedNodes


class Source(Protocol):
    """Where an answering peer finds blocks: its own store."""

    def chunks(self, cids: Sequence[Cid]) -> Sequence[tuple[bytes, Node]]:
        """Chunks and their nodes. Raises UnavailableError if one is missing, IntegrityError if one is no node."""

    def records(self, need: NeedRecords) -> Sequence[bytes]:
        """Records, checked against their digests. Raises UnavailableError if one is missing."""

    def block(self, cid: Cid) -> bytes:
        """Any block. Raises UnavailableError if it is missing."""


def names(need: Need) -> Sequence[Cid]:
    """The CIDs of what is needed."""
    if isinstance(need, NeedNodes):
        return need.cids
    return [cid_of_digest(digest) for digest in need.digests]


def record(walk: Generator[Any, Any, Any], source: Source) -> Iterator[Any]:
    """Drive a walk over a source: gives each block it touches the first time, what it finds, and last its result."""
    sent: set[Cid] = set()
    resume: Callable[[], Any] = partial(next, walk)
    while True:
        try:
            step = resume()
        except StopIteration as stop:
            yield stop.value
            return
        if not isinstance(step, NeedNodes | NeedRecords):
            yield step
            resume = partial(next, walk)
            continue
        blocks, resume = supply(walk, step, source)
        for cid, data in zip(names(step), blocks, strict=False):
            if cid not in sent:
                sent.add(cid)
                yield cid, data


def supply(walk: Generator[Any, Any, Any], need: Need, source: Source) -> tuple[Sequence[bytes], Callable[[], Any]]:
    """The blocks that a walk needs, up to the first chunk that is no node; and how the walk goes on, with them or it.

    Raises UnavailableError.
    """
    if isinstance(need, NeedRecords):
        records = source.records(need)
        return records, partial(walk.send, records)
    try:
        found = source.chunks(need.cids)
    except IntegrityError as error:
        if error.cid not in need.cids:
            raise
        upto = need.cids.index(error.cid) + 1
        return [source.block(cid) for cid in need.cids[:upto]], partial(walk.throw, error)
    return [data for data, _ in found], partial(walk.send, [node for _, node in found])


class Replay:
    """Drives a walk with blocks that come from somebody who is not trusted.

    on_found  takes what the walk finds, as it finds it
    result    what the walk has come to, once it `is_done`

    After construction and after each `feed`, either `is_done` or the walk waits for one more block.
    """

    def __init__(self, walk: Generator[Any, Any, Any], on_found: Callable[[Found], None] | None = None) -> None:
        self._walk = walk
        self._on_found = on_found
        self._held: dict[Cid, bytes | Node] = {}
        self._need: Need | None = None
        self._missing: list[Cid] = []
        self.is_done = False
        self.result: Any = None
        self.blocks: list[tuple[Cid, bytes]] = []
        self._advance(partial(next, walk))

    @property
    def next_cid(self) -> Cid:
        """The name of the block that is needed now."""
        return self._missing[-1]

    def feed(self, data: bytes) -> None:
        """Take the next block. Raises IntegrityError unless it is the one needed now, and sound."""
        if self.is_done:
            raise IntegrityError("the proof has more blocks than it needs")
        cid = self._missing[-1]
        if sha256(data).digest() != cid[4:]:
            raise IntegrityError("the proof does not have the block that it needs next", cid=cid)
        self._missing.pop()
        self.blocks.append((cid, data))
        try:
            self._held[cid] = decode_node(data) if isinstance(self._need, NeedNodes) else data
        except IntegrityError as error:
            error.cid = cid
            self._advance(partial(self._walk.throw, error))
            return
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
        assert isinstance(step, Found) and self._on_found is not None
        self._on_found(step)

    def close(self) -> None:
        """Raise IntegrityError unless the walk has come to its end."""
        if not self.is_done:
            raise IntegrityError("the proof ends too early")

    def _reply(self) -> None:
        assert self._need is not None
        self._advance(partial(self._walk.send, [self._take(cid) for cid in names(self._need)]))

    def _take(self, cid: Cid) -> bytes | Node:
        held = self._held[cid]
        if isinstance(self._need, NeedRecords) == isinstance(held, Node):
            raise IntegrityError("one block as both a node and a record", cid=cid)
        return held

    def _advance(self, resume: Callable[[], Any]) -> None:
        while True:
            try:
                step = resume()
            except StopIteration as stop:
                self.is_done, self.result, self._need = True, stop.value, None
                return
            if isinstance(step, Found):
                assert self._on_found is not None
                self._on_found(step)
                resume = partial(next, self._walk)
                continue
            self._need = step
            wanted = dict.fromkeys(names(step))
            self._missing = [cid for cid in wanted if cid not in self._held][::-1]
            if self._missing:
                return
            resume = partial(self._walk.send, [self._take(cid) for cid in names(step)])
