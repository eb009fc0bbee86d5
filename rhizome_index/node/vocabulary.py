"""The words of one dataset, for completions: from what is here of it, a little of it at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rhizome_index.blocks.cid import Cid
from rhizome_index.errors import IntegrityError, UnavailableError
from rhizome_index.index.address import Address
from rhizome_index.index.manifest import Manifest
from rhizome_index.index.schema import Collection
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.local import LocalSource
from rhizome_index.query.vocabulary import look, values_of


class LocalVocabulary:
    """A `complete.Vocabulary` over the store: of the head that is answered from, nothing of what is not here."""

    def __init__(self, store: DiskStore, address: Address | None) -> None:
        self._source = LocalSource(store)
        self._address = address
        self._paths: dict[tuple[Cid, str], tuple[str, ...]] = {}

    def _manifest(self) -> tuple[Cid, Manifest] | None:
        head = self._source.store.current_head(self._address) if self._address is not None else None
        if head is None:
            return None
        try:
            return head.manifest, self._source.manifest(head.manifest)
        except (UnavailableError, IntegrityError):
            return None

    def _collection(self, name: str) -> tuple[Cid, Collection] | None:
        found = self._manifest()
        collection = found[1].collections.get(name) if found is not None else None
        return None if found is None or collection is None else (found[0], collection)

    def collections(self) -> Sequence[str]:
        found = self._manifest()
        return sorted(found[1].collections) if found is not None else ()

    def indexes(self, collection: str) -> Sequence[str]:
        """The names of a collection's indexes."""
        found = self._collection(collection)
        return sorted(found[1].indexes) if found is not None else ()

    def paths(self, collection: str) -> Sequence[str]:
        """Those that were declared, and those that some records have."""
        found = self._collection(collection)
        if found is None:
            return ()
        manifest, known = found
        if (manifest, collection) not in self._paths:
            paths = known.declared_paths()
            try:
                paths += self._source.run(look(known)).paths
            except (UnavailableError, IntegrityError):
                return sorted(set(paths))
            self._paths = {(manifest, collection): tuple(sorted(set(paths)))}
        return self._paths[manifest, collection]

    def values(self, collection: str, path: str, prefix: str | None) -> Sequence[Any]:
        found = self._collection(collection)
        try:
            return self._source.run(values_of(found[1], path, prefix)) if found is not None else ()
        except (UnavailableError, IntegrityError):
            return ()
