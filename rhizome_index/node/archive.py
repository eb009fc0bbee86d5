"""CAR files of ours: what anybody can check offline, and a whole dataset.

A dataset's begins with `{"kind": "rhizome-dataset/1", "head", "manifest"}` and holds
every block of its trees and every linked record, parents first.
"""

from __future__ import annotations

import math
from collections.abc import Container
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, BinaryIO

from rhizome_index.blocks import cbor
from rhizome_index.blocks.car import read_car, write_car
from rhizome_index.blocks.cid import cid_of
from rhizome_index.errors import IntegrityError, UsageError
from rhizome_index.index.head import Head, open_head
from rhizome_index.trust.evidence import Fraud, is_fraud, read_fraud

if TYPE_CHECKING:  # whoever checks a file needs no store, and of a fraud proof no queries
    from rhizome_index.node.disk import DiskStore
    from rhizome_index.node.saved import Verified

DATASET_KIND = "rhizome-dataset/1"


def verify(file: BinaryIO) -> Verified | Fraud:
    """Check a saved answer or a fraud proof by replaying its walk over its own blocks. Raises IntegrityError."""
    roots, blocks = read_car(file)
    first = next(blocks, None)
    if first is None or roots != [first[0]]:
        raise IntegrityError("a CAR file whose root is not its first block")
    body = cbor.decode(first[1])
    if is_fraud(body):
        return read_fraud(roots, chain([first], blocks))
    from rhizome_index.node.saved import verify_answer

    return verify_answer(body, blocks)


def write_dataset(file: BinaryIO, store: DiskStore, head: Head) -> int:
    """Save all of a dataset as of one head. Returns how many blocks the file holds."""
    from rhizome_index.node.reach import dataset_blocks

    root = cbor.encode({"kind": DATASET_KIND, "head": head.envelope, "manifest": cbor.Link(head.manifest)})
    return write_car(file, [cid_of(root)], chain([(cid_of(root), root)], dataset_blocks(store, head, set())))


def read_dataset(file: BinaryIO, store: DiskStore, own: Container[str] = ()) -> tuple[Head, int]:
    """Restore a dataset from its file: all of it, or nothing. Raises IntegrityError, UsageError, QuotaError.

    own  peers whose datasets are ours: the quota is for those of others

    The blocks must be exactly those that the head leads to, so nothing else gets into the store.
    """
    from rhizome_index.node.reach import dataset_blocks
    from rhizome_index.node.room import Room

    roots, blocks = read_car(file)
    first = next(blocks, None)
    body: Any = cbor.decode(first[1]) if first is not None and roots == [first[0]] else None
    if not isinstance(body, dict) or body.keys() != {"kind", "head", "manifest"} or body["kind"] != DATASET_KIND:
        raise IntegrityError("not the file of a dataset", hint="saved answers are checked with: rhizome verify")
    head = open_head(body["head"] if type(body["head"]) is bytes else b"")
    known = store.newest_head(head.address)
    if known is not None and known.sequence > head.sequence:
        raise UsageError(f"the store has a newer head of {head.address}: {known.sequence} > {head.sequence}")
    if store.successions.disowns(head):
        raise IntegrityError(f"head {head.sequence} of {head.address} is signed with a key that was replaced")
    count, fresh_bytes = 1, 0
    room = None if head.address.publisher in own else Room(store)
    allowed = math.inf if room is None else room.left_bytes()
    with store.transaction():
        while batch := list(islice(blocks, 512)):
            fresh_bytes += sum(len(data) for cid, data in batch if not store.has(cid))
            if fresh_bytes <= allowed:
                store.put_many(batch)
            count += len(batch)
        if room is not None and fresh_bytes > allowed:
            raise room.refuse(str(head.address), fresh_bytes, int(allowed))
        reached = 1 + sum(1 for _ in dataset_blocks(store, head, set()))
        if reached != count:
            raise IntegrityError(f"the file holds {count} blocks, of which the head leads to {reached}")
        store.put_head(head)
    return head, count
