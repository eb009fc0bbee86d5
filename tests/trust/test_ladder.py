"""The ladder: what a derivation's name covers, which standing is the least, what a requirement takes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pyrsistent import pmap

from rhizome_index.blocks.cid import cid_of
from rhizome_index.errors import UsageError
from rhizome_index.index.condition import Compare
from rhizome_index.index.schema import Collection, Definition, Index, SortPath
from rhizome_index.limits import ATTESTERS_ASKED_MAX, ATTESTERS_MIN
from rhizome_index.tree.boundary import Rule
from rhizome_index.tree.node import Tree
from rhizome_index.trust.ladder import (
    ATTESTED,
    AUDITED,
    CARRIED,
    LEVELS,
    MADE,
    PROVEN,
    Bound,
    Requirement,
    Standing,
    carried,
    derivation_of,
    derivations_of,
    lowest,
)

RULE = Rule(b"salt")
INDEX = Index("by_tag", Definition.over("tags", "-created"), Tree(cid_of(b"index"), 300), (100, 0))
POSTS = Collection("posts", "id", None, (), Tree(cid_of(b"primary"), 100), pmap({"by_tag": INDEX}))


def with_index(index: Index) -> Collection:
    return replace(POSTS, indexes=pmap({index.name: index}))


def test_a_name_covers_all_that_an_index_follows_from_and_what_it_is() -> None:
    definition = INDEX.definition
    others = [
        (Rule(b"other"), POSTS),
        (Rule(b"salt", 4096), POSTS),
        (RULE, replace(POSTS, key="key")),
        (RULE, replace(POSTS, primary=Tree(cid_of(b"other"), 100))),
        (RULE, replace(POSTS, primary=Tree(cid_of(b"primary"), 101))),
        (RULE, with_index(replace(INDEX, definition=Definition.over("tags", "created")))),
        (RULE, with_index(replace(INDEX, definition=replace(definition, where=Compare(">", "likes", 5))))),
        (RULE, with_index(replace(INDEX, definition=replace(definition, include=("text",))))),
        (RULE, with_index(replace(INDEX, definition=replace(definition, unique=True)))),
        (RULE, with_index(replace(INDEX, tree=Tree(cid_of(b"other"), 300)))),
        (RULE, with_index(replace(INDEX, tree=Tree(cid_of(b"index"), 301)))),
        (RULE, with_index(replace(INDEX, lists=(100, 1)))),
    ]
    names = {derivation_of(rule, collection, "by_tag").digest for rule, collection in [(RULE, POSTS), *others]}
    assert len(names) == 1 + len(others)
    assert len({found.digest for found in derivations_of(RULE, POSTS).values()}) == 2


def test_a_name_covers_neither_the_names_nor_the_order_that_a_collection_declares() -> None:
    renamed = with_index(replace(INDEX, name="tagged"))
    other = replace(renamed, name="articles", time="created", order=(SortPath("created", True),))
    assert derivation_of(RULE, other, "tagged") == derivation_of(RULE, POSTS, "by_tag")


def test_the_name_of_a_derivation_is_fixed() -> None:
    assert (
        derivation_of(RULE, POSTS, "by_tag").digest.hex()
        == "b1e298a313077798adb8a4093fc4d595f6f5b1296711cb88be76c0c92838e021"
    )
    assert (
        derivation_of(RULE, POSTS, "").digest.hex()
        == "7873566181e00b866c6d0f779388df54771d13da1ea1394869baeddddffda74a"
    )


def test_the_least_standing_counts() -> None:
    assert lowest([Standing(MADE), Standing(PROVEN), Standing(AUDITED)]) == Standing(PROVEN)
    assert lowest([]).level == MADE


def test_what_is_proven_and_what_is_not_is_said_of_each_level() -> None:
    said = [Standing(level, Bound(0.01, 0.99), 3) for level in LEVELS]
    assert list(map(str, said)) == ["L0", "L1", "L2", "L3", "L4", "L5"]
    assert len({one.proven for one in said}) == len(LEVELS)
    assert all("no newer head" in one.open for one in said)
    assert "less than 1% wrong, with 99% confidence" in Standing(AUDITED, Bound(0.01, 0.99)).proven
    assert "which 3 peers on as many networks say" in Standing(ATTESTED, attesters=3).proven
    assert "not voted on" in Standing(PROVEN, is_disputed=True).open
    assert "left some out" in Standing(PROVEN).open and "left some out" not in Standing(MADE).open


def test_a_requirement_is_met_by_what_is_as_good_or_better() -> None:
    for level in LEVELS:
        required = Requirement.parse(f"L{level}")
        assert [other for other in LEVELS if required.is_met_by(Standing(other, attesters=3))] == [
            other for other in LEVELS if other >= level
        ]
        assert str(required) == ("L2:3" if level == ATTESTED else f"L{level}")
        assert required == Requirement.parse(f"l{level}") == Requirement.parse(str(required))


def test_so_many_attesters_are_required_as_one_asks_for() -> None:
    for wanted in range(ATTESTERS_MIN, ATTESTERS_ASKED_MAX + 1):
        required = Requirement.parse(f"L2:{wanted}")
        met = [count for count in range(20) if required.is_met_by(Standing(ATTESTED, attesters=count))]
        assert met == list(range(wanted, 20)) and required.is_met_by(Standing(AUDITED, Bound(0.01, 0.99)))
        assert not required.is_met_by(Standing(PROVEN, is_disputed=True))


@pytest.mark.parametrize("text", ["", "L6", "3", "L3:2", "L3:", "L", "L٣", "L" + "9" * 99])
def test_what_is_no_level_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a level"):
        Requirement.parse(text)


@pytest.mark.parametrize("text", ["L2:", "L2:x", "L2:1", "L2:17", "L2:-3", "L2:٣", "L2:" + "9" * 99, "L2:3:3"])
def test_what_is_no_number_of_attesters_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a level") as refused:
        Requirement.parse(text)
    assert refused.value.hint == "L2 takes how many peers have to attest it: L2:2 to L2:16"


def test_what_is_carried_on_is_no_better_than_it_was() -> None:
    def with_counts(records: int, entries: int) -> Collection:
        index = replace(INDEX, tree=Tree(INDEX.tree.root, entries))
        return replace(with_index(index), primary=Tree(POSTS.primary.root, records))

    larger = with_counts(200, 400)
    assert carried(Standing(MADE), POSTS, larger, "by_tag") == Standing(CARRIED)
    assert carried(Standing(CARRIED), POSTS, larger, "by_tag") == Standing(CARRIED)
    assert carried(Standing(PROVEN), POSTS, larger, "by_tag") is None
    audited = Standing(AUDITED, Bound(0.01, 0.99))
    assert carried(audited, POSTS, larger, "by_tag") == audited
    # As many may be wrong as before, of fewer.
    assert carried(audited, POSTS, with_counts(100, 150), "by_tag") == Standing(AUDITED, Bound(0.02, 0.99))
    assert carried(audited, POSTS, with_counts(25, 150), "by_tag") == Standing(AUDITED, Bound(0.04, 0.99))
    assert carried(audited, POSTS, with_counts(100, 0), "by_tag") is None
