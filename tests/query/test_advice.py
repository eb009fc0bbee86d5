"""The index that is advised where none answers: it can be pasted, and then it answers."""

from __future__ import annotations

import random
import shlex
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rhizome_index.errors import UsageError
from rhizome_index.index.schema import Collection, SortPath, check_name
from rhizome_index.index.write import add_index
from rhizome_index.limits import INDEXES_MAX, NAME_BYTES_MAX
from rhizome_index.query import choose as choosing
from rhizome_index.query.advice import advice
from rhizome_index.query.choose import choose
from rhizome_index.query.parse import parse, parse_index
from rhizome_index.tree.boundary import Rule
from tests.driving import MemorySource
from tests.properties.records import RULE, a_combined_query, a_query, an_empty_collection, built, some_records
from tests.query.test_plan import POSTS_COLLECTION, a_collection

ADD = ["rhizome", "index", "add"]


def commands_in(hint: str) -> list[list[str]]:
    """The commands that a hint advises, as a shell reads them: each a collection and an index."""
    _, _, line = hint.partition("add an index: ")
    found = [shlex.split(command) for command in line.split(" && ")] if line else []
    assert all(words[:3] == ADD and len(words) == 5 for words in found)
    return [words[3:] for words in found]


def with_advised(source: MemorySource, collection: Collection, hint: str, rule: Rule) -> Collection:
    for name, text in commands_in(hint):
        assert name == collection.name
        label, definition = parse_index(text)
        check_name(label, "an index")
        assert label not in collection.indexes
        collection = source.run(add_index(rule, collection, label, definition, source.store.blocks.__setitem__))
    return collection


@pytest.mark.parametrize(
    ("text", "advised"),
    [
        ("first 5 posts where views > 5", ["by_views=views"]),
        ("first 5 posts order by -views", ["by_views=-views"]),
        ('first 5 posts where editor = "a" order by views', ["by_editor_views=editor,views"]),
        ('newest 5 posts where editor = "a"', ["by_editor_created=editor,-created"]),
        ('newest 5 posts where editor = "a" and created > 4', ["by_editor_created=editor,-created"]),
        ('all posts where words(text) = "a"', ["by_words_text=words(text)"]),
        ('all posts where `A b"c` = 1', ['by_a_b_c=`A b"c`']),
        ("all posts where views = 1 or editor = 2", ["by_views=views", "by_editor=editor"]),
        ("newest 3 posts where views in (1, 2)", ["by_views_created=views,-created"]),
        ("count posts where views = 1 and size = 3", ["by_views=views"]),
        ("count by views of posts", ["by_views=views"]),
        ("distinct views of posts where editor = 4", ["by_editor_views=editor,views"]),
        ("all posts where not views = 3", []),
        ("first 3 posts order by tags", []),
        ("all posts where likes > 3 or views < 3", []),
    ],
)
def test_what_is_advised(text: str, advised: Sequence[str]) -> None:
    hint = advice(parse(text)[0], POSTS_COLLECTION)
    assert [words[1] for words in commands_in(hint)] == advised and "--scan" in hint


def test_names_are_free_and_short_enough() -> None:
    query, _ = parse("all posts where views = 1")
    _, taken = a_collection([], "by_views=likes", "by_views_=likes,id")
    assert commands_in(advice(query, taken)) == [["posts", "by_views__=views"]]
    long, _ = parse(f"all posts where {'v' * 200} = 1")
    ((_, text),) = commands_in(advice(long, taken))
    assert len(text.partition("=")[0]) == NAME_BYTES_MAX
    (index,) = list(taken.indexes.values())[:1]
    full = replace(taken, indexes=taken.indexes.update({f"i{number}": index for number in range(INDEXES_MAX - 2)}))
    assert not commands_in(advice(query, full))
    one_less = replace(full, indexes=full.indexes.remove("i0"))
    assert commands_in(advice(query, one_less))


@given(st.integers(0, 2**32), st.booleans())
@example(2374, False)
def test_an_advised_index_answers(seed: int, combined: bool) -> None:
    """Unless it would have to sort by lists, which nobody knew."""
    random_ = random.Random(seed)
    source, collection = built(an_empty_collection(random_, 2), some_records(random_, 40))
    query = a_combined_query(random_) if combined else a_query(random_)
    if any(by.path in ("tags", "a.b", "a", "a.b.c") for by in query.order if isinstance(by, SortPath)):
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choosing, "SCAN_FREE_ENTRIES", 0)
        try:
            source.run(choose(query, collection, allow_scan=False))
        except UsageError as error:
            if "no index answers" not in str(error) or not commands_in(error.hint):
                return
            try:
                after = with_advised(source, collection, error.hint, RULE)
            except UsageError:  # its records have lists at two of the paths
                return
            try:
                source.run(choose(query, after, allow_scan=False))
            except UsageError:
                added = set(after.indexes) - set(collection.indexes)
                assert any(any(after.indexes[name].lists) for name in added)
