"""Every rule of structure broken, in an index of 10,000 entries and in its primary: caught by whoever rebuilds, by
whoever verifies the step there and, where it is looked at, by an audit; each time with a small proof."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice

from hypothesis import strategies as st

from rhizome_index.query.proof import record
from rhizome_index.trust.audit import Draw, audit
from rhizome_index.trust.cuts import first_flaw
from rhizome_index.trust.fraud import CUT, PATH, Claim
from rhizome_index.trust.transition import carry, find_broken_primary, find_broken_step
from tests.properties.effort import quickly, thoroughly
from tests.trust import lying
from tests.trust.lying import Signed, accused, convicts, found_by_rebuilding
from tests.trust.test_lies import INDEX, PROOF_BYTES_MAX, RULE, honest

SEEDS = st.integers(0, 2**32)
TREES = ("", INDEX)
ONLY_NEIGHBOURS_SHOW = ("a cut too many", "a cut that is moved")  # at inner nodes, which audits do not judge


def broken(random_: random.Random, signed: Signed, index: str) -> Iterator[tuple[str, int, bytes, Signed]]:
    """Each rule broken at each level: what, at which level, towards which key, and the dataset that has it so."""
    height = lying.height_of(signed, index)
    for what, lie in lying.with_broken_root(signed, index):
        yield what, height, b"", lie
    for level in range(height):
        key = random_.choice(lying.entries_of(signed, index))[0]
        for what, lie in lying.with_broken_nodes(random_, signed, index, level, key):
            if lie.head.manifest != signed.head.manifest:
                yield what, level, key, lie


def found_by_stepping(lie: Signed, index: str) -> Claim | None:
    """What somebody claims who verifies the step from the honest head before to this one."""
    before, _, changes = honest()
    made = lie.source.run(carry(lie.manifest, before.collection, INDEX, changes, lie.source.store.blocks.__setitem__))
    if index:
        assert made.primary == lie.collection.primary and made.indexes[INDEX].tree != lie.tree(INDEX)
        claim: Claim | None = lie.source.run(find_broken_step(lie.manifest, made, INDEX))
    else:
        assert made.primary != lie.collection.primary
        claim = lie.source.run(find_broken_primary(lie.manifest, made))
    return claim


def found_by_looking(lie: Signed, signed: Signed, index: str, level: int, key: bytes) -> Claim | None:
    """What an audit claims that draws what stands in the honest node at that place, and beside it."""
    place = lying.place_of(signed, index, level, key)
    begins = sum(sum(node.counts[:position]) for node, position in place.path)
    total = lie.tree(index).count
    step = max(1, place.node.count // 100)
    drawn = tuple(sorted({min(total - 1, at) for at in range(begins, begins + place.node.count + 6, step)}))
    draw = Draw((), drawn, drawn) if index else Draw(drawn, ())
    walk = audit(lie.manifest, lie.collection, lie.collection.indexes[INDEX], draw, lambda number: None)
    claim: Claim | None = lie.source.run(walk)
    return claim


def check_structure(seed: int, step: int = 1) -> int:
    """Every rule, or every few of them; how many that were."""
    random_ = random.Random(seed)
    _, signed, _ = honest()
    known = set(signed.source.store.blocks)
    tried = most = 0
    for index in TREES:
        for what, level, key, lie in islice(broken(random_, signed, index), seed % step, None, step):
            where = f"{what}, level {level} of {index or 'the primary'}"
            for claim in (found_by_rebuilding(lie), found_by_stepping(lie, index)):
                assert claim is not None and claim.index == index and claim.kind in (PATH, CUT), (where, claim)
                assert not convicts(signed, claim), where
                size = sum(map(len, accused(lie, claim).blocks))
                assert size <= PROOF_BYTES_MAX, (where, size)
                most = max(most, size)
            claim = found_by_looking(lie, signed, index, level, key)
            if claim is None:
                # Audits judge by all rules only the leaves of the index that they draw; they say so.
                assert (level or not index) and (what in ONLY_NEIGHBOURS_SHOW or what.startswith("a cut too few")), (
                    where
                )
            else:
                assert convicts(lie, claim) and not convicts(signed, claim), where
            tried += 1
            for cid in signed.source.store.blocks.keys() - known:
                del signed.source.store.blocks[cid]
    print(f"{tried} trees with a rule broken were caught; the largest proof has {most:,} bytes")
    return tried


def check_every_rule(seed: int) -> None:
    assert check_structure(seed) > 60


def check_some_rules(seed: int) -> None:
    assert check_structure(seed, 16) >= 4


test_some_rules_broken = quickly(check_some_rules, SEEDS, cases=1)
test_every_rule_broken_in_many_places = thoroughly(check_every_rule, SEEDS, cases=30)


def test_of_a_primary_that_is_cut_otherwise_only_that_is_read() -> None:
    before, signed, changes = honest()
    key = lying.entries_of(signed, "")[4321][0]
    lie = dict(lying.with_broken_nodes(random.Random(1), signed, "", 0, key))["a cut too many"]
    made = lie.source.run(carry(lie.manifest, before.collection, INDEX, changes, lie.source.store.blocks.__setitem__))
    *blocks, claim = record(find_broken_primary(lie.manifest, made), lie.source)
    assert claim.kind == CUT and len(blocks) < 20 < len(list(record(first_flaw(RULE, signed.tree("")), lie.source)))


def test_changes_that_are_wrong_are_no_lie_of_the_publisher() -> None:
    before, signed, changes = honest()
    for wrong in (changes[1:], [(changes[0][0], None), *changes[1:]]):
        made = signed.source.run(
            carry(signed.manifest, before.collection, INDEX, wrong, signed.source.store.blocks.__setitem__)
        )
        assert made.primary != signed.collection.primary
        assert signed.source.run(find_broken_primary(signed.manifest, made)) is None
