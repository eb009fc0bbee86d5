"""A record that is refused is named by the place where it stands, however late that shows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhizome_index.cli import reading as reading_module
from rhizome_index.cli.reading import Reading
from rhizome_index.cli.records import RecordReader
from rhizome_index.errors import RecordError, StoreError, UsageError
from tests.cli.terminal import Terminal


@contextmanager
def reading_of(text: bytes, name: str = "x.jsonl") -> Iterator[Reading]:
    with Reading(RecordReader(BytesIO(text), name, None)) as reading:
        yield reading


def note_all(reading: Reading, batch: int) -> None:
    records = iter(reading)
    while keys := [record["id"].encode() for record in islice(records, batch)]:
        reading.note(keys)


def refused(reading: Reading, key: bytes) -> str:
    return str(reading.placed(RecordError("refused", key, hint="do")))


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2)), min_size=1, max_size=60),
    st.integers(1, 7),
    st.integers(1, 4),
)
def test_the_last_record_of_a_key_is_the_one(records: list[tuple[int, int]], batch: int, notes: int) -> None:
    """Whatever the batches, the blank lines, and how many notes are read at once or kept in memory."""
    lines: list[bytes] = []
    places: dict[bytes, int] = {}
    for key, blanks in records:
        lines += [b""] * blanks
        lines.append(b'{"id": "%d"}' % key)
        places[b"%d" % key] = len(lines)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading_module, "_NOTES_AT_ONCE", notes)
        with reading_of(b"\n".join(lines)) as reading:
            note_all(reading, batch)
            assert reading.count == len(records)
            for key_bytes, line in places.items():
                assert refused(reading, key_bytes) == f"x.jsonl:{line}: refused"
            assert refused(reading, b"another") == "refused"


def test_an_element_of_an_array_is_named_as_such() -> None:
    with reading_of(b'[{"id": "a"}, {"id": "b"}]', "x.json") as reading:
        note_all(reading, 10)
        assert refused(reading, b"b") == "x.json: element 2: refused"


def test_the_record_at_hand() -> None:
    """Even of a file whose name could be the beginning of the message."""
    with reading_of(b'\n{"id": "a"}\n{"id": "b"}\n', "n") as reading:
        records = iter(reading)
        assert str(reading.placed(UsageError("no records yet"))) == "no records yet"
        next(records), next(records)
        error = reading.placed(UsageError("no primary key", hint="do"))
        assert (str(error), error.hint) == ("n:3: no primary key", "do")
        reading.note([b"a", b"b"])
        assert list(records) == []
        assert str(reading.placed(UsageError("too many collections"))) == "too many collections"


def test_what_is_wrong_with_the_file_is_said_once() -> None:
    with reading_of(b'{"id": "a"}\n{"id": \n', "n") as reading:
        with pytest.raises(UsageError) as caught:
            list(reading)
        assert str(reading.placed(caught.value)).count("n:2: ") == 1


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with reading_of(b'{"id": "a"}\n') as reading:
        monkeypatch.setattr(reading._notes, "write", fail)
        with pytest.raises(StoreError, match="No space left"):
            note_all(reading, 1)


BAD = {"id": "b", "tags": ["x", "y"], "n": [1]}
COLUMNS = ("--index", "i=tags,n")


def test_however_the_records_come(rhizome: Terminal, tmp_path: Path) -> None:
    good = [{"id": name} for name in "acdefgh"]
    records = [*good[:3], {"id": "b"}, *good[3:], BAD, good[0]]
    text = "\n".join(map(json.dumps, records))
    says = "two lists in one record"
    rhizome.fails("import", "new", "-", *COLUMNS, stdin=text.encode(), says=f"standard input:9: {says}")
    file = tmp_path / "x.json"
    file.write_text(json.dumps(records))
    rhizome.fails("import", "new", str(file), *COLUMNS, says=f"{file}: element 9: {says}")
    rhizome("import", "old", "-", *COLUMNS, stdin=b'{"id": "b"}')
    rhizome.fails("import", "old", str(file), says=f"{file}: element 9: {says}")
    assert [dataset["sequence"] for dataset in rhizome.state()] == [1]


def test_a_csv_row_is_named_by_the_line_it_starts_on(rhizome: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text('id,n\na,"two\nlines"\n\n' + f"b,{'x' * 2000}\nc,1\n")
    rhizome.fails("import", "new", str(file), "--index", "by_n=n", says=f"{file}:5: a value too long for the index")


def test_a_record_that_a_new_index_refuses(rhizome: Terminal) -> None:
    rhizome("import", "new", "-", stdin=json.dumps(BAD).encode())
    rhizome.fails("index", "add", "new", "i=tags,n", says='the record "b": two lists in one record')
    assert rhizome.state()[0]["collections"]["new"]["indexes"] == {}
