"""Transitions: an index of the next head, from the one before and what has changed of the records.

Who knows that an index follows from a primary needs neither to know that of the next pair:
the changes, applied to the old trees, give the new ones, and equal roots are the
verification. Of the old trees only the ways to what changes are read, so it takes as
many blocks as there are changes, times the height, whatever the size of the dataset.

If the primary is the signed one and the index is not, its publisher has lied, and the
first place where they differ convicts him. If it is the primary that is not, and its
nodes are not those that its entries give, he has lied, too. Otherwise the changes are wrong.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from pyrsistent import pmap

from rhizome_index.errors import IntegrityError, RecordError
from rhizome_index.index.manifest import Manifest
from rhizome_index.index.schema import Collection
from rhizome_index.index.write import Change, RecordWalk, apply_changes
from rhizome_index.tree.build import Sink
from rhizome_index.trust.fraud import PATH, RECORD, Claim
from rhizome_index.trust.search import doubles, find_difference, find_flaw, first_that_convicts


def only(collection: Collection, index: str) -> Collection:
    """A collection with one of its indexes."""
    return replace(collection, indexes=pmap({index: collection.indexes[index]}))


def can_be_carried(before: Manifest, after: Manifest, collection: str, index: str) -> bool:
    """Whether an index of the one is made by the same function as that of the other."""
    old, new = before.collections.get(collection), after.collections.get(collection)
    if old is None or new is None or index not in old.indexes or index not in new.indexes:
        return False
    same = (before.rule, old.key, old.indexes[index].definition)
    return same == (after.rule, new.key, new.indexes[index].definition)


def carry(
    after: Manifest, before: Collection, index: str, changes: Iterable[Change], sink: Sink
) -> RecordWalk[Collection]:
    """What changes make of a collection with one index. Raises RecordError, IntegrityError for what cannot be one."""
    return (yield from apply_changes(after.rule, only(before, index), changes, sink))


def find_broken_step(after: Manifest, made: Collection, index: str) -> RecordWalk[Claim | None]:
    """A claim about the first place where an index is not what the changes have made of the one before."""
    signed = only(after.collections[made.name], index)
    return (yield from find_difference(Manifest(after.rule, pmap({made.name: signed})), made))


def find_broken_primary(after: Manifest, made: Collection) -> RecordWalk[Claim | None]:
    """A claim about the nodes of a primary that is not what the changes have made of the one before.

    None: its nodes are what its entries give. Then it has other entries, and the changes are not those to it.
    """
    return (yield from find_flaw(after, made.name, "", made.primary))


def find_bad_record(after: Manifest, name: str, error: IntegrityError | RecordError) -> RecordWalk[Claim | None]:
    """A claim about the record that could not be applied, if the next head really has it."""
    if error.key is None:
        return None
    claims = [Claim(PATH, name, "", error.key), Claim(RECORD, name, "", error.key)]
    found = yield from first_that_convicts(after, claims)
    return found or (yield from first_that_convicts(after, (yield from doubles(after.collections[name], error.key))))
