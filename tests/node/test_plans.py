"""Choices of plans are remembered, as many as fit, and never taken for those of another head."""

from __future__ import annotations

from pathlib import Path

from rhizome_index.cli.samples import posts
from rhizome_index.limits import PLANS_REMEMBERED_MAX
from rhizome_index.node.serve import LocalAnswerer, Plans
from rhizome_index.query.parse import parse
from tests.node.test_disk import DECLARED, a_home, a_publisher


def test_a_query_that_comes_again_is_not_planned_again_unless_the_head_has_moved(tmp_path: Path) -> None:
    home = a_home(tmp_path / "home")
    with home.open_store() as store:
        publisher = a_publisher(home, store)
        publisher.put_many("main", "posts", list(posts(50, 1)), DECLARED)
        plans: Plans = {}
        query, _ = parse("newest 3 posts tagged #cats")
        answerer = LocalAnswerer(store, plans)
        first = answerer.choose(query, publisher.manifest("main"), allow_scan=False)
        assert answerer.choose(query, publisher.manifest("main"), allow_scan=False) is first
        publisher.put_many("main", "posts", [{"id": "new", "tags": ["cats"], "created": 1}])
        moved = answerer.choose(query, publisher.manifest("main"), allow_scan=False)
        assert moved is not first and moved.parts[0].tree != first.parts[0].tree


def test_choices_at_the_limit_and_one_past_it(tmp_path: Path) -> None:
    home = a_home(tmp_path / "home")
    with home.open_store() as store:
        publisher = a_publisher(home, store)
        publisher.put_many("main", "posts", list(posts(5, 1)), DECLARED)
        plans: Plans = {}
        answerer = LocalAnswerer(store, plans)
        for number in range(PLANS_REMEMBERED_MAX + 1):
            assert len(plans) == number
            query, _ = parse(f"newest {number + 1} posts tagged #cats")
            answerer.choose(query, publisher.manifest("main"), allow_scan=False)
        assert len(plans) == 1
