"""What filters mean where scalars meet lists, maps, nulls and nothing at all: held against mongomock.

mongomock is not MongoDB. Where it is known to differ from what MongoDB's manual says, `BUGS` names how, as
narrowly as it can be said, and those pairs of record and condition are left out. Where we differ from MongoDB
on purpose, docs/mongodb.md says so, and the tests below hold us to it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import mongomock
import pytest
from hypothesis import strategies as st
from pyrsistent import pmap

from rhizome_index.errors import UsageError
from rhizome_index.index.condition import compile_filter
from rhizome_index.index.schema import Collection, Index, SortPath, primary_key
from rhizome_index.query.answer import Answer
from rhizome_index.query.choose import choose
from rhizome_index.query.expr import Query
from rhizome_index.query.mongo import from_mongo
from rhizome_index.query.parse import parse_index
from rhizome_index.tree.node import EMPTY_TREE
from tests.driving import MemorySource, answer_directly
from tests.properties import records as made
from tests.properties.effort import quickly, thoroughly
from tests.query.oracle import elements, lists, meets

Record = dict[str, Any]
Condition = tuple[str, str, Any]  # path, operator, operand

SCALARS = [None, True, False, -1, 2, 2.0, 2.5, 3, 2**53 + 1, "", "a", "ab", "b", "\u00e9"]
PATHS = ["a", "n", "a.b", "a.b.c", "n.b", "t"]
RANGES = ("$lt", "$lte", "$gt", "$gte")
OPERATORS = ("=", "$eq", "$ne", *RANGES, "$in", "$nin", "$all", "$exists", "$not")


# --- records and filters ---


def a_value(chance: random.Random, depth: int = 2) -> Any:
    kind = chance.random()
    if depth and kind < 0.3:
        return [a_value(chance, depth - 1) for _ in range(chance.choice([0, 1, 2, 3]))]
    if depth and kind < 0.55:
        return {name: a_value(chance, depth - 1) for name in chance.sample(["b", "c"], chance.choice([0, 1, 2]))}
    return chance.choice(SCALARS)


def a_map(chance: random.Random) -> Any:
    return {name: a_value(chance, 1) for name in chance.sample(["b", "c"], chance.choice([0, 1, 2]))}


def below(chance: random.Random) -> Any:
    """What stands at the first step of a path, often such that it goes on."""
    maps = [a_map(chance) for _ in range(chance.choice([1, 2]))]
    return chance.choice([maps, maps[0], a_value(chance)])


def a_record(chance: random.Random, number: int) -> Record:
    record = {name: below(chance) for name in ("a", "n") if chance.random() < 0.85}
    return {"id": number, "t": chance.choices(["x", "y", "z"], k=chance.choice([0, 1, 2])), **record}


def an_operand(chance: random.Random, operator: str) -> Any:
    if operator == "$exists":
        return chance.random() < 0.5
    if operator in ("$in", "$nin", "$all"):
        return [a_value(chance, chance.choice([0, 0, 1])) for _ in range(chance.choice([1, 2, 3]))]
    if operator in RANGES:
        return chance.choice(SCALARS)
    return a_value(chance, chance.choice([0, 0, 1]))


def at_a_path(chance: random.Random, operators: tuple[str, ...] = OPERATORS) -> Any:
    operator = chance.choice(operators)
    if operator == "$not":
        return {"$not": at_a_path(chance, OPERATORS[1:-1])}
    operand = an_operand(chance, operator)
    return operand if operator == "=" else {operator: operand}


def a_filter(chance: random.Random, depth: int = 2) -> Any:
    if depth and chance.random() < 0.3:
        parts = [a_filter(chance, depth - 1) for _ in range(chance.choice([1, 2, 3]))]
        return {chance.choice(["$and", "$or", "$nor"]): parts}
    return {path: at_a_path(chance) for path in chance.sample(PATHS, chance.choice([1, 1, 2]))}


def conditions(filter_: Any) -> Iterator[Condition]:
    """The conditions of a filter, one by one."""
    for name, value in filter_.items():
        if name in ("$and", "$or", "$nor"):
            for part in value:
                yield from conditions(part)
        else:
            yield from _of_path(name, value)


def _of_path(path: str, value: Any) -> Iterator[Condition]:
    if not isinstance(value, dict) or not any(name.startswith("$") for name in value):
        yield path, "=", value
        return
    for operator, operand in value.items():
        yield from _of_path(path, operand) if operator == "$not" else [(path, operator, operand)]


# --- what mongomock does otherwise than MongoDB ---


def _is_led_astray(path: str, record: Record) -> bool:
    here: list[Any] = [record]
    for step in path.split(".")[:-1]:
        found = [item.get(step) for item in here if step in item]
        ahead = [item for value in found for item in (value if isinstance(value, list) else [value])]
        if (not ahead and found) or any(not isinstance(item, dict) for item in ahead):
            return True
        here = ahead
    return False


def _passes_a_list(path: str, record: Record) -> bool:
    steps = path.split(".")
    return any(lists(record, ".".join(steps[:end])) for end in range(1, len(steps)))


def _lists_in(path: str, record: Record) -> bool:
    return any(isinstance(value, list) for value in elements(record, path))


@dataclass(frozen=True)
class Bug:
    """What mongomock does otherwise than MongoDB.

    concerns  whether it may, for a path, an operator, its operand and a record
    filter_   one that shows it, with `record`; `meets` is what MongoDB says, and mongomock does not
    """

    concerns: Callable[[str, str, Any, Record], bool]
    filter_: dict[str, Any]
    record: Record
    meets: bool


BUGS = {
    "what a path does not lead to, for a scalar or a list with other than maps on its way, is not missing": Bug(
        lambda path, operator, operand, record: _is_led_astray(path, record), {"a.b": None}, {"a": 5}, True
    ),
    "$lte and $gte null do not match what is missing": Bug(
        lambda path, operator, operand, record: operator in ("$lte", "$gte") and operand is None,
        {"a": {"$lte": None}}, {}, True,
    ),
    "$all of a null does not match what is missing": Bug(
        lambda path, operator, operand, record: operator == "$all" and None in operand,
        {"a": {"$all": [None]}}, {}, True,
    ),
    "$all of a list does not match what is that list": Bug(
        lambda path, operator, operand, record: operator == "$all" and any(isinstance(item, list) for item in operand),
        {"a": {"$all": [["b"]]}}, {"a": ["b"]}, True,
    ),
    "$all does not look into lists that stand in the maps of a list": Bug(
        lambda path, operator, operand, record: operator == "$all" and _passes_a_list(path, record),
        {"a.b": {"$all": [2]}}, {"a": [{}, {"b": [1, 2]}]}, True,
    ),
    "$in of a list does not match what is that list": Bug(
        lambda path, operator, operand, record: (
            operator in ("$in", "$nin") and any(type(item) is list for item in operand)
        ),
        {"a.b": {"$in": [["c"], 1]}}, {"a": {"b": ["c"]}}, True,
    ),
    "$eq of a list does not match a list that has it as an element": Bug(
        lambda path, operator, operand, record: isinstance(operand, list) and _lists_in(path, record),
        {"a": {"$eq": ["b"]}}, {"a": [["b"], 1]}, True,
    ),
    "an empty map matches what is missing": Bug(
        lambda path, operator, operand, record: operator == "=" and operand == {}, {"a": {}}, {}, False
    ),
    "$exists false matches where some of the maps in a list lack the name": Bug(
        lambda path, operator, operand, record: operator == "$exists" and not operand and "." in path,
        {"a.b": {"$exists": False}}, {"a": [{"b": 1}, {}]}, False,
    ),
    "true equals 1, and false 0": Bug(  # neither number is in SCALARS
        lambda path, operator, operand, record: False, {"a": 1}, {"a": True}, False
    ),
}  # fmt: skip


def _is_ours(path: str, operator: str, operand: Any, record: Record) -> bool:
    """Where MongoDB, and mongomock, mean something else than we do: whole maps and lists with 2 or 2.0 in them."""
    return any(type(item) in (list, dict) and 2 in _within(item) for item in [operand, *_within(operand)])


def _within(value: Any) -> list[Any]:
    """All that is in a list or a map, however deep."""
    parts = value if type(value) is list else value.values() if type(value) is dict else ()
    return [found for part in parts for found in (part, *_within(part))]


# --- the comparison ---


def theirs(records: list[Record], filter_: Any, **more: Any) -> list[int]:
    collection = mongomock.MongoClient().db.things
    collection.insert_many([{**record} for record in records])
    return [found["id"] for found in collection.find(filter_, **more)]


def _is_left_out(condition: Condition, record: Record) -> bool:
    return _is_ours(*condition, record) or any(bug.concerns(*condition, record) for bug in BUGS.values())


def theirs_if_it_can(records: list[Record], filter_: Any) -> list[int] | None:
    """None where it fails: with $all, where some of the maps in a list lack the name."""
    try:
        return theirs(records, filter_)
    except TypeError:
        assert any(operator == "$all" and "." in path for path, operator, _ in conditions(filter_))
        return None


def collection_of(chance: random.Random, records: list[Record]) -> tuple[MemorySource, Collection]:
    texts = chance.sample(["by_t=t", "by_a=a", "by_n=n", "by_deep=a.b", "some=t where n exists"], chance.randrange(6))
    indexes = pmap({name: Index.empty(name, definition) for name, definition in map(parse_index, texts)})
    empty = Collection("things", "id", None, (), EMPTY_TREE, indexes)
    return made.built(empty, {primary_key(record, ("id",)): record for record in records})


def compared(seed: int) -> int:
    """Six filters over some records, by mongomock, by every reader of ours. How many pairs could be compared."""
    chance = random.Random(seed)
    records = [a_record(chance, number) for number in range(8)]
    source, held = collection_of(chance, records)
    pairs = 0
    for _ in range(6):
        filter_ = a_filter(chance)
        expr = from_mongo(filter_)
        query = Query("things", expr)
        rows, _ = answer_directly(
            Answer(query, held, source.run(choose(query, held, allow_scan=True)).candidate), source
        )
        ours, others, test = (
            {row.record["id"] for row in rows},
            theirs_if_it_can(records, filter_),
            compile_filter(expr),
        )
        for record in records:
            is_found = record["id"] in ours
            assert is_found == test(record) == meets(record, expr), (filter_, record)
            if others is None or any(_is_left_out(one, record) for one in conditions(filter_)):
                continue
            pairs += 1
            assert is_found == (record["id"] in others), (filter_, record)
    return pairs


def check_filters(seed: int) -> None:
    compared(seed)


SEEDS = st.integers(0, 2**32)
test_filters_mean_what_mongodb_means = quickly(check_filters, SEEDS, cases=30)
test_many_filters_mean_what_mongodb_means = thoroughly(check_filters, SEEDS, cases=5000)


def test_most_pairs_are_compared() -> None:
    assert sum(compared(seed) for seed in range(20)) > 20 * 6 * 8 / 2


@pytest.mark.parametrize("name", BUGS)
def test_mongomock_still_differs_from_mongodb(name: str) -> None:
    """If one of these fails, mongomock has been mended: what it was left out of can be compared."""
    bug, record = BUGS[name], {"id": 1, **BUGS[name].record}
    assert compile_filter(from_mongo(bug.filter_))(record) is bug.meets
    assert (theirs([record], bug.filter_) == [1]) is not bug.meets
    operands = list(conditions(bug.filter_))
    assert any(bug.concerns(*one, record) for one in operands) or name.startswith("true")


def check_order(seed: int) -> None:
    chance = random.Random(seed)
    values = [None, -1, 2, 2.5, 2**53 + 1, "", "a", "ab", "\u00e9"]
    records = [{"id": at, "n": chance.choice(values), "m": chance.choice([1, 2])} for at in range(10)]
    del records[3]["n"]
    source, held = collection_of(chance, records)
    sides = [chance.choice([1, -1]) for _ in range(3)]
    paths = ("m", "n", "id")
    query = Query("things", order=tuple(SortPath(path, side < 0) for path, side in zip(paths, sides, strict=True)))
    choice = source.run(choose(query, held, allow_scan=True)).candidate
    rows, _ = answer_directly(Answer(query, held, choice), source)
    assert [row.record["id"] for row in rows] == theirs(records, {}, sort=list(zip(paths, sides, strict=True)))


test_records_sort_as_in_mongodb = quickly(check_order, SEEDS, cases=20)


# --- where we differ on purpose: docs/mongodb.md ---

REFUSED: list[dict[str, Any]] = [
    {"a": {"$lt": [1]}},
    {"a": {"$gte": {"b": 1}}},
    {"a": {"$in": []}},
    {"a": {"$nin": []}},
    {"a": {"$all": []}},
    {"a": {"$exists": 1}},
    *({"a": {operator: 1}} for operator in ("$size", "$type", "$regex", "$mod", "$elemMatch", "$bitsAllSet")),
    *({operator: 1} for operator in ("$expr", "$where", "$text", "$jsonSchema", "$comment")),
    {"a": {"$gt": 1, "b": 2}},
    {"a": float("nan")},
    {"a": datetime(2024, 5, 1, tzinfo=UTC)},
]


@pytest.mark.parametrize("filter_", REFUSED, ids=str)
def test_what_mongodb_knows_and_we_refuse(filter_: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Query("things", from_mongo(filter_))


@pytest.mark.parametrize(
    ("filter_", "record", "is_met"),
    [
        ({"a.0": 1}, {"a": [1, 2]}, False),  # no step of a path is a place in a list
        ({"a.0": 1}, {"a": {"0": 1}}, True),
        ({"a": {"b": 1, "c": 2}}, {"a": {"c": 2, "b": 1}}, True),  # the names of a map have no order
        ({"a": {"b": 2}}, {"a": {"b": 2.0}}, False),  # compared as a whole, a map has one encoding
        ({"a": [2]}, {"a": [2.0]}, False),
        ({"a": 2}, {"a": [2.0]}, True),
        ({"a": {"$lt": b"b"}}, {"a": b"aa"}, True),  # bytes compare as bytes, not by their length first
        ({"a": {"$not": 1}}, {"a": 2}, True),  # not a value: as $ne
        ({"a": {"$startsWith": "ca"}}, {"a": ["dog", "cat"]}, True),
        ({"a": {"$matches": "cute cats"}}, {"a": "Cats: so cute!"}, True),
    ],
)  # fmt: skip
def test_what_means_something_else_here(filter_: dict[str, Any], record: Record, is_met: bool) -> None:
    assert compile_filter(from_mongo(filter_))(record) is is_met is meets(record, from_mongo(filter_))


def test_types_have_another_order_and_an_empty_list_sorts_as_null() -> None:
    values = [None, [], False, True, -1, 2.5, "", "a", b"", {"b": 1}]
    records = [{"id": number, "n": value} for number, value in enumerate(values)]
    source, held = collection_of(random.Random(0), records)
    for descending in (False, True):
        query = Query("things", order=(SortPath("n", descending),))
        choice = source.run(choose(query, held, allow_scan=True)).candidate
        rows, _ = answer_directly(Answer(query, held, choice), source)
        found = [row.record["id"] for row in rows]
        assert found == (list(range(10))[::-1] if descending else list(range(10)))
