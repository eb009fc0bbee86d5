"""Which index answers a query: the candidates, and the choice among them.

A candidate is an access path: one index (or the primary), a range of its keys, a
direction. It covers the query: every record that meets the conditions has an
entry in the range. Candidates follow from the query and the manifest alone, so a
peer that is sent a plan can tell whether it is one. The choice also needs counts,
which a walk reads from the upper nodes of the trees.

An index covers a query only if each of its paths that holds lists is bound by a
condition: an empty list has no entry. It gives an order only if no path that
holds lists is part of that order, nor can give one record twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, product
from typing import Any

from rhizome_index.errors import IntegrityError, UsageError
from rhizome_index.index.keys import Interval, encode_component, interval
from rhizome_index.index.schema import Collection, Index, SortPath
from rhizome_index.limits import SCAN_FREE_ENTRIES
from rhizome_index.query.expr import DECLARED, NEWEST, SCALARS, Compare, Expr, Query
from rhizome_index.tree.cursor import Span, count
from rhizome_index.tree.node import Tree
from rhizome_index.tree.walk import Walk

PRIMARY = ""  # the name of the primary among access paths

_RANGES = ("<", "<=", ">", ">=", "starts with")
_CANDIDATES_MAX = 512


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
class Candidate:
    """An access path and what it does for its query.

    tree      the tree to read
    parts     components of one of its keys: the primary key is the last
    ordered   its entries come in the query's order
    repeats   one record may have several entries in the range
    residual  conditions that the range does not express
    bound     conditions that it does
    """

    access: Access
    tree: Tree
    parts: int
    ordered: bool
    repeats: bool
    residual: tuple[Expr, ...]
    bound: tuple[Expr, ...]

    @property
    def counts_alone(self) -> bool:
        """Whether the number of entries in the range is the number of rows."""
        return not self.residual and not self.repeats

    @property
    def is_full(self) -> bool:
        """Whether it reads the whole tree, as far as the conditions go."""
        return not self.bound


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a candidate is expected to read.

    in_range  entries in its range, exactly
    entries   entries it will read
    records   records it will fetch beside them
    """

    candidate: Candidate
    in_range: int
    entries: float
    records: float

    @property
    def cost(self) -> float:
        """In entries read: a record elsewhere costs about as much as four entries in a row."""
        return self.entries + 4 * self.records


def encode_access(access: Access) -> list[Any]:
    """The form in which a plan travels."""
    return [access.index, access.low, access.high, access.reverse]


def decode_access(body: Any) -> Access:
    """Raises IntegrityError for anything but a plan."""
    if type(body) is not list or [type(item) for item in body] not in (
        [str, bytes, bytes, bool],
        [str, bytes, type(None), bool],
    ):
        raise IntegrityError("a plan must be [index, low, high, reverse]")
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
    """The full order: the paths asked for, then the primary key unless it is one of them."""
    terms: list[SortPath] = []
    for path in order_of(query, collection):
        terms.append(path)
        if path.path == collection.key:
            return tuple(terms)
    return (*terms, SortPath(collection.key, bool(terms) and terms[-1].descending))


def candidates(query: Query, collection: Collection) -> list[Candidate]:
    """Every access path that covers a query, the primary last. Raises UsageError for an impossible order."""
    terms = () if query.count else sort_terms(query, collection)
    found: dict[Access, Candidate] = {}
    for name in sorted(collection.indexes):
        for candidate in _of_index(query, collection, collection.indexes[name], terms):
            found.setdefault(candidate.access, candidate)
    whole = Index(PRIMARY, (SortPath(collection.key),), collection.primary, (0,))
    for candidate in _of_index(query, collection, whole, terms):
        found.setdefault(candidate.access, candidate)
    return list(found.values())[:_CANDIDATES_MAX]


def find_candidate(query: Query, collection: Collection, access: Access) -> Candidate:
    """The candidate with this access path. Raises IntegrityError if the query has none such."""
    for candidate in candidates(query, collection):
        if candidate.access == access:
            return candidate
    raise IntegrityError("a plan that does not answer the query")


def _of_index(query: Query, collection: Collection, index: Index, terms: Sequence[SortPath]) -> list[Candidate]:
    """The candidates over one index: one for each choice of conditions where several bind one path."""
    conjuncts = [term for term in query.conjuncts() if isinstance(term, Compare)]
    choices: list[list[Compare | None]] = []
    for path in index.paths:
        equal = [term for term in conjuncts if term.path == path.path and _is_equality(term)]
        choices.append(list(equal) or [None])
        if not equal:
            break
    found = []
    for choice in islice(product(*choices), _CANDIDATES_MAX):
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
    span = Interval(prefix, False, prefix, True).bounds(b"", descending=False) if prefix else (b"", None)
    open_from = depth
    repeats = False
    if depth < len(index.paths):
        path = index.paths[depth]
        ranges = [term for term in conjuncts if term.path == path.path and term.operator in _RANGES]
        if index.lists[depth]:
            ranges = ranges[:1]  # different elements may meet different conditions
            repeats = bool(ranges)
        if ranges:
            met = interval(ranges[0].operator, ranges[0].value)
            for term in ranges[1:]:
                met = met.intersect(interval(term.operator, term.value))
            span = met.bounds(prefix, descending=path.descending)
            bound = [*bound, *ranges]
            open_from = depth + 1
    if any(index.lists[open_from:]):
        return None
    ordered, reverse = _direction(index, depth, terms, bound, collection.key)
    if repeats:
        ordered = False
    access = Access(index.name, span[0], span[1], reverse and ordered)
    residual = tuple(term for term in query.conjuncts() if term not in bound)
    parts = 1 if index.name == PRIMARY else len(index.paths) + 1
    return Candidate(access, index.tree, parts, ordered, repeats, residual, tuple(bound))


def _direction(
    index: Index, depth: int, terms: Sequence[SortPath], bound: Sequence[Expr], key: str
) -> tuple[bool, bool]:
    """Whether an index gives an order behind its first `depth` paths, which are fixed; and whether backwards."""
    fixed = {index.paths[place].path for place in range(depth) if not index.lists[place]}
    wanted = [term for term in terms if term.path not in fixed]
    given = [path for path in index.paths[depth:] if path.path != key]
    if len(given) == len(index.paths[depth:]):
        given.append(SortPath(key, index.paths[-1].descending))
    else:
        place = next(at for at, path in enumerate(index.paths) if path.path == key)
        given = list(index.paths[depth : place + 1])
    if key in fixed or given == wanted or not wanted:
        return True, False
    return [path.flipped() for path in given] == wanted, True


def _is_equality(term: Compare) -> bool:
    """Whether a condition fixes one value that index entries can have."""
    if term.operator == "in":
        return len(term.value) == 1 and type(term.value[0]) in SCALARS
    return term.operator == "=" and type(term.value) is not list


def _value(term: Compare) -> Any:
    return term.value[0] if term.operator == "in" else term.value


# --- the choice ---


def estimate(query: Query, collection: Collection, found: Sequence[Candidate]) -> Walk[list[Estimate]]:
    """What each candidate would read, from exact counts of their ranges."""
    in_range = []
    for candidate in found:
        in_range.append((yield from count(candidate.tree, candidate.access.span)))
    total = max(1, collection.primary.count)
    # How rare each condition is, where an index that binds it alone can tell.
    share: dict[Expr, float] = {}
    for candidate, entries in zip(found, in_range, strict=True):
        if len(candidate.bound) == 1:
            share[candidate.bound[0]] = min(1.0, max(entries, 0.5) / total)
    estimates = []
    for candidate, entries in zip(found, in_range, strict=True):
        passing = 1.0
        for term in candidate.residual:
            passing *= share.get(term, 0.5)
        estimates.append(_estimate(query, candidate, entries, passing))
    return estimates


def _estimate(query: Query, candidate: Candidate, in_range: int, passing: float) -> Estimate:
    if query.count and candidate.counts_alone:
        return Estimate(candidate, in_range, 0, 0)
    entries = float(in_range)
    if candidate.ordered and query.limit is not None and not query.count:
        entries = min(entries, query.limit / max(passing, 1e-9))
    fetches = candidate.access.index != PRIMARY and (not query.count or candidate.residual)
    return Estimate(candidate, in_range, entries, entries if fetches else entries / 4)


def choose(query: Query, collection: Collection, *, allow_scan: bool) -> Walk[Estimate]:
    """The cheapest candidate. Raises UsageError if only a scan of everything remains and that is not allowed."""
    found = candidates(query, collection)
    estimates = yield from estimate(query, collection, found)
    best = min(estimates, key=lambda item: (item.cost, item.candidate.access.index == PRIMARY))
    candidate = best.candidate
    wasteful = candidate.residual or (not candidate.ordered and query.limit is not None)
    if candidate.is_full and wasteful and best.entries > SCAN_FREE_ENTRIES and not allow_scan:
        if candidate.ordered and candidate.access.index != PRIMARY and query.limit is not None:
            return best
        raise UsageError(
            f"no index answers this; a scan would read all {best.in_range:,} records of {collection.name!r}",
            hint=_advice(query, collection) + ", or allow the scan with --scan",
        )
    return best


def _advice(query: Query, collection: Collection) -> str:
    """An index that would help, as a command."""
    equal = [term for term in query.conjuncts() if isinstance(term, Compare) and _is_equality(term)]
    paths = list(dict.fromkeys(term.path for term in equal))[:1]
    if not query.count:
        paths += [str(path) for path in order_of(query, collection) if path.path not in paths]
    if not paths:
        ranged = [term.path for term in query.conjuncts() if isinstance(term, Compare) and term.operator in _RANGES]
        paths = ranged[:1]
    if not paths:
        return "narrow the query"
    name = "by_" + "_".join(path.lstrip("-").replace(".", "_") for path in paths)
    return f"add an index: rhizome index add {collection.name} {name.lower()}={','.join(paths)}"
