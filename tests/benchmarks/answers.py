"""Generated queries against the oracle, as many as wanted: `python -m tests.benchmarks.answers --count 20000`.

Each is answered in every way there is, page by page, and every answer's proof is replayed. What differs
from the oracle is an AssertionError, and ends it; `--seed` begins elsewhere.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter

from rhizome_index.query.combine import all_candidates
from tests.query.test_queries import a_query, check_query, collection_of, names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random_ = random.Random(options.seed)
    sets = names()
    asked: Counter[str] = Counter()
    ways = 0
    started = time.perf_counter()
    for number in range(options.count):
        name = sets[number % len(sets)]
        query = a_query(random_, name)
        check_query(query, random_)
        ways += len(all_candidates(query, collection_of(name)[1]))
        asked[f"{query.kind} of {name}"] += 1
        if (number + 1) % 1000 == 0:
            print(f"{number + 1:,} queries in {time.perf_counter() - started:,.0f} s", flush=True)
    for kind, count in sorted(asked.items()):
        print(f"{count:>7,} {kind}")
    seconds = time.perf_counter() - started
    print(f"{options.count:,} queries, answered in {ways:,} ways: all as the oracle says ({seconds:,.0f} s)")


if __name__ == "__main__":
    main()
