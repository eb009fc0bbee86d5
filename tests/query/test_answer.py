"""Cursors: their text, and to what they are bound."""

from __future__ import annotations

import random
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhizome_index.blocks import cbor
from rhizome_index.blocks.cid import cid_of
from rhizome_index.errors import UsageError
from rhizome_index.index.condition import Compare
from rhizome_index.limits import CURSOR_BYTES_MAX
from rhizome_index.query.answer import Answer, Cursor
from rhizome_index.query.expr import Query
from rhizome_index.query.plan import Access, candidates
from tests.driving import answer_directly
from tests.properties import records as made

QUERY = Query("things", Compare("exists", "id", True), limit=3)
MANIFEST = cid_of(b"manifest")
CURSOR = Cursor(QUERY.digest, MANIFEST, Access("", b"", None, False), True, b"position")


def test_a_cursor_comes_back_from_its_text() -> None:
    assert Cursor.parse(str(CURSOR), QUERY) == CURSOR


@pytest.mark.parametrize(
    "change",
    [
        {0: b"x" * 16},
        {0: QUERY.digest},
        {0: "x"},
        {1: bytes(MANIFEST)},
        {1: None},
        {2: ["", b"", None]},
        {2: None},
        {3: 1},
        {4: "position"},
        {4: None},
    ],
)
def test_every_part_of_a_cursor_is_checked(change: dict[int, Any]) -> None:
    body = [QUERY.digest[:16], cbor.Link(MANIFEST), ["", b"", None, False], True, b"position"]
    assert Cursor.parse(urlsafe_b64encode(cbor.encode(body)).decode().rstrip("="), QUERY) == CURSOR
    for place, value in change.items():
        body[place] = value
    with pytest.raises(UsageError):
        Cursor.parse(urlsafe_b64encode(cbor.encode(body)).decode(), QUERY)


def test_a_cursor_is_bound_to_its_query() -> None:
    for other in (
        Query("things", QUERY.where, limit=4),
        Query("other", QUERY.where, limit=3),
        Query("things", limit=3),
    ):
        with pytest.raises(UsageError):
            Cursor.parse(str(CURSOR), other)


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda data: urlsafe_b64encode(data).decode()))
def test_any_text_is_a_cursor_or_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Cursor.parse(text, QUERY)


def test_a_cursor_at_the_limit_and_one_past_it() -> None:
    around = len(urlsafe_b64decode(str(replace(CURSOR, position=bytes(3000))) + "==")) - 3000
    room = CURSOR_BYTES_MAX - around
    most = replace(CURSOR, position=bytes(room))
    assert Cursor.parse(str(most), QUERY) == most
    with pytest.raises(UsageError, match="a cursor of more than 4,096 bytes"):
        Cursor.parse(str(replace(CURSOR, position=bytes(room + 1))), QUERY)


def test_a_cursor_is_bound_to_its_plan_and_given_only_where_more_may_follow() -> None:
    random_ = random.Random(1)
    records = made.some_records(random_, 5)
    source, collection = made.built(made.an_empty_collection(random_, 0), records)
    (candidate,) = candidates(QUERY, collection)
    answer = Answer(QUERY, collection, candidate)
    rows, _ = answer_directly(answer, source)
    cursor = answer.cursor(MANIFEST, rows[-1])
    assert cursor is not None
    wrong = Cursor(cursor.query, MANIFEST, Access("", b"\0", None, False), cursor.ordered, cursor.position)
    with pytest.raises(UsageError):
        Answer(QUERY, collection, candidate, wrong)
    last = Answer(QUERY, collection, candidate, cursor)
    rows, _ = answer_directly(last, source)
    assert len(rows) == 2 and last.cursor(MANIFEST, rows[-1]) is None
    assert answer.cursor(MANIFEST, None) is None
