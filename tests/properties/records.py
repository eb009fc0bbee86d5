"""Made-up records of all types and shapes, collections of them, and queries about them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from pyrsistent import pmap

from rhizome_index.blocks.store import MemoryStore
from rhizome_index.index.condition import And, Compare, Expr, Not, Or
from rhizome_index.index.record import encode_record
from rhizome_index.index.schema import Collection, Index, SortPath, primary_key
from rhizome_index.index.write import apply_changes
from rhizome_index.query.expr import COUNT, COUNT_BY, DISTINCT, Query
from rhizome_index.query.parse import parse_index
from rhizome_index.tree.boundary import Rule
from rhizome_index.tree.node import EMPTY_TREE
from tests.driving import MemorySource

RULE = Rule(b"properties", 4096)
Record = dict[str, Any]
Records = dict[bytes, Record]  # by encoded primary key

SCALARS: list[Any] = [
    None, True, False, 0, 1, 1.0, -1, 2.5, 2**53, 2**53 + 1, float(2**53), -(2**63), 1e300,
    "", "a", "a\0", "a\0b", "ab", "b", "\x01", "é", "\U0001f600", "\uffff", b"", b"a", b"a\0", b"\xff",
]  # fmt: skip
KEYS: list[Any] = [value for value in SCALARS if type(value) in (int, float, str, bytes)]
# `tags` and `a.b` may hold lists, so no index has both; `n` never does.
INDEXES = [
    "by_tag=tags,-n",
    "by_n=-n",
    "by_n_tag=n,tags",
    "by_down=-tags,n",
    "by_deep=a.b",
    "by_deep_n=n,-a.b",
    "by_key=n,-id",
    "by_m=m,n",
]
SPECIAL = [
    "some=tags,-n where n > 0",
    "ones=-m,tags where n = 1 or n = 2.5 include n, a.b, id",
    "with=n,m include tags, a, n",
    "those=tags where a exists include m",
    "word=words(tags),n include tags",
]
# What the partial indexes above list, and more and less than that.
PARTS = [
    Compare(">", "n", 0),
    Compare(">", "n", 1),
    Compare(">=", "n", -1),
    Compare("=", "n", 1),
    Compare("in", "n", (1, 2.5)),
    Or((Compare("=", "n", 1), Compare("=", "n", 2.5))),
    Compare("exists", "a", True),
    Compare("=", "a", 3),
]
PATHS = ["tags", "n", "m", "a.b", "a", "id", "a.b.c"]
LOOKED_AT = [*PATHS, "words(tags)"]  # in conditions, orders and groups


def a_value(random_: random.Random, depth: int = 1) -> Any:
    if depth and random_.random() < 0.08:
        return random_.choice([[], {}, [1], [1, "a"], {"b": 1}, {"c": ["a", 1]}])
    return random_.choice(SCALARS)


def a_list(random_: random.Random) -> list[Any]:
    return [a_value(random_) for _ in range(random_.choice([0, 1, 2, 3]))]


def a_record(random_: random.Random, key: Any) -> Record:
    record: Record = {"id": key, "n": random_.choice(SCALARS), "m": random_.choice(SCALARS[:6])}
    if random_.random() < 0.2:
        del record["n"]
    if random_.random() < 0.85:
        record["tags"] = a_list(random_) if random_.random() < 0.7 else a_value(random_, 0)
    below = [{"b": random_.choice([a_value(random_), a_list(random_)])}, {"b": {"c": a_value(random_)}}, {}, None, 3]
    if random_.random() < 0.8:
        shape = random_.random()
        record["a"] = random_.sample(below, random_.randrange(4)) if shape < 0.4 else random_.choice(below)
    if random_.random() < 0.1:
        record["large"] = random_.randbytes(2100)
    return record


def some_records(random_: random.Random, count: int) -> Records:
    keys = KEYS + [f"k{number}" for number in range(count)]
    made = [a_record(random_, key) for key in random_.sample(keys, min(count, len(keys)))]
    return {primary_key(record, ("id",)): record for record in made}


def an_empty_collection(
    random_: random.Random, index_count: int | None = None, among: Sequence[str] = (*INDEXES, *SPECIAL)
) -> Collection:
    chosen = random_.sample(among, random_.randrange(len(among)) if index_count is None else index_count)
    indexes = {name: Index.empty(name, definition) for name, definition in map(parse_index, chosen)}
    order = random_.choice([(), (SortPath("n"),), (SortPath("n", True), SortPath("tags"))])
    return Collection("things", "id", "n", order, EMPTY_TREE, pmap(indexes))


def changed(source: MemorySource, collection: Collection, changes: dict[bytes, Record | None]) -> Collection:
    encoded = [(key, None if record is None else encode_record(record)) for key, record in sorted(changes.items())]
    result: Collection = source.run(apply_changes(RULE, collection, encoded, source.store.blocks.__setitem__))
    return result


def built(collection: Collection, records: Records) -> tuple[MemorySource, Collection]:
    source = MemorySource(MemoryStore())
    return source, changed(source, collection, dict(records))


def a_condition(random_: random.Random, depth: int = 2) -> Expr:
    if depth and random_.random() < 0.3:
        terms = tuple(a_condition(random_, depth - 1) for _ in range(random_.choice([0, 1, 2, 3])))
        return random_.choice([And(terms), Or(terms), Not(And(terms))])
    path = random_.choice(LOOKED_AT)
    operator = random_.choice(["=", "=", "=", "!=", "<", "<=", ">", ">=", "in", "starts with", "exists"])
    if operator == "in":
        return Compare(operator, path, tuple(a_value(random_) for _ in range(random_.choice([1, 1, 2, 3]))))
    if operator == "exists":
        return Compare(operator, path, random_.random() < 0.5)
    if operator == "starts with":
        return Compare(operator, path, random_.choice([text for text in SCALARS if type(text) is str]))
    value = a_list(random_) if operator in ("=", "!=") and random_.random() < 0.1 else None
    return Compare(operator, path, value or a_value(random_, depth=operator in ("=", "!=")))


def a_combined_query(random_: random.Random) -> Query:
    """One whose conditions several indexes bind: equalities, and a choice among some."""
    paths = [random_.choice(["tags", "tags", "n", "m", "id"]) for _ in range(3)]
    equal = [Compare("=", path, random_.choice(SCALARS[:16])) for path in paths]
    some = Compare("in", random_.choice(["tags", "n", "id"]), tuple(random_.sample(SCALARS, 3)))
    either = Or(tuple(random_.sample(equal, 2)))
    parts: list[Expr] = random_.choice([equal[:2], equal, [some], [either], [equal[2], some], [equal[2], either]])
    if random_.random() < 0.3:
        parts.append(a_condition(random_))
    if random_.random() < 0.3:
        parts.append(random_.choice(PARTS))
    if random_.random() < 0.2:
        return Query("things", And(tuple(parts)), kind=COUNT)
    order: Any = random_.choice(["newest", "oldest", (SortPath("id"),), (SortPath("n", True),)])
    return Query("things", And(tuple(parts)), order, random_.choice([None, 1, 3]))


def a_query(random_: random.Random) -> Query:
    parts = [a_condition(random_) for _ in range(random_.choice([0, 1, 1, 2, 3]))]
    where = And((*parts, *random_.sample(PARTS, random_.choice([0, 0, 0, 1, 2]))))
    if random_.random() < 0.2:
        return Query("things", where, kind=COUNT)
    if random_.random() < 0.2:
        kind, path = random_.choice([COUNT_BY, DISTINCT]), random_.choice(LOOKED_AT)
        return Query("things", where, limit=random_.choice([None, None, 2]), kind=kind, paths=(path,))
    order: Any = random_.choice(["declared", "newest", "oldest", None, None, None])
    if order is None:
        paths = random_.sample(PATHS, random_.choice([1, 1, 2, 3]))
        order = tuple(SortPath(path, random_.random() < 0.5) for path in paths)
    select = tuple(random_.sample(PATHS, random_.choice([1, 2, 3]))) if random_.random() < 0.4 else ()
    return Query("things", where, order, random_.choice([None, 1, 2, 5, 100]), paths=select)
