"""Signed logs, to compare with: what a publisher has done, as a chain of entries, and somebody who plays it again.

This is a baseline and no part of the product. It is what append-only logs do that are signed entry by entry: a new post
is an entry with the whole record, an edit one with what has changed, a deletion one with the id. Each names the digest
of the one before and is signed by itself.

    entry = length (4 bytes, big-endian: of what follows), signature (64 bytes, over the body), body
    body  = DAG-CBOR [digest of the body before, sequence, kind, what]; a log opens with its publisher's public key
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Any

import apsw

from rhizome_index.blocks import cbor
from rhizome_index.errors import IntegrityError
from rhizome_index.index.envelope import verify_signature
from rhizome_index.index.head import Identity
from rhizome_index.simulation.cluster import Changes
from rhizome_index.simulation.workload import Record

OPEN, PUT, EDIT, DELETE = range(4)
_SIGNATURE_BYTES = 64

Operation = tuple[int, Any]  # kind and what


def framed(data: bytes) -> bytes:
    """Behind its length."""
    return len(data).to_bytes(4) + data


def taken(data: bytearray) -> list[bytes]:
    """What is there whole of what was framed; it is taken out of `data`."""
    found, at = list[bytes](), 0
    while at + 4 <= len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4])
        if end > len(data):
            break
        found.append(bytes(data[at + 4 : end]))
        at = end
    del data[:at]
    return found


def operations(changes: Changes, published: Mapping[str, Record]) -> Iterator[Operation]:
    """What some changes are, of what was published before them."""
    for key, record in changes.items():
        before = published.get(key)
        if record is None:
            yield DELETE, key
        elif before is None:
            yield PUT, dict(record)
        else:
            changed = {path: value for path, value in record.items() if before.get(path) != value}
            yield EDIT, {"id": key, **changed}


def written(identity: Identity, done: Iterable[Operation]) -> Iterator[bytes]:
    """A log, entry by entry."""
    digest = bytes(32)
    for sequence, (kind, what) in enumerate([(OPEN, identity.public_key), *done]):
        body = cbor.encode([digest, sequence, kind, what])
        digest = sha256(body).digest()
        yield framed(identity.sign(body) + body)


class Replay:
    """Plays logs, one after another.

    records  of each publisher, by id
    entries  how many there were
    every    how many of the signatures are checked: one of so many
    """

    def __init__(self, every: int = 1) -> None:
        self.records: dict[bytes, dict[str, dict[str, Any]]] = {}
        self.entries = 0
        self._every = every
        self._data = bytearray()
        self._publisher = b""
        self._digest = bytes(32)
        self._sequence = 0

    def feed(self, data: bytes) -> list[Operation]:
        """More bytes have come: what was done. Raises IntegrityError."""
        self._data += data
        return [self._take(entry[:_SIGNATURE_BYTES], entry[_SIGNATURE_BYTES:]) for entry in taken(self._data)]

    def _take(self, signature: bytes, body: bytes) -> Operation:
        before, sequence, kind, what = cbor.decode(body)
        if kind == OPEN:
            self._publisher, self._digest, self._sequence = what, bytes(32), 0
            self.records[what] = {}
        if before != self._digest or sequence != self._sequence:
            raise IntegrityError(f"entry {sequence} does not follow the one before")
        if not self.entries % self._every:
            verify_signature(self._publisher, body, signature)
        self.entries += 1
        self._digest, self._sequence = sha256(body).digest(), sequence + 1
        records = self.records[self._publisher]
        if kind == PUT:
            records[what["id"]] = what
        elif kind == EDIT:
            records[what["id"]] |= what
        elif kind == DELETE:
            del records[what]
        return kind, what


class Index:
    """What somebody who plays a log keeps so as to answer from it: records, and their ids by tag and time, in SQLite.

    Only what it takes is of interest.
    """

    def __init__(self, path: str) -> None:
        self._db = apsw.Connection(path)
        for statement in (
            "pragma journal_mode = wal",
            "create table records (id text primary key, record blob) without rowid",
            "create table tags (tag text, created integer, id text, primary key (tag, created, id)) without rowid",
        ):
            self._db.execute(statement).fetchall()

    def take(self, done: Iterable[Operation], records: Mapping[str, Record]) -> None:
        """Take up what was done, in one transaction; `records` are those there are afterwards."""
        with self._db:
            for kind, what in done:
                if kind in (PUT, EDIT) and what["id"] in records:
                    record = records[what["id"]]
                    self._db.execute("insert or replace into records values (?, ?)", (what["id"], cbor.encode(record)))
                    for tag in record["tags"] if kind == PUT else ():
                        self._db.execute("insert into tags values (?, ?, ?)", (tag, record["created"], what["id"]))
                elif kind == DELETE:
                    self._db.execute("delete from records where id = ?", (what,))

    def close(self) -> None:
        self._db.close()
