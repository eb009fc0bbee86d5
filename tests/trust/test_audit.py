"""Audits: whatever is wrong at a position that is drawn is found and can be proven, in both directions; what is right
never is; what is missed is missed as often as the formula says, lying counts included."""

from __future__ import annotations

import random
from math import comb
from typing import Any

import pytest
from hypothesis import strategies as st

from rhizome_index.errors import UsageError
from rhizome_index.index.keys import INVERT
from rhizome_index.limits import AUDIT_BATCH, AUDIT_CUTS, AUDIT_SAMPLES_MAX
from rhizome_index.tree.cursor import Cursor, rank
from rhizome_index.tree.edit import Edit
from rhizome_index.tree.walk import NeedNodes
from rhizome_index.trust import audit as auditing
from rhizome_index.trust.audit import Draw, audit, draw, escape_chance, samples_for, wrong_at_least
from rhizome_index.trust.fraud import CUT, ENTRY, LISTS, PATH, Claim, owner_of
from tests.driving import gather
from tests.properties.effort import quickly, thoroughly
from tests.trust import lying
from tests.trust.lying import Signed, accused, convicts
from tests.trust.test_fraud import honest

SEEDS = st.integers(0, 2**32)


def audited(signed: Signed, index: str, drawn: Draw) -> Claim | None:
    """What an audit finds."""
    collection = signed.collection
    walk = audit(signed.manifest, collection, collection.indexes[index], drawn, lambda number: None)
    claim: Claim | None = signed.source.run(walk)
    return claim


def all_of(signed: Signed, index: str) -> Draw:
    entries = tuple(range(signed.tree(index).count))
    return Draw(tuple(range(signed.collection.primary.count)), entries, entries)


def check_honest(seed: int) -> None:
    """Nothing is wrong with what is right, wherever one looks."""
    signed = honest(seed % 7, random.Random(seed).choice([1, 3, 40, 300]))
    for index in signed.collection.indexes:
        assert audited(signed, index, all_of(signed, index)) is None


def check_entries(seed: int) -> None:
    """An entry missing is found from its record, one too many from itself, one that is changed from both."""
    random_ = random.Random(seed)
    signed = honest(seed % 3, random_.choice([3, 40, 300]))
    for index in signed.collection.indexes:
        entries = lying.entries_of(signed, index)
        if not entries:
            continue
        key, value = random_.choice(entries)
        owner = owner_of(signed.collection.indexes[index], key)
        assert owner is not None
        record = signed.source.run(rank(signed.collection.primary, owner))
        for what, wrong, lie in lying.with_wrong_entries(signed, index, key, value):
            ways = []
            if what != "extra":
                ways.append(Draw((record,), ()))
            if what != "missing":
                ways.append(Draw((), (lie.source.run(rank(lie.tree(index), wrong)),)))
            for drawn in ways:
                claim = audited(lie, index, drawn)
                assert claim is not None and (claim.kind, claim.index, claim.key) == (ENTRY, index, wrong), what
                assert accused(lie, claim).claim == claim and not convicts(signed, claim)


def check_nodes(seed: int) -> None:
    """Any rule of structure broken at some node: found by whoever looks at all of it."""
    random_ = random.Random(seed)
    signed = honest(seed % 5, random_.choice([100, 400]), 2)
    for index in signed.collection.indexes:
        for level in range(lying.height_of(signed, index)):
            for what, lie in lying.with_broken_nodes(random_, signed, index, level):
                if lie.head.manifest == signed.head.manifest:
                    continue
                claim = audited(lie, index, all_of(lie, index))
                if claim is None:  # a cut above the leaves, where only neighbours show it: no entry is wrong
                    assert level and what in ("a cut too many", "a cut that is moved"), what
                    continue
                assert claim.kind in (PATH, CUT, ENTRY), what
                assert convicts(lie, claim) and not convicts(signed, claim), what


test_what_is_right = quickly(check_honest, SEEDS, cases=20)
test_what_is_right_thoroughly = thoroughly(check_honest, SEEDS, cases=300)
test_a_wrong_entry = quickly(check_entries, SEEDS, cases=15)
test_a_wrong_entry_thoroughly = thoroughly(check_entries, SEEDS, cases=500)
test_a_broken_node = quickly(check_nodes, SEEDS, cases=3)
test_a_broken_node_thoroughly = thoroughly(check_nodes, SEEDS, cases=100)


def test_numbers_of_lists() -> None:
    signed = honest(1, 300)
    for index in signed.collection.indexes:
        lists = signed.collection.indexes[index].lists
        wrong = [300 if not said else 0 for said in lists]
        claim = audited(lying.with_lists(signed, index, wrong), index, all_of(signed, index))
        if lists != tuple(wrong):
            assert claim is not None and claim.kind == LISTS


# --- numbers ---


def test_the_chance_is_that_of_drawing_none_of_the_wrong_ones() -> None:
    for total in (1, 7, 40):
        for wrong in range(total + 1):
            for samples in range(total + 1):
                exact = comb(total - wrong, samples) / comb(total, samples)
                assert escape_chance(total, wrong, samples) == pytest.approx(exact, abs=1e-12)


def test_as_many_samples_as_it_takes_and_no_more() -> None:
    for total in (1, 10, 459, 5000, 1_000_000):
        for bad in (0.5, 0.01, 0.003):
            for confidence in (0.5, 0.99, 0.9999):
                samples, wrong = samples_for(total, bad, confidence), wrong_at_least(total, bad)
                assert escape_chance(total, wrong, samples) <= 1 - confidence + 1e-12
                assert escape_chance(total, wrong, samples - 1) > 1 - confidence - 1e-12
    assert samples_for(0, 0.01, 0.99) == 0 and samples_for(1_000_000, 0.01, 0.99) == 459
    assert [wrong_at_least(total, 0.1) for total in (1, 10, 11, 30)] == [1, 1, 2, 3]


@pytest.mark.parametrize("numbers", [(0.0, 0.9), (1.0, 0.9), (0.1, 0.0), (0.1, 1.0), (-1.0, 0.5), (float("nan"), 0.5)])
def test_shares_are_between_nothing_and_all(numbers: tuple[float, float]) -> None:
    with pytest.raises(UsageError, match="between"):
        samples_for(10, *numbers)


def test_so_many_samples_and_no_more_are_drawn() -> None:
    everything = 1 - 1e-9
    assert samples_for(AUDIT_SAMPLES_MAX, 1e-9, everything) == AUDIT_SAMPLES_MAX
    with pytest.raises(UsageError, match="more than 100,000 samples"):
        samples_for(AUDIT_SAMPLES_MAX + 1, 1e-9, everything)


def test_positions_are_drawn_once_each_and_in_order() -> None:
    signed = honest(2, 300)
    collection = signed.collection
    index = next(iter(collection.indexes.values()))
    drawn = draw(random.Random(1), collection, index, 0.05, 0.99)
    for positions, total in ((drawn.records, collection.primary.count), (drawn.entries, index.tree.count)):
        assert len(positions) == samples_for(total, 0.05, 0.99) and sorted(set(positions)) == list(positions)
        assert positions[0] >= 0 and positions[-1] < total
    assert len(drawn.cuts) == AUDIT_CUTS and set(drawn.cuts) <= set(drawn.entries)
    assert draw(random.Random(2), collection, index, 0.05, 0.99) != drawn


def test_many_samples_are_asked_for_at_once_but_not_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auditing, "AUDIT_BATCH", 16)
    signed = honest(1, 300)
    index = next(iter(signed.collection.indexes))
    checked: list[int] = []
    walk = audit(
        signed.manifest, signed.collection, signed.collection.indexes[index], all_of(signed, index), checked.append
    )
    needs: list[Any] = []

    def noted() -> Any:
        reply = None
        while True:
            try:
                need = walk.send(reply)
            except StopIteration as stop:
                return stop.value
            needs.append(need)
            reply = yield need

    assert signed.source.run(noted()) is None
    assert sum(checked) == signed.collection.primary.count + signed.tree(index).count and max(checked) <= 32
    sizes = [len(need.cids) for need in needs[:-20] if isinstance(need, NeedNodes)]
    assert max(sizes) > 1 and AUDIT_BATCH >= 16


# --- what is missed ---


def spoilt(signed: Signed, index: str, how: str, fraction: float, random_: random.Random) -> Signed:
    """An index in which that share of the positions is wrong."""
    entries = lying.entries_of(signed, index)
    chosen = random_.sample(entries, wrong_at_least(len(entries), fraction))
    if how == "changed":
        edits: list[Edit] = [(key, value[::-1]) for key, value in chosen]
    elif how == "replaced":  # left out, and as many made up: the number of entries is what it was
        edits = [edit for key, value in chosen for edit in ((key, None), (key.translate(INVERT), value))]
    return lying.with_edit(signed, index, sorted(edits))


def with_records_left_out(signed: Signed, index: str, fraction: float, random_: random.Random) -> Signed:
    """An index that lacks an entry of that share of the records."""
    collection = signed.collection
    by_owner: dict[bytes, bytes] = {}
    for key, _ in lying.entries_of(signed, index):
        owner = owner_of(collection.indexes[index], key)
        assert owner is not None
        by_owner[owner] = key
    chosen = random_.sample(sorted(by_owner), wrong_at_least(collection.primary.count, fraction))
    return lying.with_edit(signed, index, sorted((by_owner[owner], None) for owner in chosen))


CELLS = [
    (how, fraction, samples)
    for how in ("changed", "replaced", "left out")
    for fraction in (0.005, 0.02, 0.08)
    for samples in (10, 30, 60, 120)
]


def check_escapes(how: str, fraction: float, samples: int, trials: int) -> None:
    """As many audits miss what is wrong as the formula says: of the entries, or of the records."""
    random_ = random.Random(f"{how} {fraction} {samples}")
    signed = honest(1, 300)
    index = max(signed.collection.indexes, key=lambda name: signed.tree(name).count)
    if how == "left out":
        lie, tree = with_records_left_out(signed, index, fraction, random_), ""
    else:
        lie, tree = spoilt(signed, index, how, fraction, random_), index
    check_missed(lie, index, tree, wrong_at_least(signed.tree(tree).count, fraction), samples, trials, random_)


def check_missed(
    lie: Signed, index: str, tree: str, wrong: int, samples: int, trials: int, random_: random.Random
) -> None:
    """Draw so many positions of a tree again and again: all right ones are drawn as often as is said, within four
    deviations."""
    total, missed = lie.tree(tree).count, 0
    for _ in range(trials):
        positions = tuple(sorted(random_.sample(range(total), samples)))
        missed += audited(lie, index, Draw((), positions) if tree else Draw(positions, ())) is None
    chance = escape_chance(total, wrong, samples)
    deviation = (trials * chance * (1 - chance)) ** 0.5
    what = f"{wrong} of {total} {'entries' if tree else 'records'} wrong, {samples} samples"
    print(f"{what}: {missed / trials:.3f} missed, {chance:.3f} said, {trials:,} trials")
    assert abs(missed - trials * chance) <= 4 * deviation + 1


@pytest.mark.parametrize(("how", "fraction", "samples"), CELLS[::11])
def test_as_much_is_missed_as_is_said(how: str, fraction: float, samples: int) -> None:
    check_escapes(how, fraction, samples, 60)


@pytest.mark.slow
@pytest.mark.parametrize(("how", "fraction", "samples"), CELLS)
def test_as_much_is_missed_as_is_said_in_a_thousand(how: str, fraction: float, samples: int) -> None:
    check_escapes(how, fraction, samples, 1000)


@pytest.mark.parametrize("trials", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_who_lies_about_counts_is_missed_no_more_often(trials: int) -> None:
    """A leaf that claims to be one entry, or many: it is wrong at each position that it claims."""
    signed = honest(1, 300)
    index = max(signed.collection.indexes, key=lambda name: signed.tree(name).count)
    for tree in (index, ""):
        key = lying.entries_of(signed, tree)[5][0]
        place = lying.place_of(signed, tree, 0, key)
        data = lying.chunk_of(place.node)
        for claimed in (1, 10 * place.node.count):
            lie = lying.with_node(signed, tree, place, [(place.node.keys[0], lying.cid_of(data), claimed)])
            for samples in (5, 40):
                check_missed(lie, index, tree, claimed, samples, trials, random.Random(claimed))
            assert lie.source.run(gather_until_wrong(lie, tree)), "what such a leaf hides cannot be read either"


def gather_until_wrong(signed: Signed, index: str) -> Any:
    """Whether reading all of an index fails."""
    try:
        yield from gather(Cursor(signed.tree(index)))
    except Exception:
        return True
    return False
