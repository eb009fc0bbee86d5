"""Every single entry of an index missing, changed, or followed by one too many: caught by whoever rebuilds, by whoever
verifies the step to it, and by an audit that draws it; each with a small proof, which forgeries are not."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from functools import lru_cache

import pytest
from pyrsistent import pmap

from rhizome_index.blocks import cbor
from rhizome_index.blocks.cid import cid_of
from rhizome_index.blocks.store import MemoryStore
from rhizome_index.errors import IntegrityError
from rhizome_index.index.record import encode_record
from rhizome_index.index.schema import Collection, Index, encode_primary_key
from rhizome_index.index.write import apply_changes, rebuild
from rhizome_index.query.parse import parse_index
from rhizome_index.tree.boundary import Rule
from rhizome_index.tree.cursor import rank
from rhizome_index.tree.diff import first_difference
from rhizome_index.tree.node import EMPTY_CHUNK, EMPTY_TREE
from rhizome_index.trust.audit import Draw, audit
from rhizome_index.trust.cuts import first_flaw
from rhizome_index.trust.evidence import Fraud, Judging, accuse_of_two, read_fraud
from rhizome_index.trust.fraud import CUT, ENTRY, KINDS, LISTS, PATH, RECORD, UNIQUE, Claim, owner_of
from rhizome_index.trust.search import find_difference
from rhizome_index.trust.transition import carry, find_broken_step
from tests.trust import lying
from tests.trust.lying import RememberingSource, Signed, accused, sign

RULE = Rule(b"lies")
RECORDS = 10_000
INDEX = "by_likes"
PROOF_BYTES_MAX = 100_000
FORGERIES = int(os.environ.get("RHIZOME_FORGERIES", "100000"))  # over all seeds


def record_of(number: int) -> dict[str, object]:
    return {"id": f"p{number:06}", "likes": number * 7919 % 1000, "text": "x" * (number % 200)}


@lru_cache(maxsize=1)
def honest() -> tuple[Signed, Signed, list[tuple[bytes, bytes]]]:
    """A dataset whose index has as many entries as it has records; the next head; what has changed of the records."""
    source = RememberingSource(MemoryStore())
    sink = source.store.blocks.__setitem__
    sink(EMPTY_TREE.root, EMPTY_CHUNK)
    name, definition = parse_index(f"{INDEX}=likes")
    collection = Collection("posts", "id", None, (), EMPTY_TREE, pmap({name: Index.empty(name, definition)}))

    def changes(numbers: range, more: int) -> list[tuple[bytes, bytes]]:
        made = [{**record_of(number), "rank": more} for number in numbers]
        return [(encode_primary_key(collection, record["id"]), encode_record(record)) for record in made]

    first = source.run(apply_changes(RULE, collection, changes(range(RECORDS), 0), sink))
    step = changes(range(17, 20), 1)
    second = source.run(apply_changes(RULE, first, step, sink))
    return sign(source, RULE, first), sign(source, RULE, second, 2), step


def lies_about(signed: Signed, key: bytes, value: bytes) -> Iterator[tuple[str, bytes, Signed]]:
    yield "missing", key, lying.with_edit(signed, INDEX, [(key, None)])
    yield "changed", key, lying.with_edit(signed, INDEX, [(key, value[::-1])])
    yield "extra", key + b"\0", lying.with_edit(signed, INDEX, [(key + b"\0", value)])


def check_lies(places: list[int]) -> None:
    before, after, step = honest()
    source = after.source
    made = source.run(rebuild(RULE, after.collection, lambda cid, data: None))
    assert made == after.collection
    entries = lying.entries_of(after, INDEX)
    most, known = 0, set(source.store.blocks)
    for place in places:
        for what, wrong, lie in lies_about(after, *entries[place]):
            assert made != lie.collection
            stepped = source.run(carry(lie.manifest, before.collection, INDEX, step, lambda cid, data: None))
            found = [source.run(find_difference(lie.manifest, made))]
            found.append(source.run(find_broken_step(lie.manifest, stepped, INDEX)))
            record = number_of(lie, entries[place][0])
            drawn = {
                "missing": Draw((record,), ()),
                "changed": Draw((), (place,)),
                "extra": Draw((), (place + 1,)),
            }[what]
            index = lie.collection.indexes[INDEX]
            found.append(source.run(audit(lie.manifest, lie.collection, index, drawn, lambda number: None)))
            assert found == [Claim(ENTRY, "posts", INDEX, wrong)] * 3, (what, place)
            most = max(most, sum(map(len, accused(lie, found[0]).blocks)))
        for cid in source.store.blocks.keys() - known:
            del source.store.blocks[cid]
    print(f"{3 * len(places):,} lies caught in three ways each; the largest proof has {most:,} bytes")
    assert most <= PROOF_BYTES_MAX


def number_of(signed: Signed, key: bytes) -> int:
    """The position of the record that gives an entry."""
    owner = owner_of(signed.collection.indexes[INDEX], key)
    assert owner is not None
    found: int = signed.source.run(rank(signed.collection.primary, owner))
    return found


def test_some_lies_are_caught_in_every_way() -> None:
    check_lies([0, 4321, RECORDS - 1])


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_every_lie_is_caught_in_every_way(part: int) -> None:
    check_lies(list(range(part, RECORDS, 10)))


# --- forgeries ---


def true_proofs(random_: random.Random, signed: Signed) -> list[Fraud]:
    """A proof of each kind that there can be, against datasets that are honest but for one thing."""
    key, value = random_.choice(lying.entries_of(signed, INDEX))
    frauds = []
    for _, _, lie in lies_about(signed, key, value):
        frauds.append(accused(lie, lie.source.run(find_difference(lie.manifest, signed.collection))))
    owner = owner_of(signed.collection.indexes[INDEX], key)
    assert owner is not None
    frauds.append(accused(lying.with_record(signed, owner, b"\xa0"), Claim(RECORD, "posts", "", owner)))
    frauds.append(accused(lying.with_lists(signed, INDEX, [RECORDS]), Claim(LISTS, "posts", INDEX, owner)))
    broken = dict(lying.with_broken_nodes(random_, signed, INDEX, 0))
    frauds.append(accused(broken["a key twice"], Claim(PATH, "posts", INDEX, broken_at(signed, broken["a key twice"]))))
    flaw = broken["a cut too many"]
    frauds.append(accused(flaw, Claim(CUT, "posts", INDEX, flaw.source.run(first_flaw(RULE, flaw.tree(INDEX)))[1])))
    return [*frauds, accuse_of_two(signed.head, frauds[0].heads[0])]


def broken_at(signed: Signed, lie: Signed) -> bytes:
    """A key of an honest tree on the way to which another one is broken."""
    try:
        lie.source.run(first_difference(signed.tree(INDEX), lie.tree(INDEX)))
    except IntegrityError as error:
        return error.key or b""
    raise AssertionError("nothing is broken")


def altered(random_: random.Random, block: bytes, others: list[bytes]) -> bytes:
    """Another block: a bit of it flipped, a piece of it gone, one of others, or none of it."""
    how = random_.randrange(8)
    if how == 0:
        other = random_.choice(others)
        return other if other != block else b""
    if how == 1:
        start = random_.randrange(len(block))
        return block[:start] + block[start + random_.randint(1, len(block)) :]
    data = bytearray(block)
    data[random_.randrange(len(data))] ^= 1 << random_.randrange(8)
    return bytes(data)


def spoilt(random_: random.Random, proof: Fraud, signed: Signed, others: list[bytes]) -> list[bytes]:
    """The blocks of a true proof with one missing, one too many, two exchanged, or said of an honest head."""
    blocks, place = list(proof.blocks), random_.randrange(len(proof.blocks))
    how = random_.randrange(4)
    if how == 0:
        del blocks[place]
    elif how == 1:
        blocks.insert(place, random_.choice(others))
    elif how == 2 and place:
        blocks[place - 1 : place + 1] = blocks[place - 1 : place + 1][::-1]
    elif proof.claim is not None:
        first = {**cbor.decode(blocks[0]), "heads": [signed.head.envelope]}
        blocks[:2] = [cbor.encode(first), signed.source.block(signed.head.manifest)]
    else:
        blocks.append(random_.choice(others))
    return blocks


def check_altered(random_: random.Random, proof: Fraud, others: list[bytes], count: int) -> None:
    """At each place of a proof none but its own block is taken; the refusals change nothing, for that one still is.

    What is broken is met on the way to many keys, so that some claims are true with another key, too. So where
    it is a claim of that kind, its first block is left as it is.
    """
    is_exact = proof.claim is None or proof.claim.kind in (ENTRY, RECORD)
    judging = Judging()
    for place, block in enumerate(proof.blocks):
        for _ in range(count if place else 0):
            with pytest.raises(IntegrityError, match=r"does not have the block|do not match the block"):
                judging.feed(altered(random_, block, others))
            judging._size = 0  # or it would be refused for its size alone
        judging.feed(block)
    assert judging.close() == proof
    for _ in range(count if is_exact else 0):
        with pytest.raises(IntegrityError):
            read(altered(random_, proof.blocks[0], others), *proof.blocks[1:])


def read(*blocks: bytes) -> Fraud:
    named = [(cid_of(block), block) for block in blocks]
    return read_fraud([cid for cid, _ in named[:1]], named)


def made_up(random_: random.Random, key: bytes) -> Claim:
    """A claim about something that is right."""
    kind = random_.choice(KINDS)
    number = random_.randrange(2) if kind in (CUT, LISTS) else 0
    index = "" if kind == RECORD else INDEX
    return Claim(kind, "posts", index, random_.choice([key, key[:-1], key + b"\0", b""]), number)


def check_forgeries(seed: int, count: int) -> None:
    """No proof is accepted but true ones: none that is spoilt, none of honest blocks against honest data."""
    random_ = random.Random(seed)
    signed, _, _ = honest()
    entries = lying.entries_of(signed, INDEX)
    frauds = true_proofs(random_, signed)
    assert {fraud.claim and fraud.claim.kind for fraud in frauds} == {None, *KINDS} - {UNIQUE}
    others = list(signed.source.store.blocks.values())
    began, done = time.process_time(), 0
    while done < count:
        proof = random_.choice(frauds)
        check_altered(random_, proof, others, 20)
        done += 20 * (len(proof.blocks) - (proof.claim is not None and proof.claim.kind in (PATH, CUT, LISTS)))
        for _ in range(8):
            with pytest.raises(IntegrityError):
                read(*spoilt(random_, proof, signed, others))
            with pytest.raises(IntegrityError):
                accused(signed, made_up(random_, random_.choice(entries)[0]))
        done += 16
    print(f"{done:,} forgeries refused, {done / (time.process_time() - began):,.0f} a second of computing")


def test_forgeries_are_refused() -> None:
    check_forgeries(0, 300)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
def test_many_forgeries_are_refused(seed: int) -> None:
    check_forgeries(seed, FORGERIES // 10)
