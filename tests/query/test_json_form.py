"""The JSON form: it says what the text form says, and is as strict."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhizome_index.errors import UsageError
from rhizome_index.query.parse import parse

NOW_MS = 1_800_000_000_123
CURSOR = "AbCdEfGh"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"find": "posts"}, "all posts"),
        ({"find": "posts", "where": {"tags": "cats"}, "limit": 3}, "first 3 posts tagged #cats"),
        ({"find": "posts", "order": "newest", "limit": 3}, "newest 3 posts"),
        ({"find": "posts", "order": ["-a", "b"], "select": ["id"]}, "all posts order by -a, b select id"),
        ({"find": "posts", "where": {"a": {"$gt": 5, "$ne": 7}}}, "all posts where a > 5 and a != 7"),
        ({"find": "posts", "where": {"a": {"$startsWith": "x"}}}, 'all posts where a starts with "x"'),
        ({"find": "posts", "where": {"a": {"$matches": "x y"}}}, 'all posts where a matches "x y"'),
        ({"find": "posts", "since": "7d", "after": CURSOR}, f"all posts since 7d after {CURSOR}"),
        ({"count": "posts", "where": {"tags": {"$in": [1, None]}}}, "count posts where tags in (1, null)"),
        ({"count": "posts", "by": "tags", "limit": 3}, "count by tags of posts limit 3"),
        ({"distinct": "author", "of": "posts", "where": {}}, "distinct author of posts"),
        ({"min": "likes", "of": "posts"}, "min likes of posts"),
        ({"max": "likes", "of": "posts", "where": {"tags": "cats"}}, "max likes of posts tagged #cats"),
    ],
)
def test_it_says_what_the_text_says(body: dict[str, Any], text: str) -> None:
    assert parse(json.dumps(body), NOW_MS) == parse(text, NOW_MS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("{}", "has one of find, count"),
        ('{"find": "a", "count": "b"}', "has one of find, count"),
        ('{"find": "a", "find": "b"}', "stands twice"),
        ('{"find": "a", "limt": 3}', "'limt' does not go with 'find'"),
        ('{"find": 1}', "'find' must be text"),
        ('{"find": "a", "limit": 0}', "1 to 1,000,000 rows"),
        ('{"find": "a", "limit": true}', "'limit' must be a whole number"),
        ('{"find": "a", "limit": null}', "'limit' must be a whole number"),
        ('{"find": "a", "where": []}', "a filter must be a map"),
        ('{"find": "a", "where": {"$where": "x"}}', "an operator that is not known"),
        ('{"find": "a", "where": {"a": {"$matches": 1}}}', "an operator that is not known"),
        ('{"find": "a", "order": []}', "an order is"),
        ('{"find": "a", "order": "latest"}', "an order is"),
        ('{"find": "a", "select": "id"}', "'select' must be a list"),
        ('{"count": "a", "limit": 3}', "only if there is a 'by'"),
        ('{"distinct": "a"}', "'of' must be text"),
        ('{"find": "a", "since": "7d"}', "nothing says what time"),
        ('{"find": "a", "where": {"a": 9223372036854775808}}', "64 bits"),
        ('{"find": "a", "where": {"a": NaN}}', "not JSON"),
        ('{"find": "a", "where": {"\\ud800": 1}}', "not a path"),
        ('{"find": "a", "where": ' + '{"$nor": [' * 1300 + "]}" * 1300 + "}", "nested"),
        ('{"find": "a", "where": {"a": ' + "[" * 6000 + "]" * 6000 + "}}", "nested"),
    ],
)
def test_what_is_wrong_is_said(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse(text)


NAMES = st.sampled_from([
    "find", "count", "distinct", "min", "max", "of", "where", "order", "limit", "select", "since", "after", "by",
    "$and", "$or", "$not", "$in", "$gt", "$matches", "tags", "a.b", "", "words(a)", "time()",
])  # fmt: skip
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3))


@given(st.dictionaries(NAMES, VALUES, max_size=4))
def test_anything_else_is_a_usage_error(body: dict[str, Any]) -> None:
    with contextlib.suppress(UsageError):
        parse(json.dumps(body), NOW_MS)
