"""Words are a pure function of text: the same under every version of Python."""

from __future__ import annotations

import itertools
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhizome_index.errors import UsageError
from rhizome_index.index.record import parse_path, values_at
from rhizome_index.index.words import word_ranges, words_of
from rhizome_index.limits import PATH_BYTES_MAX, WORD_LETTERS_MAX
from rhizome_index.query.phrases import matching


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("...", []),
        ("Cute cats, CUTE dogs!", ["cats", "cute", "dogs"]),
        ("it's 3.14", ["14", "3", "it", "s"]),
        ("Straße STRASSE", ["strasse"]),
        ("Caf\u00e9 cafe\u0301", ["caf\u00e9"]),
        ("\ufb01ne \uff21\uff11", ["a1", "fine"]),
        ("ΣΟΦΟΣ σοφος", ["σοφοσ"]),
        ("可爱的猫 cat", ["cat", "可", "爱", "猫", "的"]),
        ("カタカナ ひら", ["ひ", "ら", "カタカナ"]),
        ("\u00bd", ["1", "2"]),
        ("snake_case", ["case", "snake"]),
        ("a\u0378b", ["a", "b"]),  # not assigned
        ("a\U00031350b", ["a", "b"]),  # an ideograph, but of a later version than ours
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert words_of(text) == words


@given(st.text() | st.text(alphabet="aZé\u0301ßΣﬁ猫\u0345½ \u1e9e\u0130", max_size=12))
def test_words_are_themselves_words(text: str) -> None:
    """So what a query searches for is what the index has; and ASCII's short way is the long one."""
    for word in words_of(text):
        assert words_of(word) == [word]
    assert set(words_of(text + " \u00e9")) == {*words_of(text), "\u00e9"}


def test_a_words_letters_at_the_limit_and_one_past_it() -> None:
    most = "x" * WORD_LETTERS_MAX
    assert words_of(most) == words_of(most + "y") == [most]


def test_the_table_is_that_of_unicode_14() -> None:
    ranges = word_ranges()
    assert all(low <= high for low, high in ranges)
    assert all(ord(first[1]) + 1 < ord(second[0]) for first, second in itertools.pairwise(ranges))
    listed = {code for low, high in ranges for code in range(ord(low), ord(high) + 1)}
    known = {code for code in range(0x110000) if unicodedata.category(chr(code))[0] in "LMN"}
    if unicodedata.unidata_version == "14.0.0":
        assert listed == known
    else:
        assert listed < known  # a later version knows more


def test_words_at_a_path() -> None:
    record = {"text": "The cat", "a": [{"b": ["one two", 3]}, {"b": "Two"}], "n": 1}
    assert values_at(record, parse_path("words(text)")) == (["cat", "the"], True)
    assert values_at(record, parse_path("words(a.b)")) == (["one", "two", "two"], True)
    for nothing in ("n", "missing", "a"):
        assert values_at(record, parse_path(f"words({nothing})")) == ([], True)


@pytest.mark.parametrize("text", ["words()", "words(words(a))", "words(a..b)", "words(-a)", "time()", "words(" * 50])
def test_what_is_no_path(text: str) -> None:
    with pytest.raises(UsageError, match="not a path"):
        parse_path(text)


def test_a_path_of_words_at_the_limit_and_one_past_it() -> None:
    most = "words(" + "p" * (PATH_BYTES_MAX - 7) + ")"
    parse_path(most)
    with pytest.raises(UsageError):
        parse_path(most.replace("p", "pp", 1))


def test_there_must_be_a_word_to_search_for() -> None:
    with pytest.raises(UsageError, match="no word"):
        matching("text", "...")
