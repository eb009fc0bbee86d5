"""What a home has found out about indexes: kept durably, looked up for every answer.

A derivation that was proven once stays proven, so rows are only forgotten to make room.
Each carries its own digest: a level that damage has raised is none.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from rhizome_index.blocks import cbor
from rhizome_index.errors import IntegrityError
from rhizome_index.index.address import Address
from rhizome_index.index.manifest import Manifest
from rhizome_index.index.schema import Collection
from rhizome_index.limits import PROVEN_MAX
from rhizome_index.node.attested import Attestations
from rhizome_index.node.checked import with_check, without_check
from rhizome_index.node.disk import DiskStore
from rhizome_index.query.combine import Choice
from rhizome_index.tree.boundary import Rule
from rhizome_index.trust.ladder import (
    AUDITED,
    MADE,
    Bound,
    Derivation,
    Standing,
    carried,
    derivation_of,
    derivations_of,
    lowest,
)


class Ladder:
    """Standings over a store."""

    def __init__(self, store: DiskStore) -> None:
        self._store = store
        self._attestations = Attestations(store)

    def note(self, address: Address, derivations: Iterable[Derivation], level: int, bound: Bound | None = None) -> None:
        """Keep what was found out about some derivations of a dataset. Raises StoreError."""
        said = None if bound is None else [bound.bad_fraction, bound.confidence]
        with self._store.transaction():
            for derivation in derivations:
                if bound is not None and _how_good(self.standing(derivation)) >= _how_good(Standing(level, bound)):
                    continue
                name, found = derivation.digest, cbor.encode([level, said])
                self._store.execute(
                    "insert or replace into proven (derivation, level, dataset, found) values (?, ?, ?, ?)",
                    (name, level, str(address), with_check(found, name)),
                )
            self._store.execute(
                "delete from proven where dataset = ?1 and id <= "
                "(select id from proven where dataset = ?1 order by id desc limit 1 offset ?2)",
                (str(address), PROVEN_MAX),
            )

    def note_change(self, address: Address, rule: Rule, before: Collection | None, after: Collection) -> None:
        """A collection has been changed here: what was made here is so still, and new indexes are."""
        made = []
        for name, derivation in derivations_of(rule, after).items():
            is_new = before is None or not before.primary.count or (name and name not in before.indexes)
            base = Standing(MADE) if is_new or before is None else self.standing(derivation_of(rule, before, name))
            if base.level == MADE:
                made.append(derivation)
            elif before is not None and (found := carried(base, before, after, name)) is not None:
                self.note(address, [derivation], found.level, found.bound)
        self.note(address, made, MADE)

    def standing(self, derivation: Derivation) -> Standing:
        """What is proven of an answer from a tree, whose own proof holds."""
        name = derivation.digest
        rows = self._store.execute("select cast(found as blob) from proven where derivation = ?", (name,))
        known = [standing for (found,) in rows if (standing := _read(name, found or b"")) is not None]
        return max(known, key=_how_good) if known else self._attestations.standing(derivation)

    def of_choice(self, rule: Rule, collection: Collection, choice: Choice) -> Standing:
        """What is proven of an answer that was read in a certain way."""
        names = {part.access.index for part in choice.parts}
        return lowest(self.standing(derivation_of(rule, collection, name)) for name in names)

    def of_collection(self, rule: Rule, collection: Collection) -> dict[str, Standing]:
        """What is proven of each index, by its name; the primary's is empty."""
        return {name: self.standing(found) for name, found in derivations_of(rule, collection).items()}

    def of_manifest(self, manifest: Manifest) -> Standing:
        """What is proven of all trees of a dataset."""
        collections = manifest.collections.values()
        return lowest(one for item in collections for one in self.of_collection(manifest.rule, item).values())


def _how_good(standing: Standing) -> tuple[int, float, float]:
    bound = standing.bound or Bound(1.0, 0.0)
    return standing.level, -bound.bad_fraction, bound.confidence


def _read(name: bytes, data: bytes) -> Standing | None:
    """What a row says; None if it is damaged, or says what this version does not know."""
    with suppress(IntegrityError, ValueError, TypeError):
        if (body := without_check(data, name)) is not None:
            level, said = cbor.decode(body)
            bound = None if said is None else Bound(*said)
            if type(level) is int and AUDITED <= level <= MADE and (level == AUDITED) is (bound is not None):
                return Standing(level, bound)
    return None
