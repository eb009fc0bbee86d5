"""From the knowledge that a dataset is wrong to a claim that can be proven.

Whoever has derived a collection anew, and found that it is not what its publisher has
signed, looks here for the first place where it is not. That costs the way there, where
an entry is wrong; where only the cuts of a tree are, what it does not share with the
true one.

What is found has been judged already. None: it is wrong in a way that takes too much to
prove. That is only so for numbers of lists that are neither 0 nor all there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from rhizome_index.errors import IntegrityError, RecordError, RhizomeError
from rhizome_index.index.manifest import Manifest
from rhizome_index.index.schema import Collection, Index
from rhizome_index.index.write import MemorySorter, RecordWalk, Sorter, rebuild, record_bytes
from rhizome_index.tree.boundary import Rule
from rhizome_index.tree.build import Sink
from rhizome_index.tree.cursor import Cursor, get
from rhizome_index.tree.diff import first_difference
from rhizome_index.tree.node import Tree
from rhizome_index.trust.cuts import first_flaw, first_flaw_beside
from rhizome_index.trust.fraud import CUT, ENTRY, LISTS, PATH, RECORD, UNIQUE, Claim, given_by, judge


def find_difference(manifest: Manifest, made: Collection) -> RecordWalk[Claim | None]:
    """A claim about the first thing in which a collection is not what was derived from its own records."""
    signed = manifest.collections[made.name]
    for name in sorted(signed.indexes):
        index = signed.indexes[name]
        if made.indexes[name].tree != index.tree:
            return (yield from _find_in_index(manifest, signed, index, made.indexes[name].tree))
        if made.indexes[name].lists != index.lists:
            claim = yield from _find_list(signed, index, made.indexes[name])
            if claim is not None:
                return claim
    if made.primary != signed.primary:
        return (yield from find_flaw(manifest, signed.name, "", made.primary))
    return None


def find_flaw(manifest: Manifest, name: str, index: str, made: Tree) -> RecordWalk[Claim | None]:
    """A claim about the nodes of a tree that has the entries of one that was made, and yet is another one.

    None: its nodes are what its own entries give, as far as it is not the one made; so those are others.
    """
    signed = manifest.collections[name]
    tree = signed.indexes[index].tree if index else signed.primary
    try:
        flaw = yield from first_flaw_beside(manifest.rule, tree, made)
        claim = None if flaw is None else Claim(CUT, name, index, flaw[1], flaw[0])
    except IntegrityError as error:
        claim = Claim(PATH, name, index, error.key or b"")
    return (yield from first_that_convicts(manifest, [claim] if claim is not None else []))


def find_failure(
    manifest: Manifest, name: str, error: RhizomeError, sink: Sink, new_sorter: Callable[[], Sorter] = MemorySorter
) -> RecordWalk[Claim | None]:
    """A claim about what kept anybody from deriving a collection's indexes: the error says where that was.

    Two records of the same values may hide behind a unique index that has only one of them: then it is derived
    once more, into the sink, as if it might have both.
    """
    signed = manifest.collections[name]
    key = error.key if isinstance(error, IntegrityError | RecordError) else None
    if key is not None:
        claims = [Claim(PATH, name, "", key), Claim(RECORD, name, "", key)]
        found = yield from first_that_convicts(manifest, claims)
        if found is None:
            found = yield from first_that_convicts(manifest, (yield from doubles(signed, key)))
        if found is not None:
            return found
    if isinstance(error, RecordError):
        made = yield from rebuild(manifest.rule, _without_unique(signed), sink, new_sorter)
        return (yield from find_difference(manifest, made))
    return (yield from _find_in_tree(manifest.rule, signed.primary, name, ""))


def _without_unique(collection: Collection) -> Collection:
    indexes = collection.indexes
    for name, index in collection.indexes.items():
        indexes = indexes.set(name, replace(index, definition=replace(index.definition, unique=False)))
    return replace(collection, indexes=indexes)


def first_that_convicts(manifest: Manifest, claims: Sequence[Claim]) -> RecordWalk[Claim | None]:
    """The first of some claims that is so."""
    for claim in claims:
        try:
            yield from judge(manifest, claim)
        except IntegrityError:
            continue
        return claim
    return None


def _find_in_index(manifest: Manifest, signed: Collection, index: Index, made: Tree) -> RecordWalk[Claim | None]:
    try:
        difference = yield from first_difference(made, index.tree)
        claim = None if difference is None else Claim(ENTRY, signed.name, index.name, difference[0])
    except IntegrityError as error:
        claim = Claim(PATH, signed.name, index.name, error.key or b"")
    found = yield from first_that_convicts(manifest, [claim] if claim is not None else [])
    found = found or (yield from find_flaw(manifest, signed.name, index.name, made))
    return found or (yield from _find_in_tree(manifest.rule, index.tree, signed.name, index.name))


def _find_in_tree(rule: Rule, tree: Tree, collection: str, index: str) -> RecordWalk[Claim | None]:
    """A claim about the nodes of a tree, whatever their entries."""
    try:
        flaw = yield from first_flaw(rule, tree)
    except IntegrityError as error:
        return Claim(PATH, collection, index, error.key or b"")
    return None if flaw is None else Claim(CUT, collection, index, flaw[1], flaw[0])


def _find_list(signed: Collection, index: Index, made: Index) -> RecordWalk[Claim | None]:
    """A claim about a number of lists, with the first record that refutes it."""
    most = signed.primary.count
    for place, (said, true) in enumerate(zip(index.lists, made.lists, strict=True)):
        if said > most:
            return Claim(LISTS, signed.name, index.name, b"", place)
        if said == true or said not in (0, most):
            continue
        cursor = Cursor(signed.primary)
        while (entries := (yield from cursor.next_entries())) is not None:
            blocks = yield from record_bytes(signed.primary, *entries)
            for key, data in zip(entries[0], blocks, strict=True):
                if (given_by(signed, index, key, data).list_at == place) is (said == 0):
                    return Claim(LISTS, signed.name, index.name, key, place)
    return None


def doubles(signed: Collection, key: bytes) -> RecordWalk[list[Claim]]:
    """Claims that a record stands beside another one in a unique index."""
    value = yield from get(signed.primary, key)
    if value is None:
        return []
    (data,) = yield from record_bytes(signed.primary, [key], [value])
    claims = []
    for name in sorted(signed.indexes):
        index = signed.indexes[name]
        if index.definition.unique:
            try:
                given = given_by(signed, index, key, data)
            except IntegrityError:
                continue
            claims += [Claim(UNIQUE, signed.name, name, entry) for entry in sorted(given.entries)]
    return claims
