"""Slips: what is near enough to have been meant, and names that are not there."""

from __future__ import annotations

import pytest
from pyrsistent import pmap

from rhizome_index.errors import UnknownCollectionError, UsageError
from rhizome_index.index.manifest import Manifest
from rhizome_index.index.schema import Collection, Definition, Index, SortPath
from rhizome_index.index.slips import did_you_mean
from rhizome_index.limits import NAME_BYTES_MAX
from rhizome_index.query.parse import parse_index
from rhizome_index.tree.boundary import Rule
from rhizome_index.tree.node import EMPTY_TREE

INDEXES = {"by_tag": Definition.over("tags", "-likes"), "new": parse_index("i=a where b.c > 1 include d")[1]}
POSTS = Collection(
    "posts",
    "id",
    "created",
    (SortPath("order"),),
    EMPTY_TREE,
    pmap({name: Index.empty(name, definition) for name, definition in INDEXES.items()}),
)


def test_words_too_long_to_be_slips_are_not_compared() -> None:
    word = "a" * NAME_BYTES_MAX
    assert did_you_mean(word, [word + "b"], "there are: b") == f'did you mean "{word}b"?; there are: b'
    assert did_you_mean(word + "a", [word + "b"], "there are: b") == "there are: b"
    assert did_you_mean("quite", ["different"]) == ""


def test_names_that_are_not_there_suggest_those_that_are() -> None:
    manifest = Manifest(Rule(b""), pmap({"posts": POSTS}))
    assert manifest.collection("posts") is POSTS and POSTS.index("by_tag").definition == INDEXES["by_tag"]
    with pytest.raises(UnknownCollectionError) as caught:
        manifest.collection("post")
    assert caught.value.hint == 'did you mean "posts"?; the dataset has: posts'
    with pytest.raises(UsageError, match="no index called 'by_tags' in 'posts'") as missing:
        POSTS.index("by_tags")
    assert missing.value.hint == 'did you mean "by_tag"?; there are: by_tag, new'


def test_declared_paths() -> None:
    assert POSTS.declared_paths() == ("id", "created", "order", "tags", "likes", "a", "b.c", "d")
    assert POSTS.declared_paths("new") == ("a", "b.c", "d")
