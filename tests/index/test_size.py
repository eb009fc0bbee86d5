"""Sizes as people read them."""

from __future__ import annotations

import pytest

from rhizome_index.index.size import say_size


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (53_140_992, "53.1 MB"),
        (10**10, "10.0 GB"),
        (10**15, "1000000.0 GB"),
    ],
)
def test_sizes_are_told_in_the_unit_that_fits(count: int, text: str) -> None:
    assert say_size(count) == text
