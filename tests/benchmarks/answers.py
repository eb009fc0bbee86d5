"""Generated queries against the oracle, as many as wanted: `python -m tests.benchmarks.answers --count 20000`.

Each is answered in every way there is, page by page, and every answer's proof is replayed: over real
records and made ones, under several sets of indexes, none among them. What differs from the oracle is
an AssertionError, and ends it. A query follows from its number alone, so they can be tried in parts
(`--first 5000 --count 5000`), and one that fails alone (`--first N --count 1`).
"""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter
from functools import lru_cache

from rhizome_index.index.condition import Compare, Expr, Not
from rhizome_index.index.schema import Collection
from rhizome_index.query.expr import Query
from tests.driving import MemorySource
from tests.properties import records as made
from tests.properties import test_answers as of_made
from tests.query.cases import CASES_WHOLE, a_query, case_of, check_query, names

CASES = 44  # of each data set
WHOLE_SHARE = 0.05  # of the queries are asked of all records of a data set; of a fifth of them it is five times faster
MADE_SETS = 400  # sets of made records


def words_of(query: Query) -> list[str]:
    """What a query says, for the summary."""
    said = _operators(query.where)
    if query.kind == "rows":
        said.append("order by paths" if isinstance(query.order, tuple) else query.order)
        said += ["select"] if query.paths else []
    said += ["limit"] if query.limit else []
    return [*said, f"kind: {query.kind}"]


def _operators(expr: Expr) -> list[str]:
    if isinstance(expr, Compare):
        return [expr.operator]
    if isinstance(expr, Not):
        return ["not", *_operators(expr.term)]
    return [type(expr).__name__.lower(), *(operator for term in expr.terms for operator in _operators(term))]


@lru_cache(maxsize=MADE_SETS)
def made_set(number: int) -> tuple[MemorySource, Collection, made.Records]:
    """Some made records of all types and shapes, under some indexes."""
    random_ = random.Random(number)
    records = made.some_records(random_, random_.choice([0, 3, 30, 30, 90]))
    return *made.built(made.an_empty_collection(random_), records), records


def ask(number: int) -> tuple[str, Query, int]:
    """One query: of what data set it is, and in how many ways it was answered."""
    random_ = random.Random(number)
    name = random_.choice([*names(), "made"])
    if name != "made":
        query = a_query(random_, name)
        is_whole = random_.random() < WHOLE_SHARE
        held, records = case_of(name, random_.randrange(*((CASES_WHOLE,) if is_whole else (CASES_WHOLE, CASES))))
        return name, query, check_query(query, random_, held, records)
    source, collection, made_records = made_set(random_.randrange(MADE_SETS))
    query = random_.choice([made.a_query, made.a_query, made.a_combined_query])(random_)
    return name, query, of_made.check_query(query, collection, source, made_records, random_)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="the number of the first one")
    options = parser.parse_args()
    asked: Counter[str] = Counter()
    said: Counter[str] = Counter()
    ways = 0
    started = time.process_time()
    for done in range(options.count):
        number = options.first + done
        try:
            name, query, found = ask(number)
        except Exception:
            print(f"query {number} failed: python -m tests.benchmarks.answers --first {number} --count 1", flush=True)
            raise
        ways += found
        asked[name] += 1
        said.update(set(words_of(query)))
        if (done + 1) % 1000 == 0:
            print(f"{done + 1:,} queries in {time.process_time() - started:,.0f} s", flush=True)
    for title, counts in (("of", asked), ("with", said)):
        print(f"{title}: " + ", ".join(f"{count:,} {what}" for what, count in counts.most_common()))
    seconds = time.process_time() - started
    last = options.first + options.count - 1
    print(
        f"queries {options.first:,} to {last:,}, answered in {ways:,} ways: all as the oracle says, "
        f"and every proof replays ({seconds:,.0f} s of computing)"
    )


if __name__ == "__main__":
    main()
