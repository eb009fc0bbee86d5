"""Inputs for the front ends of queries, as many as wanted: `python -m tests.fuzzing.language --count 1000000`.

Text, JSON, filters in MongoDB's shape and indexes: sentences that mean something, the same with bytes or words
changed, soups of words, and what would take long if nothing bounded it. Only UsageErrors may come out, none may
take more than INPUT_SECONDS_MAX of computing, and what is read must be the same once it has travelled. An input
follows from its number alone: `--first N --count 1` tries one again.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from itertools import islice
from typing import Any

from rhizome_index.blocks import cbor
from rhizome_index.errors import UsageError
from rhizome_index.index.manifest import definition_body
from rhizome_index.limits import QUERY_TEXT_BYTES_MAX
from rhizome_index.query import parse as parser
from rhizome_index.query.expr import Query, decode_query, encode_query
from rhizome_index.query.json_form import from_json
from rhizome_index.query.mongo import from_mongo
from tests.fuzzing.inputs import changed

INPUT_SECONDS_MAX = 0.05
NOW_MS = 1_700_000_000_000
TRIES = 3  # of an input that was slow: a machine has other things to do
FOUND_MAX = 20
RARE = 0.2  # how often what is long or deep is tried, against the others: it takes long, as it must

PATHS = [
    "tags",
    "likes",
    "author.name",
    "a.b.c",
    "`odd name`",
    "`-odd`",
    "`\udcff`",
    "words(text)",
    "created",
    "first",
    "é",
    "time",
    "id",
]
VALUES = ['"cats"', "5", "-1.5e3", "true", "null", '"\\u00e9"', '""', "1e400", '"\\ud800"', "99999999999999999999"]
DURATIONS = ["7d", "12h", "999999999w", "2024-05-01", "2024-13-45", "2024-05-01T10:00:00+25:00", "0001-01-01", "5 d"]
WORDS = ["first", "newest", "oldest", "all", "count", "distinct", "min", "max", "tagged", "by", "where", "since", "of"]
WORDS += ["select", "limit", "order", "after", "and", "or", "not", "has", "in", "any", "starts", "with", "matches"]
WORDS += ["exists", "include", "unique", "asc", "desc", "true", "false", "null", "posts", "packages"]
SIGNS = [
    "(",
    ")",
    ",",
    "=",
    "!=",
    "<",
    "<=",
    ">",
    ">=",
    "-",
    "[",
    "]",
    "#cats",
    "#",
    "`",
    '"',
    "{",
    "}",
    ":",
    "$",
    "\\",
]
SOUP = [*WORDS, *WORDS, *SIGNS, *PATHS, *VALUES, *DURATIONS, "eyJhIjoxfQ", "32", "0", "\x00", "\u2028", "\U0001f600"]
OPERATORS = ["$eq", "$ne", "$lt", "$lte", "$gt", "$gte", "$in", "$nin", "$all", "$exists", "$not", "$startsWith"]
OPERATORS += ["$matches", "$and", "$or", "$nor", "$regex", "$"]
FIELDS = ["find", "count", "distinct", "min", "max", "of", "where", "order", "limit", "select", "since", "after", "by"]
FIELDS += ["tags", "likes", "a.b"]


# --- text ---


def condition(chance: random.Random, depth: int = 3) -> str:
    if depth and chance.random() < 0.4:
        joint = chance.choice([" and ", " or ", " AND "])
        inner = joint.join(condition(chance, depth - 1) for _ in range(chance.choice([1, 2, 3])))
        return chance.choice(["", "not "]) + f"({inner})"
    path, value = chance.choice(PATHS), chance.choice(VALUES)
    values = ", ".join(chance.choices(VALUES, k=chance.choice([1, 2, 5])))
    among = chance.choice(["in (*)", "in [*]", "any of (*)", "all of (*)"]).replace("*", values)
    text = chance.choice(['"cute cats"', '"a"', '""', '"\\"a b\\""'])
    rest = [f"{chance.choice(['=', '!=', '<', '<=', '>', '>='])} {value}", f"has {value}", among]
    rest += [f"starts with {text}", f"matches {text}", "exists"]
    return f"{path} {chance.choice(rest)}"


def sentence(chance: random.Random) -> str:
    """One that is a query, or almost."""
    path, number = chance.choice(PATHS), chance.choice(["1", "32", "1000000", "0", "1000001"])
    heads = [f"{chance.choice(['first', 'newest', 'oldest'])} {number} posts", "all posts", "count posts"]
    heads += [
        f"count by {path} of posts",
        f"distinct {path} of posts",
        f"{chance.choice(['min', 'max'])} {path} of posts",
    ]
    clauses = ["tagged #cats", 'tagged #a, "b" and #c', "by alice", f"where {condition(chance)}"]
    clauses += [f"since {chance.choice(DURATIONS)}", f"select {', '.join(chance.choices(PATHS, k=2))}"]
    clauses += [f"order by -{path}, {chance.choice(PATHS)} desc", f"limit {number}", "after eyJhIjoxfQeyJhIjoxfQ"]
    chosen = [chance.choice([clauses[3], *clauses]) for _ in range(chance.choice([0, 1, 1, 2, 3]))]
    return " ".join([chance.choice(heads), *chosen])


def with_words_changed(chance: random.Random) -> str:
    words = sentence(chance).split(" ")
    for _ in range(chance.choice([1, 1, 2, 4])):
        at = chance.randrange(len(words) + 1)
        words[at : at + chance.choice([0, 1, 1, 2])] = chance.choice(
            [[], [chance.choice(SOUP)], words[at : at + 1] * 2]
        )
    return " ".join(words)


def with_bytes_changed(chance: random.Random) -> str:
    begin = [sentence(chance).encode("utf-8", "surrogateescape"), json.dumps(document(chance)).encode()]
    (data,) = islice(changed(begin, chance.randrange(2**32)), 1)
    return data.decode("utf-8", "surrogateescape")


def soup(chance: random.Random) -> str:
    return chance.choice([" ", " ", ""]).join(chance.choices(SOUP, k=chance.choice([1, 5, 20, 100])))


def index(chance: random.Random) -> str:
    paths = ",".join(chance.choice(["", "-"]) + chance.choice(PATHS) for _ in range(chance.choice([1, 2, 3, 9])))
    rest = chance.choice(["", f" where {condition(chance)}", " include id, text", " unique", " where"])
    return chance.choice(["", "", soup(chance)]) + f"by_tag={paths}{rest}"


def excess(chance: random.Random) -> str:
    """What is as long or as deep as fits, or one more."""
    room = QUERY_TEXT_BYTES_MAX + chance.choice([-2, -1, 0, 1])
    kinds: list[tuple[str, str, str, str]] = [
        ("all posts where ", "(", "a = 1", ")"),
        ("all posts where ", "not ", "a exists", ""),
        ("all posts where ", "not (", "a = 1", ")"),
        ("all posts where a = 1", " or a = 1", "", ""),
        ("all posts where a = 1", " and (a = 1 or b = 2)", "", ""),
        ("all posts where a in (1", ",1", ")", ""),
        ("all posts where a = \"", "\\\\", "\"", ""),
        ("all posts where a matches \"a", " b", "\"", ""),
        ("all posts where a matches \"a", "\u0301", "\"", ""),
        ("all posts where ", "a.", "a = 1", ""),
        ("all posts where a = ", "9", "", ""),
        ("all posts where a = 0.", "9", "", ""),
        ("all posts where a = 1", "e", "", ""),
        ("all posts", " tagged #a", "", ""),
        ("all posts tagged #a", ",#a", "", ""),
        ("all posts select a", ",a", "", ""),
        ("all posts order by a", ",-a", "", ""),
        ("all posts ", "-", "", ""),
        ("", " ", "all posts", " "),
        ("first ", "9", " posts", ""),
        ("all ", "a", "", ""),
        ("all posts after ", "A", "", ""),
        ("all posts by ", "`", "", ""),
        ("all posts where `", "a", "` = 1", ""),
        ('{"find": "posts", "where": ', '{"$and": [', '{"a": 1}', "]}"),
        ('{"find": "posts", "where": ', '{"a": {"$not": ', '{"$eq": 1}', "}}"),
        ('{"find": "posts", "where": {"a": ', "[", "1", "]"),
        ('{"find": "posts", "where": {"$or": [{"a": 1}', ',{"a": 1}', "]}}", ""),
        ('{"find": "posts", "where": {"a": {"$in": [1', ",1", "]}}}", ""),
        ('{"find": "posts", "where": {"a": ', '{"b":', "1", "}"),
        ('{"find": "posts", "select": ["a"', ',"a"', "]}", ""),
        ('{"find": "posts", "limit": ', "9", "}", ""),
        ('{"find', "d", '": "posts"}', ""),
        ("{", '"a":1,', '"find": "posts"}', ""),
    ]  # fmt: skip
    before, repeated, middle, behind = chance.choice(kinds)
    size = room if chance.random() < 0.5 else chance.choice([30, 34, 60, 64, 65, 66, 256, 257, 300, 1000, 3000])
    times = max(0, (size - len(before) - len(middle)) // (len(repeated) + len(behind)))
    times = times if chance.random() < 0.5 else chance.choice([15, 16, 17, 63, 64, 65, 255, 256, 257, 1000])
    return before + repeated * times + middle + behind * times + chance.choice(["", "", " ", "}", "}}", "]"])


# --- JSON ---


def thing(chance: random.Random, depth: int = 4) -> Any:
    """Any value, often one that belongs into a query."""
    if depth and chance.random() < 0.5:
        if chance.random() < 0.5:
            return [thing(chance, depth - 1) for _ in range(chance.choice([0, 1, 2, 4]))]
        names = chance.choices([*OPERATORS, *PATHS, *FIELDS], k=chance.choice([0, 1, 1, 2, 3]))
        return {name: thing(chance, depth - 1) for name in names}
    return chance.choice(
        [None, True, False, 0, 5, -1.5, 2**63, 2**70, "cats", "", "7d", "-likes", "tags", "posts", "\ud800"]
    )


def filter_(chance: random.Random, depth: int = 2) -> Any:
    """A filter that means something."""
    if depth and chance.random() < 0.3:
        parts = [filter_(chance, depth - 1) for _ in range(chance.choice([1, 2]))]
        return {chance.choice(["$and", "$or", "$nor"]): parts}
    value, some = chance.choice([None, True, 5, -1.5, "cats", ""]), [1, "a", None][: chance.choice([1, 2, 3])]
    operands = {"$in": some, "$nin": some, "$all": some, "$exists": True, "$not": {"$lt": value}}
    operands |= {"$startsWith": "a", "$matches": "cute cats"}
    operator = chance.choice(OPERATORS[:13])
    return {chance.choice(PATHS[:4]): chance.choice([value, {operator: operands.get(operator, value)}])}


def document(chance: random.Random) -> Any:
    """A query as a document; or almost, half of the time."""
    verb, path = chance.choice(["find", "find", "count", "distinct", "min", "max"]), chance.choice(PATHS[:4])
    where = filter_(chance)
    body: dict[str, Any] = {verb: "posts" if verb in ("find", "count") else path, "where": where}
    body |= {"of": "posts"} if verb in ("distinct", "min", "max") else {}
    rest: dict[str, Any] = {"order": chance.choice(["newest", ["-likes", "id"]]), "limit": 32, "select": ["id", "tags"]}
    body |= {name: rest[name] for name in rest if verb == "find" and chance.random() < 0.4}
    body |= {"since": chance.choice(DURATIONS)} if chance.random() < 0.2 else {}
    if chance.random() < 0.5:
        body[chance.choice([*FIELDS, *body])] = chance.choice([thing(chance, 2), "newest"])
        where[chance.choice([*PATHS, *OPERATORS])] = thing(chance, 3)
    return body


def odd(chance: random.Random, depth: int = 3) -> Any:
    """What only Python can hand over."""
    if depth and chance.random() < 0.3:
        return {chance.choice([1, None, b"a", "a", "$in", ("x",)]): odd(chance, depth - 1)}
    return chance.choice(
        [b"a", (1, 2), {1, 2}, 1.0, float("nan"), float("inf"), object(), 2**64, Query, [b"x"], range(3)]
    )


# --- what takes them ---


def take_text(text: str) -> None:
    _check(parser.parse(text, NOW_MS)[0])


def take_document(body: Any) -> None:
    _check(from_json(body, NOW_MS)[0])


def take_index(text: str) -> None:
    cbor.encode(definition_body(parser.parse_index(text)[1]))


def take_filter(body: Any) -> None:
    _check(Query("posts", from_mongo(body)))


def _check(query: Query) -> None:
    """What is read is the same once it has travelled."""
    assert decode_query(encode_query(query)) == query


Kind = tuple[Callable[[random.Random], Any], Callable[[Any], object]]
KINDS: dict[str, Kind] = {
    "sentences": (sentence, take_text),
    "sentences, words changed": (with_words_changed, take_text),
    "sentences and JSON, bytes changed": (with_bytes_changed, take_text),
    "soups of words": (soup, take_text),
    "as long or deep as fits": (excess, take_text),
    "JSON": (lambda chance: json.dumps(document(chance)), take_text),
    "documents": (document, take_document),
    "any documents": (thing, take_document),
    "filters": (lambda chance: document(chance)["where"], take_filter),
    "filters of odd things": (lambda chance: {"a": odd(chance), "b": thing(chance, 2)}, take_filter),
    "indexes": (index, take_index),
}


class Trial:
    """Gives inputs by their numbers, and notes what was wrong with them.

    counts   inputs of each kind that were read, and that were refused
    slowest  seconds of computing, and the input's number
    found    what is wrong, by the input's number
    """

    def __init__(self) -> None:
        self.counts: dict[str, Counter[str]] = {name: Counter() for name in KINDS}
        self.slowest = (0.0, 0)
        self.found: dict[int, str] = {}

    def give(self, number: int) -> None:
        chance = random.Random(number)
        name = chance.choices(list(KINDS), [kind != "as long or deep as fits" or RARE for kind in KINDS])[0]
        make, take = KINDS[name]
        given = make(chance)
        seconds, said = _timed(take, given)
        for _ in range(TRIES):
            if seconds > INPUT_SECONDS_MAX:
                seconds = min(seconds, _timed(take, given)[0])
        self.counts[name][said if said in ("read", "refused") else "wrong"] += 1
        self.slowest = max(self.slowest, (seconds, number))
        if said not in ("read", "refused"):
            self.found[number] = f"{name}: {given!r:.300}\n{said}"
        elif seconds > INPUT_SECONDS_MAX:
            self.found[number] = f"{name}: {given!r:.300}\n{seconds * 1e3:.0f} ms"


def _timed(take: Callable[[Any], object], given: Any) -> tuple[float, str]:
    """How long an input took, and what came of it."""
    parser._parse.cache_clear()
    started = time.thread_time()
    try:
        take(given)
        said = "read"
    except UsageError:
        said = "refused"
    except Exception:
        said = traceback.format_exc(limit=-4)
    return time.thread_time() - started, said


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--count", type=int, default=20_000)
    options.add_argument("--first", type=int, default=0, help="the number of the first one")
    given = options.parse_args()
    trial = Trial()
    trial.give(given.first)  # the grammar is made once, which is no input's fault
    trial = Trial()
    for number in range(given.first, given.first + given.count):
        trial.give(number)
        if len(trial.found) >= FOUND_MAX:
            break
        if (number + 1) % 100_000 == 0:
            print(f"{number + 1:,}", flush=True)
    for name, counts in trial.counts.items():
        print(f"{name:36}{counts.total():>10,} inputs, {counts['read']:>8,} of them queries")
    for number, what in trial.found.items():
        print(f"--- input {number}\n{what}")
    seconds, number = trial.slowest
    total = sum(counts.total() for counts in trial.counts.values())
    print(f"{total:,} inputs, {len(trial.found)} found wrong; the slowest took {seconds * 1e3:.1f} ms: input {number}")
    sys.exit(1 if trial.found else 0)


if __name__ == "__main__":
    main()
