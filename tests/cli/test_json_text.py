"""JSON objects: the quick way agrees with the sure one, whatever the text."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rhizome_index.cli.json_text import Flaw, Window, parse_exactly, parse_object, parse_quickly
from rhizome_index.limits import RECORD_TEXT_BYTES_MAX

# Pieces of JSON, and of what is nearly JSON, that random texts are glued from.
PIECES = [
    *("{", "}", "[", "]", ",", ":", " ", "\t", "\n", "\r", '"', '"a"', '"b"', '"a":', '"b" :', "\\", "/", "\x00"),
    *(
        "0",
        "-",
        "1",
        "01",
        "1.5",
        ".5",
        "1.",
        "1e5",
        "1E+400",
        "-0",
        "-0.0",
        "true",
        "false",
        "null",
        "NaN",
        "Infinity",
    ),
    *("\\u0061", "\\ud83d", "\\ude00", "\\ud800", "\\n", "\\x", " :", "http://x", "é", "😀", "\ufeff", "\x7f", "//"),
    *("18446744073709551616", "-9223372036854775809", "123456789012345678901234567890", "0.1000000000000000055511151"),
]
near_json = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=12).map("".join),
    st.lists(st.sampled_from(PIECES), max_size=6).map(lambda pieces: '{"a":' + "".join(pieces) + "}"),
    st.lists(st.sampled_from(PIECES), max_size=6).map(lambda pieces: '{"a":"' + "".join(pieces) + '"}'),
    st.lists(st.sampled_from(PIECES), max_size=6).map(lambda pieces: '{"' + "".join(pieces) + '":1}'),
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8"), max_size=8),
    st.sampled_from(["http://x/", '":', '"a":', " :)", "}{", "]", '\\"', "\\"]),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=6,
)
objects = st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=4), values, max_size=5)


def same(one: object, other: object) -> bool:
    """Equal with types and signs of zero, which == overlooks."""
    return repr(one) == repr(other)


@given(text=near_json)
@example(text='{"a":"\\ud800\\u0061"}')
@example(text='{"a":1,"\\u0061":2}')
@example(text='{"a":{"b":1,"b":2}}')
@example(text='{"a" :1,"a"\t:2, "x": " :"}')
def test_what_the_quick_parser_takes_the_exact_one_takes_alike(text: str) -> None:
    record = parse_quickly(text.encode())
    if record is not None:
        assert same(record, parse_exactly(text.encode()))


@settings(max_examples=60)
@given(whole=st.integers(-(10**30), 10**30), part=st.integers(0, 10**40), exponent=st.integers(-340, 300))
def test_floats_are_the_nearest_ones(whole: int, part: int, exponent: int) -> None:
    digits = f"{whole}.{part}e{exponent}"
    if math.isfinite(float(digits)):
        assert same(parse_object(b'{"a":%b}' % digits.encode())["a"], float(digits))


@settings(max_examples=25)
@given(record=objects, ascii_only=st.booleans(), indent=st.sampled_from([None, 1]))
def test_every_object_comes_back(record: dict[str, object], ascii_only: bool, indent: int | None) -> None:
    text = json.dumps(record, ensure_ascii=ascii_only, indent=indent).encode()
    assert same(parse_object(text), record)
    assert same(parse_exactly(text), record)


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":"http://x:80/","b":"12:30"}',
        b'{"a":{"b":1,"c":[{"b":2}]}}',
        b'{"a" : 1, "b" :\t"x:y"}',
        b'{"n":123456789012345678901234567890}',
    ],
)
def test_common_records_take_the_quick_way(text: bytes) -> None:
    assert parse_quickly(text) == json.loads(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"a":1,}', "not valid JSON: expecting property name enclosed in double quotes (column 8)"),
        (b'{"a":1', "not valid JSON: expecting ',' delimiter (column 7)"),
        (b'{"a":1} x', "not valid JSON: extra data (column 9)"),
        (b'{"a":\n 01}', "not valid JSON: expecting ',' delimiter (line 2 of it, column 3)"),
        (b"", "not valid JSON: expecting value (column 1)"),
        (b"[1]", "a record must be an object, not a list"),
        (b'"x"', "a record must be an object, not text"),
        (b"1", "a record must be an object, not a number"),
        (b"1.5", "a record must be an object, not a number"),
        (b"true", "a record must be an object, not a boolean"),
        (b"null", "a record must be an object, not null"),
        (b'{"a":1,"a":2}', 'the name "a" is given twice'),
        (b'{"a":1,"\\u0061":2}', 'the name "a" is given twice'),
        (b'{"x":[{"b":0,"b":0}]}', 'the name "b" is given twice'),
        (b'{"a":NaN}', "not valid JSON: NaN is no JSON number"),
        (b'{"a":-Infinity}', "not valid JSON: -Infinity is no JSON number"),
        (b'{"a":1e400}', "the number 1e400 is beyond the range of 64-bit floats"),
        (b'{"a":"\xff"}', "not UTF-8 text (byte 7)"),
        (b'{"a":"\xed\xa0\x80"}', "not UTF-8 text (byte 7)"),
        (b'{"a":"\\ud800"}', "not valid JSON: an escape gives half a surrogate pair"),
        (b'{"\\udc00":1}', "not valid JSON: an escape gives half a surrogate pair"),
        (b'{"a":' + b"[" * 9_000 + b"]" * 9_000 + b"}", "nested too deeply"),
        (b'{"a":' + b"9" * 9_000 + b"}", "a number of too many digits"),
    ],
)
def test_what_is_wrong_is_said(text: bytes, message: str) -> None:
    assert parse_quickly(text) is None
    with pytest.raises(Flaw) as caught:
        parse_object(text)
    assert str(caught.value).startswith(message)


@settings(max_examples=15)
@given(
    records=st.lists(objects, min_size=1, max_size=4),
    indent=st.sampled_from([None, 1]),
    ascii_only=st.booleans(),
    piece=st.integers(1, 9),
)
@example(records=[{"a": '\\"}'}], indent=None, ascii_only=True, piece=1)
def test_a_window_takes_objects_whatever_the_chunks(
    records: list[dict[str, object]], indent: int | None, ascii_only: bool, piece: int
) -> None:
    text = b"\n".join(json.dumps(record, indent=indent, ensure_ascii=ascii_only).encode() for record in records)
    chunks = iter([text[at : at + piece] for at in range(0, len(text), piece)])
    window = Window(lambda: next(chunks, b""))
    assert same([window.read_object() for _ in records], records)
    assert window.next_byte() == b""


@pytest.mark.parametrize("nested", [False, True])
def test_an_object_of_the_greatest_length_passes_and_one_byte_more_does_not(nested: bool) -> None:
    frame = b'{"a":{"b":"%b"}}' if nested else b'{"a":"%b"}'
    room = RECORD_TEXT_BYTES_MAX - len(frame % b"")
    for extra in (0, 1):
        chunks = iter([frame % (b"x" * (room + extra))])
        window = Window(lambda chunks=chunks: next(chunks, b""))
        if extra:
            with pytest.raises(Flaw, match="longer than 2,097,152 bytes"):
                window.read_object()
        else:
            assert window.read_object()
