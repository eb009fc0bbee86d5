"""The text of one record: JSON read exactly, at the speed of the fastest parser.

Promises: an object is what its text says, or a `Flaw` tells what is wrong and where in the
text. Integers stay integers of any size, floats are the nearest 64-bit ones, and nothing
that two readers could understand differently passes: a name given twice, NaN, broken
UTF-8, half a surrogate pair. A `Window` takes the objects out of an array one by one,
never holding much more than one of them.

The parser is msgspec's: nearly as fast as orjson, yet exact where orjson silently turns
integers beyond 64 bits into floats. Neither sees a name given twice. That is found by
counting: a name costs a colon, so a text with no more colons than names has no room for a
second one. Where the count leaves a doubt, and for the words of every error, the slower
parser of the standard library decides.

Does not know: files, lines, what a record may hold (`index.record` says).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any, NoReturn

import msgspec

from rhizome_index.index.record import Record
from rhizome_index.limits import RECORD_TEXT_BYTES_MAX

TOO_LONG = f"longer than {RECORD_TEXT_BYTES_MAX:,} bytes"
_TOO_DEEP = "nested too deeply"
_KINDS = {list: "a list", str: "text", bool: "a boolean", int: "a number", float: "a number", type(None): "null"}
_OPENINGS = {"[": "a list", '"': "text", "t": "a boolean", "f": "a boolean", "n": "null"}

_SOLID = re.compile(rb"[^ \t\r\n]")
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+("?)|[{}\[\]]', re.DOTALL)  # group 1: a string's closing quote
_QUOTE = ord('"')
_KEY_ENDS = (b'":', b" :", b"\t:", b"\r:", b"\n:")  # what may stand at the end of a name

_decode = msgspec.json.Decoder().decode


class Flaw(Exception):
    """What is wrong with a piece of text, without the place of the piece."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def parse_object(text: bytes) -> Record:
    """The object of a JSON text. Raises Flaw for anything else."""
    record = parse_quickly(text)
    return parse_exactly(text) if record is None else record


def parse_quickly(text: bytes) -> Record | None:
    """The object of a JSON text, or None if there is the least doubt about it."""
    try:
        record = _decode(text)
        if type(record) is not dict:
            return None
        colons = text.count(b":")
        if colons == len(record):
            return record
        # Lists and maps hold further names, and strings hold colons; but a colon after a
        # name follows its quote or a blank, which those of a URL or a time do not.
        names = _names(record)
        if names == colons or names == sum(map(text.count, _KEY_ENDS)):
            return record
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass
    return None


def parse_exactly(text: bytes) -> Record:
    """As parse_object, several times slower, and sure in every case."""
    try:
        value = _EXACT.decode(text.decode())
        if type(value) is not dict:
            raise Flaw(f"a record must be an object, not {_KINDS[type(value)]}")
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        raise Flaw(f"not UTF-8 text (byte {error.start + 1})") from None
    except UnicodeEncodeError:
        raise Flaw("not valid JSON: an escape gives half a surrogate pair") from None
    except json.JSONDecodeError as error:
        raise _malformed(error) from None
    except RecursionError:
        raise Flaw(_TOO_DEEP) from None
    except ValueError:  # Python refuses to convert integers of more than some thousand digits
        raise Flaw("a number of too many digits") from None
    return value


def _names(value: Any) -> int:
    """How many names the maps in a value hold altogether."""
    count, items = (len(value), value.values()) if type(value) is dict else (0, value)
    for item in items:
        if type(item) is dict or type(item) is list:
            count += _names(item)
    return count


def _malformed(error: json.JSONDecodeError) -> Flaw:
    place = f"column {error.colno}" if error.lineno == 1 else f"line {error.lineno} of it, column {error.colno}"
    return Flaw(f"not valid JSON: {error.msg[0].lower()}{error.msg[1:]} ({place})")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        name = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise Flaw(f"the name {json.dumps(name)} is given twice")
    return found


def _refuse(constant: str) -> NoReturn:
    raise Flaw(f"not valid JSON: {constant} is no JSON number")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise Flaw(f"the number {digits[:40]} is beyond the range of 64-bit floats")
    return number


_EXACT = json.JSONDecoder(object_pairs_hook=_distinct, parse_constant=_refuse, parse_float=_finite)


class Window:
    """The part of a JSON array that is being looked at; it slides over the chunks."""

    def __init__(self, next_chunk: Callable[[], bytes]) -> None:
        self._next_chunk = next_chunk
        self._bytes = b""
        self._at = 0
        self._braces = 1  # in the last object that had to be searched

    def skip(self, count: int) -> None:
        self._at += count

    def next_byte(self) -> bytes:
        """The next byte that is no blank, not taken; nothing at the end."""
        while True:
            if match := _SOLID.search(self._bytes, self._at):
                self._at = match.start()
                return match.group()
            self._at = len(self._bytes)
            if not self._more():
                return b""

    def read_object(self) -> Record:
        """Take the object that starts here. Raises Flaw if there is none."""
        first = self.next_byte()
        if first != b"{":
            raise Flaw(_not_an_object(first))
        # Guess that it has as many closing braces as the one before. A wrong guess is no JSON (an
        # object's text is never the beginning of another's), and then the real end is searched.
        end = self._at
        for _ in range(self._braces):
            end = self._bytes.find(b"}", end, self._at + RECORD_TEXT_BYTES_MAX) + 1
            if not end:
                break
        else:
            record = parse_quickly(self._bytes[self._at : end])
            if record is not None:
                self._at = end
                return record
        length = self._object_bytes()
        piece = self._bytes[self._at : self._at + length]
        self._at += length
        self._braces = piece.count(b"}")
        return parse_object(piece)

    def _object_bytes(self) -> int:
        """How long the object is that starts here, reading more as needed."""
        depth = seen = 0  # bytes of the object that are understood
        while True:
            for token in _TOKEN.finditer(self._bytes, self._at + seen):
                byte = self._bytes[token.start()]
                if byte == _QUOTE:
                    if not token.group(1):  # the string goes on in the next chunk
                        seen = token.start() - self._at
                        break
                else:
                    depth += 1 if byte in b"{[" else -1
                    if depth == 0:
                        if token.end() - self._at > RECORD_TEXT_BYTES_MAX:
                            raise Flaw(TOO_LONG)
                        return token.end() - self._at
            else:
                seen = len(self._bytes) - self._at
            if len(self._bytes) - self._at > RECORD_TEXT_BYTES_MAX:
                raise _unfinished(self._bytes[self._at :], TOO_LONG)
            if not self._more():
                raise _unfinished(self._bytes[self._at :], "the file ends in the middle of it")

    def _more(self) -> bool:
        chunk = self._next_chunk()
        self._bytes, self._at = self._bytes[self._at :] + chunk, 0
        return bool(chunk)


def _not_an_object(first: bytes) -> str:
    """What is wrong with an element that starts with a byte other than an opening brace."""
    if not first:
        return "the file ends before it"
    if first == b"]":
        return "not valid JSON: a comma stands before the end of the array"
    character = first.decode("latin-1")
    kind = "a number" if character in "-0123456789" else _OPENINGS.get(character)
    return f"a record must be an object, not {kind}" if kind else "not valid JSON: expecting value (column 1)"


def _unfinished(text: bytes, reason: str) -> Flaw:
    """`reason`, unless the text breaks the rules of JSON before it breaks off (a quote forgotten, say)."""
    try:
        _EXACT.decode(text.decode(errors="replace"))
    except json.JSONDecodeError as error:
        if error.pos < len(error.doc.rstrip()) and not error.msg.startswith("Unterminated"):
            return _malformed(error)
    except Flaw as flaw:
        return flaw
    except (RecursionError, ValueError):
        pass
    return Flaw(reason)
