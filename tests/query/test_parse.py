"""The text form: what each clause means, and errors that point at the place."""

from __future__ import annotations

import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rhizome_index.errors import QueryError, UsageError
from rhizome_index.index.condition import And, Compare, Not, Or
from rhizome_index.index.schema import SortPath
from rhizome_index.limits import (
    QUERY_DEPTH_MAX,
    QUERY_TERMS_MAX,
    QUERY_TEXT_BYTES_MAX,
    QUERY_TOKENS_MAX,
    ROWS_MAX,
)
from rhizome_index.query.expr import COUNT, COUNT_BY, DISTINCT, Query, decode_query, encode_query
from rhizome_index.query.parse import parse

CATS = Compare("=", "tags", "cats")
NOW_MS = 1_800_000_000_123


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("first 32 posts", Query("posts", limit=32)),
        ("all posts", Query("posts")),
        ("count posts", Query("posts", kind=COUNT)),
        ("newest 1 posts", Query("posts", order="newest", limit=1)),
        ("oldest 1 posts", Query("posts", order="oldest", limit=1)),
        ("FIRST 2 posts TAGGED #cats", Query("posts", CATS, limit=2)),
        ("all posts tagged #cats and #b, \"c d\"", Query("posts", And((
            CATS, Compare("=", "tags", "b"), Compare("=", "tags", "c d"))))),
        ("all posts by alice", Query("posts", Compare("=", "author", "alice"))),
        ("all posts by 7", Query("posts", Compare("=", "author", 7))),
        ('all posts where tags has "cats"', Query("posts", CATS)),
        ("all posts where a in (1, 2.5, null)", Query("posts", Compare("in", "a", (1, 2.5, None)))),
        ("all posts where a any of (1, 2)", Query("posts", Compare("in", "a", (1, 2)))),
        ("all posts where a all of (1)", Query("posts", Compare("=", "a", 1))),
        ("all posts where a all of (1, 2)", Query("posts", And((Compare("=", "a", 1), Compare("=", "a", 2))))),
        ("all posts where a in [true]", Query("posts", Compare("in", "a", (True,)))),
        ('all posts where a starts with "x"', Query("posts", Compare("starts with", "a", "x"))),
        ("all posts where a.b exists", Query("posts", Compare("exists", "a.b", True))),
        ("all posts where `a b` != -5", Query("posts", Compare("!=", "a b", -5))),
        ("all posts where a=1 or b>=2 and not c<3", Query("posts", Or((
            Compare("=", "a", 1), And((Compare(">=", "b", 2), Not(Compare("<", "c", 3)))))))),
        ("all posts where (a=1 or b=2) and c=3", Query("posts", And((
            Or((Compare("=", "a", 1), Compare("=", "b", 2))), Compare("=", "c", 3))))),
        ("all posts order by a, -b, c desc, d asc", Query("posts", order=(
            SortPath("a"), SortPath("b", True), SortPath("c", True), SortPath("d")))),
        ('all posts where a = "\\u00e9\\n"', Query("posts", Compare("=", "a", "é\n"))),
        ("all posts where a = 9223372036854775807", Query("posts", Compare("=", "a", 2**63 - 1))),
        ("first 2 posts select id, a.b", Query("posts", limit=2, paths=("id", "a.b"))),
        ("count by section of packages", Query("packages", kind=COUNT_BY, paths=("section",))),
        ("count by tags of posts by alice limit 5", Query("posts", Compare("=", "author", "alice"), limit=5,
            kind=COUNT_BY, paths=("tags",))),
        ("distinct words(text) of posts tagged #cats", Query("posts", CATS, kind=DISTINCT, paths=("words(text)",))),
        ("max a.b of posts", Query("posts", Compare("!=", "a.b", None), (SortPath("a.b", True),), 1, paths=("a.b",))),
        ("min n of posts tagged #cats", Query("posts", And((CATS, Compare("!=", "n", None))), (SortPath("n"),), 1,
            paths=("n",))),
        ('all posts where text matches "Cute, cats!"', Query("posts", And((
            Compare("=", "words(text)", "cats"), Compare("=", "words(text)", "cute"))))),
        ('all posts where words( `a b` ) = "x"', Query("posts", Compare("=", "words(a b)", "x"))),
        ("all posts since 7d", Query("posts", Compare(">=", "time()", NOW_MS - 7 * 86_400_000))),
        ("all posts since 90m tagged #cats", Query("posts", And((
            Compare(">=", "time()", NOW_MS - 5_400_000), CATS)))),
        ("all posts since 2024-05-01", Query("posts", Compare(">=", "time()", 1_714_521_600_000))),
        ("all posts since 2024-05-01T12:00:00.5+02:00", Query("posts", Compare(">=", "time()", 1_714_557_600_500))),
    ],
)  # fmt: skip
def test_what_a_text_means(text: str, query: Query) -> None:
    assert parse(text, NOW_MS) == (query, None)
    assert decode_query(encode_query(query)) == query


def test_a_cursor_passes_through() -> None:
    assert parse("first 1 posts after AbCd_-12") == (Query("posts", limit=1), "AbCd_-12")


@pytest.mark.parametrize(
    ("text", "place", "hint"),
    [
        ("frist 3 posts", "frist", "first"),
        ("first 3 posts tagd #x", "tagd", "tagged"),
        ("first 3 posts tagd #x", "tagd", 'did you mean "tagged"?'),
        ("first 3 posts tagged cats", "cats", "did you mean #cats?"),
        ("first 3 posts where tags has #cats", "#cats", 'did you mean "cats"?'),
        ("first 3 posts where a = 'x'", "'x'", 'did you mean "x"?'),
        ("first 3 posts where a contains 1", "contains", 'did you mean "has"?'),
        ("first 3 posts where a is 1", "is", 'did you mean "="?'),
        ("first 3 posts sort by a", "sort", 'did you mean "order by"?'),
        ("first posts", "posts", ""),
        ("first 0 posts", "0", ""),
        ("first 3 posts where a = games", "games", '"games"'),
        ("first 3 posts where a = 1e400", "1e400", ""),
        ("first 3 posts where a = 9223372036854775808", "9223372036854775808", ""),
        ('first 3 posts where a = "\\ud800"', '"\\ud800"', ""),
        ("first 3 posts order by -a desc", "desc", ""),
        ("first 3 posts order by a order by b", "order", ""),
        ("first 3 posts order by a, -a", "order", ""),
        ("newest 3 posts order by a", "order", "first N"),
        ("count posts order by a", "order", ""),
        ("first 3 posts after AbCdEfGh after AbCdEfGi", "AbCdEfGi", ""),
        ("first 3 posts limit 3", "limit", "first N"),
        ("count posts select a", "select", ""),
        ("count by a of posts order by a", "order", ""),
        ("count by a of posts limit 0", "0", ""),
        ("first 3 posts select a, b, a", "select", ""),
        ("first 3 posts since yesterday", "yesterday", ""),
        ("first 3 posts since 2024-13-01", "2024-13-01", ""),
        ("first 3 posts since 7d", "7d", ""),
        ('first 3 posts where a matches "..."', '"..."', ""),
        ('first 3 posts where a matches "x \\"y z\\""', '"x \\"y z\\""', "inner quotes"),
        ("count by a posts", "posts", ""),
        ("min a", "", ""),
        ("min words(a) of posts", "words(a)", "distinct words(a)"),
        ("max  words( `a b` )  of posts where a = 1", "words( `a b` )", "name the path itself"),
        ("first 3 posts where (a = 1", "", ""),
        ("first 3 posts where", "", ""),
        ("", "", "queries look like"),
    ],
)
def test_an_error_points_at_its_place(text: str, place: str, hint: str) -> None:
    with pytest.raises(QueryError) as caught:
        parse(text)
    error = caught.value
    assert text[error.start : error.end] == place and hint in error.hint
    if not place:
        assert error.start == len(text)
    if text:
        shown, carets = error.pointer().split("\n")
        assert shown == text and carets == " " * error.start + "^" * max(1, len(place))


def test_wide_letters_are_pointed_at_where_they_are_shown() -> None:
    for text, columns, carets in (
        ("first 3 posts tagged #\u732b whre", 25, 4),
        ('first 3 posts where text = "e\u0301" whre', 31, 4),
        ("first 3 posts\n\t\u732b\u732b", 15, 4),
    ):
        with pytest.raises(QueryError) as caught:
            parse(text)
        shown, line = caught.value.pointer().split("\n")
        assert line == " " * columns + "^" * carets and len(shown) == len(text)


@pytest.mark.parametrize(
    "text",
    [
        "first 3 Posts",
        "first 3 posts by",
        "first 3 posts where a = 01",
        "first 3 posts where a = \"open",
        "first 3 posts where a in ()",
        "first 3 posts where a any of ()",
        "first 3 posts where a any (1)",
        "first 3 posts where a..b = 1",
        "first 3 posts where `\udcff` = 1",
        "first 3 posts order by -`\udcff`",  # found by generation
        "first 3 posts order by `-a`",
        "first 3 posts order by `time()`",
        "first 3 posts order by " + ", ".join(f"p{number}" for number in range(QUERY_TERMS_MAX + 1)),
        "first 3 posts tagged #\udcff",
        "count posts after AbCdEfGh",
        "first 3 posts where words(a = 1",
        "first 3 posts select words(a)",
        "first 3 posts where " + "not " * 3900 + "a = 1",
        "first 3 posts where " + "(" * 8000,
        "first " + "9" * 6000 + " posts",
        f"first {ROWS_MAX + 1} posts",
        "first 3 posts where " + " or ".join(["a = 1"] * (QUERY_TERMS_MAX + 1)),
        "first 3 posts where " + "not " * (QUERY_DEPTH_MAX + 1) + "a = 1",
        "first 3 posts where a = \"" + "x" * QUERY_TEXT_BYTES_MAX + "\"",
    ],
)  # fmt: skip
def test_what_cannot_be_understood_is_a_query_error(text: str) -> None:
    with pytest.raises(QueryError):
        parse(text)


def test_the_limits_themselves_are_allowed() -> None:
    parse(f"first {ROWS_MAX} posts")
    parse("first 3 posts where " + " or ".join(["a = 1"] * QUERY_TERMS_MAX))
    parse("first 3 posts where " + "not " * QUERY_DEPTH_MAX + "a = 1")
    parse("first 3 posts order by " + ", ".join(f"p{number}" for number in range(QUERY_TERMS_MAX)))
    shell = 'all posts where a = ""'
    parse(shell[:-1] + "x" * (QUERY_TEXT_BYTES_MAX - len(shell)) + '"')
    with pytest.raises(QueryError):
        parse(shell[:-1] + "x" * (QUERY_TEXT_BYTES_MAX - len(shell) + 1) + '"')


def test_words_and_signs_at_the_limit_and_one_past_it() -> None:
    """Found by generation: 16 KiB of `order by a,-a,-a...` took 160 ms to read."""
    sizes = [125] * 6 + [128, 129]  # of `in (...)`, each with three more words and signs than twice its values
    conditions = [f"a in ({','.join('1' * size)})" for size in sizes]
    text = "all posts where " + " and ".join(conditions)
    assert 3 + sum(2 * size + 3 for size in sizes) + len(sizes) - 1 == QUERY_TOKENS_MAX
    parse(text)
    with pytest.raises(QueryError, match="more than 2,048 words and signs") as caught:
        parse(text.replace("all posts where", "all posts where not"))
    assert text.endswith(")") and caught.value.pointer().endswith("^")


WORDS = [
    *[
        "first",
        "newest",
        "all",
        "count",
        "posts",
        "3",
        "-3",
        "where",
        "order",
        "by",
        "tagged",
        "#x",
        "and",
        "or",
        "not",
        "(",
        ")",
        "[",
        "]",
        ",",
        "=",
        "!=",
        "<=",
        "has",
        "in",
        "starts",
        "with",
    ],
    *[
        "exists",
        "true",
        "null",
        '"a"',
        "`a",
        "b`",
        "a.b",
        "1.5",
        "1e5",
        "after",
        "AbCdEfGhI",
        "-",
        "asc",
        "desc",
        "\\",
        '"',
        "`",
        "#",
        "é",
        "�",
    ],
    "\0",
]


@given(st.integers(0, 2**32))
def test_any_text_is_a_query_or_a_query_error(seed: int) -> None:
    random_ = random.Random(seed)
    start = random_.choice(["", "first 3 posts ", "all posts where ", "all posts where a = ", "all posts order by "])
    text = start + random_.choice([" ", ""]).join(random_.choices(WORDS, k=random_.randrange(12)))
    try:
        query, _ = parse(text)
    except QueryError as error:
        assert 0 <= error.start <= error.end <= len(text)
        error.pointer()
    else:
        assert decode_query(encode_query(query)) == query


@given(st.text(max_size=60))
@example("{")
def test_random_text(text: str) -> None:
    for start in ("", "first 3 posts where "):
        try:
            parse(start + text)
        except QueryError:
            continue
        except UsageError:  # it is taken for the JSON form, which has no places to point at
            assert (start + text).lstrip().startswith("{")


@pytest.mark.parametrize("before", [0, 10, 72, 73, 500])
@pytest.mark.parametrize("after", [0, 10, 72, 73, 500])
@pytest.mark.parametrize("size", [0, 1, 71, 72, 400])
def test_of_a_long_query_the_place_meant_is_shown(before: int, size: int, after: int) -> None:
    text = "a" * before + "b" * size + "c" * after
    shown, carets = QueryError("wrong", text=text or "x", start=before, end=before + size).pointer().split("\n")
    assert len(shown) <= 74 and len(carets) <= 75
    pointed = shown[carets.find("^") : len(carets)]
    assert set(pointed) <= ({"b"} if size else {"c", "…", "x"})
    assert len(carets.strip()) >= min(max(size, 1), 40)
