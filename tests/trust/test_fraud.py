"""Fraud proofs: whatever a publisher contradicts himself in is found and proven; nobody honest is ever convicted."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import lru_cache
from io import BytesIO
from typing import Any

import pytest
from hypothesis import strategies as st
from pyrsistent import pmap

from rhizome_index.blocks import cbor
from rhizome_index.blocks.car import write_car
from rhizome_index.blocks.cid import cid_of
from rhizome_index.blocks.store import MemoryStore
from rhizome_index.errors import IntegrityError
from rhizome_index.index.head import Identity, delegate, sign_head
from rhizome_index.index.record import encode_record
from rhizome_index.index.schema import Collection, Index
from rhizome_index.index.write import apply_changes
from rhizome_index.limits import FRAUD_BYTES_MAX, INLINE_VALUE_BYTES_MAX, KEY_BYTES_MAX, TREE_HEIGHT_MAX
from rhizome_index.query.parse import parse_index
from rhizome_index.tree.boundary import Rule
from rhizome_index.tree.node import EMPTY_TREE
from rhizome_index.trust.evidence import Fraud, Judging, accuse_of_two, decode_fraud
from rhizome_index.trust.fraud import CUT, ENTRY, KINDS, LISTS, PATH, RECORD, UNIQUE, Claim
from tests.properties import records as made
from tests.properties.effort import quickly, thoroughly
from tests.trust import lying
from tests.trust.lying import Signed, accused, convicts, found_by_rebuilding

SEEDS = st.integers(0, 2**32)


@lru_cache(maxsize=16)
def honest(seed: int, size: int, indexes: int = 3) -> Signed:
    random_ = random.Random(seed)
    source, collection = made.built(made.an_empty_collection(random_, indexes), made.some_records(random_, size))
    return lying.sign(lying.RememberingSource(source.store), made.RULE, collection)


def proven(signed: Signed) -> Fraud:
    """What a rebuild finds, as somebody reads it who has nothing but the proof's bytes."""
    claim = found_by_rebuilding(signed)
    assert claim is not None
    fraud = accused(signed, claim)
    read = decode_fraud(fraud.encode())
    assert read == fraud and read.claim == claim and read.heads == (signed.head,)
    return read


def check_entries(seed: int) -> None:
    """Any entry missing, changed or added: the proof names it, and convicts the liar only."""
    random_ = random.Random(seed)
    signed = honest(seed % 3, random_.choice([3, 40, 300]))
    for index in signed.collection.indexes:
        entries = lying.entries_of(signed, index)
        if not entries:
            continue
        for what, key, lie in lying.with_wrong_entries(signed, index, *random_.choice(entries)):
            fraud = proven(lie)
            assert fraud.claim is not None and (fraud.claim.kind, fraud.claim.index) == (ENTRY, index), what
            assert fraud.claim.key == key
            assert not convicts(signed, fraud.claim)


def check_nodes(seed: int) -> None:
    """Any rule of structure broken at any level of any tree."""
    random_ = random.Random(seed)
    signed = honest(seed % 5, random_.choice([100, 400]), 2)
    for index in ("", *signed.collection.indexes):
        for level in range(lying.height_of(signed, index)):
            for what, lie in lying.with_broken_nodes(random_, signed, index, level):
                if lie.head.manifest != signed.head.manifest:
                    fraud = proven(lie)
                    assert fraud.claim is not None and fraud.claim.kind in (PATH, CUT), what
                    assert not convicts(signed, fraud.claim)


def check_honest(seed: int) -> None:
    """Whatever is claimed of an honest dataset, nothing is proven."""
    random_ = random.Random(seed)
    signed = honest(seed % 4, 300)
    for claim in some_claims(random_, signed, 60):
        assert not convicts(signed, claim), claim


def some_claims(random_: random.Random, signed: Signed, count: int) -> Iterator[Claim]:
    """Claims that make sense, about what is there and what is not."""
    names = ["", *signed.collection.indexes]
    for _ in range(count):
        kind, index = random_.choice(KINDS), random_.choice(names)
        if kind == RECORD or (not index and kind not in (PATH, CUT)):
            kind, index = random_.choice([RECORD, PATH, CUT]), ""
        about = "" if kind in (RECORD, LISTS) else index
        entries = lying.entries_of(signed, about)
        key = random_.choice(entries)[0] if entries else b""
        key = random_.choice(
            [key, key, key, key + b"\0", key[:-1], random_.randbytes(4), b"", random_.choice(names).encode()]
        )
        number = random_.randrange(4) if kind in (CUT, LISTS) else 0
        yield Claim(kind, signed.collection.name, index, key[:KEY_BYTES_MAX], number)


def check_damage(seed: int) -> None:
    """A proof with a block dropped, repeated, swapped, cut or changed in a bit proves nothing."""
    random_ = random.Random(seed)
    signed = honest(seed % 5, 100)
    index = next((name for name in signed.collection.indexes if lying.entries_of(signed, name)), None)
    if index is None:
        return
    _, _, lie = random_.choice(
        list(lying.with_wrong_entries(signed, index, *random_.choice(lying.entries_of(signed, index))))
    )
    blocks = list(proven(lie).blocks)
    for place, block in enumerate(blocks):
        before, behind = blocks[:place], blocks[place + 1 :]
        changed = bytearray(block)
        changed[random_.randrange(len(block))] ^= 1 << random_.randrange(8)
        wrong = [before, before + behind, [*before, block, block, *behind], [*before, block[:-1], *behind]]
        wrong += [
            [*before, bytes(changed), *behind],
            [*before, b"", *behind],
            [*before, *behind[:1], block, *behind[1:]],
        ]
        for other in wrong:
            if other != blocks:
                with pytest.raises(IntegrityError):
                    judged(other)
    with pytest.raises(IntegrityError):
        judged([*blocks, blocks[-1]])


def judged(blocks: list[bytes]) -> Fraud:
    judging = Judging()
    for block in blocks:
        judging.feed(block)
    return judging.close()


test_wrong_entries_are_proven = quickly(check_entries, SEEDS, cases=8)
test_many_wrong_entries_are_proven = thoroughly(check_entries, SEEDS, cases=1000)
test_broken_nodes_are_proven = quickly(check_nodes, SEEDS, cases=1)
test_many_broken_nodes_are_proven = thoroughly(check_nodes, SEEDS, cases=100)
test_nobody_honest_is_convicted = quickly(check_honest, SEEDS, cases=10)
test_nobody_honest_is_convicted_of_anything = thoroughly(check_honest, SEEDS)
test_damaged_proofs_are_refused = quickly(check_damage, SEEDS, cases=5)
test_many_damaged_proofs_are_refused = thoroughly(check_damage, SEEDS, cases=500)


# --- records ---


def small() -> tuple[Signed, bytes, dict[str, Any]]:
    """A dataset of a few records with one index, one of them, and its primary key."""
    source = lying.RememberingSource(MemoryStore())
    records = [{"id": f"k{number}", "tags": ["a", f"t{number}"], "n": number} for number in range(5)]
    collection = a_collection("by_tag=tags,-n", "by_n=n unique")
    changes = [(made.primary_key(record, ("id",)), encode_record(record)) for record in records]
    built = source.run(apply_changes(made.RULE, collection, changes, source.store.blocks.__setitem__))
    return lying.sign(source, made.RULE, built), changes[2][0], records[2]


def a_collection(*indexes: str) -> Collection:
    empty = {name: Index.empty(name, definition) for name, definition in map(parse_index, indexes)}
    return Collection("things", "id", None, (), EMPTY_TREE, pmap(empty))


@pytest.mark.parametrize(
    ("data", "linked"),
    [
        (b"\xff", False),
        (cbor.encode([1]), False),
        (encode_record({"id": "another"}), False),
        (encode_record({}), False),
        (encode_record({"id": "k2", "tags": ["a"], "n": [1, 2]}), False),
        (encode_record({"id": "k2", "tags": ["a"], "n": 2}), True),
        (cbor.encode([0] * 3000), True),
    ],
    ids=["no CBOR", "no map", "another key", "no key", "two lists for one index", "a link to little", "a large list"],
)
def test_a_record_that_must_not_stand_there_is_proven(data: bytes, linked: bool) -> None:
    signed, key, _ = small()
    fraud = proven(lying.with_record(signed, key, data, linked=linked))
    assert fraud.claim == Claim(RECORD, "things", "", key)
    assert not convicts(signed, fraud.claim)


def test_two_records_of_the_same_values_in_a_unique_index_are_proven() -> None:
    signed, key, record = small()
    other = encode_record(record | {"n": 3})
    lie = lying.with_record(signed, key, other)
    both = lying.with_edit(lie, "by_n", sorted(lying.given(signed, "by_n", key, other).items()))
    for hiding, kind in ((both, UNIQUE), (lie, ENTRY)):
        fraud = proven(hiding)
        assert fraud.claim is not None and fraud.claim.kind == kind and not convicts(signed, fraud.claim)


@pytest.mark.parametrize("lists", [(0, 0), (6, 0), (5, 5)], ids=["no lists", "more than records", "all are lists"])
def test_a_wrong_number_of_lists_is_proven(lists: tuple[int, int]) -> None:
    signed, _, _ = small()
    fraud = proven(lying.with_lists(signed, "by_tag", lists))
    assert fraud.claim is not None and fraud.claim.kind == LISTS and not convicts(signed, fraud.claim)


def test_a_tree_cut_by_another_rule_is_proven() -> None:
    signed = honest(1, 300)
    for index in ("", *signed.collection.indexes):
        if lying.height_of(signed, index):
            fraud = proven(lying.recut(signed, index, Rule(b"another", 4096)))
            assert fraud.claim is not None and (fraud.claim.kind, fraud.claim.index) == (CUT, index)


def test_a_large_record_is_part_of_the_proof() -> None:
    signed, key, _ = small()
    large = encode_record({"id": "k2", "tags": ["a"], "n": 2, "text": "x" * 300_000})
    assert len(large) > INLINE_VALUE_BYTES_MAX
    fraud = proven(lying.with_record(signed, key, large, linked=True))
    assert fraud.claim is not None and fraud.claim.kind == ENTRY and len(fraud.encode()) > 300_000


# --- two heads ---


def test_two_heads_of_one_sequence_are_proven() -> None:
    one, _, _ = small()
    other = sign_head(lying.IDENTITY, "lies", 1, cid_of(b"another"), 5)
    fraud = accuse_of_two(one.head, other)
    assert decode_fraud(fraud.encode()) == fraud == accuse_of_two(other, one.head)
    assert "signed as head 1" in fraud.verdict
    for harmless in (
        one.head,
        sign_head(lying.IDENTITY, "lies", 2, cid_of(b"another"), 5),
        sign_head(lying.IDENTITY, "other", 1, cid_of(b"another"), 5),
        sign_head(lying.IDENTITY, "lies", 1, one.head.manifest, 5),
    ):
        with pytest.raises(IntegrityError):
            accuse_of_two(one.head, harmless)


def test_a_key_that_signs_after_it_was_replaced_is_proven() -> None:
    new = Identity(b"n" * 32)
    word = delegate(lying.IDENTITY, None, 5, new.public_key)
    head = sign_head(new, "lies", 6, cid_of(b"another"), 5, None, [word])
    fraud = accuse_of_two(sign_head(lying.IDENTITY, "lies", 7, cid_of(b"stolen"), 5), head)
    assert decode_fraud(fraud.encode()) == fraud and "one had replaced the other" in fraud.verdict
    with pytest.raises(IntegrityError):
        accuse_of_two(sign_head(lying.IDENTITY, "lies", 4, cid_of(b"honest"), 5), head)


# --- what is no proof ---


def test_claims_that_mean_nothing_are_refused() -> None:
    bodies: list[Any] = [
        None, [], ["entry"], ["entry", "c", "i", b"", 0, 0], ["theft", "c", "i", b"", 0], ["entry", "c", "", b"", 0],
        ["entry", "c", "i", b"", 1], ["record", "c", "i", b"", 0], ["path", "c", "", b"", 1], ["cut", "c", "", b"", -1],
        ["cut", "c", "", b"", TREE_HEIGHT_MAX], ["cut", "c", "", bytes(KEY_BYTES_MAX + 1), 0],
        ["lists", "c", "", b"", 0], ["cut", "c", "", "", 0], ["cut", "c", "", b"", True], ["unique", "c", "", b"", 0],
    ]  # fmt: skip
    for body in bodies:
        with pytest.raises(IntegrityError):
            Claim.read(body)
    for claim in (
        Claim(CUT, "c", "", bytes(KEY_BYTES_MAX), TREE_HEIGHT_MAX - 1),
        Claim(ENTRY, "c", "i", b""),
        Claim(RECORD, "c", "", b""),
    ):
        assert Claim.read(claim.body()) == claim


def test_files_that_are_no_fraud_proofs_are_refused() -> None:
    signed, key, _ = small()
    fraud = proven(lying.with_record(signed, key, b"\xff"))
    first = cbor.decode(fraud.blocks[0])
    two = [first["heads"][0], first["heads"][0]]
    firsts = [
        [], {}, first | {"more": 1}, first | {"kind": "rhizome-answer/1"}, first | {"heads": []},
        first | {"heads": two}, first | {"claim": None}, first | {"heads": two, "claim": None}, first | {"heads": "x"},
        first | {"heads": [1]}, first | {"claim": []}, first | {"claim": [RECORD, "nothing", "", key, 0]},
    ]  # fmt: skip
    for body in firsts:
        with pytest.raises(IntegrityError):
            judged([cbor.encode(body), *fraud.blocks[1:]])
    for blocks in ([], fraud.blocks[:1], fraud.blocks[:2]):
        with pytest.raises(IntegrityError):
            judged(list(blocks))
    file = BytesIO()
    write_car(file, [cid_of(fraud.blocks[1])], [(cid_of(block), block) for block in fraud.blocks])
    with pytest.raises(IntegrityError, match="root"):
        decode_fraud(file.getvalue())


def test_a_manifest_that_cannot_be_read_convicts_nobody() -> None:
    signed, key, _ = small()
    manifest = cbor.encode({"version": 2})
    head = sign_head(lying.IDENTITY, "lies", 1, cid_of(manifest), 1)
    claim = Claim(RECORD, "things", "", key)
    first = {"kind": "rhizome-fraud/1", "heads": [head.envelope], "claim": claim.body(), "attestations": []}
    with pytest.raises(IntegrityError, match="manifest"):
        judged([cbor.encode(first), manifest])
    assert signed


def test_a_proof_is_read_up_to_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    signed, key, _ = small()
    fraud = proven(lying.with_record(signed, key, b"\xff"))
    size = sum(map(len, fraud.blocks))
    assert size < FRAUD_BYTES_MAX
    monkeypatch.setattr("rhizome_index.trust.evidence.FRAUD_BYTES_MAX", size)
    assert judged(list(fraud.blocks)) == fraud
    monkeypatch.setattr("rhizome_index.trust.evidence.FRAUD_BYTES_MAX", size - 1)
    with pytest.raises(IntegrityError, match="more than"):
        judged(list(fraud.blocks))


def test_a_claim_about_what_an_index_lacks_is_no_proof() -> None:
    """These have to be refused before anything is read: what is met on a walk convicts."""
    signed, key, _ = small()
    for claim in (
        Claim(LISTS, "things", "by_tag", key, 2),
        Claim(UNIQUE, "things", "by_tag", b"\x30a\0\1" + key),
        Claim(UNIQUE, "things", "by_n", b"\xff"),
        Claim(ENTRY, "things", "by_n", b"\xff"),
        Claim(ENTRY, "things", "nothing", b""),
        Claim(ENTRY, "nothing", "by_n", b""),
    ):
        assert not convicts(signed, claim)
