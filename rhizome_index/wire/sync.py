"""`/rhizome/sync/1`: what has changed in a dataset since a manifest that the asker holds, in one round trip.

The answer opens with the head and the manifest, and says of each collection how it
comes: "same", "delta" (the entries of its primary that changed follow), or "chunks"
(too much has changed, or there is nothing to start from: the asker fetches the
chunks that it lacks with `want`). Indexes never travel: who has the records derives
them, and equal roots are the verification. So nothing in a delta is believed: it is
applied, and the roots are compared with those of the signed manifest.

A delta is a sequence of blocks: [collection, list of [key, value]] (null: deleted),
then the records that those values link to, in order. An answer may end between two
lists; the next request goes on at the key behind the last one.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from operator import lt
from typing import Any, Protocol, TypeVar

from rhizome_index.blocks import cbor
from rhizome_index.blocks.cid import Cid, check_block
from rhizome_index.errors import IntegrityError, UnavailableError, UsageError
from rhizome_index.index.address import Address
from rhizome_index.index.head import Head, open_head
from rhizome_index.index.manifest import Manifest, decode_manifest
from rhizome_index.limits import (
    COLLECTIONS_MAX,
    FRAME_PAYLOAD_BYTES,
    INLINE_VALUE_BYTES_MAX,
    KEY_BYTES_MAX,
    PROOF_BYTES_MAX,
    RECORD_BYTES_MAX,
    SYNC_DELTA_BYTES_MAX,
)
from rhizome_index.tree.diff import Diff
from rhizome_index.tree.node import Tree, Value
from rhizome_index.tree.walk import Walk
from rhizome_index.wire import message as m

PROTOCOL = "/rhizome/sync/1"
SAME, DELTA, CHUNKS = "same", "delta", "chunks"

_LIST_BYTES = FRAME_PAYLOAD_BYTES - 1024  # a list of changes fills a frame
_ENTRY_BYTES = 16  # what CBOR adds to a change, at most

T = TypeVar("T")

Change = tuple[bytes, Value | None]
Place = tuple[str, bytes]  # a collection, and the key at which its delta goes on


@dataclass(frozen=True, slots=True)
class Sync:
    """A request.

    held    the manifest that the asker has all records of; None: it has nothing
    place   go on there: in that collection at that key; None: from the start
    budget  bytes of blocks that the asker takes at most
    """

    address: Address
    held: Cid | None = None
    manifest: Cid | None = None
    place: Place | None = None
    budget: int = PROOF_BYTES_MAX

    def fields(self) -> dict[str, Any]:
        return {
            "dataset": str(self.address),
            "held": None if self.held is None else cbor.Link(self.held),
            "manifest": None if self.manifest is None else cbor.Link(self.manifest),
            "place": None if self.place is None else list(self.place),
            "budget": self.budget,
        }

    @classmethod
    def read(cls, fields: Any) -> Sync:
        """Raises IntegrityError for a request that is none."""
        dataset, held, manifest, place, budget = m.read_fields(
            fields,
            dataset=m.is_text,
            held=m.optional(m.is_link),
            manifest=m.optional(m.is_link),
            place=m.optional(_is_place),
            budget=m.is_natural,
        )
        try:
            address = Address.parse(dataset)
        except UsageError as error:
            raise IntegrityError(str(error)) from None
        return cls(
            address,
            None if held is None else bytes(held),
            None if manifest is None else bytes(manifest),
            None if place is None else (place[0], place[1]),
            min(budget, PROOF_BYTES_MAX),
        )


def _is_place(value: Any) -> bool:
    return type(value) is list and list(map(type, value)) == [str, bytes] and len(value[1]) <= KEY_BYTES_MAX + 1


class Syncer(Protocol):
    """What an answering peer brings."""

    def snapshot(self, address: Address, manifest: Cid | None) -> tuple[Head, bytes, Manifest]:
        """The head, the manifest's bytes and the manifest of a dataset. Raises UnavailableError."""

    def manifest(self, cid: Cid) -> Manifest:
        """A manifest by its name. Raises UnavailableError."""

    def block(self, cid: Cid) -> bytes:
        """Any block. Raises UnavailableError."""

    def step(self, need: Any) -> Any:
        """What a walk needs. Raises UnavailableError."""


def forms(old: Manifest | None, new: Manifest) -> Walk[dict[str, str]]:
    """How each collection of a manifest is best brought to somebody who has the records of another one."""
    found = {}
    for name, collection in sorted(new.collections.items()):
        held = old.collections.get(name) if old is not None else None
        if held is not None and held.primary == collection.primary:
            found[name] = SAME
        elif held is None or old is None or old.rule != new.rule or held.key != collection.key:
            found[name] = CHUNKS if collection.primary.count else SAME
        else:
            found[name] = yield from _smaller(held.primary, collection.primary)
    return found


def _smaller(old: Tree, new: Tree) -> Walk[str]:
    """DELTA unless it is large, and larger than half of everything: then chunks cost about the same, and resume."""
    size = entries = 0
    diff = Diff(old, new)
    while (found := (yield from diff.next_differences())) is not None:
        entries += len(found)
        size += sum(_size(key, value) for key, _, value in found)
        if size > SYNC_DELTA_BYTES_MAX or 2 * entries > max(new.count, 1) + old.count:
            return CHUNKS
    return DELTA


def _size(key: bytes, value: Value | None) -> int:
    return len(key) + len(value or b"") + _ENTRY_BYTES


def answer(number: int, request: Sync, peer: Syncer) -> Iterator[bytes]:
    """The frames that answer a request; an empty one now and then, where others may have their turn."""
    try:
        head, manifest_bytes, manifest = peer.snapshot(request.address, request.manifest)
        old = peer.manifest(request.held) if request.held is not None else None
    except UnavailableError as error:
        yield m.encode_failure(number, m.UNKNOWN, str(error))
        return
    try:
        how = yield from _driven(forms(old, manifest), peer)
        yield m.encode_open(number, {"head": head.envelope, "manifest": manifest_bytes, "forms": how})
        packer = m.BlockPacker(number)
        size = 0
        complete = True
        for name, form in sorted(how.items()):
            if form != DELTA or (request.place is not None and name < request.place[0]):
                continue
            assert old is not None
            low = request.place[1] if request.place is not None and request.place[0] == name else b""
            trees = old.collections[name].primary, manifest.collections[name].primary
            for block in _delta_blocks(name, trees, low, request.budget, peer):
                if block is None:
                    yield b""
                    continue
                size += sum(map(len, block))
                if size > request.budget:
                    complete = False
                    break
                for part in block:
                    yield from packer.add(part)
            if not complete:
                break
    except UnavailableError as error:
        yield m.encode_failure(number, m.MISSING, str(error))
        return
    yield from packer.flush()
    yield m.encode_end(number, {"complete": complete})


def _driven(walk: Walk[T], peer: Syncer) -> Generator[bytes, None, T]:
    """Drive a walk over the peer's store, with an empty frame at each need; its result is the generator's."""
    reply: Any = None
    while True:
        try:
            need = walk.send(reply)
        except StopIteration as stop:
            result: T = stop.value
            return result
        yield b""
        reply = peer.step(need)


def _delta_blocks(
    name: str, trees: tuple[Tree, Tree], low: bytes, budget: int, peer: Syncer
) -> Iterator[list[bytes] | None]:
    """The blocks of a delta from a key on: each list with the records it links to. None: a pause.

    They fit in the budget together, unless it is less than a single change takes.
    """
    list_max, records_max = min(_LIST_BYTES, budget // 2), min(RECORD_BYTES_MAX, budget // 2)
    diff = Diff(*trees)
    changes: list[Any] = []
    records: list[bytes] = []
    size = records_size = 0
    while True:
        walk = _driven(diff.next_differences(), peer)
        while True:
            try:
                next(walk)
                yield None
            except StopIteration as stop:
                found = stop.value
                break
        for key, _, value in found or ():
            if key < low:
                continue
            linked = [peer.block(bytes(value))] if type(value) is cbor.Link else []
            linked_size = sum(map(len, linked))
            if changes and (size + _size(key, value) > list_max or records_size + linked_size > records_max):
                yield [cbor.encode([name, changes]), *records]
                changes, records, size, records_size = [], [], 0, 0
            changes.append([key, value])
            records += linked
            size += _size(key, value)
            records_size += linked_size
        if found is None:
            break
    if changes:
        yield [cbor.encode([name, changes]), *records]


@dataclass(slots=True)
class Delta:
    """What has come of one collection: its changed entries, by key, and the records they link to."""

    changes: list[Change] = field(default_factory=list)
    records: list[tuple[Cid, bytes]] = field(default_factory=list)


class Syncing:
    """One request from the asker's side. Everything is checked that can be before the changes are applied."""

    def __init__(self, sync: Sync) -> None:
        self.sync = sync
        self.head: Head | None = None
        self.manifest: Manifest | None = None
        self.manifest_bytes = b""
        self.forms: dict[str, str] = {}
        self.deltas: dict[str, Delta] = {}
        self.failure: m.Failure | None = None
        self.is_over = False
        self.is_complete = False
        self._size = 0
        self._links: list[Cid] = []
        self._name = sync.place[0] if sync.place else ""

    @property
    def place(self) -> Place:
        """Where the next request goes on."""
        changes = self.deltas[self._name].changes
        return self._name, changes[-1][0] + b"\0"

    def extend(self, part: Syncing) -> None:
        """Add what a later request has brought. Raises IntegrityError if it does not go on with this one."""
        if part.head != self.head or part.forms != self.forms:
            raise IntegrityError("an answer that goes on with another one")
        for name, delta in part.deltas.items():
            whole = self.deltas.setdefault(name, Delta())
            whole.changes += delta.changes
            whole.records += delta.records

    def take(self, reply: m.Reply) -> None:
        """Take one reply. Raises IntegrityError for anything that an honest peer does not send."""
        if self.is_over:
            raise IntegrityError("an answer that goes on behind its end")
        if isinstance(reply, m.Failure):
            self.failure, self.is_over = reply, True
        elif isinstance(reply, m.Open):
            self._open(reply)
        elif self.head is None:
            raise IntegrityError("an answer that does not open with its head")
        elif isinstance(reply, m.Blocks):
            for block in reply.plain():
                self._take_block(block)
        else:
            (self.is_complete,) = m.read_fields(reply.fields, complete=m.is_flag)
            if self._links:
                raise IntegrityError("a delta without a record that it links to")
            if not self.is_complete and not self.deltas:
                raise IntegrityError("an answer that makes no progress")
            self.is_over = True

    def cut_off(self) -> bool:
        """The answer has ended in the middle: changes whose records have all come count. Whether there are any."""
        self.is_over = True
        while self._links:
            _, value = self.deltas[self._name].changes.pop()
            if type(value) is cbor.Link:
                del self._links[0]
        self.deltas = {name: delta for name, delta in self.deltas.items() if delta.changes}
        self._name = max(self.deltas, default=self._name)
        return bool(self.deltas)

    def _open(self, reply: m.Open) -> None:
        if self.head is not None:
            raise IntegrityError("an answer that opens twice")
        envelope, data, how = m.read_fields(
            reply.fields, head=m.is_bytes, manifest=m.is_bytes, forms=lambda value: type(value) is dict
        )
        head = open_head(envelope)
        if head.address != self.sync.address or self.sync.manifest not in (None, head.manifest):
            raise IntegrityError("the head of another dataset, or another one than asked for")
        check_block(head.manifest, data)
        manifest = decode_manifest(data)
        if how.keys() != manifest.collections.keys() or len(how) > COLLECTIONS_MAX:
            raise IntegrityError("an answer that does not say how each collection comes")
        if not all(form in (SAME, DELTA, CHUNKS) for form in how.values()):
            raise IntegrityError("a collection that comes in an unknown way")
        self.head, self.manifest, self.manifest_bytes, self.forms = head, manifest, data, how

    def _take_block(self, block: bytes | None) -> None:
        if block is None:
            raise IntegrityError("a delta with a gap")
        self._size += len(block)
        if self._size > self.sync.budget:
            raise IntegrityError("more bytes than were asked for")
        if self._links:
            cid = self._links.pop()
            check_block(cid, block)
            self.deltas[self._name].records.append((cid, block))
            return
        if len(block) > FRAME_PAYLOAD_BYTES:
            raise IntegrityError("a list of changes that is too long")
        body = cbor.decode(block)
        if type(body) is not list or len(body) != 2 or type(body[0]) is not str or type(body[1]) is not list:
            raise IntegrityError("a delta must be made of [collection, changes]")
        if not body[1] or not all(map(_is_change, body[1])):
            raise IntegrityError("a change must be [key, value]")
        self._add(body[0], [(key, value) for key, value in body[1]])

    def _add(self, name: str, changes: list[Change]) -> None:
        if name < self._name or self.forms.get(name) != DELTA:
            raise IntegrityError("changes of a collection that does not come as changes, or not now")
        delta = self.deltas.setdefault(name, Delta())
        last = delta.changes[-1][0] if delta.changes else None
        low = self.sync.place[1] if self.sync.place and self.sync.place[0] == name else b""
        keys = [key for key, _ in changes]
        if not all(map(lt, keys, keys[1:])) or keys[0] < low or (last is not None and keys[0] <= last):
            raise IntegrityError("changes out of order")
        self._name = name
        delta.changes += changes
        self._links = [bytes(value) for _, value in changes if type(value) is cbor.Link][::-1]


def _is_change(value: Any) -> bool:
    if type(value) is not list or len(value) != 2:
        return False
    key, content = value
    fits = content is None or (isinstance(content, bytes) and len(content) <= INLINE_VALUE_BYTES_MAX)
    return type(key) is bytes and len(key) <= KEY_BYTES_MAX and fits
