"""Vectors of trust: fraud proofs of every kind and what is none, and conversations about heads."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from pyrsistent import pmap

from rhizome_index.blocks import cbor
from rhizome_index.blocks.cid import cid_of, format_cid
from rhizome_index.blocks.store import MemoryStore
from rhizome_index.errors import IntegrityError
from rhizome_index.index.head import sign_head
from rhizome_index.index.record import encode_record
from rhizome_index.index.schema import Collection, Index, primary_key
from rhizome_index.index.write import apply_changes
from rhizome_index.query.parse import parse_index
from rhizome_index.query.proof import record
from rhizome_index.tree.node import EMPTY_TREE
from rhizome_index.trust.evidence import Fraud, accuse_of_two
from rhizome_index.trust.fraud import CUT, ENTRY, LISTS, PATH, RECORD, UNIQUE, Claim, judge
from rhizome_index.wire import message as m
from rhizome_index.wire import trust
from rhizome_index.wire.frame import encode_frame
from tests.properties.records import RULE
from tests.trust import lying
from tests.trust.lying import Signed

Vectors = dict[str, Any]
NUMBER = 7

RECORDS = [
    {"id": f"k{number:03}", "tags": ["a", f"t{number % 7}"][: 1 + number % 2], "n": number, "m": number % 5}
    for number in range(150)
]


def a_dataset() -> Signed:
    """150 small records: a few leaves in each tree."""
    source = lying.RememberingSource(MemoryStore())
    definitions = map(parse_index, ["by_tag=tags,-n", "one=n unique", "some=-m where n < 100 include n"])
    empty = {name: Index.empty(name, definition) for name, definition in definitions}
    collection = Collection("things", "id", None, (), EMPTY_TREE, pmap(empty))
    changes = [(primary_key(record, ("id",)), encode_record(record)) for record in RECORDS]
    built = source.run(apply_changes(RULE, collection, changes, source.store.blocks.__setitem__))
    return lying.sign(source, RULE, built)


HONEST = a_dataset()
KEY = primary_key(RECORDS[40], ("id",))


def liars() -> Iterator[tuple[str, Signed, Claim]]:
    """Datasets that contradict themselves, and what is claimed of them."""
    (key, value), *_ = entries = lying.entries_of(HONEST, "by_tag")
    for what, at, lie in lying.with_wrong_entries(HONEST, "by_tag", *entries[100]):
        yield f"an entry {what}", lie, Claim(ENTRY, "things", "by_tag", at)
    (includes, long), *_ = lying.entries_of(HONEST, "some")[9:]
    changed = lying.with_edit(HONEST, "some", [(includes, long[:32])])
    yield "an entry that includes nothing", changed, Claim(ENTRY, "things", "some", includes)
    yield (
        "an entry whose key no record can give",
        lying.with_edit(HONEST, "by_tag", [(b"\xff", value)]),
        Claim(ENTRY, "things", "by_tag", b"\xff"),
    )
    gone = lying.with_edit(HONEST, "", [(KEY, None)])
    own = next(iter(lying.given(HONEST, "one", KEY, encode_record(RECORDS[40]))))
    yield "an entry of a record that is gone", gone, Claim(ENTRY, "things", "one", own)
    records = {
        "no record": (b"\xff", False),
        "a record of another key": (encode_record(RECORDS[41]), False),
        "a record that an index cannot hold": (encode_record(RECORDS[40] | {"n": [1]}), False),
        "a link to a small record": (encode_record(RECORDS[40]), True),
    }
    for name, (data, linked) in records.items():
        yield name, lying.with_record(HONEST, KEY, data, linked=linked), Claim(RECORD, "things", "", KEY)
    for name, lie in lying.with_broken_nodes(random.Random(7), HONEST, "by_tag", 0):
        if name in ("no CBOR", "another first key", "counts that do not add up"):
            yield name, lie, Claim(PATH, "things", "by_tag", _first_key_of(lie))
        elif name in ("a cut too many", "a cut too few", "a cut that is moved", "a node over the next one"):
            yield name, lie, _flaw_of(lie)
    yield "a root with another count", _miscounted(), Claim(PATH, "things", "by_tag", key)
    yield (
        "lists where there are said to be none",
        lying.with_lists(HONEST, "by_tag", (0, 0)),
        Claim(LISTS, "things", "by_tag", KEY, 0),
    )
    yield (
        "more lists than records",
        lying.with_lists(HONEST, "by_tag", (151, 0)),
        Claim(LISTS, "things", "by_tag", b"", 0),
    )
    yield (
        "no list where all are said to be",
        lying.with_lists(HONEST, "by_tag", (150, 150)),
        Claim(LISTS, "things", "by_tag", KEY, 1),
    )
    twice = lying.with_record(HONEST, KEY, encode_record(RECORDS[40] | {"n": 41}))
    given = lying.given(HONEST, "one", KEY, encode_record(RECORDS[40] | {"n": 41}))
    yield (
        "two of a kind in a unique index",
        lying.with_edit(twice, "one", sorted(given.items())),
        Claim(UNIQUE, "things", "one", min(given)),
    )


def _first_key_of(lie: Signed) -> bytes:
    """The way to the node that is broken."""
    claim = lying.found_by_rebuilding(lie)
    assert claim is not None and claim.kind == PATH
    return claim.key


def _flaw_of(lie: Signed) -> Claim:
    claim = lying.found_by_rebuilding(lie)
    assert claim is not None and claim.kind == CUT
    return claim


def _miscounted() -> Signed:
    tree = HONEST.tree("by_tag")
    return HONEST.with_tree("by_tag", type(tree)(tree.root, tree.count + 1))


def frauds() -> Iterator[tuple[str, Fraud]]:
    for name, lie, claim in liars():
        yield name, lying.accused(lie, claim)
    other = sign_head(lying.IDENTITY, "lies", 1, cid_of(b"another"), 1_700_000_000_000)
    yield "two heads of one sequence", accuse_of_two(HONEST.head, other)


def fraud_vectors() -> Vectors:
    return {
        "proofs": [
            {
                "name": name,
                "blocks": [block.hex() for block in fraud.blocks],
                "cid": format_cid(fraud.cid),
                "address": str(fraud.heads[0].address),
                "sequence": fraud.heads[0].sequence,
            }
            for name, fraud in frauds()
        ],
        "not_proofs": [
            {"name": name, "blocks": [block.hex() for block in blocks]} for name, blocks in not_proofs().items()
        ],
    }


def first_block(heads: list[bytes], claim: Any, **more: Any) -> bytes:
    return cbor.encode({"kind": "rhizome-fraud/1", "heads": heads, "claim": claim} | more)


def unproven(claim: Claim) -> list[bytes]:
    """What would be the proof of a claim about the honest dataset, if it were so."""
    blocks = []
    with suppress(IntegrityError):
        for step in record(judge(HONEST.manifest, claim), HONEST.source):
            blocks.append(step[1])
    return [first_block([HONEST.head.envelope], claim.body()), HONEST.source.block(HONEST.head.manifest), *blocks]


def not_proofs() -> Vectors:
    entry = lying.entries_of(HONEST, "by_tag")[100][0]
    unique = lying.entries_of(HONEST, "one")[3][0]
    leaf = lying.place_of(HONEST, "by_tag", 0, entry).node.keys[0]
    claims = {
        "an entry that is right": Claim(ENTRY, "things", "by_tag", entry),
        "an entry that nobody has": Claim(ENTRY, "things", "by_tag", entry + b"\0"),
        "an entry of a record that is not listed": Claim(ENTRY, "things", "some", _unlisted()),
        "a key that cannot be taken apart": Claim(ENTRY, "things", "by_tag", b"\xff"),
        "a record that is right": Claim(RECORD, "things", "", KEY),
        "a record that is not there": Claim(RECORD, "things", "", b"nobody"),
        "nodes that are right": Claim(PATH, "things", "by_tag", entry),
        "a cut that is right": Claim(CUT, "things", "by_tag", leaf, 0),
        "a root that is right": Claim(CUT, "things", "by_tag", leaf, 1),
        "a level above the root": Claim(CUT, "things", "by_tag", leaf, 2),
        "lists as said": Claim(LISTS, "things", "by_tag", KEY, 0),
        "a path that the index does not have": Claim(LISTS, "things", "by_tag", KEY, 2),
        "two of a kind that are one": Claim(UNIQUE, "things", "one", unique),
        "an index that is not unique": Claim(UNIQUE, "things", "by_tag", entry),
        "a unique key that cannot be taken apart": Claim(UNIQUE, "things", "one", b"\xff"),
        "an index that is not there": Claim(PATH, "things", "none", entry),
        "a collection that is not there": Claim(PATH, "others", "", entry),
    }
    found = {name: unproven(claim) for name, claim in claims.items()}
    _, good = next(frauds())
    first, *rest = good.blocks
    body = cbor.decode(first)
    heads, claim = body["heads"], body["claim"]
    other = sign_head(lying.IDENTITY, "lies", 1, cid_of(b"another"), 1_700_000_000_000).envelope
    manifest = HONEST.source.block(HONEST.head.manifest)
    wrong = {
        "nothing": [],
        "the first block alone": [first],
        "no walk": [first, rest[0]],
        "a block dropped": [first, *rest[:-1]],
        "two blocks exchanged": [first, rest[0], rest[2], rest[1], *rest[3:]],
        "a block twice": [first, rest[0], rest[1], *rest[1:]],
        "a block more": [*good.blocks, b"\x80"],
        "a block changed": [first, *rest[:-1], rest[-1][:-1] + b"\0"],
        "another dataset": [first_block([HONEST.head.envelope], claim), manifest, *rest[1:]],
        "the manifest of another head": [first, manifest, *rest[1:]],
        "another kind": [first_block(heads, claim, kind="rhizome-answer/1"), *rest],
        "an unknown field": [first_block(heads, claim, more=1), *rest],
        "no head": [first_block([], claim), *rest],
        "a head with a wrong signature": [first_block([heads[0][:-1] + b"\0"], claim), *rest],
        "a claim about two heads": [first_block(sorted([heads[0], other]), claim), *rest],
        "no claim": [first_block(heads, None), *rest],
        "two heads that are one": [first_block([HONEST.head.envelope] * 2, None)],
        "two heads in the wrong order": [first_block(sorted([HONEST.head.envelope, other])[::-1], None)],
        "two heads and a manifest": [first_block(sorted([HONEST.head.envelope, other]), None), rest[0]],
        "an unknown claim": [first_block(heads, ["theft", *claim[1:]]), *rest],
        "a claim of four parts": [first_block(heads, claim[:4]), *rest],
        "an entry of the primary": [first_block(heads, ["entry", "things", "", b"", 0]), *rest],
        "a number that means nothing": [first_block(heads, [*claim[:4], 1]), *rest],
        "a number beyond 31": [first_block(heads, ["cut", "things", "by_tag", b"", 32]), *rest],
        "a key that is too long": [first_block(heads, ["path", "things", "by_tag", bytes(1025), 0]), *rest],
    }  # fmt: skip
    return found | wrong


def _unlisted() -> bytes:
    """The key of an entry that a record would give if its index listed it."""
    index = HONEST.collection.indexes["some"]
    (name, definition) = parse_index("some=-m include n")
    whole = HONEST.collection.indexes.set("some", Index(name, definition, index.tree, index.lists))
    relaxed = lying.sign(HONEST.source, RULE, type(HONEST.collection)("things", "id", None, (), EMPTY_TREE, whole))
    return next(iter(lying.given(relaxed, "some", primary_key(RECORDS[120], ("id",)), encode_record(RECORDS[120]))))


# --- trust/1 ---


def trust_vectors() -> Vectors:
    _, fraud = next(frauds())
    (head,) = fraud.heads
    about = trust.About(head.address, head.manifest)
    honest = trust.About(HONEST.head.address, HONEST.head.manifest)
    return {
        "exchanges": [
            {"name": "a convicted head", **exchange(about, fraud), "convicted": True},
            {"name": "nothing is known", **exchange(honest, None), "convicted": False},
        ],
        "not_answers": [
            {"name": name, **asked(about), "replies": [encode_frame(cbor.encode(body)).hex() for body in bodies]}
            for name, bodies in not_answers(fraud).items()
        ],
        "not_requests": [
            {"name": name, "body": cbor.encode([NUMBER, fields]).hex()} for name, fields in not_requests(about).items()
        ],
    }


def asked(about: trust.About) -> Vectors:
    return {"request": m.encode_request(NUMBER, about.fields()).hex()}


def exchange(about: trust.About, fraud: Fraud | None) -> Vectors:
    return {**asked(about), "replies": [frame.hex() for frame in trust.answer(NUMBER, fraud) if frame]}


def not_answers(fraud: Fraud) -> dict[str, list[Any]]:
    blocks, end = list(fraud.blocks), [NUMBER, "end", {}]
    others = dict(frauds())
    other = unproven(Claim(PATH, "things", "by_tag", b""))
    return {
        "a proof that is cut off": [[NUMBER, "blocks", blocks[:-1]], end],
        "a claim that is not so": [[NUMBER, "blocks", other], end],
        "a proof against another head": [[NUMBER, "blocks", list(others["no record"].blocks)], end],
        "two heads": [[NUMBER, "blocks", list(others["two heads of one sequence"].blocks)], end],
        "a proof and a block more": [[NUMBER, "blocks", [*blocks, b"\x80"]], end],
        "a proof with a gap": [[NUMBER, "blocks", [blocks[0], None, *blocks[1:]]], end],
        "an opening": [[NUMBER, "open", {}], end],
        "an end with a word": [[NUMBER, "end", {"convicted": False}]],
        "blocks behind the end": [end, [NUMBER, "blocks", blocks]],
    }


def not_requests(about: trust.About) -> dict[str, dict[str, Any]]:
    good = about.fields()
    return {
        "an unknown field": good | {"more": 1},
        "a missing field": {"dataset": good["dataset"]},
        "a dataset that is none": good | {"dataset": "main"},
        "a manifest that is plain bytes": good | {"manifest": about.manifest},
        "a manifest that is null": good | {"manifest": None},
    }
