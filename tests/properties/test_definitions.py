"""What an index is defined to hold: no two of a kind in a unique one, and nothing missed by a partial one."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import strategies as st
from pyrsistent import pmap

from rhizome_index.blocks.store import MemoryStore
from rhizome_index.errors import RecordError
from rhizome_index.index.condition import And, Compare, Expr, Or, compile_filter
from rhizome_index.index.record import parse_path, projector, values_at
from rhizome_index.index.schema import Collection, Definition, Index
from rhizome_index.index.write import add_index, rebuild
from rhizome_index.query.imply import implies
from rhizome_index.query.parse import parse_index
from rhizome_index.query.wording import describe_index
from tests.driving import MemorySource
from tests.properties import records as made
from tests.properties.effort import quickly, thoroughly
from tests.query.oracle import meets

SEEDS = st.integers(0, 2**32)
UNIQUE = ["one=n unique", "one=-n unique", "one=tags,m unique", "one=-m,n unique", "one=n where m exists unique"]


def is_unique(definition: Definition, records: made.Records) -> bool:
    """Written otherwise than the index: all values of all records, counted."""
    seen: set[tuple[Any, ...]] = set()
    for record in records.values():
        if not meets(record, definition.where):
            continue
        own: set[tuple[Any, ...]] = {()}
        for path in definition.paths:
            values, _ = values_at(record, parse_path(path.path))
            own = {(*before, kind(value)) for before in own for value in values}
        own = {values for values in own if ("NoneType", "None") not in values}
        if own & seen:
            return False
        seen |= own
    return True


def kind(value: Any) -> tuple[str, str]:
    """Equal for what an index takes for equal."""
    number = type(value) in (int, float)
    if number and value == int(value):
        value = int(value)
    return ("number" if number else type(value).__name__, repr(value))


def check_unique(seed: int) -> None:
    """Whatever the order of changes: refused exactly if two records would have the same, and then nothing changes."""
    random_ = random.Random(seed)
    name, definition = parse_index(random_.choice(UNIQUE))
    empty = replace(made.an_empty_collection(random_, 1), indexes=pmap({name: Index.empty(name, definition)}))
    source, collection = MemorySource(MemoryStore()), empty
    records: made.Records = {}
    for _ in range(6):
        changes: dict[bytes, made.Record | None] = dict(made.some_records(random_, random_.choice([1, 2, 3])))
        for key in random_.sample(sorted(records), min(len(records), random_.choice([0, 1, 2]))):
            changes[key] = random_.choice([None, made.a_record(random_, records[key]["id"])])
        after = {key: record for key, record in {**records, **changes}.items() if record is not None}
        if is_unique(definition, after):
            collection, records = made.changed(source, collection, changes), after
            assert source.run(rebuild(made.RULE, collection, lambda cid, data: None)) == collection
            continue
        with pytest.raises(RecordError, match="the index 'one' is unique, and two records have") as caught:
            made.changed(source, collection, changes)
        assert caught.value.key in after
        bare = replace(empty, indexes=pmap())
        late = made.built(bare, after)
        with pytest.raises(RecordError, match="the index 'one' is unique"):
            late[0].run(add_index(made.RULE, late[1], name, definition, late[0].store.blocks.__setitem__))


test_unique = quickly(check_unique, SEEDS)
test_many_unique = thoroughly(check_unique, SEEDS)


def test_a_unique_value_may_move_across_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """From one record to another in one change, with the put and the delete in different batches."""
    monkeypatch.setattr("rhizome_index.index.write._BATCH", 1)
    name, definition = parse_index("one=n unique")
    indexes = pmap({name: Index.empty(name, definition)})
    empty: Collection = replace(made.an_empty_collection(random.Random(0), 0), indexes=indexes)
    for first, second in (("a", "b"), ("b", "a")):
        source, collection = made.built(empty, keyed({"id": first, "n": 1}))
        moved = made.changed(
            source, collection, {**dict.fromkeys(keyed({"id": first})), **keyed({"id": second, "n": 1})}
        )
        assert moved == made.built(empty, keyed({"id": second, "n": 1}))[1]


def keyed(record: made.Record) -> made.Records:
    return {made.primary_key(record, ("id",)): record}


def check_implications(seed: int) -> None:
    """What is said to follow does, for every record; and some of what follows is seen."""
    random_ = random.Random(seed)
    records = list(made.some_records(random_, 40).values())
    for _ in range(8):
        known = tuple(near(random_) for _ in range(random_.choice([1, 2, 3])))
        wanted = near(random_)
        if not implies(known, wanted):
            assert wanted not in known
            continue
        meets_known, meets_wanted = compile_filter(And(known)), compile_filter(wanted)
        assert all(meets_wanted(record) for record in records if meets_known(record)), (known, wanted)


def near(random_: random.Random) -> Expr:
    """Conditions on few values of few paths, so that some follow from others."""
    path = random_.choice(["n", "tags"])
    value = random_.choice([0, 1, 1.0, 2.5, None, "a", "ab"])
    operator = random_.choice(["=", "=", "in", "<", "<=", ">", ">=", "!=", "exists", "starts with"])
    if operator == "in":
        return Compare("in", path, (value, *random_.sample([0, 1, None, "a"], random_.choice([0, 1, 2]))))
    if operator == "exists":
        return Compare("exists", path, random_.random() < 0.8)
    if operator == "starts with":
        return Compare("starts with", path, random_.choice(["", "a", "ab"]))
    one = Compare(operator, path, value)
    shape = random_.random()
    return one if shape < 0.7 else Or((one, near(random_))) if shape < 0.85 else And((one, near(random_)))


test_implications = quickly(check_implications, SEEDS)
test_many_implications = thoroughly(check_implications, SEEDS, cases=5000)


@pytest.mark.parametrize(
    ("known", "wanted"),
    [
        (Compare("=", "n", 3), Compare(">", "n", 2)),
        (Compare("=", "n", 3), Compare("exists", "n", True)),
        (Compare(">", "n", 5), Compare(">=", "n", 5)),
        (Compare("in", "n", (1, 2)), Compare("in", "n", (2, 1, 3))),
        (Compare("=", "n", 1.0), Compare("in", "n", (1, 3))),
        (Compare("starts with", "n", "abc"), Compare("starts with", "n", "ab")),
        (Or((Compare("=", "n", 3), Compare("=", "n", 4))), Compare(">", "n", 2)),
        (Compare("=", "n", 3), Or((Compare("=", "m", 1), Compare("=", "n", 3)))),
    ],
)
def test_what_follows_is_seen(known: Expr, wanted: Expr) -> None:
    assert implies((known,), wanted) and not implies((wanted,), known)


def check_projection(seed: int) -> None:
    """What stands at a path that is kept, or below, stands there in the projection."""
    random_ = random.Random(seed)
    record = made.a_record(random_, "k")
    paths = random_.sample(made.PATHS, random_.choice([1, 2, 3]))
    project = projector(tuple(map(parse_path, paths)))
    kept = project(record)
    assert project(kept) == kept
    for path in paths:
        assert values_at(kept, parse_path(path)) == values_at(record, parse_path(path))
        assert values_at(kept, parse_path(path + ".b")) == values_at(record, parse_path(path + ".b"))
        for value in (None, 1, "a"):
            for operator in ("=", "!=", ">", "exists"):
                if operator != ">" or value is not None:
                    condition = Compare(operator, path, value is None if operator == "exists" else value)
                    assert meets(kept, condition) == meets(record, condition)


test_projection = quickly(check_projection, SEEDS)
test_many_projections = thoroughly(check_projection, SEEDS)


@pytest.mark.parametrize(
    "text",
    [
        "tags,-created",
        'tags where likes > 5 and (author = "x" or not author exists)',
        "-a.b include id, text unique",
        "`what ever`,n where `with space` in (1, null, true) include `a-b.c d`",
        "email unique",
    ],
)
def test_a_definition_is_described_as_it_is_read(text: str) -> None:
    definition = parse_index(f"i={text}")[1]
    assert parse_index(f"i={describe_index(definition)}")[1] == definition
