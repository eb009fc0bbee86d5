"""Completions: whatever is typed they lead on, and what may follow is among them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rhizome_index.limits import QUERY_TEXT_BYTES_MAX, QUERY_TOKENS_MAX
from rhizome_index.query.complete import COLLECTION, KEYWORD, PATH, VALUE, Completion, complete
from rhizome_index.query.grammar import begin
from rhizome_index.query.parse import parse
from rhizome_index.query.wording import path_text
from tests.query.test_parse import NOW_MS, WORDS

TEXT = "words(text)"
VALUES: dict[str, dict[str, list[Any]]] = {
    "posts": {
        "tags": ["Müde", "cats", "cattle", "new york", 'say "x"', "\x9b31m", ""],
        "author": ["alice", "bob smith", 7, True],
        "author.name": ["a", "b"],
        "likes": [1, 2.5, 12, None, True],
        TEXT: ["cat", "cute"],
        "the text": [],
        "text": [],
        "created": [],
    },
    "packages": {"section": ["games"], "installed_kib": [1]},
}


class Names:
    """A vocabulary over these."""

    def collections(self) -> Sequence[str]:
        return list(VALUES)

    def paths(self, collection: str) -> Sequence[str]:
        return list(VALUES.get(collection, {}))

    def values(self, collection: str, path: str, prefix: str | None) -> Sequence[Any]:
        found = VALUES.get(collection, {}).get(path, [])
        if prefix is None:
            return found
        return [value for value in found if type(value) is str and value.startswith(prefix)]


def offered(text: str, behind: str = "", kind: str | None = None) -> list[str]:
    found = complete(text + behind, len(text), Names())
    return [item.text for item in found if kind is None or item.kind == kind]


QUERIES = [
    "first 3 posts",
    "newest 3 posts tagged #cats and #cattle by alice",
    'oldest 3 posts tagged "new york", #Müde since 7d',
    'all posts where author = "alice" and likes >= 12 or not tags has "cats"',
    'all posts where author.name in ("a", "b") and likes in [1, 2.5]',
    'all posts where tags all of ("cats", "cattle") or tags any of ("say \\"x\\"")',
    'all posts where tags starts with "ca" and text exists',
    'all posts where text matches "cute" order by -likes, author.name desc',
    f'all posts where {TEXT} = "cat" select likes, `the text`',
    "count posts where likes = true",
    "count by section of packages limit 3",
    "distinct tags of posts where likes != null",
    "max likes of posts tagged #cats",
    "min likes of posts since 24h",
]


@pytest.mark.parametrize("query", QUERIES)
def test_each_word_of_a_query_is_offered(query: str) -> None:
    """At its place, and after each of its letters."""
    parse(query, NOW_MS)
    begun = begin(query)
    assert begun is not None
    for token in begun.tokens:
        start, text = token.start_pos or 0, str(token)
        if text in ("3", "1", "12", ",", "(", ")", "[", "]", "-", "2.5", '"ca"') or token.type == "DURATION":
            continue
        behind = query[token.end_pos :]
        for letters in range(len(text) if text[0] not in "(<>!=" else 1):
            found = offered(query[: start + letters], behind)
            wanted = f"{text}(" if text == "words" else f"{text} "
            begin_so = [item for item in found if f"{item} ".lower().startswith(wanted.lower())]
            assert begin_so or f"words({text})" in found, (query[: start + letters], text, found)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ["all", "count", "distinct", "first", "max", "min", "newest", "oldest"]),
        ("FI", ["first"]),
        ("first ", []),
        ("first 3 ", ["posts", "packages"]),
        ("first 3 p", ["posts", "packages"]),
        ("first 3 posts tagged ", ["#Müde", "#cats", "#cattle", '"new york"', '"say \\"x\\""']),
        ("first 3 posts tagged #cat", ["#cats", "#cattle"]),
        ("first 3 posts tagged cat", ["#cats", "#cattle"]),
        ('first 3 posts tagged "new', ['"new york"']),
        ("first 3 posts by ", ["alice", '"bob smith"', "7"]),
        ('first 3 posts by "a', ['"alice"']),
        ("first 3 posts by b", ['"bob smith"']),
        ("first 3 posts where likes = ", ["1", "2.5", "12", "true", "false", "null"]),
        ("first 3 posts where likes = 1", ["1", "12"]),
        ("first 3 posts where likes >", [">", ">="]),
        ("first 3 posts where likes in ", ["("]),
        ("first 3 posts where author = al", ['"alice"']),
        ('first 3 posts where author = "al', ['"alice"']),
        ("first 3 posts where author starts with ", ['"alice"', '"bob smith"']),
        ('first 3 posts where text matches "very cu', ['"very cute"']),
        ("first 3 posts where text matches c", ['"cat"', '"cute"']),
        ('first 3 posts where text = "a"', []),
        ('first 3 posts where text = "a" o', ["or", "order by"]),
        ("first 3 posts where (a = 1)", []),
        ("first 3 posts where au", ["author", "author.name"]),
        ("first 3 posts where `th", ["`the text`"]),
        ("first 3 posts where words(te", ["text"]),
        ("first 3 posts where (li", ["likes"]),
        ("first 3 posts order by -li", ["likes"]),
        ("first 3 posts order by -likes,-au", ["author", "author.name"]),
        ("first 3 posts where author.name s", ["starts with"]),
        ("first 3 posts where tags a", ["all of", "any of"]),
        ("first 3 posts since ", ["1h", "24h", "7d", "4w"]),
        ("count by s", ["section"]),
        ("count by likes of po", ["posts"]),
        ("first 3 nothing where tags = ", ["false", "null", "true"]),
        ("frst 3 posts ", []),
        ("first 3 posts posts ", []),
        ('first 3 posts where tags = "say \\', ['"say \\"x\\""']),
        ('first 3 posts where tags = "M\\u00f', ['"Müde"']),
        ('{"find": "po', []),
    ],
)
def test_what_is_offered(text: str, found: list[str]) -> None:
    assert sorted(offered(text)) == sorted(found)


def test_what_stands_behind_says_which_collection_is_meant() -> None:
    assert set(offered("count by ", "", PATH)) == {*map(path_text, VALUES["posts"]), *VALUES["packages"]}
    assert offered("count by ", " of packages", PATH) == list(VALUES["packages"])


def test_the_word_before_the_cursor_is_replaced() -> None:
    assert complete("first 3 po tagged", 10, Names()) == [Completion("posts", 8, COLLECTION)]
    assert complete("first 3 posts tagged #ca", 24, Names())[0] == Completion("#cats", 21, VALUE)
    assert complete("first 3 posts order by -li", 26, Names()) == [Completion("likes", 24, PATH)]
    assert complete("FIR", 3, Names()) == [Completion("first", 0, KEYWORD)]


def test_too_much_is_not_read() -> None:
    start = "all posts where text = "
    text = start + '"' + "x" * (QUERY_TEXT_BYTES_MAX - len(start) - 4) + '" o'
    assert len(text) == QUERY_TEXT_BYTES_MAX and offered(text) == ["or", "order by"]
    assert offered(text.replace("=", "= ")) == []
    words = "all posts where likes in (" + "1, " * ((QUERY_TOKENS_MAX - 6) // 2)
    assert len(begin(words).tokens) in (QUERY_TOKENS_MAX - 1, QUERY_TOKENS_MAX)  # type: ignore[union-attr]
    assert "true" in offered(words) and offered(words + "1, 1, ") == []


PIECES = [*WORDS, *[word for query in QUERIES for word in query.split()]]


@given(
    st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=9), st.sampled_from(["", " "]), st.integers(0, 80)
)
def test_completions_lead_on(pieces: list[str], between: str, cursor: int) -> None:
    """Of any text: what is offered may stand there, and only the word before the cursor is replaced."""
    text = between.join(pieces)
    check_that_they_lead_on(text, min(cursor, len(text)))


@given(st.sampled_from(QUERIES), st.integers(0, 100))
@example('all posts where words(text) = "cat" select likes, `the text`', 55)
def test_completions_within_queries_lead_on(query: str, cursor: int) -> None:
    check_that_they_lead_on(query, min(cursor, len(query)))


def check_that_they_lead_on(text: str, cursor: int) -> None:
    found = complete(text, cursor, Names())
    assert len(set(found)) == len(found)
    for item in found:
        assert 0 <= item.start <= cursor
        before_quotes = re.split('["`]', text[item.start : cursor])[0]
        assert not any(char.isspace() for char in before_quotes)
        assert begin(text[: item.start] + item.text + " ") is not None, (text, item)
        assert item.text.isprintable()


@given(st.text())
def test_values_of_strangers_are_typed_as_they_are(tag: str) -> None:
    class Stranger(Names):
        def values(self, collection: str, path: str, prefix: str | None) -> Sequence[Any]:
            return [tag] if tag.startswith(prefix or "") else []

    for start in ("all posts tagged ", "all posts by ", "all posts where tags = ", 'all posts where tags = "'):
        for item in complete(start, len(start), Stranger()):
            if item.kind == VALUE:
                query, _ = parse(start[: item.start] + item.text)
                (term,) = query.conjuncts()
                assert getattr(term, "value", None) == tag
    assert tag.isprintable() or not any(item.kind == VALUE for item in complete("all posts tagged ", 17, Stranger()))
