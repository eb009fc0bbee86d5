"""The ladder: how much is proven of an answer, from a signed head to an index that was made here.

    L0  the head is signed by its publisher
    L1  the answer is complete and right for that head's index: its proof was replayed
    L2  several peers on as many networks attest that they made the index from the records, and none another one
    L3  samples that nobody could foresee were right, in both directions: an audit
    L4  the index follows from one that was made here, by changes that were all checked
    L5  the index was made here from the records, and is the same

What the levels from L3 on speak of is a derivation: that an index is what the records
give. It is named without its dataset or head, so what is known of it holds wherever it
occurs. The primary tree has one too: that it is what its own entries give. None of this
is known of an answer: its level is that of the least of the trees that it was read from.

No level says that the publisher tells the truth, nor that there is no newer head.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import sha256

from rhizome_index.blocks import cbor
from rhizome_index.errors import UsageError
from rhizome_index.index.manifest import definition_body, tree_body
from rhizome_index.index.schema import Collection, Definition
from rhizome_index.limits import ATTESTERS_ASKED_MAX, ATTESTERS_MIN, ATTESTERS_WANTED
from rhizome_index.tree.boundary import Rule
from rhizome_index.tree.node import Tree

SIGNED, PROVEN, ATTESTED, AUDITED, CARRIED, MADE = LEVELS = range(6)


@dataclass(frozen=True, slots=True)
class Derivation:
    """The statement that a tree is what records give.

    given  names what the tree is a function of: the rule, the primary and the index's definition
    tree   the index; or the primary itself
    lists  of the index
    """

    given: bytes
    tree: Tree
    lists: tuple[int, ...]

    @property
    def digest(self) -> bytes:
        """Its name."""
        return _name(self.given, self.tree, self.lists)


def derivation_of(rule: Rule, collection: Collection, index: str) -> Derivation:
    """What a manifest says of an index; with an empty name, of the primary."""
    found = collection.indexes[index] if index else None
    given = _given(rule, collection.key, collection.primary, None if found is None else found.definition)
    return Derivation(given, collection.primary, ()) if found is None else Derivation(given, found.tree, found.lists)


@lru_cache(maxsize=256)  # every answer asks for one or two of these, mostly for the same
def _given(rule: Rule, key: str, primary: Tree, definition: Definition | None) -> bytes:
    body = {
        "rule": {"salt": rule.salt, "max_weight": rule.max_weight},
        "key": key,
        "primary": tree_body(primary),
        "index": None if definition is None else definition_body(definition),
    }
    return sha256(cbor.encode(body)).digest()


@lru_cache(maxsize=256)
def _name(given: bytes, tree: Tree, lists: tuple[int, ...]) -> bytes:
    return sha256(cbor.encode([given, tree_body(tree), list(lists)])).digest()


def derivations_of(rule: Rule, collection: Collection) -> dict[str, Derivation]:
    """All that a manifest says of a collection, by the name of the index; the primary's is empty."""
    return {name: derivation_of(rule, collection, name) for name in ("", *sorted(collection.indexes))}


@dataclass(frozen=True, slots=True)
class Bound:
    """What an audit leaves: wrong are less than this share of the entries, and of the records, or luck was so bad.

    bad_fraction  of the entries, and of the records
    confidence    that an audit which finds nothing is right: with more that is wrong, it finds some so often
    """

    bad_fraction: float
    confidence: float

    def __str__(self) -> str:
        return f"less than {_percent(self.bad_fraction)} wrong, with {_percent(self.confidence)} confidence"


def _percent(share: float) -> str:
    return f"{share * 100:.10g}%"


@dataclass(frozen=True, slots=True)
class Standing:
    """What is proven.

    bound      of AUDITED
    attesters  peers on different networks that attest it: of ATTESTED, and of PROVEN where they are too few
    is_disputed  peers attest different indexes of these records: of PROVEN
    """

    level: int
    bound: Bound | None = None
    attesters: int = 0
    is_disputed: bool = False

    def __str__(self) -> str:
        return f"L{self.level}"

    @property
    def proven(self) -> str:
        """What is proven, for people."""
        return _PROVEN[self.level].format(bound=self.bound, attesters=self.attesters)

    @property
    def open(self) -> str:
        """What is not proven, for people."""
        return f"{_DISPUTED if self.is_disputed else _OPEN[self.level]}{_ALWAYS_OPEN}"


def carried(base: Standing, before: Collection, after: Collection, index: str) -> Standing | None:
    """What is proven of an index that follows from another one by changes that were all checked.

    An entry that no change has touched is as it was, so no more are wrong than before; None: too many may be.
    """
    if base.level >= CARRIED:
        return Standing(CARRIED)
    if base.level < AUDITED or base.bound is None:
        return None
    pairs = [(before.primary, after.primary)]
    if index:
        pairs.append((before.indexes[index].tree, after.indexes[index].tree))
    growth = max(old.count / max(1, new.count) for old, new in pairs)
    fraction = base.bound.bad_fraction * max(1.0, growth)
    return replace(base, bound=replace(base.bound, bad_fraction=fraction)) if fraction < 1 else None


_PROVEN = {
    SIGNED: "signed by its publisher",
    PROVEN: "complete and right for its index",
    ATTESTED: "complete and right for its index, which {attesters} peers on as many networks say they made from the "
    "records too",
    AUDITED: "complete and right for its index, of which samples were checked: {bound}",
    CARRIED: "complete and right for its index, checked change by change since it was made here from the records",
    MADE: "complete and right for its index, which was made here from the records",
}
_OPEN = {
    SIGNED: "that it is complete, or right; ",
    PROVEN: "that the index lists what the records give: its publisher may have left some out; ",
    ATTESTED: "that these peers are not one, or do not lie: that the index lists what the records give is their word; ",
    AUDITED: "that any single entry is right, or there: few wrong ones are easily missed; ",
    CARRIED: "",
    MADE: "",
}
_DISPUTED = (
    "that the index lists what the records give: peers attest different ones, of which one at most is right, and that "
    "is not voted on; "
)
_ALWAYS_OPEN = "that what the publisher says is true, or that there is no newer head"


def lowest(standings: Iterable[Standing]) -> Standing:
    """The least of some standings; that of an answer to which nothing had to be read is MADE."""
    return min(standings, key=lambda one: (one.level, not one.is_disputed, one.attesters), default=Standing(MADE))


@dataclass(frozen=True, slots=True)
class Requirement:
    """What has to be proven of an answer, or it is refused.

    attesters  so many at least, of ATTESTED
    """

    level: int = PROVEN
    attesters: int = ATTESTERS_WANTED

    @classmethod
    def parse(cls, text: str) -> Requirement:
        """From its text, such as `L3`, or `L2:5` for five attesters. Raises UsageError."""
        name, colon, count = text.upper().partition(":")
        level = {f"L{level}": level for level in LEVELS}.get(name)
        if level is None:
            raise UsageError(
                f"not a level of proof: {text!r}", hint="levels are L1 to L5; L2:5 asks for five attesters"
            )
        if not colon:
            return cls(level)
        is_number = count.isascii() and count.isdecimal() and len(count) < 5
        if level != ATTESTED or not is_number or not ATTESTERS_MIN <= int(count) <= ATTESTERS_ASKED_MAX:
            raise UsageError(
                f"not a level of proof: {text!r}",
                hint=f"L2 takes how many peers have to attest it: L2:{ATTESTERS_MIN} to L2:{ATTESTERS_ASKED_MAX}",
            )
        return cls(level, int(count))

    def __str__(self) -> str:
        return f"L{self.level}:{self.attesters}" if self.level == ATTESTED else f"L{self.level}"

    def is_met_by(self, standing: Standing) -> bool:
        """Whether so much is proven."""
        is_enough = standing.level != ATTESTED or standing.attesters >= self.attesters
        return standing.level > self.level or (standing.level == self.level and is_enough)


ANYTHING = Requirement()
