"""Several access paths at once: records that all of them list, or that any of them does.

Access paths can be combined if their entries sort the same behind what equalities
fix: then a record has one tail in all of them, and they are merged, or jumped
through, by their tails. An intersection binds the conditions of all its arms. A
union has one arm for each branch of an `or`, or for each value of an `in`.

Which combinations a query has follows from the query and the manifest, as with
single access paths; which are worth trying is a matter of the choice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from typing import NamedTuple

from pyrsistent import pmap

from rhizome_index.errors import IntegrityError
from rhizome_index.index.condition import SCALARS, Compare, Expr, Or, all_of, conjuncts_of
from rhizome_index.index.schema import Collection, Definition, Index, SortPath
from rhizome_index.limits import PLAN_ARMS_MAX, PLAN_PAIRS_MAX
from rhizome_index.query.expr import Query
from rhizome_index.query.plan import (
    ALL,
    ANY,
    PRIMARY,
    Access,
    Candidate,
    Combined,
    Plan,
    candidates,
    direction,
    is_covered,
    settled,
    sort_terms,
)
from rhizome_index.query.streams import AllStream, AnyStream, Stream
from rhizome_index.tree.node import EMPTY_TREE


@dataclass(frozen=True, slots=True)
class Combination:
    """Several candidates at once. What it has in common with one: see `plan.Candidate`."""

    plan: Combined
    parts: tuple[Candidate, ...]
    ordered: bool
    reverse: bool
    covered: bool
    residual: tuple[Expr, ...]
    bound: tuple[Expr, ...]

    @property
    def grouped(self) -> bool:
        return False

    @property
    def repeats(self) -> bool:
        """A record has one tail, so it comes once."""
        return False

    @property
    def counts_alone(self) -> bool:
        return False

    @property
    def is_full(self) -> bool:
        return False

    def stream(self, after: bytes | None) -> Stream:
        """Its entries, behind a position if there is one."""
        arms = [part.arm for part in self.parts]
        kind = AllStream if self.plan.kind == ALL else AnyStream
        return kind(arms, reverse=self.reverse, after=after)


Choice = Candidate | Combination


def find_candidate(query: Query, collection: Collection, plan: Plan) -> Choice:
    """What a plan does for a query. Raises IntegrityError if it is no plan of that query."""
    query = settled(query, collection)
    found: Choice | None
    if isinstance(plan, Access):
        found = _single(query, collection, plan)
    elif plan.kind == ALL:
        found = _intersection(query, collection, plan)
    else:
        found = _union(query, collection, plan)
    if found is None:
        raise IntegrityError("a plan that does not answer the query")
    return found


def all_candidates(query: Query, collection: Collection) -> list[Choice]:
    """Every single candidate of a query, and the combinations that are worth a thought."""
    return [_over(item, collection) for item in _of_shape(query, _Shape.of(collection))]


class _Shape(NamedTuple):
    """All of a collection that its candidates follow from: many datasets, and all heads of one, have it in common."""

    name: str
    key: str
    time: str | None
    order: tuple[SortPath, ...]
    indexes: tuple[tuple[str, Definition, tuple[bool, ...]], ...]

    @classmethod
    def of(cls, collection: Collection) -> _Shape:
        indexes = [(name, item.definition, tuple(map(bool, item.lists))) for name, item in collection.indexes.items()]
        return cls(
            collection.name, collection.key, collection.time, collection.order, tuple(sorted(indexes, key=_name))
        )

    def collection(self) -> Collection:
        """An empty collection of this shape."""
        indexes = {name: Index(name, definition, EMPTY_TREE, lists) for name, definition, lists in self.indexes}
        return Collection(self.name, self.key, self.time, self.order, EMPTY_TREE, pmap(indexes))


def _name(index: tuple[str, Definition, tuple[bool, ...]]) -> str:
    return index[0]


@lru_cache(maxsize=128)  # a feed asks the same of a thousand datasets of one shape
def _of_shape(query: Query, shape: _Shape) -> tuple[Choice, ...]:
    collection = shape.collection()
    query = settled(query, collection)
    singles = candidates(query, collection)
    plans = dict.fromkeys([*_intersections(singles), *_unions(query, collection)])
    return *singles, *(find_candidate(query, collection, plan) for plan in plans)


def _over(choice: Choice, collection: Collection) -> Choice:
    """A candidate of a collection's shape, over its own trees."""
    if isinstance(choice, Combination):
        return replace(choice, parts=tuple(_single_over(part, collection) for part in choice.parts))
    return _single_over(choice, collection)


def _single_over(part: Candidate, collection: Collection) -> Candidate:
    name = part.access.index
    return replace(part, tree=collection.primary if name == PRIMARY else collection.indexes[name].tree)


def _single(query: Query, collection: Collection, access: Access) -> Candidate | None:
    return next((item for item in candidates(query, collection) if item.access == access), None)


# --- intersections ---


def _intersection(query: Query, collection: Collection, plan: Combined) -> Combination | None:
    known = {candidate.access: candidate for candidate in candidates(query, collection)}
    parts = [known[access] for access in plan.accesses if access in known]
    if len(parts) != len(plan.accesses) or not all(map(_joins, parts)) or not _fit(parts):
        return None
    if len({part.bound for part in parts}) != len(parts):
        return None
    bound = tuple(dict.fromkeys(term for part in parts for term in part.bound))
    fixed = {path for part in parts for path in part.fixed_paths}
    residual = tuple(term for term in query.conjuncts() if term not in bound)
    return _combination(query, collection, plan, parts, fixed, residual, bound)


def _intersections(singles: Sequence[Candidate]) -> Iterator[Combined]:
    """All pairs, and everything at once, of candidates that can be intersected."""
    groups: dict[tuple[SortPath, ...], list[Candidate]] = {}
    for candidate in singles:
        if _joins(candidate):
            groups.setdefault(candidate.tail, []).append(candidate)
    for group in groups.values():
        distinct = list({candidate.bound: candidate for candidate in reversed(group)}.values())[::-1]
        for pair in list(combinations(distinct, 2))[:PLAN_PAIRS_MAX]:
            yield Combined(ALL, tuple(part.access for part in pair))
        if 3 <= len(distinct) <= PLAN_ARMS_MAX:
            yield Combined(ALL, tuple(part.access for part in distinct))


def _joins(candidate: Candidate) -> bool:
    """Whether a candidate can be an arm of an intersection."""
    return candidate.access.index != PRIMARY and bool(candidate.fixed) and not candidate.repeats


# --- unions ---


def _union(query: Query, collection: Collection, plan: Combined) -> Combination | None:
    for term, branches in _branchings(query):
        if len(branches) != len(plan.accesses):
            continue
        parts = [
            _single(_in_branch(query, term, branch), collection, access)
            for branch, access in zip(branches, plan.accesses, strict=True)
        ]
        arms = [part for part in parts if part is not None and not part.repeats]
        if len(arms) == len(parts) and _fit(arms):
            shared = set(arms[0].bound).intersection(*(arm.bound for arm in arms))
            if all(_binds(arm, branch) for arm, branch in zip(arms, branches, strict=True)):
                shared.add(term)
            bound = tuple(item for item in query.conjuncts() if item in shared)
            residual = tuple(item for item in query.conjuncts() if item not in shared)
            fixed = {path for path in arms[0].fixed_paths if _all_fix(arms, path)}
            return _combination(query, collection, plan, arms, fixed, residual, bound)
    return None


def _binds(arm: Candidate, branch: Expr) -> bool:
    """Whether every record that an arm lists meets its branch: then none need be asked whether it meets any."""
    return not any(term in arm.residual for term in conjuncts_of(branch))


def _all_fix(arms: Sequence[Candidate], path: str) -> bool:
    """Whether the same condition fixes a path in all arms."""
    terms = {
        next((item for item in arm.bound if isinstance(item, Compare) and item.path == path), None) for arm in arms
    }
    return len(terms) == 1 and None not in terms


def _unions(query: Query, collection: Collection) -> Iterator[Combined]:
    """For each branching and each way to sort: the first access path of each branch that sorts so."""
    for term, branches in _branchings(query):
        ways: list[dict[object, Candidate]] = []
        for branch in branches:
            found: dict[object, Candidate] = {}
            for candidate in candidates(_in_branch(query, term, branch), collection):
                if not candidate.repeats and candidate.bound:
                    found.setdefault((candidate.tail, candidate.access.index == PRIMARY), candidate)
            ways.append(found)
        for way in ways[0]:
            if all(way in found for found in ways):
                yield Combined(ANY, tuple(found[way].access for found in ways))


def _branchings(query: Query) -> Iterator[tuple[Expr, tuple[Expr, ...]]]:
    """The conditions that leave a choice, and what they leave to choose from."""
    for term in query.conjuncts():
        branches: tuple[Expr, ...] = ()
        if isinstance(term, Or):
            branches = term.terms
        elif isinstance(term, Compare) and term.operator == "in" and all(type(item) in SCALARS for item in term.value):
            branches = tuple(dict.fromkeys(Compare("=", term.path, item) for item in term.value))
        if 2 <= len(branches) <= PLAN_ARMS_MAX:
            yield term, branches


def _in_branch(query: Query, term: Expr, branch: Expr) -> Query:
    """The query with one of the branches of a condition in its place."""
    terms = query.conjuncts()
    place = next(place for place, item in enumerate(terms) if item is term)
    return replace(query, where=all_of(*terms[:place], *terms[place + 1 :], branch))


# --- both ---


def _fit(parts: Sequence[Candidate]) -> bool:
    """Whether entries of these candidates have tails that can be compared."""
    return len({(part.tail, part.access.index == PRIMARY) for part in parts}) == 1


def _combination(
    query: Query,
    collection: Collection,
    plan: Combined,
    parts: Sequence[Candidate],
    fixed: set[str],
    residual: tuple[Expr, ...],
    bound: tuple[Expr, ...],
) -> Combination:
    terms = sort_terms(query, collection)
    ordered, reverse = direction(parts[0].tail, terms, fixed, collection.key)
    names = [part.access.index for part in parts]
    definitions = [collection.indexes[name].definition for name in names if name != PRIMARY]
    covered = PRIMARY not in names and is_covered(query, definitions, residual, terms, ordered=ordered)
    return Combination(plan, tuple(parts), ordered, ordered and reverse, covered, residual, bound)
