"""Claims that a signed dataset contradicts itself, and the walks that judge them.

Whoever signs a head answers for all that it leads to. Index roots follow from records,
and nodes from entries, so a dataset can be wrong in few ways, and each can be shown
with a few blocks:

    entry   an index has no entry, or another one, or one too many at a key than the record gives
    record  what stands at a primary key is no record that may stand there, or that the indexes can hold
    path    a node on the way to a key is malformed, or is not what its parent says
    cut     a node is not one that the gap rule makes
    lists   an index is said to have no lists where there is one, or only lists where there is none
    unique  a unique index has two entries of the same values

`judge` is the walk that reads what a claim speaks of. Whoever accuses drives it over the
dataset and notes what it touches: that is the proof. Whoever is told drives it over the
proof (`evidence`). It says what is wrong, or raises IntegrityError because nothing is.
Any contradiction that it meets on its way convicts: every block it reads has been signed
for. A manifest that cannot be read convicts nobody, for it may be of a later version.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any

from rhizome_index.blocks.cbor import Link
from rhizome_index.errors import IntegrityError, UsageError
from rhizome_index.index.entries import EntryMaker, entry_maker, split_key
from rhizome_index.index.keys import decode_key, successor
from rhizome_index.index.manifest import Manifest
from rhizome_index.index.record import decode_record, parse_path
from rhizome_index.index.schema import Collection, Definition, Index, primary_key
from rhizome_index.index.write import RecordWalk, record_bytes, unique_values
from rhizome_index.limits import INLINE_VALUE_BYTES_MAX, KEY_BYTES_MAX, TREE_HEIGHT_MAX
from rhizome_index.tree.boundary import Rule
from rhizome_index.tree.cursor import Span, count, get
from rhizome_index.tree.node import Tree, Value
from rhizome_index.trust.cuts import flaw_towards

ENTRY, RECORD, PATH, CUT, LISTS, UNIQUE = "entry", "record", "path", "cut", "lists", "unique"
KINDS = (ENTRY, RECORD, PATH, CUT, LISTS, UNIQUE)
_HAS_INDEX = {ENTRY: {True}, RECORD: {False}, PATH: {False, True}, CUT: {False, True}, LISTS: {True}, UNIQUE: {True}}


@dataclass(frozen=True, slots=True)
class Claim:
    """What is said to be wrong with a dataset.

    index   of the collection; empty: its primary, or none in particular
    key     of the tree that it speaks of; of the record's primary key for `record` and `lists`
    number  the level of the node for `cut`, which path for `lists`, otherwise 0
    """

    kind: str
    collection: str
    index: str
    key: bytes
    number: int = 0

    def body(self) -> list[Any]:
        """The form in which it is written."""
        return [self.kind, self.collection, self.index, self.key, self.number]

    @classmethod
    def read(cls, body: Any) -> Claim:
        """Raises IntegrityError for anything but a claim."""
        if type(body) is not list or [type(item) for item in body] != [str, str, str, bytes, int]:
            raise IntegrityError("a claim must be [kind, collection, index, key, number]")
        kind, _, index, key, number = body
        if kind not in KINDS or len(key) > KEY_BYTES_MAX or not 0 <= number < TREE_HEIGHT_MAX:
            raise IntegrityError("a claim of an unknown kind, or out of range")
        if (number and kind not in (CUT, LISTS)) or bool(index) not in _HAS_INDEX[kind]:
            raise IntegrityError("a claim that means nothing")
        return cls(*body)


def judge(manifest: Manifest, claim: Claim) -> RecordWalk[str]:
    """What is wrong with a dataset, as claimed. Raises IntegrityError if it is not so."""
    walk = _walk(manifest, claim)
    if walk is None:
        raise IntegrityError("a claim about what the dataset does not have")
    try:
        flaw = yield from walk
    except IntegrityError as error:  # of what was signed: nothing else is read in there
        flaw = str(error)
    if not flaw:
        raise IntegrityError("a claim of fraud that is not so")
    place = f"the index {claim.index!r}" if claim.index else "the primary"
    return f"{place} of {claim.collection!r} has {flaw}"


def _walk(manifest: Manifest, claim: Claim) -> RecordWalk[str] | None:
    """The walk that finds what is wrong, or an empty text; None where there is nothing to look at."""
    collection = manifest.collections.get(claim.collection)
    if collection is None:
        return None
    if not claim.index:
        if claim.kind == RECORD:
            return _judge_record(collection, claim.key)
        return _judge_tree(manifest.rule, collection.primary, claim)
    index = collection.indexes.get(claim.index)
    if index is None:
        return None
    if claim.kind in (PATH, CUT):
        return _judge_tree(manifest.rule, index.tree, claim)
    if claim.kind == LISTS:
        return _judge_lists(collection, index, claim) if claim.number < len(index.lists) else None
    if claim.kind == UNIQUE:
        return _judge_unique(index, claim.key) if index.definition.unique else None
    return _judge_entry(collection, index, claim.key)


@dataclass(frozen=True, slots=True)
class Given:
    """What a record gives in one index: its entries, and the position of the path at which it has a list, or -1."""

    entries: dict[bytes, bytes]
    list_at: int


def given_by(collection: Collection, index: Index, key: bytes, data: bytes) -> Given:
    """What the bytes of a record, at a primary key, give in an index.

    Raises IntegrityError for what is no record that may stand there, or that the index cannot hold.
    """
    path, maker = _reading(collection.key, index.name, index.definition)
    record = decode_record(data)
    try:
        own_key = primary_key(record, path)
        ((keys, list_at, included),) = maker(record, own_key)
    except UsageError as error:
        raise IntegrityError(f"a record that it cannot hold: {error}") from None
    if own_key != key:
        raise IntegrityError("a record that stands at another primary key than its own")
    return Given(dict.fromkeys(keys, sha256(data).digest() + included), list_at)


@lru_cache(maxsize=64)
def _reading(key: str, name: str, definition: Definition) -> tuple[tuple[str, ...], EntryMaker]:
    return parse_path(key), entry_maker([(name, definition)])


def owner_of(index: Index, key: bytes) -> bytes | None:
    """The primary key of the only record that can give an entry with this key; None: no record can."""
    try:
        return split_key(index.definition, key)[1]
    except IntegrityError:
        return None


def is_same(value: Value | None, other: Value | None) -> bool:
    """Whether two values of a tree are equal: links are no bytes."""
    return value == other and type(value) is type(other)


# --- the walks ---


def _judge_tree(rule: Rule, tree: Tree, claim: Claim) -> RecordWalk[str]:
    if claim.kind == CUT:
        return (yield from flaw_towards(rule, tree, claim.number, claim.key))
    yield from get(tree, claim.key)
    return ""


def _record_at(collection: Collection, key: bytes) -> RecordWalk[tuple[Value, bytes] | None]:
    """What stands at a primary key, and the bytes of the record that it is or links to."""
    value = yield from get(collection.primary, key)
    if value is None:
        return None
    (data,) = yield from record_bytes(collection.primary, [key], [value])
    return value, data


def _judge_entry(collection: Collection, index: Index, key: bytes) -> RecordWalk[str]:
    held = yield from get(index.tree, key)
    owner = owner_of(index, key)
    found = None
    if owner is not None:
        found = yield from _record_at(collection, owner)
    given = None
    if found is not None and owner is not None:
        given = given_by(collection, index, owner, found[1]).entries.get(key)
    if is_same(held, given):
        return ""
    if held is None:
        return f"no entry {shown(key)}, which its record gives"
    if given is None:
        return f"an entry {shown(key)} that no record gives"
    return f"another entry {shown(key)} than its record gives"


def _judge_record(collection: Collection, key: bytes) -> RecordWalk[str]:
    found = yield from _record_at(collection, key)
    if found is None:
        return ""
    value, data = found
    if type(value) is Link and len(data) <= INLINE_VALUE_BYTES_MAX:
        return "a link to a record that must stand in the tree itself"
    if _own_key(collection, data) != key:
        return "a record that stands at another primary key than its own"
    for name in sorted(collection.indexes):
        given_by(collection, collection.indexes[name], key, data)
    return ""


def _own_key(collection: Collection, data: bytes) -> bytes:
    try:
        return primary_key(decode_record(data), parse_path(collection.key))
    except UsageError as error:
        raise IntegrityError(f"a record without a primary key: {error}") from None


def _judge_lists(collection: Collection, index: Index, claim: Claim) -> RecordWalk[str]:
    said, most, path = index.lists[claim.number], collection.primary.count, index.paths[claim.number]
    if said > most:
        return f"more lists at {path} than there are records"
    found = yield from _record_at(collection, claim.key)
    if found is None:
        return ""
    has_list = given_by(collection, index, claim.key, found[1]).list_at == claim.number
    if has_list and said == 0:
        return f"a list at {path}, where it is said to have none"
    if not has_list and said == most:
        return f"a record without a list at {path}, where all are said to have one"
    return ""


def _judge_unique(index: Index, key: bytes) -> RecordWalk[str]:
    values = None if owner_of(index, key) is None else unique_values(index, key)
    if values is None or (yield from count(index.tree, Span(values, successor(values)))) < 2:
        return ""
    return f"two entries with the values of {shown(key)}, though it is unique"


def shown(key: bytes) -> str:
    """A key for people."""
    try:
        return json.dumps(decode_key(key), ensure_ascii=False, default=repr)
    except IntegrityError:
        return key.hex()
