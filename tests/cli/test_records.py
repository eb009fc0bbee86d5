"""Files of records: what was written comes back, and what is wrong is said with its place."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rhizome_index.cli.records import FORMATS, RecordReader, open_records, read_records, typed_value
from rhizome_index.errors import UsageError
from rhizome_index.limits import RECORD_TEXT_BYTES_MAX

Rows = list[tuple[int, dict[str, object]]]

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8"), max_size=8),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=5,
)
names = st.text(st.characters(codec="utf-8"), max_size=4)
records_of_json = st.lists(st.dictionaries(names, values, max_size=4), max_size=6)
piece_sizes = st.sampled_from([1, 2, 7, 10**6])


class Stream(io.RawIOBase):
    """A pipe: hands out what `make` makes, at most `piece` bytes at a time."""

    def __init__(self, pieces: Iterator[bytes], piece: int = 10**6) -> None:
        self._pieces, self._piece, self._held = pieces, piece, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._held = self._held or next(self._pieces, b"")
        size = min(len(buffer), self._piece, len(self._held))
        buffer[:size], self._held = self._held[:size], self._held[size:]
        return size


def read(data: bytes, name: str = "posts", piece: int = 10**6) -> Rows:
    return list(RecordReader(io.BufferedReader(Stream(iter([data]), piece)), name, None))


def problem(data: bytes, name: str, piece: int = 10**6) -> str:
    with pytest.raises(UsageError) as caught:
        read(data, name, piece)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Round trips


@settings(max_examples=20)
@given(records=records_of_json, piece=piece_sizes, newline=st.sampled_from(["\n", "\r\n"]), packed=st.booleans())
def test_json_lines_come_back(records: list[dict[str, object]], piece: int, newline: str, packed: bool) -> None:
    data = "".join(json.dumps(record, ensure_ascii=False) + newline for record in records).encode()
    data = gzip.compress(data, 1) if packed else data
    assert repr(read(data, "posts.jsonl", piece)) == repr(list(enumerate(records, 1)))


@settings(max_examples=15)
@given(records=records_of_json, piece=piece_sizes, indent=st.sampled_from([None, 2]), ascii_only=st.booleans())
def test_arrays_come_back(records: list[dict[str, object]], piece: int, indent: int | None, ascii_only: bool) -> None:
    data = json.dumps(records, ensure_ascii=ascii_only, indent=indent).encode()
    assert repr(read(data, "posts.json", piece)) == repr(list(enumerate(records, 1)))


csv_values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8"), max_size=8).filter(lambda text: typed_value(text) is text),
)


def as_csv(value: object) -> object:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else value


@settings(max_examples=30)
@given(data=st.data(), columns=st.lists(names.filter(bool), min_size=1, max_size=4, unique=True), piece=piece_sizes)
def test_csv_comes_back(data: st.DataObject, columns: list[str], piece: int) -> None:
    rows = data.draw(st.lists(st.tuples(*[csv_values] * len(columns)), max_size=5))
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows([as_csv(value) for value in row] for row in rows)
    found = read(text.getvalue().encode(), "posts.csv", piece)
    assert repr([record for _, record in found]) == repr([dict(zip(columns, row, strict=True)) for row in rows])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        *[("true", True), ("false", False), ("True", "True"), ("TRUE", "TRUE"), ("null", "null"), ("NaN", "NaN")],
        *[("0", 0), ("-1", -1), ("17", 17), ("007", "007"), ("+49", "+49"), ("-0", "-0"), ("-", "-"), (" 1", " 1")],
        *[("1_000", "1_000"), ("٣", "٣"), ("1,5", "1,5"), ("0x1f", "0x1f"), ("1 ", "1 ")],
        *[("9223372036854775807", 2**63 - 1), ("9223372036854775808", "9223372036854775808")],
        *[("-9223372036854775808", -(2**63)), ("-9223372036854775809", "-9223372036854775809")],
        *[("1.5", 1.5), ("-0.0", -0.0), ("1e+16", 1e16), ("1.5e3", 1500.0), ("2E-7", 2e-7)],
        *[("12e4", "12e4"), (".5", ".5"), ("1.", "1."), ("01.5", "01.5"), ("1e+400", "1e+400"), ("1.2.3", "1.2.3")],
    ],
)
def test_a_csv_value_becomes_what_it_looks_like(text: str, value: object) -> None:
    assert repr(typed_value(text)) == repr(value)


# Formats and places


@pytest.mark.parametrize(
    ("name", "data", "rows"),
    [
        ("x.jsonl", b'{"a":1}\n\n  \r\n{"a":2}', [(1, {"a": 1}), (4, {"a": 2})]),
        ("x.NDJSON", b'{"a":1}\n', [(1, {"a": 1})]),
        ("x.json", b'\n {"a":1}\n{"a":2}\n', [(2, {"a": 1}), (3, {"a": 2})]),
        ("x.json", b' \n[ {"a":1} ,\n{"a":{"b":"]}"}} ] \n', [(1, {"a": 1}), (2, {"a": {"b": "]}"}})]),
        ("x.json", b"[]", []),
        ("x", b'{"a":1}', [(1, {"a": 1})]),
        ("x.txt", b'[{"a":1}]', [(1, {"a": 1})]),
        ("x.txt", b"a,b\n1,\n", [(2, {"a": 1, "b": None})]),
        ("x.csv", b'"[a",b\r\n\r\n"x\ny",2\r\nz,3', [(3, {"[a": "x\ny", "b": 2}), (5, {"[a": "z", "b": 3})]),
        ("x.csv", b'a\n""\n', [(2, {"a": None})]),
        ("x.csv", b"a,b\n", []),
        ("x.jsonl", b'\xef\xbb\xbf{"a":1}', [(1, {"a": 1})]),
        ("x", b'\xef\xbb\xbf \n[{"a":1}]', [(1, {"a": 1})]),
        ("x.csv", b"\xef\xbb\xbfa\n1", [(2, {"a": 1})]),
        ("x.jsonl", b'{"n":123456789012345678901234567890}', [(1, {"n": 123456789012345678901234567890})]),
    ],
)
@pytest.mark.parametrize("piece", [1, 10**6])
@pytest.mark.parametrize("packed", [False, True])
def test_formats_and_line_numbers(name: str, data: bytes, rows: Rows, piece: int, packed: bool) -> None:
    if packed:
        data, name = gzip.compress(data, mtime=0), f"{name}.gz"
    assert repr(read(data, name, piece)) == repr(rows)


@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.csv", "x", "x.jsonl.gz"])
@pytest.mark.parametrize("data", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_an_empty_file_holds_nothing(name: str, data: bytes) -> None:
    assert read(gzip.compress(data) if data and name.endswith(".gz") else data, name) == []


@pytest.mark.parametrize(
    ("format", "data"), [("lines", b' {"a":1}'), ("array", b' [{"a":1}]'), ("csv", b"a\n1"), (None, b"a\n1")]
)
@pytest.mark.parametrize("packed", [False, True])
def test_the_callers_format_comes_before_suffix_and_content(format: str | None, data: bytes, packed: bool) -> None:
    for name in ["x.csv"] if format is None else ["x", "x.csv", "x.json", "x.jsonl"]:
        source = io.BytesIO(gzip.compress(data) if packed else data)
        assert [record for _, record in read_records(source, name, format=format)] == [{"a": 1}]
        assert not source.closed


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("data", [b"", b"\r\n" * 140_000, b"\xef\xbb\xbf\n"])
def test_an_empty_stream_holds_nothing_in_any_format(format: str, data: bytes) -> None:
    assert list(read_records(io.BytesIO(data), "x", format=format)) == []


def test_a_format_that_is_not_there() -> None:
    with pytest.raises(UsageError, match=r"^there is no format 'xml'$") as caught:
        list(read_records(io.BytesIO(b""), "x", format="xml"))
    assert caught.value.hint == "one of lines, array, csv"


@pytest.mark.parametrize("data", [b'{"a":1}', b"a\n1", b"1"])
def test_what_is_said_to_be_an_array_and_is_none(data: bytes) -> None:
    with pytest.raises(UsageError, match=r"^x: not a JSON array: it does not start with \[$"):
        list(read_records(io.BytesIO(data), "x", format="array"))


# Faults


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("p.jsonl", b'{"a":1}\n{"a":1,}\n', "p.jsonl:2: not valid JSON: expecting property name enclosed"),
        ("p.jsonl", b'\n{"a" 1}\n', "p.jsonl:2: not valid JSON: expecting ':' delimiter (column 6)"),
        ("p.jsonl", b'{}\n[{"a":1}]\n', "p.jsonl:2: a record must be an object, not a list"),
        ("p.jsonl", b'{}\n{"a":1,"b":0,"a":1}\n', 'p.jsonl:2: the name "a" is given twice'),
        ("p.jsonl", b'{}\n{"a":NaN}\n', "p.jsonl:2: not valid JSON: NaN is no JSON number"),
        ("p.jsonl", b'{}\n{"a":Infinity}\n', "p.jsonl:2: not valid JSON: Infinity is no JSON number"),
        ("p.jsonl", b'{}\n{"a":"\xe9"}\n', "p.jsonl:2: not UTF-8 text (byte 7)"),
        ("p.jsonl", b"\xff\xfe{\x00}\x00", "p.jsonl:1: not UTF-8 text (byte 1)"),
        ("p.json", b"hello", "p.json:1: not valid JSON: expecting value (column 1)"),
        ("p.json", b'[{},\n {"a":1,}]', "p.json: element 2: not valid JSON: expecting property name"),
        (
            "p.json",
            b'[{}, {"a":1,\n"b" 2}]',
            "p.json: element 2: not valid JSON: expecting ':' delimiter (line 2 of it",
        ),
        ("p.json", b"[{}, 17]", "p.json: element 2: a record must be an object, not a number"),
        ("p.json", b'[{}, "x"]', "p.json: element 2: a record must be an object, not text"),
        ("p.json", b"[[]]", "p.json: element 1: a record must be an object, not a list"),
        ("p.json", b"[null]", "p.json: element 1: a record must be an object, not null"),
        ("p.json", b"[{}, true]", "p.json: element 2: a record must be an object, not a boolean"),
        ("p.json", b"[{}, NaN]", "p.json: element 2: not valid JSON: expecting value (column 1)"),
        ("p.json", b'[{"a":NaN}]', "p.json: element 1: not valid JSON: NaN is no JSON number"),
        ("p.json", b'[{}, {"a":1,"a":1}]', 'p.json: element 2: the name "a" is given twice'),
        ("p.json", b'[{}, {"a":"\xff"}]', "p.json: element 2: not UTF-8 text (byte 7)"),
        ("p.json", b'[{"a":[}]}]', "p.json: element 1: not valid JSON: expecting value"),
        ("p.json", b"[{},]", "p.json: element 2: not valid JSON: a comma stands before the end of the array"),
        ("p.json", b"[{} {}]", "p.json: not valid JSON: a comma or the end of the array is missing after element 1"),
        ("p.json", b"[{}, {}", "p.json: the array is not closed after element 2"),
        ("p.json", b"[{},", "p.json: element 2: the file ends before it"),
        ("p.json", b"[", "p.json: element 1: the file ends before it"),
        ("p.json", b'[{}, {"a":"b', "p.json: element 2: the file ends in the middle of it"),
        ("p.json", b'[{}, {"a":1', "p.json: element 2: the file ends in the middle of it"),
        ("p.json", b'[{"a":"b},\n{"a":"c"}]', "p.json: element 1: not valid JSON: "),
        ("p.json", b"\x0c[{}]", "p.json: not a JSON array: it does not start with ["),
        ("p.json", b"[{}] {}", "p.json: not valid JSON: something follows the end of the array"),
        ("p.csv", b"a,b\n1,2\n3\n", "p.csv:3: 1 value for 2 columns"),
        ("p.csv", b"a\n1,2\n", "p.csv:2: 2 values for 1 column"),
        ("p.csv", b"a,b,a\n", "p.csv:1: two columns are named 'a'"),
        ("p.csv", b"\na,,b\n", "p.csv:2: column 2 has no name"),
        ("p.csv", b'a,b\n"x\ny",2\n"z"z,3\n', "p.csv:4: not valid CSV: ',' expected after '\"'"),
        ("p.csv", b'a\n1\n"x\ny\n', "p.csv:3: not valid CSV: unexpected end of data"),
        ("p.csv", b"a\n1\nx\rz\n", "p.csv:3: not valid CSV: new-line character seen in unquoted field"),
        ("p.csv", b"a\n1\n\xe9\n", "p.csv:3: not UTF-8 text (byte 1)"),
        ("p.csv", b"a\n1\n" + b"x" * 200_000, "p.csv:3: not valid CSV: field larger than field limit"),
        ("p.jsonl.gz", b'{"a":1}\n', "p.jsonl.gz: not a gzip file"),
    ],
)
@pytest.mark.parametrize("piece", [1, 10**6])
def test_a_fault_is_named_with_its_place(name: str, data: bytes, message: str, piece: int) -> None:
    assert problem(data, name, max(piece, len(data) // 100)).startswith(message)


def test_records_before_a_fault_are_handed_out() -> None:
    reader = iter(RecordReader(io.BytesIO(b'{"a":1}\n{"a":2}\n{'), "p.jsonl", None))
    assert [next(reader), next(reader)] == [(1, {"a": 1}), (2, {"a": 2})]
    with pytest.raises(UsageError):
        next(reader)


LINES = b"".join(b'{"n":%d,"x":"%d"}\n' % (number, number**9) for number in range(2_000))


def test_a_truncated_gzip_hands_out_what_came_and_then_fails() -> None:
    packed = gzip.compress(LINES)
    reader = RecordReader(io.BytesIO(packed[: len(packed) // 2]), "p.jsonl.gz", None)
    found: Rows = []
    with pytest.raises(UsageError, match=r"^p\.jsonl\.gz: the gzip data is cut off after line \d+$") as caught:
        found.extend(reader)
    assert found
    assert str(caught.value).endswith(f" {len(found)}")


def test_a_gzip_cut_off_in_its_first_bytes_is_an_error() -> None:
    assert problem(gzip.compress(b"{}")[:5], "p.jsonl.gz") == "p.jsonl.gz: the gzip data is cut off after line 0"


@pytest.mark.parametrize("damage", ["checksum", "body", "tail"])
def test_a_damaged_gzip_is_an_error(damage: str) -> None:
    packed = bytearray(gzip.compress(LINES))
    if damage == "tail":
        packed += b"garbage"
    else:
        packed[-6 if damage == "checksum" else 12] ^= 0xFF
    assert problem(bytes(packed), "p.jsonl.gz").startswith("p.jsonl.gz: the gzip data is damaged after line ")


def test_several_gzip_members_are_one_file() -> None:
    assert len(read(gzip.compress(b'{"a":1}\n') + gzip.compress(b'{"a":2}\n'), "p.jsonl.gz")) == 2


# Opening


def test_a_missing_file_a_directory_and_an_impossible_path(tmp_path: Path) -> None:
    for path, reason in [
        (str(tmp_path / "none.jsonl"), "no such file or directory"),
        (str(tmp_path), "is a directory"),
        ("a\x00b", "embedded null byte"),
    ]:
        with pytest.raises(UsageError) as caught, open_records(path):
            pass
        assert str(caught.value) == f"cannot read {path}: {reason}"


def test_no_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    # The tests may run as root, who may read everything.
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UsageError, match=r"^cannot read p\.csv: permission denied$"), open_records("p.csv"):
        pass


def test_errors_of_the_caller_pass_unchanged(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").touch()
    with pytest.raises(BrokenPipeError), open_records(str(tmp_path / "p.jsonl")):
        raise BrokenPipeError


def test_a_failing_disk_is_an_error() -> None:
    def pieces() -> Iterator[bytes]:
        yield b'{"a":1}\n{"a'
        raise OSError(5, "Input/output error")

    reader = RecordReader(io.BufferedReader(Stream(pieces())), "p.jsonl", None)
    with pytest.raises(UsageError, match=r"^p\.jsonl: cannot be read after line 1: input/output error$"):
        list(reader)


@pytest.mark.parametrize("data", [b'{"a":1}', b'[{"a":1}]', b"a\n1", gzip.compress(b'{"a":1}')])
def test_standard_input(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.BytesIO(data)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=stream))
    with open_records("-") as reader:
        assert [record for _, record in reader] == [{"a": 1}]
        assert reader.name == "standard input"
        assert reader.bytes_total is None
        assert reader.bytes_read == len(data)
    assert not stream.closed


def test_a_closed_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UsageError, match="no standard input"), open_records("-"):
        pass


@pytest.mark.parametrize("packed", [False, True])
def test_progress_runs_from_nothing_to_the_size_of_the_file(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / ("p.jsonl.gz" if packed else "p.jsonl")
    path.write_bytes(gzip.compress(LINES) if packed else LINES)
    with open_records(str(path)) as reader:
        assert reader.name == str(path)
        assert reader.bytes_read == 0
        seen = [reader.bytes_read for _ in reader]
        assert seen == sorted(seen)
        assert reader.bytes_read == reader.bytes_total == path.stat().st_size


# Bounds


@pytest.mark.parametrize("extra", [0, 1])
def test_a_line_of_the_greatest_length_passes_and_one_byte_more_does_not(extra: int) -> None:
    line = b'{"a":"%b"}' % (b"x" * (RECORD_TEXT_BYTES_MAX - len(b'{"a":""}') + extra))
    for data in (b"{}\n%b\n{}\n" % line, b"{}\n%b" % line):
        if extra:
            assert problem(data, "p.jsonl") == "p.jsonl:2: longer than 2,097,152 bytes"
        else:
            assert len(read(data, "p.jsonl")) == data.count(b"\n") + (not data.endswith(b"\n"))


def forever(start: bytes, piece: bytes) -> Iterator[bytes]:
    yield start
    while True:
        yield piece


@pytest.mark.parametrize(
    ("name", "start", "piece", "message"),
    [
        ("p.jsonl", b'{}\n{"a":"', b"x" * 65_536, "p.jsonl:2: longer than 2,097,152 bytes"),
        ("p.json", b'[{},{"a":"', b"x" * 65_536, "p.json: element 2: longer than 2,097,152 bytes"),
        ("p.csv", b"a\n1\n", b"x" * 65_536, "p.csv:3: longer than 2,097,152 bytes"),
    ],
)
def test_an_endless_record_takes_bounded_memory(name: str, start: bytes, piece: bytes, message: str) -> None:
    reader = RecordReader(io.BufferedReader(Stream(forever(start, piece))), name, None)
    assert peak_bytes(lambda: fails(reader, message)) < 8 * RECORD_TEXT_BYTES_MAX


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "start", "piece", "message"),
    [
        ("p.json", b'[{},{"a":[', b"[1]," * 16_384, "p.json: element 2: longer than 2,097,152 bytes"),
        ("p.csv", b'a\n1\n"', b'x\n","' * 16_384, "p.csv:3: a row longer than 2,097,152 bytes"),
    ],
)
def test_an_endless_record_of_tiny_values_takes_bounded_memory(
    name: str, start: bytes, piece: bytes, message: str
) -> None:
    # As Python objects a list of one number takes some 25 times its text.
    reader = RecordReader(io.BufferedReader(Stream(forever(start, piece))), name, None)
    assert peak_bytes(lambda: fails(reader, message)) < 32 * RECORD_TEXT_BYTES_MAX


def fails(reader: RecordReader, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        list(reader)
    assert str(caught.value) == message


def peak_bytes(action: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("name", "start", "record"),
    [
        ("p.json", b"[{}", b',\n {"a": {"b": "%b"}}' % (b"x" * 20_000)),
        ("p.jsonl", b"{}\n", b'{"a":"%b"}\n' % (b"x" * 20_000)),
        ("p.csv", b"a\n", b"%b\n" % (b"x" * 20_000)),
    ],
)
def test_a_big_file_takes_bounded_memory(name: str, start: bytes, record: bytes) -> None:
    def pieces() -> Iterator[bytes]:
        yield start
        for _ in range(100):
            yield record * 10  # 20 MB in all

    reader = iter(RecordReader(io.BufferedReader(Stream(pieces())), name, None))

    def drain() -> None:
        for _ in range(990):
            next(reader)

    assert peak_bytes(drain) < 4 * 1024 * 1024
