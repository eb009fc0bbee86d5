"""What peers do."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from rhizome_index.cli.samples import posts
from rhizome_index.simulation.workload import Posts, Record, draw

steps = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=8)


@given(st.integers(0, 2**32), steps)
def test_edits_are_of_posts_drawn_among_those_that_are_there(seed: int, steps: list[tuple[int, int]]) -> None:
    """Against the plain way, which looks at all of them for each edit; what was published follows the changes."""
    made, there = Posts(500, seed), list[Record]()
    coming, chance = posts(500, seed), random.Random(seed)
    for more, edits in steps:
        new = made.more(more)
        assert list(new.values()) == [next(coming) for _ in range(more)]
        there += [dict(record) for record in new.values() if record is not None]
        changed: dict[str, Record | None] = {}
        for _ in range(min(edits, len(there) // 2)):
            post = draw(chance, there)
            if chance.random() < 0.1:
                changed[post["id"]] = None
                there.remove(post)
            else:
                changed[post["id"]] = edited = {**post, "likes": int(chance.random() * 100)}
                there[there.index(post)] = edited
        assert made.edits(edits) == changed
        assert list(made.published.values()) == there
