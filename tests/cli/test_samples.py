"""The sample records: the same everywhere, and shaped as the module says."""

from __future__ import annotations

import json
import sys
from collections import Counter
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhizome_index.cli import samples
from rhizome_index.index.record import encode_record

POSTS = list(samples.posts(4_000, 1))


def test_the_first_post_of_seed_1_is_frozen() -> None:
    # A change here means that published examples and experiments no longer repeat.
    assert next(samples.posts(3, 1)) == {
        "id": "p00000000",
        "author": "alice",
        "created": 1735689470846,
        "text": "song new should some all wind found half enough coast south work more that the market how "
        "summer look be then said by people rain sun",
        "tags": ["photography"],
        "likes": 40,
    }


@given(count=st.integers(0, 40), seed=st.integers(0, 2**32))
def test_posts_are_a_function_of_count_and_seed(count: int, seed: int) -> None:
    posts = list(samples.posts(count, seed))
    assert len(posts) == count
    assert posts == list(samples.posts(count, seed))


@given(count=st.integers(0, 40), more=st.integers(0, 40), seed=st.integers(0, 2**32))
def test_the_first_of_more_posts_differ_in_time_only(count: int, more: int, seed: int) -> None:
    for fewer, first in zip(samples.posts(count, seed), samples.posts(count + more, seed), strict=False):
        assert first | {"created": 0} == fewer | {"created": 0}


def test_another_seed_gives_other_posts() -> None:
    assert next(samples.posts(1, 1))["text"] != next(samples.posts(1, 2))["text"]


@pytest.mark.parametrize("count", [1, 300, 10**7, 10**12])
def test_ids_and_times_rise_and_end_before_the_fixed_date(count: int) -> None:
    posts = list(islice(samples.posts(count, 5), 300))
    assert all(one["id"] < other["id"] for one, other in pairwise(posts))
    assert all(one["created"] < other["created"] for one, other in pairwise(posts))
    assert posts[-1]["created"] < samples.END_MS
    # The last id has no more digits than the first, so text order stays time order to the end.
    assert len(posts[0]["id"]) >= len(f"p{count - 1}")


def test_a_post_has_the_promised_fields() -> None:
    for post in POSTS:
        assert list(post) == ["id", "author", "created", "text", "tags", "likes"]
        assert post["author"] in samples.AUTHORS
        assert 8 <= len(post["text"].split()) <= 30
        assert 1 <= len(set(post["tags"])) == len(post["tags"]) <= 4
        assert set(post["tags"]) <= set(samples.TAGS)
        assert type(post["likes"]) is int
        assert post["likes"] >= 0
        encode_record(post)


def test_a_post_takes_200_to_260_bytes() -> None:
    assert 200 <= sum(len(json.dumps(post)) for post in POSTS) / len(POSTS) <= 260
    assert 200 <= sum(len(json.dumps(post, separators=(",", ":"))) for post in POSTS) / len(POSTS) <= 260


def test_tags_are_500_and_cats_stands_at_rank_20() -> None:
    assert len(set(samples.TAGS)) == len(samples.TAGS) == 500
    assert samples.TAGS[20 - 1] == "cats"


def test_tags_authors_and_likes_are_skewed() -> None:
    tags = Counter(tag for post in POSTS for tag in post["tags"])
    authors = Counter(post["author"] for post in POSTS)
    assert tags.most_common(1)[0][0] == samples.TAGS[0]
    assert 8 <= tags[samples.TAGS[0]] / tags["cats"] <= 25  # 1/1 against 1/20, flattened as tags of a post differ
    assert authors.most_common(1)[0][0] == samples.AUTHORS[0] == "alice"
    likes = sorted(post["likes"] for post in POSTS)
    assert likes[len(likes) // 2] < 12
    assert likes[-1] > 500


def test_posts_are_made_one_at_a_time() -> None:
    assert len(list(islice(samples.posts(sys.maxsize, 1), 3))) == 3


def test_the_bundled_emoji_are_json_lines() -> None:
    lines = list(samples.emoji())
    assert len(lines) > 1_000
    assert all(line.endswith(b"\n") for line in lines)
    records = [json.loads(line) for line in lines]
    assert records[0]["id"] == "1F600"
    assert len({record["id"] for record in records}) == len(records)
