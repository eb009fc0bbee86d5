"""Vectors of trust: fraud proofs of every kind and what is none, and conversations about heads."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from typing import Any

from pyrsistent import pmap

from rhizome_index.blocks import cbor
from rhizome_index.blocks.cid import cid_of, format_cid
from rhizome_index.blocks.store import MemoryStore
from rhizome_index.errors import IntegrityError
from rhizome_index.index.envelope import seal
from rhizome_index.index.head import Identity, sign_head
from rhizome_index.index.manifest import definition_body, tree_body
from rhizome_index.index.record import encode_record
from rhizome_index.index.schema import Collection, Index, primary_key
from rhizome_index.index.write import apply_changes
from rhizome_index.limits import ATTESTATION_BYTES_MAX, INDEXES_MAX
from rhizome_index.query.parse import parse_index
from rhizome_index.query.proof import record
from rhizome_index.tree.node import EMPTY_TREE
from rhizome_index.trust.attest import DOMAIN, PAYLOAD_TYPE, Attestation, attest
from rhizome_index.trust.evidence import Fraud, accuse_of_two
from rhizome_index.trust.fraud import CUT, ENTRY, LISTS, PATH, RECORD, UNIQUE, Claim, judge
from rhizome_index.trust.ladder import derivation_of, derivations_of
from rhizome_index.wire import message as m
from rhizome_index.wire import trust
from rhizome_index.wire.frame import encode_frame
from tests.properties.records import RULE
from tests.protocols.dag_json import to_dag_json
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
    first, *others = [(lying.accused(lie, claim), lie, claim) for _, lie, claim in liars() if claim.kind != RECORD]
    yield "an entry missing that a peer vouches for", vouched(*first, PEERS[:1])
    yield "a cut that two peers vouch for", next(vouched(*one, PEERS) for one in others if one[2].kind == CUT)
    other = sign_head(lying.IDENTITY, "lies", 1, cid_of(b"another"), 1_700_000_000_000)
    yield "two heads of one sequence", accuse_of_two(HONEST.head, other)


def vouched(fraud: Fraud, lie: Signed, claim: Claim, peers: Sequence[Identity]) -> Fraud:
    """A proof against those too who attest what it disproves."""
    derivation = derivation_of(RULE, lie.collection, claim.index)
    assert derivation == fraud.derivation
    found = fraud.with_attestations(attest(peer, derivation) for peer in peers)
    assert len(found.attestations) == len(peers)
    return found


def fraud_vectors() -> Vectors:
    return {
        "proofs": [
            {
                "name": name,
                "blocks": [block.hex() for block in fraud.blocks],
                "cid": format_cid(fraud.cid),
                "address": str(fraud.heads[0].address),
                "sequence": fraud.heads[0].sequence,
                "attesters": [one.peer_id for one in fraud.attestations],
            }
            for name, fraud in frauds()
        ],
        "not_proofs": [
            {"name": name, "blocks": [block.hex() for block in blocks]} for name, blocks in not_proofs().items()
        ],
    }


def first_block(heads: list[bytes], claim: Any, **more: Any) -> bytes:
    return cbor.encode({"kind": "rhizome-fraud/1", "heads": heads, "claim": claim, "attestations": []} | more)


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
    return (
        found
        | wrong
        | {name: [block, *rest] for name, block in not_vouched(good, first).items()}
        | {
            "a record that an index cannot hold, and who vouches for the primary": vouched_record(),
            "two heads and an attestation": [
                first_block(
                    sorted([HONEST.head.envelope, other]), None, attestations=[said_of(good, PEERS[0]).envelope]
                )
            ],
        }
    )


def said_of(fraud: Fraud, peer: Identity) -> Attestation:
    assert fraud.derivation is not None
    return attest(peer, fraud.derivation)


def not_vouched(good: Fraud, first: bytes) -> dict[str, bytes]:
    """First blocks with attestations that do not belong there."""
    body, derivation = cbor.decode(first), good.derivation
    assert derivation is not None
    one, other = sorted((said_of(good, peer) for peer in PEERS), key=lambda said: said.peer_id)
    right, primary = (derivation_of(RULE, HONEST.collection, index) for index in ("by_tag", ""))
    many = sorted((said_of(good, Identity(bytes([n]) * 32)) for n in range(17)), key=lambda said: said.peer_id)

    def with_words(*envelopes: Any) -> bytes:
        return cbor.encode(body | {"attestations": list(envelopes)})

    return {
        "an attestation of the right tree": with_words(attest(PEERS[0], right).envelope),
        "an attestation of the primary": with_words(attest(PEERS[0], primary).envelope),
        "an attestation of other lists": with_words(attest(PEERS[0], replace(derivation, lists=(1, 1))).envelope),
        "an attestation with a wrong signature": with_words(one.envelope[:-1] + bytes([one.envelope[-1] ^ 1])),
        "an attestation twice": with_words(one.envelope, one.envelope),
        "attestations in the wrong order": with_words(other.envelope, one.envelope),
        "seventeen attestations": with_words(*(said.envelope for said in many)),
        "an attestation that is text": with_words("said"),
        "attestations that are null": cbor.encode(body | {"attestations": None}),
        "no field for attestations": cbor.encode({name: body[name] for name in body if name != "attestations"}),
    }


def vouched_record() -> list[bytes]:
    """The primary is made right; that an index cannot hold one of its records is not for who made that to answer."""
    lie = lying.with_record(HONEST, KEY, encode_record(RECORDS[40] | {"n": [1]}), linked=False)
    fraud = lying.accused(lie, Claim(RECORD, "things", "", KEY))
    assert fraud.derivation is None
    said = attest(PEERS[0], derivation_of(RULE, lie.collection, ""))
    return [cbor.encode(cbor.decode(fraud.blocks[0]) | {"attestations": [said.envelope]}), *fraud.blocks[1:]]


def _unlisted() -> bytes:
    """The key of an entry that a record would give if its index listed it."""
    index = HONEST.collection.indexes["some"]
    (name, definition) = parse_index("some=-m include n")
    whole = HONEST.collection.indexes.set("some", Index(name, definition, index.tree, index.lists))
    relaxed = lying.sign(HONEST.source, RULE, type(HONEST.collection)("things", "id", None, (), EMPTY_TREE, whole))
    return next(iter(lying.given(relaxed, "some", primary_key(RECORDS[120], ("id",)), encode_record(RECORDS[120]))))


# --- trust/1 ---


PEERS = [Identity(sha256(f"attester {number}".encode()).digest()) for number in range(2)]
MADE_OF = {
    "primary": None,
    "a plain index": "by_tag",
    "a partial index that includes": "some",
    "a unique index": "one",
}


def trust_vectors() -> Vectors:
    _, fraud = next(frauds())
    (head,) = fraud.heads
    about = trust.About(head.address, head.manifest)
    honest = trust.About(HONEST.head.address, HONEST.head.manifest)
    asked = replace(honest, collection="things")
    said = [attest(PEERS[0], one) for one in derivations_of(RULE, HONEST.collection).values()]
    return {
        "attestations": [attestation_case(name, index or "") for name, index in MADE_OF.items()],
        "not_attestations": [
            {"name": name, "envelope": envelope.hex()} for name, envelope in not_attestations().items()
        ],
        "exchanges": [
            {"name": "a convicted head", **exchange(about, fraud), "convicted": True},
            {"name": "nothing is known", **exchange(honest, None), "convicted": False},
            {"name": "nothing is attested", **exchange(asked, None), "convicted": False},
            {"name": "all is attested", **exchange(asked, None, said), "convicted": False},
            {"name": "a part is attested", **exchange(asked, None, said[1:2]), "convicted": False},
        ],
        "not_answers": [
            {"name": name, **question(about), "replies": [encode_frame(cbor.encode(body)).hex() for body in bodies]}
            for about, name, bodies in [
                *((about, *case) for case in not_answers(fraud).items()),
                *((asked, *case) for case in not_attested(said, fraud).items()),
                (honest, "attestations that were not asked for", [end(said)]),
            ]
        ],
        "not_requests": [
            {"name": name, "body": cbor.encode([NUMBER, fields]).hex()} for name, fields in not_requests(about).items()
        ],
    }


def attestation_case(name: str, index: str) -> Vectors:
    said = attest(PEERS[0], derivation_of(RULE, HONEST.collection, index))
    definition = HONEST.collection.indexes[index].definition if index else None
    made_of = {
        "rule": {"salt": RULE.salt, "max_weight": RULE.max_weight},
        "key": "id",
        "primary": tree_body(HONEST.collection.primary),
        "index": None if definition is None else definition_body(definition),
    }
    return {
        "name": name,
        "seed": PEERS[0].seed.hex(),
        "peer_id": said.peer_id,
        "made_of": to_dag_json(made_of),
        "tree": to_dag_json(tree_body(said.derivation.tree)),
        "lists": list(said.derivation.lists),
        "envelope": said.envelope.hex(),
    }


def not_attestations() -> dict[str, bytes]:
    derivation = derivation_of(RULE, HONEST.collection, "by_tag")
    body = {"given": derivation.given, "tree": tree_body(derivation.tree), "lists": list(derivation.lists)}
    root = derivation.tree.root

    def signed(*, domain: bytes = DOMAIN, kind: bytes = PAYLOAD_TYPE, **changes: Any) -> bytes:
        return seal(PEERS[0], domain, kind, cbor.encode(body | changes))

    good = signed()
    assert good == attest(PEERS[0], derivation).envelope
    return {
        "nothing": b"",
        "a signature with one bit changed": good[:-1] + bytes([good[-1] ^ 1]),
        "bytes behind the envelope": good + b"\0",
        "a head's domain": signed(domain=b"rhizome-head"),
        "a head's payload type": signed(kind=b"/rhizome/head/1"),
        "an unknown field": signed(more=1),
        "a missing field": seal(PEERS[0], DOMAIN, PAYLOAD_TYPE, cbor.encode({"given": body["given"], "lists": []})),
        "a digest that is too short": signed(given=derivation.given[:-1]),
        "a digest that is text": signed(given="given"),
        "a root that is plain bytes": signed(tree=[root, 1]),
        "a tree without its count": signed(tree=[cbor.Link(root)]),
        "a count that is negative": signed(tree=[cbor.Link(root), -1]),
        "a count that is true": signed(tree=[cbor.Link(root), True]),
        "a count beyond 2^53": signed(tree=[cbor.Link(root), 2**53]),
        "nine lists": signed(lists=[0] * 9),
        "lists that are none": signed(lists=None),
        "a list that is a float": signed(lists=[1.0]),
        "too many bytes": signed(given=bytes(ATTESTATION_BYTES_MAX)),
    }


def question(about: trust.About) -> Vectors:
    return {"request": m.encode_request(NUMBER, about.fields()).hex(), "peer_id": PEERS[0].peer_id}


def exchange(about: trust.About, fraud: Fraud | None, said: Sequence[Attestation] = ()) -> Vectors:
    frames = [frame.hex() for frame in trust.answer(NUMBER, fraud, said) if frame]
    return {**question(about), "replies": frames, "attested": [one.derivation.given.hex() for one in said]}


def end(said: Sequence[Attestation]) -> list[Any]:
    return [NUMBER, "end", {"attestations": [one.envelope for one in said]}]


def not_attested(said: Sequence[Attestation], fraud: Fraud) -> dict[str, list[Any]]:
    other = attest(PEERS[1], said[0].derivation)
    lie = attest(PEERS[0], replace(said[0].derivation, tree=EMPTY_TREE))
    many = [attest(PEERS[0], replace(said[0].derivation, given=cid_of(bytes([n]))[4:])) for n in range(INDEXES_MAX + 2)]
    return {
        "another peer's word": [end([other])],
        "another peer's word beside its own": [end([said[0], attest(PEERS[1], said[1].derivation)])],
        "one attestation twice": [end([said[0], said[0]])],
        "two attestations of one index": [end([said[0], lie])],
        "66 attestations": [end(many)],
        "an attestation that is text": [[NUMBER, "end", {"attestations": ["said"]}]],
        "an attestation that is none": [[NUMBER, "end", {"attestations": [b"said"]}]],
        "an end without them": [[NUMBER, "end", {}]],
        "attestations beside a proof": [[NUMBER, "blocks", list(fraud.blocks)], end(said)],
    }


def not_answers(fraud: Fraud) -> dict[str, list[Any]]:
    blocks, end = list(fraud.blocks), [NUMBER, "end", {"attestations": []}]
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
        "an end with a word": [[NUMBER, "end", {"attestations": [], "convicted": False}]],
        "blocks behind the end": [end, [NUMBER, "blocks", blocks]],
    }


def not_requests(about: trust.About) -> dict[str, dict[str, Any]]:
    good = about.fields()
    return {
        "an unknown field": good | {"more": 1},
        "a missing field": {name: good[name] for name in ("dataset", "manifest")},
        "a collection that is none": good | {"collection": "Things"},
        "a collection that is a number": good | {"collection": 1},
        "a dataset that is none": good | {"dataset": "main"},
        "a manifest that is plain bytes": good | {"manifest": about.manifest},
        "a manifest that is null": good | {"manifest": None},
    }
