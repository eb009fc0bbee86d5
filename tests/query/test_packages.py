"""What a count, and two tags at once, read: of made posts, and of all real packages where those can be found."""

from __future__ import annotations

from functools import cache

import pytest

from rhizome_index.cli.samples import posts
from tests.benchmarks.planning import COUNTED, RARE_TOGETHER, blocks_of
from tests.query.cases import Held, all_packages, built, names

BLOCKS_OF_COUNT_MAX = 12
OF_POSTS = ("posts", "count posts tagged #cats", "all posts tagged #cats and #nature")
OF_PACKAGES = [
    pytest.param("packages", COUNTED, text, marks=pytest.mark.slow) for text in RARE_TOGETHER if "packages" in names()
]


@cache
def held(name: str) -> Held:
    return built(name, ["by_tag=tags"], all_packages() if name == "packages" else list(posts(1500, 1)))


@pytest.mark.parametrize(("name", "counted", "together"), [OF_POSTS, *OF_PACKAGES])
def test_a_count_reads_a_few_blocks_and_two_tags_less_than_half_of_one(name: str, counted: str, together: str) -> None:
    (blocks,) = blocks_of(counted, held(name)).values()
    assert blocks <= BLOCKS_OF_COUNT_MAX
    one, other, both = blocks_of(together, held(name)).values()
    assert both < min(one, other) / 2
