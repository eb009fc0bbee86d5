"""Drive walks and conversations over memory, for tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from rhizome_index.blocks import cbor
from rhizome_index.blocks.cid import Cid, cid_of_digest
from rhizome_index.blocks.store import MemoryStore
from rhizome_index.errors import UnavailableError
from rhizome_index.index.write import NeedRecords
from rhizome_index.query.answer import Answer
from rhizome_index.query.found import Found
from rhizome_index.query.proof import Replay, record, supply
from rhizome_index.query.rows import Row
from rhizome_index.tree.cursor import Cursor, get_many
from rhizome_index.tree.node import Node, node_of
from rhizome_index.wire.frame import FrameReader
from rhizome_index.wire.message import Reply, ReplyReader


class MemorySource:
    """A `proof.Source` over a MemoryStore."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store

    def block(self, cid: Cid) -> bytes:
        data = self.store.get(cid)
        if data is None:
            raise UnavailableError("not here")
        return data

    def chunks(self, cids: Sequence[Cid]) -> list[tuple[bytes, Node]]:
        return [(self.block(cid), node_of(cid, self.block(cid))) for cid in cids]

    def records(self, need: NeedRecords) -> list[bytes]:
        keys = sorted(set(need.keys))
        values = dict(zip(keys, self.run(get_many(need.primary, keys)), strict=True))
        found = []
        for key, digest in zip(need.keys, need.digests, strict=True):
            value = values[key]
            found.append(self.block(cid_of_digest(digest)) if value is None or type(value) is cbor.Link else value)
        return found

    def run(self, walk: Any) -> Any:
        resume = partial(next, walk)
        while True:
            try:
                need = resume()
            except StopIteration as stop:
                return stop.value
            _, resume = supply(walk, need, self)


class WarmSource(MemorySource):
    """One that checks and decodes each chunk once: for blocks that nobody changes, and many walks over them."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self._chunks: dict[Cid, tuple[bytes, Node]] = {}

    def chunks(self, cids: Sequence[Cid]) -> list[tuple[bytes, Node]]:
        for cid in cids:
            if cid not in self._chunks:
                self._chunks[cid] = self.block(cid), node_of(cid, self.block(cid))
        return [self._chunks[cid] for cid in cids]


def gather(reader: Any) -> Any:
    """A walk that reads a Cursor or a Diff to its end."""
    found: list[Any] = []
    read = reader.next_entries if isinstance(reader, Cursor) else reader.next_differences
    while (part := (yield from read())) is not None:
        found += zip(*part, strict=True) if isinstance(reader, Cursor) else part
    return found


def answer_directly(answer: Answer, source: MemorySource) -> tuple[list[Row], list[tuple[Cid, bytes]]]:
    """The rows of an answer, and its proof."""
    blocks = []
    for step in record(answer.next_walk(), source):
        if isinstance(step, Found):
            answer.take(step)
        elif isinstance(step, tuple):
            blocks.append(step)
        else:
            answer.finish(step)
    return list(answer.rows()), blocks


def replay(answer: Answer, blocks: Sequence[bytes]) -> list[Row]:
    """The rows of an answer, from its proof alone."""
    replaying = Replay(answer.next_walk(), answer.take)
    for data in blocks:
        replaying.feed(data)
    replaying.close()
    answer.finish(replaying.result)
    return list(answer.rows())


def replies(frames: Iterator[bytes]) -> list[Reply]:
    """What the frames of an answer say."""
    reader = ReplyReader()
    found = [reader.read(body) for body in FrameReader().feed(b"".join(frames))]
    return [reply for reply in found if reply is not None]
