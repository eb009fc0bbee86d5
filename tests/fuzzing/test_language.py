"""The front ends raise nothing but UsageErrors, and what they read travels: for some inputs of each kind.

How long an input takes is for `python -m tests.fuzzing.language` to say: no test looks at a clock.
"""

from __future__ import annotations

import random

import pytest

from rhizome_index.errors import UsageError
from tests.fuzzing.language import KINDS

QUICKLY, THOROUGHLY = 80, 5_000


def check(name: str, count: int) -> int:
    """How many of so many inputs were read."""
    make, take = KINDS[name]
    read = 0
    for seed in range(count):
        try:
            take(make(random.Random(seed)))
            read += 1
        except UsageError:
            continue
    return read


@pytest.mark.parametrize("name", KINDS)
def test_only_usage_errors_come_out(name: str) -> None:
    assert check(name, QUICKLY) < QUICKLY


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_only_usage_errors_come_out_thoroughly(name: str) -> None:
    check(name, THOROUGHLY)


@pytest.mark.parametrize("name", ["sentences", "JSON", "documents", "filters", "indexes"])
def test_many_of_what_should_mean_something_does(name: str) -> None:
    assert check(name, QUICKLY) > QUICKLY / 8
