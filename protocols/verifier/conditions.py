"""query/1, its conditions: what they are, whether a record meets them, and whether some imply another one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from .dag import Cid, Value, as_bool, as_list, as_text, encode
from .errors import Refused
from .keys import ORDERINGS, Range, component, following, key_range, meets
from .records import MAX_RECORD_DEPTH, Record, check_recordable, is_words, read_path, steps_of, values_at

MAX_COMPARISONS: Final = 64
MAX_CONDITION_DEPTH: Final = 16
MAX_LISTED: Final = 256

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
    if sum(1 for _ in comparisons(condition)) > MAX_COMPARISONS:
        raise Refused("too many comparisons")
    return condition


def comparisons(condition: Condition) -> Iterator[Comparison]:
    """The comparisons in a condition."""
    if isinstance(condition, Comparison):
        yield condition
    else:
        for part in condition.parts:
            yield from comparisons(part)


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
    return Comparison(operator, "time()" if parts[1] == "time()" else read_path(parts[1]), parts[2])


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
        steps = steps_of(path)
        return _exists(record, steps[:-1] if is_words(path) else steps) is value
    return any(meets(operator, component(one), value) for one in values_at(record, path).values)


def _equals(record: Record, path: str, value: Value) -> bool:
    wanted = component(value)
    if any(component(one) == wanted for one in values_at(record, path).values):
        return True
    if is_words(path) or not isinstance(value, list):
        return False
    return any(component(one) == wanted for one in _whole_lists(record, path.split(".")))


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


def conjuncts_of(condition: Condition) -> Iterator[Condition]:
    """A condition taken apart."""
    if isinstance(condition, Junction) and condition.operator == "and":
        for part in condition.parts:
            yield from conjuncts_of(part)
    else:
        yield condition


# --- Implications ------------------------------------------------------------------------------------------


def imply(known: Sequence[Condition], wanted: Condition) -> bool:
    """Whether conditions imply one that is wanted."""
    if isinstance(wanted, Junction) and wanted.operator == "and":
        return all(imply(known, part) for part in wanted.parts)
    if any(one.canonical() == wanted.canonical() or _each_part_implies(one, wanted) for one in known):
        return True
    if isinstance(wanted, Junction):
        return wanted.operator == "or" and any(imply(known, part) for part in wanted.parts)
    return any(isinstance(one, Comparison) and _is_stronger(one, wanted) for one in known)


def _each_part_implies(one: Condition, wanted: Condition) -> bool:
    if not isinstance(one, Junction) or one.operator != "or" or not one.parts:
        return False
    return all(imply([part], wanted) for part in one.parts)


def _is_stronger(one: Comparison, wanted: Comparison) -> bool:
    if one.path != wanted.path or one.operator not in ("=", "in", *ORDERINGS):
        return False
    if wanted.operator == "exists":
        return wanted.value is True and not any(value is None for value in _listed(one))
    if wanted.operator in ("=", "in"):
        allowed = {component(value) for value in _listed(wanted)}
        return one.operator in ("=", "in") and {component(value) for value in _listed(one)} <= allowed
    if wanted.operator in ORDERINGS:
        around = key_range([(wanted.operator, wanted.value)], b"", False)
        return all(_holds(around, inner) for inner in _ranges(one))
    return False


def _listed(one: Comparison) -> list[Value]:
    return as_list(one.value, "in") if one.operator == "in" else [one.value]


def _ranges(one: Comparison) -> Iterator[Range]:
    if one.operator in ORDERINGS:
        yield key_range([(one.operator, one.value)], b"", False)
        return
    for value in _listed(one):
        own = component(value)
        yield Range(own, following(own))


def _holds(outer: Range, inner: Range) -> bool:
    return outer.low <= inner.low and (outer.high is None or (inner.high is not None and inner.high <= outer.high))
