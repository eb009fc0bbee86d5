"""Generated queries over real and made records, under several sets of indexes, and their check against the oracle."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

from pyrsistent import pmap

from rhizome_index.blocks.cid import cid_of
from rhizome_index.blocks.store import MemoryStore
from rhizome_index.cli.samples import emoji, posts
from rhizome_index.index.condition import And, Compare, Expr, Not, Or
from rhizome_index.index.record import TIME, encode_record
from rhizome_index.index.schema import Collection, Index, SortPath, primary_key
from rhizome_index.index.words import words_of
from rhizome_index.index.write import apply_changes
from rhizome_index.query.answer import Answer, Cursor
from rhizome_index.query.combine import all_candidates
from rhizome_index.query.expr import COUNT, COUNT_BY, DISTINCT, Query, decode_query, encode_query
from rhizome_index.query.parse import parse_index
from rhizome_index.query.phrases import extreme
from rhizome_index.tree.boundary import Rule
from rhizome_index.tree.node import EMPTY_TREE
from tests.conftest import debian_packages
from tests.driving import MemorySource, WarmSource, answer_directly, replay
from tests.query.oracle import in_order, meets, result

RULE = Rule(b"queries", 4096)
MANIFEST = cid_of(b"a manifest")
INDEXES = {
    "emoji": [
        "by_tag=tags,order",
        "by_group=group,-version",
        "by_version=version,order",
        "by_text=text",
        "by_both=group,tags",
        "new=tags,order where version >= 13",
    ],
    "posts": [
        "by_tag=tags,-created",
        "by_author=author,-created",
        "by_likes=-likes",
        "by_time=created",
        "by_only=tags",
        "by_word=words(text)",
        "liked=tags,-created where likes > 50 include id, text",
    ],
    "packages": ["by_tag=tags", "by_section=section,-installed_kib", "by_size=-installed_kib", "by_home=homepage"],
}
MORE_INDEXES = {
    "emoji": ["by_group_version=group,-version,order", "by_order=-order", "by_tag_group=tags,group"],
    "posts": ["by_author_likes=author,-likes", "by_tag_likes=tags,-likes", "words=words(text)", "by_two=likes,author"],
    "packages": ["by_section_tag=section,tags", "by_tag_size=tags,-installed_kib", "by_tag_section=tags,section"],
}
CASES_WHOLE = 4  # of each data set; of the others only a fifth of the records
Held = tuple[MemorySource, Collection]  # a collection, and where its blocks are
Records = list[dict[str, Any]]


@lru_cache
def records_of(name: str) -> Records:
    if name == "emoji":
        return [json.loads(line) for line in emoji()][::3]
    if name == "posts":
        made = list(posts(700, 5))
        made[3]["tags"], made[4]["tags"], made[5]["likes"] = [], "cats", None
        del made[6]["tags"], made[7]["author"]
        made[8] |= {"likes": 2.5, "author": 7, "tags": ["cats", None, 3, True]}
        made[9] |= {"text": "long " * 700, "tags": ["cats"]}
        return made
    return all_packages()[::40]


def all_packages() -> Records:
    """The real data set that some tests use where it can be found."""
    path = debian_packages()
    assert path is not None
    with gzip.open(path) as file:
        return [json.loads(line) for line in file]


def built(name: str, indexes: Sequence[str], records: Records | None = None) -> Held:
    """A data set, or some of its records, under some indexes."""
    source = WarmSource(MemoryStore())
    parsed = {label: Index.empty(label, definition) for label, definition in map(parse_index, indexes)}
    time, order = ("created", (SortPath("created", True),)) if name == "posts" else (None, ())
    empty = Collection(name, "id", time, order, EMPTY_TREE, pmap(parsed))
    chosen = records_of(name) if records is None else records
    changes = sorted((primary_key(record, ("id",)), encode_record(record)) for record in chosen)
    return source, source.run(apply_changes(RULE, empty, changes, source.store.blocks.__setitem__))


@lru_cache
def collection_of(name: str) -> Held:
    """A data set under its usual indexes."""
    return built(name, INDEXES[name])


@cache
def case_of(name: str, number: int) -> tuple[Held, Records]:
    """Some of a data set's records under a set of indexes: the usual ones, all, none, or some."""
    texts, random_ = INDEXES[name] + MORE_INDEXES[name], random.Random(number)
    some = random_.sample(texts, random_.randint(1, len(texts) - 1))
    records = records_of(name)[number % 5 :: 5] if number >= CASES_WHOLE else records_of(name)
    return built(name, [INDEXES[name], texts, (), some][number % 4], records), records


def a_value(random_: random.Random, records: Records, path: str) -> Any:
    if path == "words(text)":
        words = words_of(random_.choice(records).get("text") or "")
        return random_.choice(sorted(words)) if words else "nothing"
    value = random_.choice(records).get(path)
    return random_.choice(value) if isinstance(value, list) and value else None if isinstance(value, list) else value


def a_condition(random_: random.Random, records: Records, paths: Sequence[str], depth: int) -> Expr:
    if depth and random_.random() < 0.3:
        terms = tuple(a_condition(random_, records, paths, depth - 1) for _ in range(random_.choice([1, 2, 3])))
        return random_.choice([And(terms), Or(terms), Not(terms[0])])
    path = random_.choice(paths)
    value = a_value(random_, records, path)
    operator = random_.choice(["=", "=", "=", "=", "!=", "<", "<=", ">", ">=", "in", "starts with", "exists"])
    if operator == "in":
        return Compare("in", path, tuple(a_value(random_, records, path) for _ in range(random_.choice([1, 2]))))
    if operator == "starts with":
        return Compare(operator, path, str(value)[: random_.choice([0, 1, 2])])
    return Compare(operator, path, random_.random() < 0.5 if operator == "exists" else value)


def a_query(random_: random.Random, name: str) -> Query:
    records = records_of(name)
    paths = sorted({path for record in records[:50] for path in record} - {"depends"})
    selectable = list(paths)
    paths += ["words(text)"] if name != "packages" else []
    likely = [parse_index(text)[1].paths[0].path for text in INDEXES[name]]
    terms = tuple(
        a_condition(random_, records, paths + likely * 3, 2) for _ in range(random_.choice([0, 1, 1, 2, 2, 3]))
    )
    if name == "posts" and random_.random() < 0.1:
        terms += (Compare(">=", TIME, a_value(random_, records, "created")),)
    if random_.random() < 0.15:
        return Query(name, And(terms), kind=COUNT)
    if random_.random() < 0.1:
        return extreme(name, And(terms), random_.choice(selectable), greatest=random_.random() < 0.5)
    if random_.random() < 0.1:
        path = random_.choice(paths + likely)
        kind = random_.choice([COUNT_BY, DISTINCT])
        return Query(name, And(terms), limit=random_.choice([None, 3]), kind=kind, paths=(path,))
    order: Any = "declared"
    if name == "posts" and random_.random() < 0.3:
        order = random_.choice(["newest", "oldest"])
    elif random_.random() < 0.5:
        chosen = random_.sample(paths, random_.choice([1, 2]))
        order = tuple(SortPath(path, random_.random() < 0.5) for path in chosen)
    select = tuple(random_.sample(selectable, random_.choice([1, 2, 3]))) if random_.random() < 0.3 else ()
    return Query(name, And(terms), order, random_.choice([None, 1, 3, 32]), paths=select)


def wanted_rows(query: Query, records: Records) -> Records:
    found = [record for record in records if meets(record | {TIME: record.get("created")}, query.where)]
    if isinstance(query.order, tuple):
        paths = [(path.path, path.descending) for path in query.order]
    elif query.collection == "posts":
        paths = [("created", query.order != "oldest")]
    else:
        paths = []
    return in_order(found, paths)


def check_query(query: Query, random_: random.Random, held: Held, records: Records | None = None) -> int:
    """Every way to answer a query gives the oracle's rows, page by page, and a proof that replays. How many ways."""
    assert decode_query(encode_query(query)) == query
    source, collection = held
    wanted = wanted_rows(query, records_of(query.collection) if records is None else records)
    expected = [] if query.kind == COUNT else result(query, wanted)
    found = all_candidates(query, collection)
    for candidate in found:
        answer = Answer(query, collection, candidate)
        rows, blocks = answer_directly(answer, source)
        if query.kind == COUNT:
            assert answer.count == len(wanted), (query, candidate.plan)
        else:
            assert [row.record for row in rows] == expected[: query.limit], (query, candidate.plan)
        again = Answer(query, collection, candidate)
        assert replay(again, [data for _, data in blocks]) == rows and again.count == answer.count
        cursor = answer.cursor(MANIFEST, rows[-1] if rows else None)
        if cursor is not None and random_.random() < 0.5:
            read = Cursor.parse(str(cursor), query)
            assert read == cursor
            following, _ = answer_directly(Answer(query, collection, candidate, read), source)
            limit = query.limit or 0
            assert [row.record for row in following] == expected[limit : 2 * limit], (query, candidate.plan)
    return len(found)


def names() -> list[str]:
    return ["emoji", "posts", *(["packages"] if debian_packages() else [])]
