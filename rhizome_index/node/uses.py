"""What of a store is in use: blocks that are read and written, and heads that are being read from.

Promises: noting a use costs no more than adding to a set. While somebody guards what he
uses, every block that he has read, looked for or written since he began is known, so
that nobody frees it though no head leads to it yet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

from rhizome_index.blocks.cid import Cid
from rhizome_index.limits import USES_IN_MEMORY_MAX, USES_NOTED_MAX
from rhizome_index.node.digests import Digests


class Kind(IntEnum):
    """For whose sake a block is here.

    OWN       what is published here
    FOLLOWED  what is followed
    PINNED    a snapshot that is to stay
    ASKED     a query of our own that is being answered
    ANSWERED  an answer that a peer is being given: it can ask others, too
    CACHED    what queries have left here, as long as there is room
    """

    OWN = 0
    FOLLOWED = 1
    PINNED = 2
    ASKED = 3
    ANSWERED = 4
    CACHED = 5


class Uses:
    """The uses of one store, by one process.

    fresh   blocks used since they were last taken: who notes one adds it
    leased  manifests that are being read from, how often, and whether for ourselves (ASKED) or a peer (ANSWERED)
    """

    def __init__(self) -> None:
        self.fresh: set[Cid] = set()
        self.leased: Counter[tuple[Cid, Kind]] = Counter()
        self._unguarded: set[Cid] = set()
        self._older = Digests(USES_IN_MEMORY_MAX)
        self._guards = 0

    @property
    def is_guarded(self) -> bool:
        """Whether somebody guards what he uses."""
        return self._guards > 0

    @contextmanager
    def guarding(self) -> Iterator[None]:
        """Whoever counts on blocks that no head leads to, or not any more, does so within this."""
        if not self._guards:
            self._set_apart()
        self._guards += 1
        try:
            yield
        finally:
            self._guards -= 1
            if not self._guards:
                self._older.clear()

    @contextmanager
    def leasing(self, manifest: Cid, kind: Kind = Kind.ASKED) -> Iterator[None]:
        """Whoever reads on from a head, though there may be a newer one, does so within this."""
        self.leased[manifest, kind] += 1
        try:
            yield
        finally:
            self.leased[manifest, kind] -= 1
            if not self.leased[manifest, kind]:
                del self.leased[manifest, kind]

    def take(self) -> list[Cid]:
        """Blocks used since this was last asked. Raises StoreError."""
        if self._guards:
            self._older.update(self.fresh)
        self._set_apart()
        taken, self._unguarded = list(self._unguarded), set()
        return taken

    def has(self, cid: Cid) -> bool:
        """Whether somebody who guards what he uses has used a block."""
        return cid in self.fresh or cid in self._older

    def _set_apart(self) -> None:
        self._unguarded |= self.fresh
        self.fresh.clear()
        if len(self._unguarded) > USES_NOTED_MAX:  # nobody has asked for long
            self._unguarded.clear()
