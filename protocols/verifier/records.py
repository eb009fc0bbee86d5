"""manifest/1, the first half: records, paths, the words of texts, and what of a record stands at some paths."""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from .dag import MAX_RECORD, Cid, Value, as_list, as_map, as_text, decode, utf8
from .errors import Refused
from .keys import MAX_INT64, MAX_KEY, MIN_INT64, component, is_number

MAX_RECORD_DEPTH: Final = 33
MAX_NAME: Final = 64
MAX_PATH: Final = 256
MAX_WORD: Final = 64

# --- Records -----------------------------------------------------------------------------------------------

Record = dict[str, Value]


def read_record(data: bytes) -> Record:
    """The record that bytes are."""
    if len(data) > MAX_RECORD:
        raise Refused("a record of too many bytes")
    record = as_map(decode(data), "record")
    check_recordable(record, MAX_RECORD_DEPTH)
    return record


def check_recordable(value: Value, levels: int) -> None:
    """Refuse what a record may not hold: links, integers beyond 64 bits, and more levels than these.

    A level is a list or a map. Whether what is neither counts as one too is not said; here it does not.
    """
    if isinstance(value, Cid):
        raise Refused("a link in a record")
    if isinstance(value, int) and not MIN_INT64 <= value <= MAX_INT64:
        raise Refused("an integer beyond 64 bits in a record")
    if isinstance(value, list | dict):
        if levels == 0:
            raise Refused("a record that is too deep")
        for item in value if isinstance(value, list) else value.values():
            check_recordable(item, levels - 1)


# --- Names and paths ---------------------------------------------------------------------------------------

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]*")


def read_name(value: Value) -> str:
    """The name of a dataset, a collection or an index."""
    name = as_text(value, "name")
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise Refused("not a name")
    return name


def read_path(value: Value) -> str:
    """A path, or `words(path)`. Its length is that of all its UTF-8, the points between the steps too."""
    path = as_text(value, "path")
    if path == "time()" or len(utf8(path)) > MAX_PATH:
        raise Refused("not a path")
    inner = path[len("words(") : -1] if is_words(path) else path
    if inner.startswith(("-", "words(")) or "" in inner.split("."):
        raise Refused("not a path")
    return path


def is_words(path: str) -> bool:
    """Whether a path is one of words."""
    return path.startswith("words(") and path.endswith(")")


def steps_of(path: str) -> list[str]:
    """The steps of a path; a path of words has those of its own path, and one more."""
    return [*path[len("words(") : -1].split("."), "words()"] if is_words(path) else path.split(".")


class SortPath(NamedTuple):
    """A path and a direction."""

    path: str
    descending: bool

    def __str__(self) -> str:
        return "-" + self.path if self.descending else self.path


def read_sort_path(value: Value) -> SortPath:
    """A sort path."""
    text = as_text(value, "sort path")
    return SortPath(read_path(text.removeprefix("-")), text.startswith("-"))


def read_sort_paths(value: Value, least: int, most: int) -> tuple[SortPath, ...]:
    """Sort paths whose paths differ."""
    found = tuple(read_sort_path(item) for item in as_list(value, "sort paths", least, most))
    if len({item.path for item in found}) != len(found):
        raise Refused("one path twice")
    return found


class ValuesAt(NamedTuple):
    """The values at a path: one, or those of a list."""

    values: list[Value]
    is_list: bool


def values_at(record: Value, path: str) -> ValuesAt:
    """The values at a path of a record."""
    if is_words(path):
        texts = [value for value in _values_at(record, steps_of(path)[:-1]).values if isinstance(value, str)]
        return ValuesAt([*sorted({word for text in texts for word in words_of(text)}, key=utf8)], True)
    return _values_at(record, path.split("."))


def _values_at(value: Value, steps: Sequence[str]) -> ValuesAt:
    if isinstance(value, list):
        if not steps:
            return ValuesAt(value, True)
        return ValuesAt([one for item in value if isinstance(item, dict) for one in _values_at(item, steps)[0]], True)
    if not steps:
        return ValuesAt([value], False)
    return _values_at(value.get(steps[0]) if isinstance(value, dict) else None, steps[1:])


def primary_key(record: Record, path: str) -> bytes:
    """The key of a record in its collection's primary."""
    values, is_list = values_at(record, path)
    if is_list or not (isinstance(values[0], str | bytes) or is_number(values[0])):
        raise Refused("a primary key that is neither text nor a number nor bytes")
    key = component(values[0])
    if len(key) > MAX_KEY:
        raise Refused("a primary key of too many bytes")
    return key


# --- Words -------------------------------------------------------------------------------------------------

# What is a word by itself.
_ALONE: Final = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x3005, 0x3007),
    (0x3041, 0x309F),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3134F),
)


@cache
def _word_characters() -> tuple[list[int], list[int]]:
    """The first and the last characters of the ranges."""
    table = Path(__file__).parents[1] / "manifest/1/word-characters.txt"
    lines = [line.split() for line in table.read_text("ascii").splitlines() if not line.startswith("#")]
    return [int(first, 16) for first, _ in lines], [int(last, 16) for _, last in lines]


def _is_word_character(character: str) -> bool:
    firsts, lasts = _word_characters()
    at = bisect_right(firsts, ord(character)) - 1
    return at >= 0 and ord(character) <= lasts[at]


def words_of(text: str) -> set[str]:
    """The distinct words of a text."""
    spaced = "".join(character if _is_word_character(character) else " " for character in text)
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", spaced).casefold())
    return {word[:MAX_WORD] for word in _runs(folded)}


def _runs(text: str) -> Iterator[str]:
    run = ""
    for character in text:
        alone = any(first <= ord(character) <= last for first, last in _ALONE)
        if run and (alone or not _is_word_character(character)):
            yield run
            run = ""
        if alone and _is_word_character(character):
            yield character
        elif _is_word_character(character):
            run += character
    if run:
        yield run


# --- Projections -------------------------------------------------------------------------------------------


def projection(record: Record, paths: Sequence[str]) -> Record:
    """The projection of a record to some paths."""
    return _project_map(record, [path.split(".") for path in paths])


def _project_map(value: dict[str, Value], paths: Sequence[Sequence[str]]) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for name in {path[0] for path in paths}:
        rests = [path[1:] for path in paths if path[0] == name]
        if name not in value:
            continue
        inner = value[name]
        if [] in [list(rest) for rest in rests]:
            found[name] = inner
        elif isinstance(inner, dict):
            found[name] = _project_map(inner, rests)
        elif isinstance(inner, list):
            found[name] = [_project_map(item, rests) for item in inner if isinstance(item, dict)]
    return found
