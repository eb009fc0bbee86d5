"""How vectors are read and checked: their files, their groups, their cases, and what became of each case.

A check is a function of one case. It returns if all is as the case shows, raises `Mismatch` if something is not,
and `Refused` if it refuses what the case holds: which is a failure for a valid case, and demanded of an invalid one.
Any other exception is a failure of both. So that nothing is skipped silently, unknown groups, missing groups, empty
groups and fields of a case that its check has not looked at are failures too.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from .dag import Cid, Value, encode, from_dag_json, read_cid_text
from .errors import Mismatch, Refused

# --- Cases -------------------------------------------------------------------------------------------------


class Case:
    """One case, or a part of one, as JSON. It knows which of its fields have been looked at."""

    def __init__(self, json_value: object, label: str) -> None:
        self.json = json_value
        self.label = label
        self._unread: set[str] = set(json_value) if isinstance(json_value, dict) else set()
        self._parts: list[Case] = []

    def unread(self) -> list[str]:
        """The fields that nobody has looked at, here and in the parts."""
        return sorted(self._unread) + [name for part in self._parts for name in part.unread()]

    def has(self, name: str) -> bool:
        """Whether there is such a field."""
        return isinstance(self.json, dict) and name in self.json

    def part(self, name: str) -> "Case":
        """What stands in a field."""
        if not isinstance(self.json, dict) or name not in self.json:
            raise Mismatch(f"no field {name!r}")
        self._unread.discard(name)
        return self._new(self.json[name], name)

    def items(self, name: str | None = None) -> Iterator["Case"]:
        """The items of the list in a field, or of the case itself."""
        whole = self if name is None else self.part(name)
        if not isinstance(whole.json, list):
            raise Mismatch(f"{whole.label}: not a list")
        for position, item in enumerate(whole.json):
            yield whole._new(item, f"{whole.label}[{position}]")

    def _new(self, json_value: object, label: str) -> "Case":
        part = Case(json_value, label)
        self._parts.append(part)
        return part

    # What a case or a part of one is. A vector that has another form is a mistake of the vector.

    def is_null(self) -> bool:
        """Whether it is null."""
        return self.json is None

    def as_text(self) -> str:
        """Text."""
        if not isinstance(self.json, str):
            raise Mismatch(f"{self.label}: not text")
        return self.json

    def as_integer(self) -> int:
        """An integer."""
        if not isinstance(self.json, int) or isinstance(self.json, bool):
            raise Mismatch(f"{self.label}: not an integer")
        return self.json

    def as_flag(self) -> bool:
        """true or false."""
        if not isinstance(self.json, bool):
            raise Mismatch(f"{self.label}: neither true nor false")
        return self.json

    def as_hex(self) -> bytes:
        """Bytes, shown as hexadecimal text."""
        try:
            return bytes.fromhex(self.as_text())
        except ValueError as error:
            raise Mismatch(f"{self.label}: not hexadecimal") from error

    def as_value(self) -> Value:
        """A value, shown as DAG-JSON."""
        self._unread.clear()
        with given(self.label):
            return from_dag_json(self.json)

    # The same of fields.

    def text(self, name: str) -> str:
        """A field that is text."""
        return self.part(name).as_text()

    def integer(self, name: str) -> int:
        """A field that is an integer."""
        return self.part(name).as_integer()

    def flag(self, name: str) -> bool:
        """A field that is true or false."""
        return self.part(name).as_flag()

    def hex(self, name: str) -> bytes:
        """A field that is bytes."""
        return self.part(name).as_hex()

    def hex_or_null(self, name: str) -> bytes | None:
        """A field that is bytes or null."""
        part = self.part(name)
        return None if part.is_null() else part.as_hex()

    def integer_or_null(self, name: str) -> int | None:
        """A field that is an integer or null."""
        part = self.part(name)
        return None if part.is_null() else part.as_integer()

    def value(self, name: str) -> Value:
        """A field that is a value."""
        return self.part(name).as_value()

    def cid(self, name: str) -> Cid:
        """A field that is the text of a CID."""
        with given(name):
            return read_cid_text(self.text(name))

    def texts(self, name: str) -> list[str]:
        """A list of texts."""
        return [item.as_text() for item in self.items(name)]

    def hexes(self, name: str) -> list[bytes]:
        """A field that is a list of bytes."""
        return [item.as_hex() for item in self.items(name)]


@contextmanager
def given(what: str) -> Iterator[None]:
    """What an invalid case takes for granted must not be the reason to refuse it."""
    try:
        yield
    except Refused as error:
        raise Mismatch(f"{what}: {error}") from error


def expect(what: str, found: object, shown: object) -> None:
    """What was found is what the vector shows. (true, 1 and 1.0 are three things.)"""
    if found != shown or type(found) is not type(shown):
        raise Mismatch(f"{what}: {_brief(found)}, but the vector shows {_brief(shown)}")


def expect_values(what: str, found: Value, shown: Value) -> None:
    """The same of values: equal ones have equal bytes."""
    if encode(found) != encode(shown):
        raise Mismatch(f"{what}: {_brief(found)}, but the vector shows {_brief(shown)}")


def _brief(thing: object) -> str:
    text = thing.hex() if isinstance(thing, bytes) else repr(thing)
    return text if len(text) <= 100 else f"{text[:60]}... ({len(text)} characters)"


# --- Vectors and groups ------------------------------------------------------------------------------------


class Vectors:
    """The vectors of all protocols, as they lie beside their specifications."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[str, dict[str, object]] = {}

    def groups(self, protocol: str) -> dict[str, object]:
        """All groups of a protocol."""
        if protocol not in self._read:
            path = self._folder / protocol / "1" / "vectors.json"
            groups: object = json.loads(path.read_text("utf-8"), object_pairs_hook=_names_once)
            if not isinstance(groups, dict):
                raise Mismatch(f"{path}: not a map of groups")
            self._read[protocol] = groups
        return self._read[protocol]

    def group(self, protocol: str, name: str) -> Case:
        """One group, as a whole."""
        groups = self.groups(protocol)
        if name not in groups:
            raise Mismatch(f"{protocol}/1 has no group {name!r}")
        return Case(groups[name], name)


def _names_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise Mismatch("a name twice in one map of a vectors.json")
    return result


Check = Callable[[Vectors, Case], None]


@dataclass(frozen=True)
class Group:
    """How the cases of a group are checked: one by one, or all of it as a single case."""

    check: Check
    valid: bool = True
    whole: bool = False


def each(check: Check) -> Group:
    """A list of valid cases."""
    return Group(check)


def none(check: Check) -> Group:
    """A list of invalid cases, each of which must be refused."""
    return Group(check, valid=False)


def whole(check: Check) -> Group:
    """A group that is one valid case."""
    return Group(check, whole=True)


def _is_text(_: Vectors, case: Case) -> None:
    case.as_text()


NOTE: Final = Group(_is_text, whole=True)
"""A group that is no case, but text that explains the others."""

Groups = dict[str, Group]

# --- Reports -----------------------------------------------------------------------------------------------


@dataclass
class Report:
    """What became of a protocol's cases."""

    valid: int = 0
    invalid: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def passed(self) -> int:
        """How many cases passed."""
        return self.valid + self.invalid


def run(vectors: Vectors, protocol: str, checks: Groups) -> Report:
    """Check all groups of a protocol."""
    report = Report()
    try:
        groups = vectors.groups(protocol)
    except (OSError, ValueError, Mismatch) as error:
        report.failures.append(f"{protocol}/1: vectors.json cannot be read: {error}")
        return report
    for name in sorted(groups.keys() - checks.keys()):
        report.failures.append(f"{protocol}/1 {name}: an unknown group")
    for name, group in checks.items():
        if name not in groups:
            report.failures.append(f"{protocol}/1 {name}: the group is missing")
            continue
        for label, json_value in _cases(name, group, groups[name]):
            reason = _reason_to_fail(group, vectors, Case(json_value, label))
            if reason is not None:
                report.failures.append(f"{protocol}/1 {label}: {reason}")
            elif group is not NOTE:
                report.valid += group.valid
                report.invalid += not group.valid
    return report


def _cases(name: str, group: Group, cases: object) -> Sequence[tuple[str, object]]:
    if group.whole:
        return [(name, cases)]
    if not isinstance(cases, list) or not cases:
        return [(name, None)]  # which no check takes for a case
    return [(f"{name}[{position}]{_called(case)}", case) for position, case in enumerate(cases)]


def _called(case: object) -> str:
    return f" ({case['name']})" if isinstance(case, dict) and "name" in case else ""


def _reason_to_fail(group: Group, vectors: Vectors, case: Case) -> str | None:
    if case.json is None:
        return "not a list with a case"
    if case.has("name"):
        case.part("name")
    try:
        group.check(vectors, case)
        unread = case.unread()
    except Refused as error:
        return f"refused, but it is valid: {error}" if group.valid else None
    except Mismatch as error:
        return str(error)
    except Exception as error:
        return f"crashed: {type(error).__name__}: {error}"
    if not group.valid:
        return "accepted, but it must be refused"
    return f"not looked at: {', '.join(unread)}" if unread else None
