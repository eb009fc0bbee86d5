"""Queries that are kept: they ask at any time what they asked when they were kept."""

from __future__ import annotations

import json
import random

import pytest

from rhizome_index.errors import UsageError
from rhizome_index.query.moments import at_moment
from rhizome_index.query.parse import parse
from tests.fuzzing.language import document, sentence

NOW_MS = 1_700_000_000_123


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("newest 9 posts since 7d", "newest 9 posts since 2023-11-07T22:13:20.123Z"),
        ("newest 9 posts SINCE 1s where a = 1", "newest 9 posts SINCE 2023-11-14T22:13:19.123Z where a = 1"),
        ("all posts since 1d since 2w", "all posts since 2023-11-13T22:13:20.123Z since 2023-10-31T22:13:20.123Z"),
        ("all posts since 0s", "all posts since 2023-11-14T22:13:20.123Z"),
        ("all posts since 2024-05-01", "all posts since 2024-05-01"),
        ('all posts where a = "since 7d"', 'all posts where a = "since 7d"'),
        ("all posts tagged #7d by since", "all posts tagged #7d by since"),
        ('{"find": "posts", "since": "2d"}', '{"find": "posts", "since": "2023-11-12T22:13:20.123Z"}'),
        ('{"find": "posts", "since": "2024-05-01"}', '{"find": "posts", "since": "2024-05-01"}'),
        ('{"find": "7d"}', '{"find": "7d"}'),
    ],
)
def test_a_moment_is_named(text: str, kept: str) -> None:
    assert at_moment(text, NOW_MS) == kept
    assert parse(kept) == parse(text, NOW_MS)


def test_what_is_kept_asks_at_any_time_what_was_asked_then() -> None:
    tried = 0
    for seed in range(600):
        chance = random.Random(seed)
        text = sentence(chance) if seed % 2 else json.dumps(document(chance))
        try:
            asked = parse(text, NOW_MS)
            kept = at_moment(text, NOW_MS)
        except UsageError:
            continue
        assert parse(kept) == asked and at_moment(kept, NOW_MS + 1) == kept
        tried += kept != text
    assert tried > 10


@pytest.mark.parametrize("text", ["all posts since 999999999w", "all posts sinc 7d", '{"find": "posts", "since": 7}'])
def test_what_cannot_be_kept_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        at_moment(text, NOW_MS)
