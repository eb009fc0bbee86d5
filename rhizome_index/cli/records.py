"""A user's file of records, read as a stream: JSON lines, a JSON array, or CSV with a header.

Promises: whatever the size of the file, memory holds a chunk of it and a few copies of one
record, whose text has RECORD_TEXT_BYTES_MAX at the most (and as Python objects, tiny lists at the
worst, some 25 times that). Every record is what the text says, exactly, or a UsageError
names the file and the line. The records before the faulty one are handed out first.

Rules:
- The format follows from the suffix: .jsonl and .ndjson, .csv, .json; `.gz` after any of
  them. A .json file, and one with another suffix, is told by its first character: `[` is an
  array, `{` opens JSON lines, and anything else is CSV (in a .json file: an error). A caller
  who knows better says so: one of FORMATS.
- gzip is recognised by its first two bytes, so standard input (`-`) may be compressed too.
- Blank lines are skipped, a byte order mark of UTF-8 is ignored.
- In CSV a value becomes what it looks like: nothing is null; `true` and `false` are
  booleans; `0` and digits without a leading zero, perhaps after a minus, are an integer if
  they fit 64 bits; with a decimal point or a signed exponent (1.5, 1e+16, but not 12e4,
  which may well be an id) a finite float. All else is text: 007, +49, -0, True, .5. Quotes
  make no difference. A value has at most 131,072 characters, the csv module's own bound,
  which could be raised for the whole process only.

Does not know: how JSON is parsed (`json_text` says, and why so), what a record may hold
(`index.record` says), collections, keys.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import os
import re
import stat
import sys
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, cast

from rhizome_index.cli.json_text import TOO_LONG, Flaw, Window, parse_exactly, parse_quickly
from rhizome_index.errors import UsageError
from rhizome_index.index.record import Record
from rhizome_index.limits import RECORD_TEXT_BYTES_MAX

FORMATS = ("lines", "array", "csv")  # JSON lines, one JSON array, CSV with a header

_CHUNK_BYTES = 256 * 1024
_BOM = b"\xef\xbb\xbf"
_GZIP_MAGIC = b"\x1f\x8b"
_SUFFIXES = {".jsonl": "lines", ".ndjson": "lines", ".csv": "csv"}
_CSV_INT = re.compile(r"0|-?[1-9][0-9]{0,18}")
_CSV_FLOAT = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+(?:[eE][+-]?[0-9]+)?|[eE][+-][0-9]+)")
_INT64 = range(-(2**63), 2**63)


def read_records(source: BinaryIO, name: str, *, format: str | None = None) -> Iterator[tuple[int, Record]]:
    """The records of a buffered stream, as RecordReader gives them, for those who need no progress.

    Raises UsageError, at the first record, for a `format` that is none of FORMATS.
    """
    # BinaryIO knows no read1, which every buffered stream has.
    yield from RecordReader(cast(io.BufferedIOBase, source), name, None, format=format)


@contextmanager
def open_records(path: str) -> Iterator[RecordReader]:
    """A reader of the records at `path`; `-` is standard input. Raises UsageError if it cannot be opened."""
    with ExitStack() as stack:
        if path == "-":
            stream = getattr(sys.stdin, "buffer", None)
            if stream is None:
                raise UsageError("there is no standard input to read from")
            yield RecordReader(stream, "standard input", None)
            return
        try:
            file = stack.enter_context(Path(path).open("rb"))
            status = os.fstat(file.fileno())
        except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
            raise UsageError(f"cannot read {path}: {_reason(error)}") from None
        yield RecordReader(file, path, status.st_size if stat.S_ISREG(status.st_mode) else None)


class RecordReader:
    """Iterates once over (number, record): the line the record starts on, or its place in an array, from 1.

    `name` is the file's name in messages. `bytes_read` of `bytes_total` are done, as they
    lie on disk, so compressed if the file is; the total is None where it cannot be known.
    `format` is one of FORMATS, or None to tell it by the module's rules.
    """

    def __init__(
        self, file: io.BufferedIOBase, name: str, bytes_total: int | None, *, format: str | None = None
    ) -> None:
        if format not in (None, *FORMATS):
            raise UsageError(f"there is no format {format!r}", hint=f"one of {', '.join(FORMATS)}")
        self._format = format
        self.name = name
        self.bytes_total = bytes_total
        self._meter = _Meter(file)
        self._stream: io.BufferedIOBase | _Meter = self._meter
        self._head = b""
        self._number = 0  # of lines or elements handed out
        self._unit = "line"
        self._row_start = 1

    @property
    def bytes_read(self) -> int:
        return self._meter.bytes_read

    def __iter__(self) -> Iterator[tuple[int, Record]]:
        kind = self._open()
        if kind == "array":
            return self._read_array()
        return self._read_csv() if kind == "csv" else self._read_lines()

    def _open(self) -> str:
        """Look at the first bytes: undo compression, drop the mark, and tell the format."""
        try:
            magic = self._meter.peek()
        except OSError as error:
            self._fail(f"cannot be read: {_reason(error)}")
        suffix = Path(self.name).suffix.lower()
        if suffix == ".gz":
            suffix = Path(self.name[:-3]).suffix.lower()
            if magic and magic != _GZIP_MAGIC:
                self._fail("not a gzip file")
        if magic == _GZIP_MAGIC:
            self._stream = gzip.GzipFile(fileobj=cast(Any, self._meter), mode="rb")
        head = b""
        # As far as the first character that is no blank, within bounds.
        while len(head) < _CHUNK_BYTES and (len(head) < len(_BOM) or not head.removeprefix(_BOM).lstrip()):
            chunk = self._chunk()
            if not chunk:
                break
            head += chunk
        self._head = head.removeprefix(_BOM)
        if self._format:
            return self._format
        if suffix in _SUFFIXES:
            return _SUFFIXES[suffix]
        first = self._head.lstrip()[:1]
        if first == b"[":
            return "array"
        return "lines" if first == b"{" or suffix == ".json" else "csv"

    def _chunk(self) -> bytes:
        """The next bytes, never more than twice _CHUNK_BYTES; none at the end."""
        if self._head:
            head, self._head = self._head, b""
            return head
        try:
            # read1 hands out what came before a fault, so the fault is reported where it is.
            return self._stream.read1(_CHUNK_BYTES)
        except EOFError:
            self._fail(f"the gzip data is cut off after {self._unit} {self._number}")
        except (gzip.BadGzipFile, zlib.error):
            self._fail(f"the gzip data is damaged after {self._unit} {self._number}")
        except OSError as error:
            self._fail(f"cannot be read after {self._unit} {self._number}: {_reason(error)}")

    def place(self, number: int) -> str:
        """Where a record stands, given its number, as errors say it."""
        return f"{self.name}: element {number}" if self._unit == "element" else f"{self.name}:{number}"

    def _fail(self, reason: str, hint: str = "") -> NoReturn:
        raise UsageError(f"{self.name}: {reason}", hint=hint) from None

    def _fail_at(self, line: int, reason: str, hint: str = "") -> NoReturn:
        raise UsageError(f"{self.name}:{line}: {reason}", hint=hint) from None

    def _line_batches(self) -> Iterator[list[bytes]]:
        """The lines without their newlines, a chunk's worth at a time; none is longer than RECORD_TEXT_BYTES_MAX."""
        tail = b""
        while chunk := self._chunk():
            lines = (tail + chunk).split(b"\n")
            tail = lines.pop()
            # Only the first line and the tail can reach back beyond this chunk.
            if lines and len(lines[0]) > RECORD_TEXT_BYTES_MAX:
                self._fail_at(self._number + 1, TOO_LONG)
            yield lines
            self._number += len(lines)
            if len(tail) > RECORD_TEXT_BYTES_MAX:
                self._fail_at(self._number + 1, TOO_LONG)
        if tail:
            yield [tail]

    def _read_lines(self) -> Iterator[tuple[int, Record]]:
        for lines in self._line_batches():
            for number, line in enumerate(lines, self._number + 1):
                record = parse_quickly(line)
                if record is None:
                    if not line.strip():
                        continue
                    try:
                        record = parse_exactly(line)
                    except Flaw as flaw:
                        self._fail_at(number, str(flaw), flaw.hint)
                yield number, record

    def _read_array(self) -> Iterator[tuple[int, Record]]:
        self._unit = "element"
        window = Window(self._chunk)
        opening = window.next_byte()
        if not opening:  # an empty file
            return
        if opening != b"[":  # the caller said it was one, or a form feed looked like a blank
            self._fail("not a JSON array: it does not start with [")
        window.skip(1)
        closing = window.next_byte() == b"]"
        while not closing:
            number = self._number + 1
            try:
                record = window.read_object()
            except Flaw as flaw:
                self._fail(f"element {number}: {flaw}", flaw.hint)
            yield number, record
            self._number = number
            separator = window.next_byte()
            closing = separator == b"]"
            if not separator:
                self._fail(f"the array is not closed after element {number}")
            if separator not in b",]":
                self._fail(f"not valid JSON: a comma or the end of the array is missing after element {number}")
            if not closing:
                window.skip(1)
        window.skip(1)
        if window.next_byte():
            self._fail("not valid JSON: something follows the end of the array")

    def _read_csv(self) -> Iterator[tuple[int, Record]]:
        # The reader counts the lines it takes, so a row starts on the line after the one before it.
        rows = csv.reader(self._csv_lines(), strict=True)
        header: list[str] = []
        number = 1
        try:
            for row in rows:
                if not row:  # a blank line
                    pass
                elif not header:
                    self._check_header(number, row)
                    header = row
                elif len(row) != len(header):
                    self._fail_at(number, f"{_counted(len(row), 'value')} for {_counted(len(header), 'column')}")
                else:
                    yield number, dict(zip(header, map(typed_value, row), strict=True))
                number = self._row_start = rows.line_num + 1
        except csv.Error as error:
            self._fail_at(number, f"not valid CSV: {error}", "JSON lines take anything that CSV does not")

    def _csv_lines(self) -> Iterator[str]:
        row_start, row_bytes = self._row_start, 0
        for lines in self._line_batches():
            for number, line in enumerate(lines, self._number + 1):
                # A quote never closed would make the rest of the file one row.
                if row_start != self._row_start:
                    row_start, row_bytes = self._row_start, 0
                row_bytes += len(line) + 1
                if row_bytes > RECORD_TEXT_BYTES_MAX:
                    self._fail_at(row_start, f"a row {TOO_LONG}", "a quote may be missing")
                try:
                    yield line.decode() + "\n"
                except UnicodeDecodeError as error:
                    self._fail_at(number, f"not UTF-8 text (byte {error.start + 1})")

    def _check_header(self, line: int, header: list[str]) -> None:
        for place, name in enumerate(header):
            if not name:
                self._fail_at(line, f"column {place + 1} has no name", "the first line must name every column")
            if name in header[:place]:
                self._fail_at(line, f"two columns are named {name!r}")


def typed_value(text: str) -> str | int | float | bool | None:
    """What a value of a CSV file stands for; the module's rules say which."""
    if not text:
        return None
    if text[0] in "-0123456789":
        if _CSV_INT.fullmatch(text):
            number = int(text)
            return number if number in _INT64 else text
        if _CSV_FLOAT.fullmatch(text) and math.isfinite(quantity := float(text)):
            return quantity
        return text
    if text == "true":
        return True
    return False if text == "false" else text


class _Meter:
    """Counts the bytes that pass, before decompression. A file as far as GzipFile needs one."""

    def __init__(self, file: io.BufferedIOBase) -> None:
        self._file = file
        self._held = b""
        self.bytes_read = 0

    def peek(self) -> bytes:
        """The first two bytes, which stay to be read. Unlike BufferedReader.peek it waits for both."""
        self._held = self._file.read(2)
        return self._held

    def read(self, size: int) -> bytes:
        held, self._held = self._held[:size], self._held[size:]
        data = held + self._file.read(size - len(held))
        self.bytes_read += len(data)
        return data

    def read1(self, size: int) -> bytes:
        data, self._held = (self._held, b"") if self._held else (self._file.read1(size), b"")
        self.bytes_read += len(data)
        return data


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _reason(error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error)
    return reason[:1].lower() + reason[1:]
