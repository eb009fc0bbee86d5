"""Lengths of time, and heads that are fresh enough, at the limit and one past it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhizome_index.blocks.cid import cid_of
from rhizome_index.errors import UnavailableError, UsageError
from rhizome_index.index.duration import parse_duration, say_duration
from rhizome_index.index.freshness import ANY_AGE, Freshness, expires_in
from rhizome_index.index.head import Head, Identity, sign_head
from rhizome_index.limits import DURATION_SECONDS_MAX

IDENTITY = Identity(b"seed" * 8)
SIGNED = 1_700_000_000


def a_head(expires_ms: int | None = None) -> Head:
    return sign_head(IDENTITY, "main", 7, cid_of(b"manifest"), SIGNED * 1000, expires_ms)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1s", 1), ("90s", 90), ("15min", 900), ("15m", 900), ("1 h", 3600), (" 30d ", 2592000), ("2w", 1209600)],
)
def test_lengths_of_time(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "1", "h", "0s", "-1h", "1.5h", "1y", "1h30", "1h 30min", "9" * 13 + "s", "١h"])
def test_what_is_no_length_of_time(text: str) -> None:
    with pytest.raises(UsageError, match="not a length of time"):
        parse_duration(text)


def test_lengths_of_time_at_the_limit_and_one_past_it() -> None:
    assert parse_duration(f"{DURATION_SECONDS_MAX}s") == DURATION_SECONDS_MAX
    with pytest.raises(UsageError):
        parse_duration(f"{DURATION_SECONDS_MAX + 1}s")


@given(st.integers(1, DURATION_SECONDS_MAX))
def test_what_is_said_can_be_read_and_is_nearly_as_long(seconds: int) -> None:
    assert abs(parse_duration(say_duration(seconds)) - seconds) <= seconds / 4


def test_nothing_is_insisted_on_by_default() -> None:
    for head in (a_head(), a_head(SIGNED * 1000 + 1)):
        ANY_AGE.check(head, SIGNED + 10**9)


def test_an_age_at_the_limit_and_one_past_it() -> None:
    fresh = Freshness(age_seconds=60)
    fresh.check(a_head(), SIGNED + 60)
    fresh.check(a_head(), SIGNED - 3600)  # its publisher's clock is ahead
    with pytest.raises(UnavailableError, match="head 7 is 60 s old; wanted is one of at most 60 s"):
        fresh.check(a_head(), SIGNED + 60.001)
    with pytest.raises(UnavailableError, match="head 7 is 3 h old"):
        fresh.check(a_head((SIGNED + 10**6) * 1000), SIGNED + 3 * 3600)


def test_an_expiry_at_the_limit_and_one_before_it() -> None:
    fresh, head = Freshness(is_unexpired=True), a_head((SIGNED + 60) * 1000)
    fresh.check(head, SIGNED + 59.999)
    for late, said in ((60, "0 s"), (60 + 7200, "2 h")):
        with pytest.raises(UnavailableError, match=f"head 7 expired {said} ago"):
            fresh.check(head, SIGNED + late)
    with pytest.raises(UnavailableError, match="does not say how long it holds"):
        fresh.check(a_head(), SIGNED)


def test_both_are_insisted_on() -> None:
    fresh, head = Freshness(60, True), a_head((SIGNED + 120) * 1000)
    fresh.check(head, SIGNED + 60)
    with pytest.raises(UnavailableError, match="61 s old"):
        fresh.check(head, SIGNED + 61)


def test_how_long_a_head_holds() -> None:
    assert expires_in(a_head(), SIGNED) is None
    assert [expires_in(a_head((SIGNED + 60) * 1000), SIGNED + late) for late in (0, 60, 61)] == [60, 0, -1]
