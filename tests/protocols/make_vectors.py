"""`make vectors`: write protocols/*/1/vectors.json, from this program and seeds alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.protocols.discovery_vectors import gossip_vectors, providers_vectors
from tests.protocols.format_vectors import (
    block_vectors,
    keys_vectors,
    manifest_vectors,
    tree_vectors,
)
from tests.protocols.head_vectors import head_vectors
from tests.protocols.query_vectors import query_vectors
from tests.protocols.sync_vectors import sync_vectors
from tests.protocols.trust_vectors import fraud_vectors, trust_vectors
from tests.protocols.wire_vectors import ask_vectors, heads_vectors, message_vectors, want_vectors

FOLDER = Path(__file__).parents[2] / "protocols"

MAKERS: dict[str, Callable[[], dict[str, Any]]] = {
    "block": block_vectors,
    "keys": keys_vectors,
    "tree": tree_vectors,
    "manifest": manifest_vectors,
    "head": head_vectors,
    "query": query_vectors,
    "message": message_vectors,
    "ask": ask_vectors,
    "want": want_vectors,
    "heads": heads_vectors,
    "sync": sync_vectors,
    "gossip": gossip_vectors,
    "providers": providers_vectors,
    "fraud": fraud_vectors,
    "trust": trust_vectors,
}


def text_of(vectors: dict[str, Any]) -> str:
    """One case a line, so that a change is a line in a diff."""
    groups = []
    for name, cases in vectors.items():
        if isinstance(cases, list):
            lines = ",\n".join("  " + json.dumps(case, ensure_ascii=False, separators=(", ", ": ")) for case in cases)
            groups.append(f" {json.dumps(name)}: [\n{lines}\n ]")
        else:
            groups.append(f" {json.dumps(name)}: {json.dumps(cases, ensure_ascii=False)}")
    return "{\n" + ",\n".join(groups) + "\n}\n"


def path_of(name: str) -> Path:
    return FOLDER / name / "1" / "vectors.json"


if __name__ == "__main__":
    for protocol, make in MAKERS.items():
        path_of(protocol).write_text(text_of(make()), encoding="utf-8")
        print(f"{path_of(protocol).relative_to(FOLDER.parent)}: {path_of(protocol).stat().st_size:,} bytes")
