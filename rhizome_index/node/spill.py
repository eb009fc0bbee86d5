"""A sorter that keeps a bounded part in memory and the rest in a temporary file.

Sorted runs are written as they fill and merged when read. Equal keys come out in
the order they went in.
"""

from __future__ import annotations

import marshal
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from heapq import merge
from itertools import chain, islice
from operator import itemgetter
from pathlib import Path
from typing import BinaryIO

from rhizome_index.errors import StoreError

_PAIR_BYTES = 180  # what Python adds to a pair of short byte strings
_BLOCK_PAIRS = 2048
_by_key = itemgetter(0)

Pair = tuple[bytes, bytes]


class SpillingSorter:
    """Sorts pairs by key. `folder` is where the temporary file goes; it is gone when the sorter is."""

    def __init__(self, folder: Path, bytes_max: int) -> None:
        self._folder = folder
        self._bytes_max = bytes_max
        self._pairs: list[Pair] = []
        self._bytes = 0
        self._counted = 0
        self._files = ExitStack()
        self._file: BinaryIO | None = None
        self._runs: list[tuple[int, int]] = []

    @property
    def spills(self) -> int:
        """How many runs have been written to disk."""
        return len(self._runs)

    def add_many(self, pairs: Iterable[Pair]) -> None:
        self._pairs.extend(pairs)
        if len(self._pairs) - self._counted >= _BLOCK_PAIRS:
            fresh = self._pairs[self._counted :]
            self._bytes += sum(map(len, chain.from_iterable(fresh))) + _PAIR_BYTES * len(fresh)
            self._counted = len(self._pairs)
            if self._bytes > self._bytes_max:
                self._spill()

    def sorted(self) -> Iterator[Pair]:
        """All pairs in order. Call once."""
        self._pairs.sort(key=_by_key)
        if not self._runs:
            pairs, self._pairs = self._pairs, []
            return iter(pairs)
        return self._merged()

    def _merged(self) -> Iterator[Pair]:
        with self._files:
            yield from merge(*(self._read(start, end) for start, end in self._runs), self._pairs, key=_by_key)

    def _spill(self) -> None:
        self._pairs.sort(key=_by_key)
        try:
            if self._file is None:
                self._file = self._files.enter_context(tempfile.TemporaryFile(dir=self._folder))  # noqa: SIM115
            start = self._file.seek(0, 2)
            pairs = iter(self._pairs)
            while block := list(islice(pairs, _BLOCK_PAIRS)):
                marshal.dump(block, self._file)
            self._file.flush()  # here, where a full disk is expected
            self._runs.append((start, self._file.tell()))
        except OSError as error:
            with suppress(OSError):  # closing tries to write once more
                self._files.close()
            raise StoreError(f"cannot sort in {self._folder}: {error.strerror}", hint="free some space there") from None
        self._pairs = []
        self._bytes = self._counted = 0

    def _read(self, start: int, end: int) -> Iterator[Pair]:
        assert self._file is not None
        while start < end:
            self._file.seek(start)
            block = marshal.load(self._file)
            start = self._file.tell()
            yield from block
