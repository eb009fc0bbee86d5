"""Which access paths answer a query.

An access path is one index (or the primary), a range of its keys, a direction. It
covers the query: every record that meets the conditions has an entry in the range.
The candidates follow from the query and the manifest alone, so a peer that is sent a
plan can tell whether it is one. Several at once: see `combine`; the choice: `choose`.

An index covers a query only if each of its paths that holds lists is bound by a
condition: an empty list has no entry. It gives an order only if no path that
holds lists is part of that order, nor can give one record twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from itertools import islice, product
from typing import Any

from rhizome_index.errors import IntegrityError, UsageError
from rhizome_index.index.condition import RANGES, SCALARS, Compare, Expr, Not, conjuncts_of, paths_of
from rhizome_index.index.keys import NOT_NULL, Interval, encode_component, interval
from rhizome_index.index.record import TIME, parse_path
from rhizome_index.index.schema import Collection, Definition, Index, SortPath
from rhizome_index.limits import CANDIDATES_MAX, PLAN_ARMS_MAX
from rhizome_index.query.expr import DECLARED, NEWEST, ROWS, Query
from rhizome_index.query.imply import implies
from rhizome_index.query.streams import Arm, RangeStream, Stream
from rhizome_index.tree.cursor import Span
from rhizome_index.tree.node import Tree

PRIMARY = ""  # the name of the primary among access paths
ALL, ANY = "all", "any"


@dataclass(frozen=True, slots=True)
class Access:
    """An access path: what travels as a plan. Everything else follows from the query.

    index    name of an index, or PRIMARY
    low      first key of the range
    high     key behind the range, or None
    reverse  read backwards
    """

    index: str
    low: bytes
    high: bytes | None
    reverse: bool

    @property
    def span(self) -> Span:
        return Span(self.low, self.high)


@dataclass(frozen=True, slots=True)
class Combined:
    """Several access paths at once, as a plan.

    kind  ALL: records that have an entry in each of them; ANY: in at least one
    """

    kind: str
    accesses: tuple[Access, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """An access path and what it does for its query.

    tree      the tree to read
    fixed     how all keys of its range begin: the values that equalities fix; of the primary nothing
    tail      the paths whose values follow in its keys, the primary key last
    fixed_paths  the paths at which a record has no other value than the one fixed
    ordered   its entries come in the query's order
    repeats   one record may have several entries in the range
    covered   its entries include all that the query wants, so no records are needed
    grouped   each group of the query is one run of its entries
    residual  conditions that neither the range nor the index itself makes sure of
    bound     conditions that they do
    """

    access: Access
    tree: Tree
    fixed: bytes
    fixed_paths: tuple[str, ...]
    tail: tuple[SortPath, ...]
    ordered: bool
    repeats: bool
    covered: bool
    grouped: bool
    residual: tuple[Expr, ...]
    bound: tuple[Expr, ...]

    @property
    def plan(self) -> Access:
        return self.access

    @property
    def parts(self) -> tuple[Candidate, ...]:
        return (self,)

    @property
    def reverse(self) -> bool:
        return self.access.reverse

    @property
    def arm(self) -> Arm:
        return Arm(self.tree, self.fixed, self.access.span)

    @property
    def group_at(self) -> int:
        """Where in its keys the value begins that is behind what equalities fix."""
        return len(self.fixed)

    @property
    def counts_alone(self) -> bool:
        """Whether the number of entries in the range is the number of rows."""
        return not self.residual and not self.repeats

    @property
    def is_full(self) -> bool:
        """Whether it reads the whole tree, as far as the conditions go."""
        return not self.bound

    def stream(self, after: bytes | None) -> Stream:
        """Its entries, behind a position if there is one."""
        return RangeStream(self.tree, self.access.span, reverse=self.access.reverse, after=after)


Plan = Access | Combined


def encode_plan(plan: Plan) -> list[Any]:
    """The form in which a plan travels."""
    if isinstance(plan, Combined):
        return [plan.kind, [encode_plan(access) for access in plan.accesses]]
    return [plan.index, plan.low, plan.high, plan.reverse]


def decode_plan(body: Any) -> Plan:
    """Raises IntegrityError for anything but a plan."""
    if type(body) is list and len(body) == 2 and body[0] in (ALL, ANY) and type(body[1]) is list:
        if not 2 <= len(body[1]) <= PLAN_ARMS_MAX:
            raise IntegrityError(f"a plan of 2 to {PLAN_ARMS_MAX} access paths")
        return Combined(str(body[0]), tuple(map(_decode_access, body[1])))
    return _decode_access(body)


def _decode_access(body: Any) -> Access:
    if type(body) is not list or [type(item) for item in body] not in (
        [str, bytes, bytes, bool],
        [str, bytes, type(None), bool],
    ):
        raise IntegrityError("a plan must be [index, low, high, reverse], or several of them")
    return Access(*body)


def order_of(query: Query, collection: Collection) -> tuple[SortPath, ...]:
    """The paths by which a query's rows are ordered; the last decides the direction of ties. Raises UsageError."""
    if not isinstance(query.order, str):
        return query.order
    if query.order == DECLARED:
        return collection.order
    if collection.time is None:
        raise UsageError(
            f"the collection {collection.name!r} has no time, so nothing in it is newest or oldest",
            hint="ask for the first N, or declare the path with --time when importing",
        )
    return (SortPath(collection.time, descending=query.order == NEWEST),)


def sort_terms(query: Query, collection: Collection) -> tuple[SortPath, ...]:
    """The full order: the paths asked for, then the primary key unless it is one of them. None if none is wanted."""
    if query.kind != ROWS:
        return ()
    terms: list[SortPath] = []
    for path in order_of(query, collection):
        terms.append(path)
        if path.path == collection.key:
            return tuple(terms)
    return (*terms, SortPath(collection.key, bool(terms) and terms[-1].descending))


def candidates(query: Query, collection: Collection) -> list[Candidate]:
    """Every access path that covers a query, the primary last. Raises UsageError for an impossible order."""
    query = settled(query, collection)
    terms = sort_terms(query, collection)
    found: dict[Access, Candidate] = {}
    for name in sorted(collection.indexes):
        for candidate in _of_index(query, collection, collection.indexes[name], terms):
            found.setdefault(candidate.access, candidate)
    whole = Index(PRIMARY, Definition((SortPath(collection.key),)), collection.primary, (0,))
    for candidate in _of_index(query, collection, whole, terms):
        found.setdefault(candidate.access, candidate)
    return list(found.values())[:CANDIDATES_MAX]


def _of_index(query: Query, collection: Collection, index: Index, terms: Sequence[SortPath]) -> list[Candidate]:
    """The candidates over one index: one for each choice of conditions where several bind one path."""
    if not implies(query.conjuncts(), index.definition.where):
        return []
    conjuncts = [term for term in query.conjuncts() if isinstance(term, Compare)]
    choices: list[list[Compare | None]] = []
    for path in index.paths:
        equal = [term for term in conjuncts if term.path == path.path and is_equality(term)]
        choices.append(list(equal) or [None])
        if not equal:
            break
    found = []
    for choice in islice(product(*choices), CANDIDATES_MAX):
        prefix = b""
        bound: list[Expr] = []
        for path, term in zip(index.paths, choice, strict=False):
            if term is None:
                break
            prefix += encode_component(_value(term), descending=path.descending)
            bound.append(term)
        candidate = _candidate(query, collection, index, terms, prefix, bound, conjuncts)
        if candidate is not None:
            found.append(candidate)
    return found


def _candidate(
    query: Query,
    collection: Collection,
    index: Index,
    terms: Sequence[SortPath],
    prefix: bytes,
    bound: list[Expr],
    conjuncts: Sequence[Compare],
) -> Candidate | None:
    depth = len(bound)
    bound = list(bound)
    span = Interval(prefix, False, prefix, True).bounds(b"", descending=False) if prefix else (b"", None)
    open_from = depth
    repeats = grouped = False
    if depth < len(index.paths):
        path = index.paths[depth]
        ranges = [term for term in conjuncts if term.path == path.path and is_range(term)]
        if index.lists[depth]:
            ranges = [term for term in ranges if term.operator != "!="][:1]  # elements may meet different conditions
            repeats = bool(ranges)
        if ranges:
            met = _interval(ranges[0])
            for term in ranges[1:]:
                met = met.intersect(_interval(term))
            span = met.bounds(prefix, descending=path.descending)
            bound = [*bound, *ranges]
            open_from = depth + 1
        if query.is_grouped and path.path == query.paths[0] and not repeats:
            grouped = True
            repeats = index.lists[depth] > 0  # who has an empty list is in no group
            open_from = depth + 1
    if any(index.lists[open_from:]):
        return None
    is_primary = index.name == PRIMARY
    tail = index.paths if is_primary else (*index.paths[depth:], SortPath(collection.key, index.paths[-1].descending))
    fixed = tuple(index.paths[place].path for place in range(depth) if not index.lists[place])
    listed = conjuncts_of(index.definition.where)
    bound += [term for term in query.conjuncts() if term in listed and term not in bound]
    residual = tuple(term for term in query.conjuncts() if term not in bound)
    ordered, reverse = direction(tail, terms, set(fixed), collection.key)
    if repeats:
        ordered = False
    if grouped and (residual or (repeats and any(term.path == query.paths[0] for term in conjuncts))):
        grouped = False
    covered = is_covered(query, [index.definition], residual, terms, ordered=ordered)
    access = Access(index.name, span[0], span[1], reverse and ordered)
    return Candidate(
        access,
        index.tree,
        b"" if is_primary else prefix,
        fixed,
        tail,
        ordered,
        repeats,
        covered,
        grouped,
        residual,
        tuple(bound),
    )


def direction(
    tail: Sequence[SortPath], terms: Sequence[SortPath], fixed: AbstractSet[str], key: str
) -> tuple[bool, bool]:
    """Whether entries that sort by `tail`, with `fixed` paths equal, come in an order; and whether backwards."""
    wanted = [term for term in terms if term.path not in fixed]
    given = list(tail[: 1 + next(place for place, path in enumerate(tail) if path.path == key)])
    if key in fixed or not wanted or given == wanted:
        return True, False
    return [path.flipped() for path in given] == wanted, True


def is_covered(
    query: Query,
    definitions: Sequence[Definition],
    residual: Sequence[Expr],
    terms: Sequence[SortPath],
    *,
    ordered: bool,
) -> bool:
    """Whether the entries of all these indexes include what the query looks at: what it wants, checks and sorts by."""
    if (query.kind == ROWS and not query.paths) or not all(definition.include for definition in definitions):
        return False
    wanted = {*query.paths, *(path for term in residual for path in paths_of(term))}
    if not ordered:
        wanted |= {term.path for term in terms}
    return all(
        all(any(leads_to(included, path) for included in definition.include) for path in wanted)
        for definition in definitions
    )


def settled(query: Query, collection: Collection) -> Query:
    """The query with the collection's own path where it speaks of its time. Raises UsageError if there is none."""
    if TIME not in paths_of(query.where):
        return query
    if collection.time is None:
        raise UsageError(
            f"the collection {collection.name!r} has no time, so nothing in it is since anything",
            hint="compare a path of its own, or declare its time with --time when importing",
        )
    return replace(query, where=_with_time(query.where, collection.time))


def _with_time(expr: Expr, path: str) -> Expr:
    if isinstance(expr, Compare):
        return replace(expr, path=path) if expr.path == TIME else expr
    if isinstance(expr, Not):
        return Not(_with_time(expr.term, path))
    return replace(expr, terms=tuple(_with_time(term, path) for term in expr.terms))


def leads_to(path: str, other: str) -> bool:
    """Whether what stands at a path holds what stands at the other one."""
    steps = parse_path(path)
    return parse_path(other)[: len(steps)] == steps


def is_range(term: Compare) -> bool:
    """Whether a condition is met by one range of scalar values."""
    return term.operator in RANGES or (term.operator == "!=" and term.value is None)


def _interval(term: Compare) -> Interval:
    return NOT_NULL if term.operator == "!=" else interval(term.operator, term.value)


def is_equality(term: Compare) -> bool:
    """Whether a condition fixes one value that index entries can have."""
    if term.operator == "in":
        return len(term.value) == 1 and type(term.value[0]) in SCALARS
    return term.operator == "=" and type(term.value) is not list


def _value(term: Compare) -> Any:
    return term.value[0] if term.operator == "in" else term.value
