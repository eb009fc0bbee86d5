"""Vectors of queries: canonical forms, what meets a condition, which plans there are, and the walk of each."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from rhizome_index.blocks import cbor
from rhizome_index.blocks.cid import digest_of
from rhizome_index.errors import UsageError
from rhizome_index.index.condition import compile_filter
from rhizome_index.query.answer import Answer
from rhizome_index.query.combine import Choice, Combination, all_candidates
from rhizome_index.query.execute import scan
from rhizome_index.query.expr import COUNT, Query, decode_query, encode_query
from rhizome_index.query.found import Counted, Found
from rhizome_index.query.groups import Group
from rhizome_index.query.plan import Candidate, candidates, encode_plan, settled
from rhizome_index.query.proof import record
from tests.driving import answer_directly
from tests.properties.records import a_combined_query, a_query
from tests.protocols.dag_json import to_dag_json
from tests.protocols.dataset import COLLECTION, MANIFEST_CID, RECORDS, SOURCE

Vectors = dict[str, Any]

BY_HAND: list[Any] = [
    ["things", ["and"], "declared", None, False],
    ["things", ["=", "tags", "a"], "declared", 5, False],
    ["things", ["=", "tags", "a"], "newest", 3, False],
    ["things", ["and", ["=", "tags", "a"], ["=", "tags", ""]], "oldest", 3, False],
    ["things", ["and", ["=", "n", 1], ["=", "tags", "a"], [">", "m", 0]], ["m"], 4, False],
    ["things", ["and", [">=", "n", 0], ["<", "n", 3], ["!=", "m", 1]], ["-n"], None, False],
    ["things", ["and", [">", "tags", ""], ["<", "tags", "b"]], ["tags"], 3, False],
    ["things", ["in", "a.b", [None]], ["n"], 9, False],
    ["things", ["in", "tags", ["a", "b"]], ["id"], 9, False],
    ["things", ["=", "tags", ["a"]], ["-id"], 9, False],
    ["things", ["=", "id", "k1"], "declared", 1, False],
    ["things", ["starts with", "id", "k1"], ["id"], 7, False],
    ["things", ["or", ["=", "n", 1], ["not", ["exists", "tags", True]]], "newest", 5, False],
    ["things", ["or"], "newest", 5, False],
    ["things", ["=", "tags", "a"], "declared", None, True],
    ["things", ["and", ["=", "tags", "a"], [">", "n", 0]], "declared", None, True],
    ["things", [">", "tags", "a"], "declared", None, True],
    ["things", ["and"], "declared", None, True],
    ["things", ["exists", "a.b.c", True], "declared", None, True],
    ["things", ["!=", "n", None], ["n"], 1, ["select", "n"]],
    ["things", ["and", ["=", "n", 1], ["=", "m", True]], "newest", None, ["select", "id", "a.b"]],
    ["things", ["and", ["=", "n", 1], [">=", "m", 0]], "newest", None, ["select", "id", "a.b"]],
    ["things", ["=", "n", 2.5], ["m"], 5, ["select", "a.b.c", "n", "a.b"]],
    ["things", ["and", ["=", "words(tags)", "ab"], ["exists", "tags", True]], ["id"], None, ["select", "tags"]],
    ["things", ["and", [">", "n", 1], ["=", "tags", "a"]], "newest", None, False],
    ["things", [">", "time()", 0], "oldest", 5, False],
    ["things", ["and"], "declared", None, ["count by", "n"]],
    ["things", ["and"], "declared", 3, ["count by", "tags"]],
    ["things", ["and"], "declared", None, ["distinct", "a.b"]],
    ["things", ["=", "n", 1], "declared", None, ["count by", "tags"]],
    ["things", ["=", "tags", "a"], "declared", None, ["count by", "tags"]],
    ["things", [">", "tags", "a"], "declared", None, ["count by", "tags"]],
    ["things", [">", "n", 0], "declared", None, ["distinct", "n"]],
    ["things", ["and", [">", "n", 0], [">", "m", 0]], "declared", None, ["distinct", "n"]],
    ["things", ["and"], "declared", 4, ["count by", "words(tags)"]],
    ["things", ["=", "words(tags)", "a"], "declared", None, True],
]

COMBINED: list[Any] = [
    ["things", ["and", ["=", "tags", "a"], ["=", "tags", ""]], "newest", None, False],
    ["things", ["and", ["=", "tags", "a"], ["=", "tags", ""]], "oldest", 2, False],
    ["things", ["and", ["=", "tags", "a"], ["=", "tags", ""], [">", "m", 0]], "declared", None, True],
    ["things", ["and", ["=", "tags", "a"], ["=", "tags", ""]], "declared", None, True],
    ["things", ["in", "tags", ["a", "", "a"]], "newest", None, False],
    ["things", ["in", "tags", ["a", ""]], "oldest", 3, False],
    ["things", ["or", ["=", "tags", "a"], ["=", "tags", "ab"]], ["id"], 4, False],
    ["things", ["and", ["or", ["=", "n", 1], ["=", "n", 2.5]], ["exists", "tags", True]], "newest", 5, False],
    ["things", ["in", "id", ["k1", "k2", "nobody"]], ["-id"], None, False],
    ["things", ["and", ["=", "n", 1], ["in", "tags", ["a", "b"]]], "newest", None, False],
    ["things", ["and", ["=", "m", 1], ["=", "tags", None]], "oldest", None, False],
    ["things", ["and", ["=", "m", 1], ["=", "tags", None]], "newest", 9, False],
    ["things", ["and", ["=", "m", True], ["=", "tags", None], ["exists", "a", True]], "newest", None, False],
    ["things", ["and", ["=", "m", 1], ["=", "tags", None]], "declared", None, True],
    ["things", ["in", "m", [None, True, 0, 1]], "oldest", None, False],
    ["things", ["in", "m", [None, True, 0, 1]], "newest", 70, False],
]

NOT_QUERIES: dict[str, Any] = {
    "no list": {},
    "four parts": ["things", ["and"], "declared", None],
    "a collection's name that is none": ["Things", ["and"], "declared", None, False],
    "a condition that is text": ["things", "and", "declared", None, False],
    "an empty condition": ["things", [], "declared", None, False],
    "an unknown operator": ["things", ["~", "a", "b"], "declared", None, False],
    "a comparison without a value": ["things", ["=", "a"], "declared", None, False],
    "a not of two conditions": ["things", ["not", ["and"], ["and"]], "declared", None, False],
    "a path that is none": ["things", ["=", "a..b", 1], "declared", None, False],
    "a path that is a list": ["things", ["=", ["a"], 1], "declared", None, False],
    "less than a list": ["things", ["<", "a", [1]], "declared", None, False],
    "less than a map": ["things", ["<", "a", {}], "declared", None, False],
    "in nothing": ["things", ["in", "a", []], "declared", None, False],
    "in text": ["things", ["in", "a", "b"], "declared", None, False],
    "in 257 values": ["things", ["in", "a", list(range(257))], "declared", None, False],
    "a beginning that is a number": ["things", ["starts with", "a", 1], "declared", None, False],
    "exists with a number": ["things", ["exists", "a", 1], "declared", None, False],
    "an integer beyond 64 bits": ["things", ["=", "a", 2**63], "declared", None, False],
    "an order that is unknown": ["things", ["and"], "latest", None, False],
    "an order by nothing": ["things", ["and"], [], None, False],
    "an order by a path that is none": ["things", ["and"], ["--a"], None, False],
    "an order by 65 paths": ["things", ["and"], ["a"] * 65, None, False],
    "a limit of 0": ["things", ["and"], "declared", 0, False],
    "a limit beyond a million": ["things", ["and"], "declared", 1_000_001, False],
    "a limit that is a float": ["things", ["and"], "declared", 1.0, False],
    "a count that is 1": ["things", ["and"], "declared", None, 1],
    "selecting nothing": ["things", ["and"], "declared", None, ["select"]],
    "selecting one path twice": ["things", ["and"], "declared", None, ["select", "a", "a"]],
    "selecting words": ["things", ["and"], "declared", None, ["select", "words(a)"]],
    "selecting the time": ["things", ["and"], "declared", None, ["select", "time()"]],
    "selecting 65 paths": ["things", ["and"], "declared", None, ["select", *[f"p{at}" for at in range(65)]]],
    "wanting something unknown": ["things", ["and"], "declared", None, ["sum", "a"]],
    "a count by two paths": ["things", ["and"], "declared", None, ["count by", "a", "b"]],
    "a count by no path": ["things", ["and"], "declared", None, ["count by"]],
    "groups in an order": ["things", ["and"], "newest", None, ["count by", "a"]],
    "words of words": ["things", ["=", "words(words(a))", "b"], "declared", None, False],
    "65 comparisons": ["things", ["and", *[["=", "a", 1]] * 65], "declared", None, False],
    "17 levels": ["things", None, "declared", None, False],
    "a query of too many bytes": ["things", ["=", "a", "b" * 16384], "declared", None, False],
}  # fmt: skip


def all_queries() -> list[Query]:
    made = [decode_query(cbor.encode(body)) for body in BY_HAND]
    random_ = random.Random(3)
    return made + [a_query(random_) for _ in range(60)]


def query_vectors() -> Vectors:
    queries = [query for query in all_queries() if len(encode_query(query)) < 2000]
    NOT_QUERIES["17 levels"][1] = deep(17)
    return {
        "dataset": "that of manifest/1",
        "queries": [
            {"query": to_dag_json(cbor.decode(encode_query(query))), "digest": query.digest.hex()} for query in queries
        ],
        "not_queries": [{"name": name, "data": cbor.encode(body).hex()} for name, body in NOT_QUERIES.items()],
        "plans": [plans_of(query) for query in queries],
        "blocks": "the first 4 bytes of the digest of each block, in order; query: a position in `queries`, from 0",
        "walks": [{"query": at, **walk} for at, query in enumerate(queries[:60]) for walk in walks_of(query)],
        "combined": list(combined()),
        "not_plans": list(not_plans()),
        "cursors": cursors(),
    }


def deep(levels: int) -> Any:
    condition: Any = ["=", "a", 1]
    for _ in range(levels):
        condition = ["not", condition]
    return condition


def plans_of(query: Query) -> Vectors:
    """The candidates of a query, and the primary keys of the records that meet it, in the order of the primary."""
    meets = compile_filter(settled(query, COLLECTION).where)
    met = [to_dag_json(record["id"]) for record in RECORDS if meets(record)]
    body = to_dag_json(cbor.decode(encode_query(query)))
    try:
        found = candidates(query, COLLECTION)
    except UsageError:
        return {"query": body, "candidates": None, "met": met}
    answers = None if query.kind == COUNT else [rows_of(query, candidate) for candidate in found]
    assert answers is None or all(answer == answers[0] for answer in answers)
    return {
        "query": body,
        "candidates": [shown(candidate) for candidate in found],
        "met": met,
        "answer": answers and answers[0],
    }


def rows_of(query: Query, candidate: Candidate) -> list[Any]:
    """The rows of an answer."""
    answer = Answer(query, COLLECTION, candidate)
    rows, _ = answer_directly(answer, SOURCE)
    return [to_dag_json(row.record) for row in rows]


def shown(candidate: Candidate) -> Vectors:
    access = candidate.access
    return {
        "index": access.index,
        "low": access.low.hex(),
        "high": None if access.high is None else access.high.hex(),
        "reverse": access.reverse,
        "ordered": candidate.ordered,
        "repeats": candidate.repeats,
        "covered": candidate.covered,
        "grouped": candidate.grouped,
        "residual": len(candidate.residual),
    }


def walks_of(query: Query) -> list[Vectors]:
    """The walk of each candidate, once whole and once resumed in the middle."""
    return [walk for candidate in candidates(query, COLLECTION) for walk in both_walks(query, candidate)]


def both_walks(query: Query, candidate: Choice) -> list[Vectors]:
    whole = walk_of(query, candidate, None, query.limit)
    positions = whole.pop("positions")
    if query.kind == COUNT or len(positions) < 2:
        return [whole]
    resumed = walk_of(query, candidate, bytes.fromhex(positions[0]), query.limit)
    del resumed["positions"]
    return [whole, resumed]


def combined() -> Iterator[Vectors]:
    """Plans of several access paths, what they are to their query, and their walks."""
    random_ = random.Random(9)
    queries = [decode_query(cbor.encode(body)) for body in COMBINED]
    queries += [a_combined_query(random_) for _ in range(12)]
    for query in queries:
        for candidate in all_candidates(query, COLLECTION):
            if isinstance(candidate, Combination):
                yield {
                    "query": to_dag_json(cbor.decode(encode_query(query))),
                    "plan": to_dag_json(encode_plan(candidate.plan)),
                    "ordered": candidate.ordered,
                    "reverse": candidate.reverse,
                    "covered": candidate.covered,
                    "residual": len(candidate.residual),
                    "walks": [*both_walks(query, candidate), *resumed_walks(query, candidate)],
                }


def resumed_walks(query: Query, candidate: Choice) -> Iterator[Vectors]:
    """The rest of a walk whose rows come in order, behind half of them."""
    rows = walk_of(query, candidate, None, query.limit)["rows"]
    if candidate.ordered and query.kind != COUNT and len(rows) > 1:
        half = walk_of(query, candidate, None, len(rows) // 2)
        rest = walk_of(query, candidate, bytes.fromhex(half["position"]), query.limit and query.limit - len(rows) // 2)
        assert half["rows"] + rest["rows"] == rows
        yield from ({name: value for name, value in walk.items() if name != "positions"} for walk in (half, rest))


def not_plans() -> Iterator[Vectors]:
    """Plans that are none of their query."""
    query = decode_query(cbor.encode(COMBINED[0]))
    both = next(item for item in all_candidates(query, COLLECTION) if isinstance(item, Combination))
    _, (one, two) = encode_plan(both.plan)
    others = [item for item in candidates(query, COLLECTION) if item.bound and item.bound != both.parts[0].bound]
    elsewhere = next(item for item in others if item.tail != both.parts[0].tail)
    cases: dict[str, Any] = {
        "one part twice": ["all", [one, one]],
        "one part alone": ["all", [one]],
        "an unknown kind": ["some", [one, two]],
        "any of what must all be": ["any", [one, two]],
        "a part that is no candidate": ["all", [one, [two[0], two[1] + b"\0", two[2], two[3]]]],
        "parts with other tails": ["all", [one, encode_plan(elsewhere.plan)]],
        "the primary among them": ["all", [one, ["", b"", None, False]]],
        "a combination of combinations": ["all", [one, ["all", [one, two]]]],
        "three parts of a plan": [one[0], one[1], one[2]],
    }
    for name, plan in cases.items():
        yield {"name": name, "query": to_dag_json(COMBINED[0]), "plan": to_dag_json(plan)}


def walk_of(query: Query, candidate: Choice, after: bytes | None, left: int | None) -> Vectors:
    blocks: list[str] = []
    rows: list[Any] = []
    groups: list[Group] = []
    positions: list[str] = []
    alone = query.kind == COUNT and isinstance(candidate, Combination) and not candidate.residual
    counted = 0 if alone else None
    for step in record(scan(query, COLLECTION, candidate, after, left), SOURCE):
        if isinstance(step, Found):
            if counted is not None:  # entries that count by themselves
                counted += len(step.rows)
            else:
                rows += [row.key.hex() for row in step.rows]
            groups += step.groups
            positions.append(step.position.hex())
        elif isinstance(step, Counted):
            counted = None if candidate.grouped else step.count
            groups += step.groups
        elif step is not None:
            blocks.append(digest_of(step[0])[:4].hex())
    return {
        "plan": to_dag_json(encode_plan(candidate.plan)),
        "after": None if after is None else after.hex(),
        "left": left,
        "blocks": blocks,
        "rows": rows,
        "groups": shown_groups(groups) if candidate.grouped else None,
        "counted": counted,
        "position": positions[-1] if positions else None,
        "positions": positions,
    }


def shown_groups(groups: list[Group]) -> list[Any]:
    """Components and how many entries have them, added up."""
    found: dict[bytes, int] = {}
    for part, count in groups:
        found[part] = found.get(part, 0) + count
    return [[part.hex(), count] for part, count in sorted(found.items())]


def cursors() -> list[Vectors]:
    found = []
    for query in all_queries()[1:9]:
        candidate = candidates(query, COLLECTION)[0]
        answer = Answer(query, COLLECTION, candidate)
        for step in record(answer.next_walk(), SOURCE):
            if isinstance(step, Found):
                answer.take(step)
        answer.finish(None)
        rows = list(answer.rows())
        cursor = answer.cursor(MANIFEST_CID, rows[-1]) if rows else None
        if cursor is not None:
            body = to_dag_json(cbor.decode(encode_query(query)))
            last = rows[-1].key.hex()
            found.append(
                {
                    "query": body,
                    "plan": to_dag_json(encode_plan(candidate.access)),
                    "last": last,
                    "cursor": str(cursor),
                }
            )
    assert found
    return found
