#!/usr/bin/env python3
"""Check the vectors of all protocols, with nothing but Python's standard library.

This program was written from the specifications alone: from the `spec.md` and `schema.cddl` in the folders beside it,
by somebody who had never seen the program whose vectors these are. So it shows that the protocols can be implemented
from here; and where both disagree, one of them, or a specification, is wrong.

Everything that a specification describes is implemented in `verifier/`, a module for each protocol:

    dag, block   values, their bytes and names       plan      the walks of plans, and cursors (query/1 too)
    keys         keys and ranges of keys             message   frames, requests and replies
    tree         nodes, the gap rule, walks          ask       queries and the proofs of their answers
    manifest     records, indexes, manifests         want      blocks and records by name
    head         peer ids, signed heads              heads     the newest heads
    query        conditions, queries and plans       sync      what has changed
    gossip       topics and messages                 fraud     claims, and the walks that judge them
    trust        what a peer has found out           providers keys, places and messages

`protobuf` has fields of messages that are not ours, `ed25519` signatures (RFC 8032).

`harness` reads the vectors and reports; `errors` holds the one exception with which all of them refuse.
"""

import argparse
import sys
from pathlib import Path
from typing import Final

from verifier import (
    ask,
    block,
    fraud,
    gossip,
    head,
    heads,
    keys,
    manifest,
    message,
    plan,
    providers,
    sync,
    tree,
    trust,
    want,
)
from verifier.harness import Groups, Vectors, run

PROTOCOLS: Final[dict[str, Groups]] = {
    "block": block.GROUPS,
    "keys": keys.GROUPS,
    "tree": tree.GROUPS,
    "manifest": manifest.GROUPS,
    "head": head.GROUPS,
    "query": plan.GROUPS,
    "message": message.GROUPS,
    "ask": ask.GROUPS,
    "want": want.GROUPS,
    "heads": heads.GROUPS,
    "sync": sync.GROUPS,
    "gossip": gossip.GROUPS,
    "fraud": fraud.GROUPS,
    "trust": trust.GROUPS,
    "providers": providers.GROUPS,
}


def main() -> int:
    """Check the protocols that are named, or all."""
    summary, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="verify.py",
        description=summary,
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "protocols", metavar="PROTOCOL", nargs="*", help=f"one of {', '.join(PROTOCOLS)}; all, if none is named"
    )
    named: list[str] = parser.parse_args().protocols
    for name in named:
        if name not in PROTOCOLS:
            parser.error(f"no protocol {name!r}: there are {', '.join(PROTOCOLS)}")

    vectors = Vectors(Path(__file__).resolve().parent)
    passed = failed = 0
    for name in named or PROTOCOLS:
        report = run(vectors, name, PROTOCOLS[name])
        for failure in report.failures:
            print(f"FAILED {failure}")
        verdict = f", {len(report.failures)} FAILED" if report.failures else ""
        print(f"{name}/1: {report.valid} valid and {report.invalid} invalid cases as shown{verdict}")
        passed += report.passed
        failed += len(report.failures)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
