"""Records: JSON-like maps, their canonical bytes and digest, and what stands at a path in them.

A record holds null, booleans, integers of 64 bits, finite floats, text, bytes,
lists and maps with text keys. Its digest is the SHA-256 of its canonical bytes,
so a record has a CID whether it stands inside a leaf or is a block of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rhizome_index.blocks import cbor
from rhizome_index.errors import IntegrityError, UsageError
from rhizome_index.index.words import words_of
from rhizome_index.limits import PATH_BYTES_MAX, RECORD_BYTES_MAX, RECORD_DEPTH_MAX

Record = dict[str, Any]
Path = tuple[str, ...]  # the steps of a dotted path
TIME = "time()"  # what a query says for its collection's time; a record has nothing of that name

_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1
_PLAIN = {str, float, bool, bytes, type(None)}


def encode_record(record: Mapping[str, Any]) -> bytes:
    """The canonical bytes of a record. Raises UsageError for what records cannot hold."""
    if type(record) is not dict:
        raise UsageError("a record must be a map from names to values")
    if problem := _problem(record, 0):
        raise UsageError(problem)
    try:
        data = cbor.encode(record)
    except ValueError as error:
        raise UsageError(f"a record cannot hold this: {error}") from None
    if len(data) > RECORD_BYTES_MAX:
        raise UsageError(
            f"a record of {len(data):,} bytes; at most {RECORD_BYTES_MAX:,} fit",
            hint="keep large things elsewhere and refer to them by CID",
        )
    return data


def decode_record(data: bytes) -> Record:
    """The record of canonical bytes. Raises IntegrityError if they are anything else."""
    if len(data) > RECORD_BYTES_MAX:
        raise IntegrityError(f"a record of {len(data)} bytes")
    record = cbor.decode(data)
    if type(record) is not dict:
        raise IntegrityError("a record that is no map")
    if problem := _problem(record, 0):
        raise IntegrityError(problem)
    return record


class _Words(str):
    """The last step of `words(path)`: from what stands at the path to the words in it."""

    __slots__ = ()


WORDS = _Words("words()")


def parse_path(text: str) -> Path:
    """The steps of a dotted path, or of `words(path)`. Raises UsageError for an empty step or an overlong path."""
    is_words = text.startswith("words(") and text.endswith(")")
    steps = tuple((text[len("words(") : -1] if is_words else text).split("."))
    try:
        path_bytes = len(text.encode())
    except UnicodeEncodeError:  # half of a character, from a shell perhaps
        path_bytes = PATH_BYTES_MAX + 1
    if not all(steps) or path_bytes > PATH_BYTES_MAX or steps[0].startswith(("-", "words(")) or text == TIME:
        raise UsageError(f"not a path: {text!r}", hint="paths look like tags, author.name or words(text)")
    return (*steps, WORDS) if is_words else steps


def values_at(record: Record, path: Path) -> tuple[list[Any], bool]:
    """What stands at a path, and whether a list was met there or on the way.

    A missing value counts as null. The elements of a list count one by one, and a
    path leads through a list into the maps in it, as MongoDB has it; elements of
    the list that are no maps have nothing at such a path. The words at a path are
    those of the texts there, and count as a list of them.
    """
    if len(path) == 1:
        value = record.get(path[0])
        return (value, True) if type(value) is list else ([value], False)
    return _values_below(record, path)


def _values_below(value: Any, path: Path) -> tuple[list[Any], bool]:
    for depth, step in enumerate(path):
        if step is WORDS:
            texts = [item for item in (value if type(value) is list else [value]) if type(item) is str]
            return sorted({word for text in texts for word in words_of(text)}), True
        if type(value) is list:
            found: list[Any] = []
            for item in value:
                if type(item) is dict:
                    found += _values_below(item, path[depth:])[0]
            return found, True
        value = value.get(step) if type(value) is dict else None
    return (value, True) if type(value) is list else ([value], False)


def projector(paths: Sequence[Path]) -> Callable[[Record], Record]:
    """A function to what of a record stands at some paths, as a record with nothing else in it.

    Of lists on the way, the maps are kept. So what stands at any of these paths, or below, is the same in both.
    """
    wanted: dict[str, Any] = {}
    for path in paths:
        below = wanted
        for step in path[:-1]:
            below = below.setdefault(step, {})
            if below is _WHOLE:
                break
        else:
            below[path[-1]] = _WHOLE
    return lambda record: {
        name: _projected(record[name], part) for name, part in wanted.items() if _leads_on(record, name, part)
    }


_WHOLE: dict[str, Any] = {}  # wanted with all that is in it


def _projected(value: Any, wanted: dict[str, Any]) -> Any:
    if wanted is _WHOLE:
        return value
    if type(value) is list:
        return [_projected(item, wanted) for item in value if type(item) is dict]
    return {name: _projected(value[name], part) for name, part in wanted.items() if _leads_on(value, name, part)}


def _leads_on(value: dict[str, Any], name: str, wanted: dict[str, Any]) -> bool:
    return name in value and (wanted is _WHOLE or type(value[name]) in (dict, list))


def _problem(value: Any, depth: int) -> str:
    """What is wrong with a map or a list, or an empty text."""
    if depth > RECORD_DEPTH_MAX:
        return f"a record nested deeper than {RECORD_DEPTH_MAX} levels"
    if type(value) is dict:
        if value and set(map(type, value)) != {str}:
            return "a record with a name that is not text"
        value = value.values()
    kinds = set(map(type, value))
    if kinds <= _PLAIN:
        return ""
    for item in value:
        kind = type(item)
        if kind is int:
            if not _INT_MIN <= item <= _INT_MAX:
                return f"the number {item} does not fit in 64 bits"
        elif kind is dict or kind is list:
            if problem := _problem(item, depth + 1):
                return problem
        elif kind not in _PLAIN:
            return f"a record cannot hold a {'link' if kind is cbor.Link else kind.__name__}"
    return ""
