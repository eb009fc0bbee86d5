"""Hints: what may have been meant, said only where that is so."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhizome_index.index.record import values_at
from rhizome_index.limits import HINTS_MAX, NAME_BYTES_MAX
from rhizome_index.query.hints import declared_hints, hints
from rhizome_index.query.parse import parse
from tests.properties.records import a_query, an_empty_collection, built, some_records
from tests.query.test_plan import a_collection

RECORDS: list[dict[str, Any]] = [
    {
        "id": f"P{number:04}",
        "tags": ["cats", "Müde", "new york"] if number % 2 else ["dogs"],
        "author": {"name": "alice"},
        "likes": number,
        "text": "A Cat sat",
    }
    for number in range(300)
]
SOURCE, THINGS = a_collection(
    RECORDS, "by_tag=tags,-likes", "by_name=author.name", "by_word=words(text)", "liked=-likes where likes > 100"
)
FEW_SOURCE, FEW = a_collection(RECORDS[:9], "by_tgas=tgas")


def said(text: str, rows: list[dict[str, Any]] | None = None) -> list[str]:
    found: list[str] = SOURCE.run(hints(parse(text)[0], THINGS, rows or []))
    return found


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("all posts tagged #Cats", 'nothing has "Cats" at tags; did you mean "cats"?'),
        ("all posts tagged #MÜDE", 'nothing has "MÜDE" at tags; did you mean "Müde"?'),
        ("all posts tagged #catz", 'nothing has "catz" at tags; did you mean "cats"?'),
        ("all posts tagged #Catz", 'nothing has "Catz" at tags; did you mean "cats"?'),
        ('all posts where tags has "#cats"', 'nothing has "#cats" at tags; did you mean "cats"?'),
        ('all posts where tags in ("Dogs", "x")', 'nothing has "Dogs" at tags; did you mean "dogs"?'),
        ('all posts where author.name = "ALICE"', 'nothing has "ALICE" at author.name; did you mean "alice"?'),
        ('all posts where words(text) = "Cat"', 'nothing has "Cat" at words(text); did you mean "cat"?'),
        ('all posts where id = "p0001"', 'nothing has "p0001" at id; did you mean "P0001"?'),
        ('all posts where likes = "7" or likes = 1000', 'at likes stand numbers, and "7" is text; did you mean 7?'),
        ('all posts where likes > "x"', 'at likes stand numbers, and "x" is text'),
        ('all posts where text = "a cat sat"', ""),
        ("all posts where text = 5", "at text stands text, and 5 is a number"),
        ("all posts where text < true", "at text stands text, and true is a boolean"),
        ('all posts where author.nam = "alice"', 'anything at author.nam; did you mean "author.name"?'),
        ('all posts where `tgas x` = "cats"', "anything at `tgas x`"),
        ('all posts where words(txt) = "cat"', 'anything at words(txt); did you mean "words(text)"?'),
        ("count by autor.name of posts", 'anything at autor.name; did you mean "author.name"?'),
        ("all posts tagged #cats and #dogs", ""),
        ('all posts where not tags = "Cats" and likes > 1000', ""),
        (f"all posts tagged #{'Cats' * NAME_BYTES_MAX}", ""),
    ],
)
def test_what_is_said_of_an_empty_answer(text: str, hint: str) -> None:
    found = said(text)
    assert any(hint in line for line in found) if hint else not found


def test_what_was_looked_at_is_said() -> None:
    (hint,) = said('all posts where tgas = "cats"')
    assert hint.startswith("none of the ") and 'did you mean "tags"?' in hint
    (hint,) = FEW_SOURCE.run(hints(parse('all posts where tag = "cats"')[0], FEW, []))
    assert hint.startswith("no record has anything at tag; did you mean")
    (hint,) = FEW_SOURCE.run(declared_hints(FEW, "by_tgas"))
    assert hint == 'no record has anything at tgas; did you mean "tags"?'
    assert FEW_SOURCE.run(declared_hints(FEW, None))[0].startswith("no record has anything at created")
    assert SOURCE.run(declared_hints(THINGS, "liked")) == []
    source, parted = a_collection(RECORDS, "part=tgas where likes > 3")
    (hint,) = source.run(declared_hints(parted, "part"))
    assert hint.startswith("none of the ")  # a part says nothing of the rest


def test_what_is_said_of_rows() -> None:
    some = RECORDS[:3]
    assert said("first 3 posts order by likes", some) == said("first 3 posts select likes", some) == []
    assert 'did you mean "likes"?' in said("first 3 posts order by lkes", some)[0]
    assert 'did you mean "likes"?' in said("first 3 posts select lkes", [{}, {}, {}])[0]
    assert said("first 3 posts select likes, id", [{"id": 1, "likes": None}]) == []
    assert said("count by tags of posts", [{"value": None, "count": 1}]) == []
    assert 'did you mean "tags"?' in said("count by tgs of posts", [{"value": None, "count": 300}])[0]


def test_hints_are_bounded() -> None:
    for count in (HINTS_MAX, HINTS_MAX + 1):
        values = ", ".join(['"Cats"', '"CATS"', '"DOGS"', '"Dogs"'][:count])
        assert len(said(f"all posts where tags in ({values})")) == HINTS_MAX


def test_nothing_is_said_of_nothing() -> None:
    source, empty = a_collection([], "by_tag=tags")
    assert source.run(hints(parse("all posts where x = 1")[0], empty, [])) == []
    assert source.run(declared_hints(empty, "by_tag")) == []


@given(st.integers(0, 2**32))
def test_hints_are_true(seed: int) -> None:
    """Whatever is asked of whatever records: what is said to be nowhere is nowhere, and what is suggested is there."""
    random_ = random.Random(seed)
    records = some_records(random_, 20)
    source, collection = built(an_empty_collection(random_), records)
    query = a_query(random_)
    for hint in source.run(hints(query, collection, [])):
        if hint.startswith("no record has anything at "):
            path = hint.removeprefix("no record has anything at ").partition(";")[0]
            steps = tuple(path.strip("`").split("."))
            if not path.startswith("words("):
                assert all(value is None for record in records.values() for value in values_at(record, steps)[0])
