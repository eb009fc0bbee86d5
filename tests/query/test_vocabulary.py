"""What a collection speaks of is found in a few leaves, and is really there."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhizome_index.index.keys import encode_component
from rhizome_index.index.record import parse_path, values_at
from rhizome_index.index.write import NeedRecords
from rhizome_index.limits import PATHS_SEEN_MAX, VALUES_LEAVES_MAX, VALUES_SEEN_MAX
from rhizome_index.query.vocabulary import look, tree_over, values_of
from tests.properties.records import LOOKED_AT, SCALARS, an_empty_collection, built, some_records
from tests.query.test_plan import POSTS, POSTS_COLLECTION, SOURCE, a_collection


def test_paths_come_from_the_records_looked_at() -> None:
    seen = SOURCE.run(look(POSTS_COLLECTION))
    assert seen.paths == ("author", "created", "id", "likes", "tags") and seen.all and len(seen.records) == len(POSTS)
    records = [{"id": 1, "a": {"b": [{"c": 1}, 2]}, "n": None, "x.y": 1, "-z": 1, "": 1}, {"id": 2, "`": 1}, {"id": 3}]
    source, nested = a_collection(records)
    assert source.run(look(nested)).paths == ("id", "a.b", "a.b.c")
    source, empty = a_collection([])
    assert source.run(look(empty)).paths == () and source.run(look(empty)).all


def test_of_many_records_a_few_are_looked_at() -> None:
    source, many = a_collection([{"id": number, "text": "x" * 50, f"k{number % 3}": 1} for number in range(3000)])
    seen = source.run(look(many))
    assert {"id", "text", "k0", "k1", "k2"} == set(seen.paths) and not seen.all and len(seen.records) < 400
    assert {0, 2999} < {record["id"] for record in seen.records}


def test_of_many_paths_the_most_frequent_are_noted() -> None:
    names = [f"p{number:03}" for number in range(PATHS_SEEN_MAX)]
    for extra in (0, 1):
        record = dict.fromkeys([*names, "zz"][extra : PATHS_SEEN_MAX + extra], 1)
        source, wide = a_collection([{"id": 1} | record])
        assert len(source.run(look(wide)).paths) == PATHS_SEEN_MAX


def test_large_records_are_not_read() -> None:
    source, large = a_collection([{"id": 1, "text": "x" * 3000}, {"id": 2}])
    seen = source.run(look(large))
    assert seen.paths == ("id",) and not seen.all


@pytest.mark.parametrize(
    ("path", "prefix", "values"),
    [
        ("tags", None, ["cats", "t0", "t1", "t2"]),
        ("tags", "t", ["t0", "t1", "t2"]),
        ("tags", "dogs", []),
        ("author", "a", [f"a{number}" for number in range(7)]),
        ("likes", None, list(range(11))[::-1]),
        ("likes", "a", []),
        ("created", None, []),
        ("nothing", None, []),
        ("id", None, list(range(60))),
    ],
)
def test_values_come_from_what_sorts_by_their_path(path: str, prefix: str | None, values: list[object]) -> None:
    assert SOURCE.run(values_of(POSTS_COLLECTION, path, prefix)) == values


@pytest.mark.parametrize("count", [VALUES_SEEN_MAX, VALUES_SEEN_MAX + 1])
def test_values_are_bounded(count: int) -> None:
    source, collection = a_collection([{"id": number, "n": f"v{number:04}"} for number in range(count)], "by_n=n")
    assert source.run(values_of(collection, "n", "v")) == [f"v{number:04}" for number in range(VALUES_SEEN_MAX)]


def test_leaves_are_bounded() -> None:
    """Values that fill several leaves each: where one ends and the next begins is read."""
    records = [{"id": number, "n": "v" * 400 + str(number // 60)} for number in range(60 * VALUES_LEAVES_MAX * 2)]
    source, collection = a_collection(records, "by_n=n")
    walk, read, reply = values_of(collection, "n"), 0, None
    while True:
        try:
            need = walk.send(reply)  # type: ignore[arg-type]
        except StopIteration as stop:
            assert stop.value[0].endswith("v0") and len(stop.value) < 2 * VALUES_LEAVES_MAX
            break
        assert not isinstance(need, NeedRecords)
        reply = [node for _, node in source.chunks(need.cids)]
        read += sum(not node.level for node in reply)
    assert read <= VALUES_LEAVES_MAX + 1


def test_an_index_of_everything_comes_first() -> None:
    records = [{"id": number, "n": number} for number in range(9)]
    _, collection = a_collection(records, "a_part=n where n > 3", "whole=-n,id")
    found = tree_over(collection, "n")
    assert found is not None and found[1].descending and not found[2]
    _, collection = a_collection(records, "a_part=n where n > 3")
    found = tree_over(collection, "n")
    assert found is not None and found[2]


@given(st.integers(0, 2**32))
def test_values_are_there(seed: int) -> None:
    random_ = random.Random(seed)
    records = some_records(random_, 25)
    source, collection = built(an_empty_collection(random_), records)
    path = random_.choice(LOOKED_AT)
    prefix = random_.choice([None, "", "a", "b"])
    there = {encode_component(value) for record in records.values() for value in values_at(record, parse_path(path))[0]}
    found = source.run(values_of(collection, path, prefix))
    assert {encode_component(value) for value in found} <= there
    assert prefix is None or all(type(value) is str and value.startswith(prefix) for value in found)
    over = tree_over(collection, path)
    if over is not None and not over[2] and prefix == "a":
        texts = {value for value in SCALARS if type(value) is str and value.startswith("a")}
        assert {value for value in texts if encode_component(value) in there} <= set(found)
