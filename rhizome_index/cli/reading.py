"""Where records come from, remembered until it is known that all of them are good.

Most faults of a record show while it is the last one read. What an index refuses
shows only when entries are derived, in the order of keys, long after. So the
line of every record is noted together with a hash of its primary key, 16 bytes
in all: in memory while they are few, then in a temporary file. They are looked at
only if a record is refused.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from tempfile import SpooledTemporaryFile

from rhizome_index.cli.records import RecordReader
from rhizome_index.errors import RecordError, StoreError, UsageError
from rhizome_index.index.record import Record

_NOTE_BYTES = 16
_NOTES_AT_ONCE = 65536


class Reading:
    """A reader's records, iterated once, and where they stand.

    count  how many have been read
    kept   how many of those are left when of each primary key only the last counts; known at the end
    """

    def __init__(self, reader: RecordReader) -> None:
        self.reader = reader
        self.count = 0
        self.kept = 0
        self._lines = array("q")  # of the records read since the last note
        self._notes = SpooledTemporaryFile(max_size=_NOTES_AT_ONCE * _NOTE_BYTES)  # noqa: SIM115
        self._is_at_record = False

    def __enter__(self) -> Reading:
        return self

    def __exit__(self, *_: object) -> None:
        self._notes.close()

    def __iter__(self) -> Iterator[Record]:
        self._is_at_record = True
        try:
            for line, record in self.reader:
                self._lines.append(line)
                self.count += 1
                yield record
        except UsageError:  # what is wrong with the file itself, the reader says with its place
            self._is_at_record = False
            raise
        self._is_at_record = False

    def note(self, keys: Sequence[bytes]) -> None:
        """These are the encoded primary keys of the records read since the last note. Raises StoreError."""
        notes = array("q", bytes(_NOTE_BYTES * len(keys)))
        notes[::2], notes[1::2] = array("q", map(hash, keys)), self._lines
        del self._lines[:]
        try:
            self._notes.write(notes.tobytes())
        except OSError as error:
            raise StoreError(f"cannot write a temporary file: {error.strerror}", hint="free some space") from None

    def note_kept(self, count: int) -> None:
        """So many of the records are left."""
        self.kept = count

    def placed(self, error: UsageError) -> UsageError:
        """An error of a record, with the line it stands on, unless it says so itself."""
        if isinstance(error, RecordError):
            line = self._last_line_of(error.key)
        else:
            line = self._lines[-1] if self._is_at_record and self._lines else None
        return error if line is None else UsageError(f"{self.reader.place(line)}: {error}", hint=error.hint)

    def _last_line_of(self, key: bytes) -> int | None:
        """Of records with one primary key the last is the one that counts."""
        found, wanted = None, hash(key)
        self._notes.seek(0)
        while data := self._notes.read(_NOTES_AT_ONCE * _NOTE_BYTES):
            notes = array("q", data)
            found = dict(zip(notes[::2], notes[1::2], strict=True)).get(wanted, found)
        return found
