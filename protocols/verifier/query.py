"""query/1, the first half: conditions, queries, and the plans that answer them. (`plan` walks these.)"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from .conditions import (
    Comparison,
    Condition,
    Junction,
    comparisons,
    conjuncts_of,
    imply,
    is_scalar,
    read_condition,
)
from .dag import Value, as_bool, as_bytes, as_int, as_list, as_text, decode, sha256
from .errors import Refused
from .keys import EVERYTHING, ORDERINGS, Range, component, following, inverted, key_range
from .manifest import Collection, Index, Manifest
from .records import (
    Record,
    SortPath,
    is_words,
    read_name,
    read_path,
    read_sort_path,
    steps_of,
    values_at,
)

MAX_QUERY: Final = 16_384
MAX_SELECTED: Final = 64
MAX_ORDER: Final = 64
MAX_LIMIT: Final = 1_000_000
MAX_CANDIDATES: Final = 512
MAX_PARTS: Final = 64

# --- Queries -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Query:
    """What is asked of a collection."""

    collection: str
    condition: Condition
    order: str | tuple[SortPath, ...]
    limit: int | None
    wanted: str
    paths: tuple[str, ...]
    digest: bytes

    @property
    def count(self) -> bool:
        """Whether it asks how many records there are."""
        return self.wanted == "count"

    @property
    def grouped(self) -> bool:
        """Whether it asks for values rather than records."""
        return self.wanted in ("count by", "distinct")

    def conjuncts(self) -> list[Condition]:
        """The condition taken apart."""
        return list(conjuncts_of(self.condition))

    def terms(self, collection: Collection) -> list[SortPath]:
        """The sort paths by which the rows are ordered."""
        if self.count or self.grouped:
            return []
        terms: list[SortPath] = []
        for term in self._declared_terms(collection):
            terms.append(term)
            if term.path == collection.key:
                return terms
        return [*terms, SortPath(collection.key, terms[-1].descending if terms else False)]

    def _declared_terms(self, collection: Collection) -> Sequence[SortPath]:
        if not isinstance(self.order, str):
            return self.order
        if self.order == "declared":
            return collection.order
        if collection.time is None:
            raise Refused("the newest or the oldest of a collection without a time")
        return [SortPath(collection.time, self.order == "newest")]

    def to_value(self) -> list[Value]:
        """The query whose DAG-CBOR is its canonical form."""
        order: Value = self.order if isinstance(self.order, str) else [str(path) for path in self.order]
        wanted: Value = [self.wanted, *self.paths] if self.paths else self.count
        return [self.collection, self.condition.to_value(), order, self.limit, wanted]

    def settled(self, collection: Collection) -> "Query":
        """The same with the collection's time where it says `time()`."""
        if all(one.path != "time()" for one in comparisons(self.condition)):
            return self
        if collection.time is None:
            raise Refused("the time of a collection that has none")
        return replace(self, condition=_with_time(self.condition, collection.time))


def _with_time(condition: Condition, time: str) -> Condition:
    if isinstance(condition, Comparison):
        return replace(condition, path=time) if condition.path == "time()" else condition
    return replace(condition, parts=tuple(_with_time(part, time) for part in condition.parts))


def read_query(data: bytes) -> Query:
    """The query whose canonical form these bytes are."""
    if len(data) > MAX_QUERY:
        raise Refused("a query of too many bytes")
    collection, condition, order, limit, wanted = as_list(decode(data), "query", 5, 5)
    kind, paths = _read_wanted(wanted)
    if kind in ("count by", "distinct") and order != "declared":
        raise Refused("groups in an order")
    return Query(
        read_name(collection),
        read_condition(condition),
        _read_order(order),
        None if limit is None else as_int(limit, "limit", 1, MAX_LIMIT),
        kind,
        paths,
        sha256(data),
    )


def _read_wanted(value: Value) -> tuple[str, tuple[str, ...]]:
    if isinstance(value, bool):
        return "count" if value else "select", ()
    kind, *rest = as_list(value, "wanted", 2, 1 + MAX_SELECTED)
    paths = tuple(read_path(path) for path in rest)
    if kind == "select":
        if len(set(paths)) != len(paths) or any(is_words(path) for path in paths):
            raise Refused("one path selected twice, or words")
        return "select", paths
    if kind not in ("count by", "distinct") or len(paths) != 1:
        raise Refused("something unknown that is wanted")
    return as_text(kind, "kind"), paths


def _read_order(value: Value) -> str | tuple[SortPath, ...]:
    if isinstance(value, str):
        if value not in ("declared", "newest", "oldest"):
            raise Refused("an unknown order")
        return value
    return tuple(read_sort_path(path) for path in as_list(value, "order", 1, MAX_ORDER))


def sort_key(record: Record, terms: Sequence[SortPath]) -> bytes:
    """By what the rows of a query are sorted."""
    key = b""
    for path, descending in terms:
        components = [component(value) for value in values_at(record, path).values] or [component(None)]
        key += inverted(max(components)) if descending else min(components)
    return key


# --- Plans -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Access:
    """An index (or "" for the primary), a range of its keys, and whether it is read backwards."""

    index: str
    range: Range
    reverse: bool

    def to_value(self) -> list[Value]:
        """Its form in messages."""
        return [self.index, self.range.low, self.range.high, self.reverse]


@dataclass(frozen=True)
class Several:
    """Several access paths at once: all of them, or any."""

    kind: str
    parts: tuple[Access, ...]

    def to_value(self) -> list[Value]:
        """Its form in messages."""
        return [self.kind, [part.to_value() for part in self.parts]]


Plan: TypeAlias = Access | Several


def read_plan(value: Value) -> Plan:
    """A plan's form: whether it is a candidate is another question."""
    parts = as_list(value, "plan", 2, 4)
    if len(parts) != 2:
        return read_access(value)
    kind = as_text(parts[0], "kind of plan")
    if kind not in ("all", "any"):
        raise Refused("an unknown kind of plan")
    return Several(kind, tuple(read_access(part) for part in as_list(parts[1], "parts of a plan", 2, MAX_PARTS)))


def read_access(value: Value) -> Access:
    """A plan's form, of one access path."""
    index, low, high, reverse = as_list(value, "access path", 4, 4)
    wanted = Range(as_bytes(low, "low"), None if high is None else as_bytes(high, "high"))
    return Access(as_text(index, "index"), wanted, as_bool(reverse, "reverse"))


@dataclass(frozen=True, eq=False)
class Path:
    """How a candidate reads one tree: what a plan of several needs to know of its parts."""

    access: Access
    chosen: tuple[Comparison, ...]
    bound: tuple[Condition, ...]
    fixed: frozenset[str]
    tail: tuple[SortPath, ...]
    beginning: bytes

    def bound_forms(self) -> list[bytes]:
        """The canonical forms of the conjuncts that it binds, in order."""
        return [one.canonical() for one in self.bound]


@dataclass(frozen=True, eq=False)
class Candidate:
    """A plan that answers a query over a manifest. One path is the plan itself, several are its parts."""

    plan: Plan
    ordered: bool
    reverse: bool
    repeats: bool
    residual: tuple[Condition, ...]
    paths: tuple[Path, ...]
    covered: bool = False
    grouped: bool = False


def collection_of(query: Query, manifest: Manifest) -> Collection:
    """The collection that a query is about."""
    if query.collection not in manifest.collections:
        raise Refused("no such collection")
    return manifest.collections[query.collection]


def candidates(query: Query, manifest: Manifest) -> list[Candidate]:
    """The plans of one access path that a query has over a manifest, the first ones first."""
    collection = collection_of(query, manifest)
    query = query.settled(collection)
    return _candidates(query.conjuncts(), query, collection)


def _candidates(conjuncts: Sequence[Condition], query: Query, collection: Collection) -> list[Candidate]:
    terms = query.terms(collection)
    indexes = sorted(collection.indexes.items(), key=lambda item: item[0].encode())
    indexes.append(("", Index((SortPath(collection.key, False),), collection.primary, (0,))))
    found: dict[Plan, Candidate] = {}
    for name, index in indexes:
        if not imply(conjuncts, index.condition):
            continue
        for chosen in _choices(conjuncts, index):
            candidate = _candidate(conjuncts, terms, query, collection.key, (name, index), chosen)
            if candidate is not None:
                found.setdefault(candidate.plan, candidate)
    return list(found.values())[:MAX_CANDIDATES]


def find_candidate(query: Query, manifest: Manifest, plan: Plan) -> Candidate:
    """The candidate that a plan is."""
    if isinstance(plan, Several):
        return _find_several(query, collection_of(query, manifest), plan)
    return _find(candidates(query, manifest), plan)


def _find(among: Iterable[Candidate], plan: Access) -> Candidate:
    for candidate in among:
        if candidate.plan == plan:
            return candidate
    raise Refused("a plan that is no candidate")


def _choices(conjuncts: Sequence[Condition], index: Index) -> Iterator[tuple[Comparison, ...]]:
    """Step 1: the equalities chosen at the first paths of an index, one for each path."""
    options: list[list[Comparison]] = []
    for path in index.paths:
        equalities = [
            one for one in conjuncts if isinstance(one, Comparison) and one.path == path.path and _is_equality(one)
        ]
        if not equalities:
            break
        options.append(equalities)
    yield from itertools.islice(itertools.product(*options), MAX_CANDIDATES)


def _is_equality(comparison: Comparison) -> bool:
    value = comparison.value
    if comparison.operator == "=":
        return not isinstance(value, list)
    return comparison.operator == "in" and isinstance(value, list) and len(value) == 1 and is_scalar(value[0])


def _equal_to(equality: Comparison) -> Value:
    value = equality.value
    return value[0] if equality.operator == "in" and isinstance(value, list) else value


def _candidate(
    conjuncts: Sequence[Condition],
    terms: Sequence[SortPath],
    query: Query,
    key: str,
    named: tuple[str, Index],
    chosen: tuple[Comparison, ...],
) -> Candidate | None:
    """Steps 2 to 8."""
    name, index = named
    at = len(chosen)
    prefix = b"".join(
        component(_equal_to(one), path.descending) for one, path in zip(chosen, index.paths, strict=False)
    )
    wanted = Range(prefix, following(prefix)) if prefix else EVERYTHING
    ranging: list[Comparison] = []
    repeats = grouped = False
    if at < len(index.paths):
        path = index.paths[at]
        ranging = [
            one
            for one in conjuncts
            if isinstance(one, Comparison) and one.path == path.path and _has_range(one, index.lists[at])
        ]
        if index.lists[at]:
            ranging = ranging[:1]
            repeats = bool(ranging)
        if ranging:
            wanted = key_range([(one.operator, one.value) for one in ranging], prefix, path.descending)
        if query.grouped and path.path == query.paths[0] and not repeats:
            grouped, repeats = True, index.lists[at] > 0
    if any(index.lists[at + (bool(ranging) or grouped) :]):
        return None
    listed = {one.canonical() for one in conjuncts_of(index.condition)}
    bound = (*chosen, *ranging, *(one for one in conjuncts if one.canonical() in listed))
    fixed = frozenset(path.path for path, lists in zip(index.paths[:at], index.lists, strict=False) if not lists)
    tail = (*index.paths[at:], SortPath(key, index.paths[-1].descending)) if name else index.paths
    ordered, reverse = (False, False) if repeats else _direction(terms, key, fixed, tail)
    access = Access(name, wanted, reverse)
    only = Path(access, chosen, bound, fixed, tail, prefix if name else b"")
    residual = _without(conjuncts, only.bound_forms())
    of_group = (
        any(isinstance(one, Comparison) and one.path == query.paths[0] for one in conjuncts) if grouped else False
    )
    grouped = grouped and not residual and not (repeats and of_group)
    looked_at = _looked_at(query, residual, () if ordered else terms)
    covered = bool(name) and _covers([index], query, looked_at)
    return Candidate(access, ordered, reverse, repeats, residual, (only,), covered, grouped)


def _has_range(one: Comparison, lists: int) -> bool:
    """Whether a comparison is met by a range of the values at a path, where so many records have lists."""
    return one.operator in ORDERINGS or (one.operator == "!=" and one.value is None and not lists)


def _looked_at(query: Query, residual: Sequence[Condition], terms: Sequence[SortPath]) -> set[str]:
    """The paths that a query looks at: step 8."""
    checked = {one.path for condition in residual for one in comparisons(condition)}
    return {*query.paths, *checked, *(term.path for term in terms)}


def _covers(indexes: Sequence[Index], query: Query, looked_at: Iterable[str]) -> bool:
    if query.wanted == "select" and not query.paths:
        return False
    return all(
        index.include and all(any(_begins(path, included) for included in index.include) for path in looked_at)
        for index in indexes
    )


def _begins(path: str, beginning: str) -> bool:
    steps = steps_of(beginning)
    return steps_of(path)[: len(steps)] == steps


def _without(conjuncts: Iterable[Condition], bound: Iterable[bytes]) -> tuple[Condition, ...]:
    """Step 6: the conjuncts that are not equal to one that is bound."""
    forms = set(bound)
    return tuple(one for one in conjuncts if one.canonical() not in forms)


def _direction(
    terms: Sequence[SortPath], key: str, fixed: frozenset[str], tail: Sequence[SortPath]
) -> tuple[bool, bool]:
    """Step 5: whether a candidate is ordered, and whether it is read backwards."""
    wanted = [term for term in terms if term.path not in fixed]
    end = next(at for at, path in enumerate(tail) if path.path == key)
    given = list(tail[: end + 1])
    if key in fixed or not wanted or given == wanted:
        return True, False
    if [SortPath(path, not descending) for path, descending in given] == wanted:
        return True, True
    return False, False


# --- Plans of several access paths ---------------------------------------------------------------------------


def _find_several(query: Query, collection: Collection, plan: Several) -> Candidate:
    query = query.settled(collection)
    if plan.kind == "all":
        parts = _parts_of_all(query, collection, plan)
        residual = _without(query.conjuncts(), (form for part in parts for form in part.paths[0].bound_forms()))
        fixed = frozenset[str]().union(*(part.paths[0].fixed for part in parts))
    else:
        branching, parts = _parts_of_any(query, collection, plan)
        shared = set[bytes].intersection(*(set(part.paths[0].bound_forms()) for part in parts))
        residual = _without(query.conjuncts(), shared | _form_if_bound(branching, parts))
        of_shared = {one.path for one in query.conjuncts() if isinstance(one, Comparison) and one.canonical() in shared}
        fixed = frozenset(of_shared).intersection(*(part.paths[0].fixed for part in parts))
    paths = tuple(part.paths[0] for part in parts)
    if any(part.repeats for part in parts):
        raise Refused("a part that repeats")
    if any(path.tail != paths[0].tail for path in paths):
        raise Refused("parts with different tails")
    if any(bool(path.access.index) is not bool(paths[0].access.index) for path in paths):
        raise Refused("the primary and an index")
    ordered, reverse = _direction(query.terms(collection), collection.key, fixed, paths[0].tail)
    looked_at = _looked_at(query, residual, () if ordered else query.terms(collection))
    over_indexes = bool(paths[0].access.index)
    covered = over_indexes and _covers([collection.indexes[path.access.index] for path in paths], query, looked_at)
    return Candidate(plan, ordered, reverse, False, residual, paths, covered)


def _parts_of_all(query: Query, collection: Collection, plan: Several) -> list[Candidate]:
    single = _candidates(query.conjuncts(), query, collection)
    parts = [_find(single, access) for access in plan.parts]
    if not all(part.paths[0].access.index and part.paths[0].chosen for part in parts):
        raise Refused("a part over the primary, or one without an equality")
    if len({tuple(part.paths[0].bound_forms()) for part in parts}) != len(parts):
        raise Refused("two parts that bind the same")
    return parts


def _form_if_bound(branching: Condition, parts: Sequence[Candidate]) -> set[bytes]:
    """The form of the conjunct that branches, if each part binds all of its own branch."""
    for branch, part in zip(_branches(branching), parts, strict=True):
        residual = {one.canonical() for one in part.residual}
        if any(one.canonical() in residual for one in conjuncts_of(branch)):
            return set()
    return {branching.canonical()}


def _parts_of_any(query: Query, collection: Collection, plan: Several) -> tuple[Condition, list[Candidate]]:
    """The first conjunct that branches so, and its parts."""
    conjuncts = query.conjuncts()
    for at, conjunct in enumerate(conjuncts):
        branches = _branches(conjunct)
        if len(branches) != len(plan.parts):
            continue
        others = [*conjuncts[:at], *conjuncts[at + 1 :]]
        try:
            return conjunct, [
                _find(_candidates([*others, *conjuncts_of(branch)], query, collection), access)
                for branch, access in zip(branches, plan.parts, strict=True)
            ]
        except Refused:
            continue
    raise Refused("no conjunct that branches into these parts")


def _branches(conjunct: Condition) -> Sequence[Condition]:
    """The conditions into which a conjunct branches, if it does."""
    if isinstance(conjunct, Junction):
        return conjunct.parts if conjunct.operator == "or" else ()
    if conjunct.operator != "in":
        return ()
    values = as_list(conjunct.value, "in")
    if any(isinstance(value, list | dict) for value in values):
        return ()
    equalities = (Comparison("=", conjunct.path, value) for value in values)
    return list({one.canonical(): one for one in equalities}.values())
