"""What a query may go on with at the cursor: words of the language, names, values.

Sans-IO: from a text, a place in it and a vocabulary to completions. What may follow is asked of the
grammar, so it cannot fall behind it; what there is, of the vocabulary. A text that no query begins
with has no completions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rhizome_index.index.record import WORDS, parse_path
from rhizome_index.limits import QUERY_TEXT_BYTES_MAX
from rhizome_index.query.grammar import Begun, begin
from rhizome_index.query.parse import AUTHOR_PATH, TAGS_PATH
from rhizome_index.query.slips import OPERATORS, keywords_of
from rhizome_index.query.wording import path_text, value_text

KEYWORD, COLLECTION, PATH, VALUE, OPERATOR, TIME = "keyword", "collection", "path", "value", "operator", "time"

# The last of these that reaches the cursor is the word that is being written.
_ITEM = re.compile(
    r'"(?:\\.|[^"\\])*"|`[^`]*`|"(?:\\.|[^"\\])*\\?$|`[^`]*$|[^\s"`,()\[\]=<>!]+|[<>!=]+|\s+|.', re.DOTALL
)
_IS_OVER = re.compile(r'\s+|[,()\[\]]|"(?:\\.|[^"\\])*"|`[^`]*`', re.DOTALL)
_ESCAPE_AT_END = re.compile(r"(?<!\\)((?:\\\\)*)\\(?:u[0-9a-fA-F]{0,3})?$")
_TAG = re.compile(r'#[^\s,()"]+')
_WORD = re.compile(r"[^\W\d][\w-]*(\.[\w-]+)*")
_COLLECTION_AHEAD = re.compile(r"\bof\s+([a-z0-9][a-z0-9_.-]*)", re.IGNORECASE)
_TIMES = ("1h", "24h", "7d", "4w")
_PHRASES = {"order": "order by", "starts": "starts with", "any": "any of"}


class Vocabulary(Protocol):
    """What there is to name. Each gives some of it, soon, and nothing rather than an error."""

    def collections(self) -> Sequence[str]: ...

    def paths(self, collection: str) -> Sequence[str]: ...

    def values(self, collection: str, path: str, prefix: str | None) -> Sequence[Any]:
        """Values at a path: of any type, or texts that start with a prefix."""
        ...


@dataclass(frozen=True, slots=True)
class Completion:
    """What may stand from `start`, an offset into the text, to the cursor. `kind` says what it is."""

    text: str
    start: int
    kind: str


def complete(text: str, cursor: int, vocabulary: Vocabulary) -> list[Completion]:
    """The completions at a place in a text, each once."""
    before = text[:cursor]
    if before.lstrip().startswith("{") or len(before.encode(errors="replace")) > QUERY_TEXT_BYTES_MAX:
        return []
    word = _word_at_end(before)
    begun = begin(before[: len(before) - len(word)])
    if begun is not None and "MINUS" in begun.accepts and word.startswith("-"):
        word = word[1:]
        begun = begin(before[: len(before) - len(word)])
    if begun is None or (before and not word and not _may_begin(before)):
        return []
    start = len(before) - len(word)
    place = _Place(begun, word, text[cursor:], vocabulary)
    found: dict[str, str] = {}
    for item, kind in place.candidates():
        found.setdefault(item, kind)
    return [Completion(item, start, kind) for item, kind in found.items()]


def _word_at_end(text: str) -> str:
    """What of a text is being written at its end: nothing behind a blank, a bracket or a closing quote."""
    last = ""
    for item in _ITEM.finditer(text):
        last = item[0]
    return "" if _IS_OVER.fullmatch(last) else last


def _may_begin(text: str) -> bool:
    """Whether a word can begin at the end of a text: a closing quote wants a blank behind it."""
    return text[-1] not in '"`)]'


@dataclass(frozen=True, slots=True)
class _Place:
    """A place in a query: what stands before it, the word that is being written, and what stands behind."""

    begun: Begun
    word: str
    rest: str
    vocabulary: Vocabulary

    def candidates(self) -> Iterator[tuple[str, str]]:
        """What may stand here, and what kind of thing it is."""
        accepts = self.begun.accepts
        if "COLLECTION" in accepts:
            yield from self._starting(self.vocabulary.collections(), COLLECTION)
        if "TAG" in accepts:
            yield from self._tags()
        elif "QUOTED_PATH" in accepts:
            yield from self._starting(map(path_text, self._paths()), PATH)
        elif "WORD" in accepts:
            yield from self._values(AUTHOR_PATH, bare=True)
        elif "STRING" in accepts:
            yield from self._literals()
        if "OPERATOR" in accepts:
            yield from self._starting(OPERATORS, OPERATOR)
        if "DURATION" in accepts:
            yield from self._starting(_TIMES, TIME)
        yield from self._starting(self._keywords(), KEYWORD)

    def _starting(self, found: Iterable[str], kind: str) -> Iterator[tuple[str, str]]:
        wanted = self.word.lower()
        yield from ((text, kind) for text in found if text.lower().startswith(wanted))

    def _keywords(self) -> Iterator[str]:
        accepts = self.begun.accepts
        for word in keywords_of(accepts):
            yield "all of" if word == "all" and "FIRST" not in accepts else _PHRASES.get(word, word)
        if accepts <= {"LPAR", "LSQB"}:
            yield "("

    # --- names ---

    def _collections(self) -> Sequence[str]:
        """The collection that the query is about, as far as that can be seen; otherwise all."""
        named = [str(token) for token in self.begun.tokens if token.type == "COLLECTION"]
        named += [found[1] for found in [_COLLECTION_AHEAD.search(self.rest)] if found]
        return named[:1] or self.vocabulary.collections()

    def _paths(self) -> Iterator[str]:
        is_in_words = [token.type for token in self.begun.tokens[-2:]] == ["WORDS", "LPAR"]
        paths = dict.fromkeys(path for name in self._collections() for path in self.vocabulary.paths(name))
        for path in paths:
            if parse_path(path)[-1] is not WORDS or not is_in_words:
                yield path

    def _path(self) -> str:
        """The path that the condition here looks at: the one named last."""
        tokens = self.begun.tokens
        for place in range(len(tokens) - 1, -1, -1):
            if tokens[place].type in ("WORD", "QUOTED_PATH"):
                path = str(tokens[place]).strip("`")
                return f"words({path})" if place > 1 and tokens[place - 2].type == "WORDS" else path
        return ""

    # --- values ---

    def _tags(self) -> Iterator[tuple[str, str]]:
        prefix = _decoded(self.word) if self.word.startswith('"') else self.word.removeprefix("#")
        for tag in self._found(TAGS_PATH, prefix):
            if type(tag) is str and tag:
                yield (f"#{tag}" if _TAG.fullmatch(f"#{tag}") else value_text(tag)), VALUE

    def _literals(self) -> Iterator[tuple[str, str]]:
        """Values behind an operator."""
        last = self.begun.tokens[-1].type
        path = self._path()
        if last == "MATCHES" and path:
            yield from self._words(path)
        elif path:
            yield from self._values(path, texts_only="NULL" not in self.begun.accepts)

    def _values(self, path: str, *, bare: bool = False, texts_only: bool = False) -> Iterator[tuple[str, str]]:
        """Values at a path, as the grammar reads them: of texts, those that start as the word does, quoted or not."""
        word = self.word
        kinds = (int, float) if bare else (int, float, bool)
        if word.startswith('"') or word[:1].isalpha():
            found = self._found(path, _decoded(word) if word.startswith('"') else word)
        else:
            found = self._found(path, None)
        for value in found:
            if type(value) is str:
                is_word = bare and _WORD.fullmatch(value) and not word.startswith('"')
                yield (value if is_word else value_text(value)), VALUE
                continue
            literal = value_text(value)
            if not texts_only and type(value) in kinds and literal.startswith(word):
                yield literal, VALUE

    def _words(self, path: str) -> Iterator[tuple[str, str]]:
        """Words to search for: the last one of the text is completed."""
        begun, _, last = (_decoded(self.word) if self.word.startswith('"') else self.word).rpartition(" ")
        before = f"{begun} " if begun else ""
        for word in self._found(f"words({path})", last.lower()):
            yield value_text(before + str(word)), VALUE

    def _found(self, path: str, prefix: str | None) -> Sequence[Any]:
        """Values that can be shown, and so typed."""
        named = self._collections()
        found = self.vocabulary.values(named[0], path, prefix) if len(named) == 1 else ()
        return [value for value in found if type(value) is not str or value.isprintable()]


def _decoded(opened: str) -> str:
    """The text of a string that is not closed yet."""
    try:
        return str(json.loads(_ESCAPE_AT_END.sub(r"\1", opened) + '"', strict=False))
    except ValueError:
        return opened[1:]
