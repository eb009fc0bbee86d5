"""query/1, the first half: conditions, queries, and the plans that answer them. (`plan` walks these.)"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from .dag import Cid, Value, as_bool, as_bytes, as_int, as_list, as_text, decode, encode, sha256
from .errors import Refused
from .keys import EVERYTHING, ORDERINGS, Range, component, following, inverted, key_range, meets
from .manifest import (
    MAX_RECORD_DEPTH,
    Collection,
    Index,
    Manifest,
    Record,
    SortPath,
    check_recordable,
    primary_key,
    read_name,
    read_path,
    read_sort_path,
    values_at,
)

MAX_QUERY: Final = 16_384
MAX_COMPARISONS: Final = 64
MAX_CONDITION_DEPTH: Final = 16
MAX_LISTED: Final = 256
MAX_ORDER: Final = 64
MAX_LIMIT: Final = 1_000_000
MAX_CANDIDATES: Final = 512
MAX_PARTS: Final = 64

# --- Conditions --------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Comparison:
    """A path, an operator and a value."""

    operator: str
    path: str
    value: Value

    def canonical(self) -> bytes:
        """Its canonical form."""
        return encode(self.to_value())

    def to_value(self) -> list[Value]:
        """Its form in a query."""
        return [self.operator, self.path, self.value]


@dataclass(frozen=True, eq=False)
class Junction:
    """Conditions made one by `and`, `or` or `not`."""

    operator: str
    parts: tuple["Condition", ...]

    def canonical(self) -> bytes:
        """Its canonical form."""
        return encode(self.to_value())

    def to_value(self) -> list[Value]:
        """Its form in a query."""
        return [self.operator, *(part.to_value() for part in self.parts)]


Condition = Comparison | Junction


def read_condition(value: Value) -> Condition:
    """A condition, within its limits."""
    condition = _read_condition(value, 0)
    if sum(1 for _ in _comparisons(condition)) > MAX_COMPARISONS:
        raise Refused("too many comparisons")
    return condition


def _comparisons(condition: Condition) -> Iterator[Comparison]:
    if isinstance(condition, Comparison):
        yield condition
    else:
        for part in condition.parts:
            yield from _comparisons(part)


def _read_condition(value: Value, depth: int) -> Condition:
    parts = as_list(value, "condition", 1)
    operator = as_text(parts[0], "operator")
    if operator in ("and", "or", "not"):
        if depth == MAX_CONDITION_DEPTH:
            raise Refused("conditions nested too deep")
        if operator == "not" and len(parts) != 2:
            raise Refused("a not that is not of one condition")
        return Junction(operator, tuple(_read_condition(part, depth + 1) for part in parts[1:]))
    if len(parts) != 3:
        raise Refused("a comparison that has not three parts")
    _check_operand(operator, parts[2])
    return Comparison(operator, read_path(parts[1]), parts[2])


def is_scalar(value: Value) -> bool:
    """Whether a value is null, a boolean, a number, text or bytes."""
    return not isinstance(value, list | dict | Cid)


def _check_operand(operator: str, value: Value) -> None:
    # A record may hold it: below the record itself, which is the first level.
    check_recordable(value, MAX_RECORD_DEPTH - 1 + (operator == "in"))
    if operator == "in":
        as_list(value, "in", 1, MAX_LISTED)
    elif operator == "exists":
        as_bool(value, "exists")
    elif operator == "starts with":
        as_text(value, "a beginning")
    elif operator in ORDERINGS:
        if not is_scalar(value):
            raise Refused("a list or a map to be less or greater than")
    elif operator not in ("=", "!="):
        raise Refused("an unknown operator")


def meets_condition(record: Record, condition: Condition) -> bool:
    """Whether a record meets a condition."""
    if isinstance(condition, Junction):
        met = (meets_condition(record, part) for part in condition.parts)
        if condition.operator == "and":
            return all(met)
        return any(met) if condition.operator == "or" else not any(met)
    operator, path, value = condition.operator, condition.path, condition.value
    if operator == "=":
        return _equals(record, path, value)
    if operator == "!=":
        return not _equals(record, path, value)
    if operator == "in":
        return any(_equals(record, path, one) for one in as_list(value, "in"))
    if operator == "exists":
        return _exists(record, path.split(".")) is value
    return any(meets(operator, component(one), value) for one in values_at(record, path).values)


def _equals(record: Record, path: str, value: Value) -> bool:
    wanted = component(value)
    if any(component(one) == wanted for one in values_at(record, path).values):
        return True
    return isinstance(value, list) and any(component(one) == wanted for one in _whole_lists(record, path.split(".")))


def _whole_lists(value: Value, steps: Sequence[str]) -> Iterator[Value]:
    """The lists that stand at a path, as the value under its last step."""
    if not steps:
        if isinstance(value, list):
            yield value
    elif isinstance(value, list):
        for item in value:
            if isinstance(item, dict):
                yield from _whole_lists(item, steps)
    elif isinstance(value, dict) and steps[0] in value:
        yield from _whole_lists(value[steps[0]], steps[1:])


def _exists(value: Value, steps: Sequence[str]) -> bool:
    if not steps:
        return True
    if isinstance(value, list):
        return any(isinstance(item, dict) and _exists(item, steps) for item in value)
    return isinstance(value, dict) and steps[0] in value and _exists(value[steps[0]], steps[1:])


# --- Queries -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Query:
    """What is asked of a collection."""

    collection: str
    condition: Condition
    order: str | tuple[SortPath, ...]
    limit: int | None
    count: bool
    digest: bytes

    def conjuncts(self) -> list[Condition]:
        """The condition taken apart."""
        return list(_conjuncts(self.condition))

    def terms(self, collection: Collection) -> list[SortPath]:
        """The sort paths by which the rows are ordered."""
        if self.count:
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
        return [self.collection, self.condition.to_value(), order, self.limit, self.count]


def _conjuncts(condition: Condition) -> Iterator[Condition]:
    if isinstance(condition, Junction) and condition.operator == "and":
        for part in condition.parts:
            yield from _conjuncts(part)
    else:
        yield condition


def read_query(data: bytes) -> Query:
    """The query whose canonical form these bytes are."""
    if len(data) > MAX_QUERY:
        raise Refused("a query of too many bytes")
    collection, condition, order, limit, count = as_list(decode(data), "query", 5, 5)
    return Query(
        read_name(collection),
        read_condition(condition),
        _read_order(order),
        None if limit is None else as_int(limit, "limit", 1, MAX_LIMIT),
        as_bool(count, "count"),
        sha256(data),
    )


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


def collection_of(query: Query, manifest: Manifest) -> Collection:
    """The collection that a query is about."""
    if query.collection not in manifest.collections:
        raise Refused("no such collection")
    return manifest.collections[query.collection]


def candidates(query: Query, manifest: Manifest) -> list[Candidate]:
    """The plans of one access path that a query has over a manifest, the first ones first."""
    return _candidates(query.conjuncts(), query, collection_of(query, manifest))


def _candidates(conjuncts: Sequence[Condition], query: Query, collection: Collection) -> list[Candidate]:
    terms = query.terms(collection)
    indexes = sorted(collection.indexes.items(), key=lambda item: item[0].encode())
    indexes.append(("", Index((SortPath(collection.key, False),), collection.primary, (0,))))
    found: dict[Plan, Candidate] = {}
    for name, index in indexes:
        for chosen in _choices(conjuncts, index):
            candidate = _candidate(conjuncts, terms, collection.key, (name, index), chosen)
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
    key: str,
    named: tuple[str, Index],
    chosen: tuple[Comparison, ...],
) -> Candidate | None:
    """Steps 2 to 6."""
    name, index = named
    at = len(chosen)
    prefix = b"".join(
        component(_equal_to(one), path.descending) for one, path in zip(chosen, index.paths, strict=False)
    )
    wanted = Range(prefix, following(prefix)) if prefix else EVERYTHING
    ranging: list[Comparison] = []
    repeats = False
    if at < len(index.paths):
        path = index.paths[at]
        ranging = [
            one
            for one in conjuncts
            if isinstance(one, Comparison) and one.path == path.path and one.operator in ORDERINGS
        ]
        if index.lists[at]:
            ranging = ranging[:1]
            repeats = bool(ranging)
        if ranging:
            wanted = key_range([(one.operator, one.value) for one in ranging], prefix, path.descending)
    if any(index.lists[at + bool(ranging) :]):
        return None
    bound = (*chosen, *ranging)
    fixed = frozenset(path.path for path, lists in zip(index.paths[:at], index.lists, strict=False) if not lists)
    tail = (*index.paths[at:], SortPath(key, index.paths[-1].descending)) if name else index.paths
    ordered, reverse = (False, False) if repeats else _direction(terms, key, fixed, tail)
    access = Access(name, wanted, reverse)
    only = Path(access, chosen, bound, fixed, tail, prefix if name else b"")
    return Candidate(access, ordered, reverse, repeats, _without(conjuncts, only.bound_forms()), (only,))


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
    if plan.kind == "all":
        parts = _parts_of_all(query, collection, plan)
        residual = _without(query.conjuncts(), (form for part in parts for form in part.paths[0].bound_forms()))
        fixed = frozenset[str]().union(*(part.paths[0].fixed for part in parts))
    else:
        parts = _parts_of_any(query, collection, plan)
        shared = set[bytes].intersection(*(set(part.paths[0].bound_forms()) for part in parts))
        rest = any(part.residual for part in parts)
        residual = _without(query.conjuncts(), shared) if rest else ()
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
    return Candidate(plan, ordered, reverse, False, residual, paths)


def _parts_of_all(query: Query, collection: Collection, plan: Several) -> list[Candidate]:
    single = _candidates(query.conjuncts(), query, collection)
    parts = [_find(single, access) for access in plan.parts]
    if not all(part.paths[0].access.index and part.paths[0].chosen for part in parts):
        raise Refused("a part over the primary, or one without an equality")
    if len({tuple(part.paths[0].bound_forms()) for part in parts}) != len(parts):
        raise Refused("two parts that bind the same")
    return parts


def _parts_of_any(query: Query, collection: Collection, plan: Several) -> list[Candidate]:
    """The parts by the first conjunct that branches so."""
    conjuncts = query.conjuncts()
    for at, conjunct in enumerate(conjuncts):
        branches = _branches(conjunct)
        if len(branches) != len(plan.parts):
            continue
        others = [*conjuncts[:at], *conjuncts[at + 1 :]]
        try:
            return [
                _find(_candidates([*others, *_conjuncts(branch)], query, collection), access)
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


def primary_value(record: Record, collection: Collection) -> Value:
    """The value at a collection's key, by which the vectors name a record."""
    primary_key(record, collection.key)
    return values_at(record, collection.key).values[0]
