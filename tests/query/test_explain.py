"""What is said of the candidates: all of them, in words, the chosen one first."""

from __future__ import annotations

from rhizome_index.index.condition import Compare
from rhizome_index.index.schema import SortPath
from rhizome_index.query.explain import describe, explain
from rhizome_index.query.expr import Query
from tests.query.test_combine import POSTS, SOURCE, tagged


def test_every_candidate_is_told_and_the_chosen_one_comes_first() -> None:
    found, chosen = SOURCE.run(explain(tagged("a3", "b5"), POSTS, allow_scan=False))
    assert chosen is not None and describe(chosen.candidate) == found[0].plan
    assert found[0].verdict == "chosen" and found[0].ordered
    assert found[0].plan == 'by_tag(tags = "a3") and by_tag(tags = "b5")'
    assert {item.plan for item in found[1:]} == {
        'by_tag(tags = "a3") then tags = "b5"',
        'by_tag(tags = "b5") then tags = "a3"',
        'all of primary then tags = "a3" and tags = "b5"',
    }
    assert all("times as much" in item.verdict for item in found[1:])
    assert [item.cost for item in found] == sorted(item.cost for item in found)
    assert {item.in_range for item in found} == {150, 163, 162, 6000} & {item.in_range for item in found}


def test_what_needs_a_scan_says_so() -> None:
    query = Query("posts", Compare("=", "text", "x"), order=(SortPath("likes"),), limit=5)
    (only,) = [item for item in SOURCE.run(explain(query, POSTS, allow_scan=False))[0] if "primary" in item.plan]
    assert "a scan would read all 6,000 records" in only.verdict
    assert SOURCE.run(explain(query, POSTS, allow_scan=False))[1] is None
    assert SOURCE.run(explain(query, POSTS, allow_scan=True))[0][0].verdict == "chosen"
