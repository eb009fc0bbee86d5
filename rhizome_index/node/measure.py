"""How much room a dataset takes in a store: the blocks that are here of what is kept of it.

Promises: nothing is changed, and what is missing is passed by. Chunks that lead
nowhere, nearly all, are measured where they lie, without being read.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from rhizome_index.blocks.cbor import LINK_HEADER
from rhizome_index.blocks.cid import Cid, digest_of
from rhizome_index.errors import IntegrityError, RhizomeError, StoreError
from rhizome_index.index.head import Head
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.local import LocalSource
from rhizome_index.node.part import read_part
from rhizome_index.node.reach import MANIFEST, Place, children
from rhizome_index.node.register import FULL, Policy
from rhizome_index.node.sync import Progress
from rhizome_index.query.proof import record

_AT_ONCE = 500  # digests in one statement


def bytes_held(store: DiskStore, head: Head, policy: Policy) -> int:
    """Bytes of what a policy keeps of a dataset, as of a head. Raises StoreError."""
    return _all_bytes(store, head) if policy.kind == FULL else _part_bytes(store, head, policy)


def _all_bytes(store: DiskStore, head: Head) -> int:
    total, seen = 0, set[Cid]()
    level = [Place(head.manifest, MANIFEST)]
    while level:
        seen.update(place.cid for place in level)
        below: dict[Cid, Place] = {}
        for place, size, leads_on in _measured(store, level):
            total += size
            if leads_on and (data := store.get(place.cid)) is not None:
                with suppress(IntegrityError):  # a stranger's chunk that is none
                    below |= {child.cid: child for child in children(place, data)}
        level = [place for cid, place in below.items() if cid not in seen]
    return total


def _measured(store: DiskStore, places: list[Place]) -> Iterable[tuple[Place, int, bool]]:
    """Those of some blocks that are here, their sizes, and whether there is anything like a link in them."""
    for start in range(0, len(places), _AT_ONCE):
        wanted = {digest_of(place.cid): place for place in places[start : start + _AT_ONCE]}
        marks = ",".join("?" * len(wanted))
        statement = f"select digest, length(data), instr(data, ?) from blocks where digest in ({marks})"
        for digest, size, link_at in store.execute(statement, (LINK_HEADER, *wanted)):
            yield wanted[digest], size, link_at > 0


def _part_bytes(store: DiskStore, head: Head, policy: Policy) -> int:
    source = LocalSource(store)
    sizes = {}
    try:
        sizes[head.manifest] = len(source.block(head.manifest))
        for step in record(read_part(source.manifest(head.manifest), policy, Progress()), source):
            if isinstance(step, tuple):
                sizes[step[0]] = len(step[1])
    except StoreError:
        raise
    except RhizomeError:  # the rest is missing
        pass
    return sum(sizes.values())
