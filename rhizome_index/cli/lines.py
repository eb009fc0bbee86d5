"""The lines of the shell: what each asks for, and what may stand at the cursor.

A line is a query; `explain QUERY`, `explain --execute QUERY` or `watch QUERY`; or a command
behind a dot. A line that begins with # says nothing. Sans-IO.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from rhizome_index.errors import UsageError
from rhizome_index.index.slips import did_you_mean
from rhizome_index.query.complete import Completion, Vocabulary, complete

QUERY, EXPLAIN, EXECUTE, WATCH = "query", "explain", "explain --execute", "watch"
NAME, SWITCH = "name", "switch"

COMMANDS = {
    ".help": ("", "this list"),
    ".use": ("[ADDRESS|NAME|@following]", "ask that dataset from now on; alone: say which is asked"),
    ".datasets": ("", "the datasets known here"),
    ".collections": ("", "the collections of the dataset, and how many records they have"),
    ".indexes": ("[COLLECTION]", "its indexes: what each is over, and how many entries it has"),
    ".more": ("", "the rows behind those of the last answer"),
    ".json": ("on|off", "rows as JSON instead of a table"),
    ".scan": ("on|off", "whether everything may be read where no index answers"),
    ".quit": ("", "leave; so does Ctrl-D"),
}
PREFIXES = {
    EXPLAIN: "every way to answer it, what each would read, and why it lost",
    EXECUTE: "the same beside what it really took",
    WATCH: "stay, and show what changes of its rows; Ctrl-C ends it",
}
_BARE = {"help": ".help", "quit": ".quit", "exit": ".quit"}  # what people type elsewhere
_PREFIX = re.compile(r"\s*(explain(?:\s+--execute)?|watch)(?:\s+|$)", re.IGNORECASE)
_SWITCHES = ("on", "off")


@dataclass(frozen=True, slots=True)
class Line:
    """What a line asks for.

    verb  QUERY, EXPLAIN, EXECUTE, WATCH or one of COMMANDS; nothing for a line that says nothing
    text  the query, or what stands behind the command
    """

    verb: str
    text: str


def read_line(line: str) -> Line:
    """What a line asks for. Raises UsageError for a command that is none, or that has something wrong behind it."""
    text = line.strip().removesuffix(";").rstrip()
    if not text or text.startswith("#"):
        return Line("", "")
    if text.lower() in _BARE:
        return Line(_BARE[text.lower()], "")
    if not text.startswith("."):
        found = _PREFIX.match(text)
        verb = " ".join(found[1].lower().split()) if found else QUERY
        return Line(verb, text[found.end() :] if found else text)
    name, _, rest = text.partition(" ")
    if name not in COMMANDS:
        raise UsageError(f"there is no {name}", hint=did_you_mean(name, COMMANDS, ".help says what there is"))
    wanted, rest = COMMANDS[name][0], rest.strip()
    if rest and not wanted:
        raise UsageError(f"{name} stands alone")
    if wanted == "on|off" and rest not in ("", *_SWITCHES):
        raise UsageError(f"{name} is on or off, not {rest!r}")
    return Line(name, rest)


def complete_line(
    text: str, cursor: int, vocabulary: Vocabulary, places: Callable[[], Sequence[str]]
) -> list[Completion]:
    """What may stand at a place in a line. `places` gives what `.use` may name."""
    before = text[:cursor]
    if before.lstrip().startswith("."):
        return _complete_command(before, vocabulary, places)
    found = _PREFIX.match(before)
    start = found.end() if found and before[found.end() - 1 : found.end()].isspace() else 0
    completions = [
        replace(item, start=item.start + start) for item in complete(text[start:], cursor - start, vocabulary)
    ]
    if not start and (word := before.strip().lower()) == before.lstrip().lower():
        at = len(before) - len(word)
        words = (EXPLAIN, WATCH) if " " not in word else PREFIXES
        completions += [Completion(prefix, at, NAME) for prefix in words if prefix.startswith(word)]
    elif found and " " not in found[1] and before[start:].lower() in "--execute":
        completions.append(Completion("--execute", start, SWITCH))
    return completions


def _complete_command(before: str, vocabulary: Vocabulary, places: Callable[[], Sequence[str]]) -> list[Completion]:
    name, blank, rest = before.lstrip().partition(" ")
    if not blank:
        at = len(before) - len(name)
        return [Completion(command, at, NAME) for command in COMMANDS if command.startswith(name)]
    word = rest.lstrip()
    at = len(before) - len(word)
    offered: Sequence[str] = ()
    if name == ".use":
        offered = places()
    elif name == ".indexes":
        offered = vocabulary.collections()
    elif COMMANDS.get(name, ("",))[0] == "on|off":
        offered = _SWITCHES
    return [Completion(item, at, NAME) for item in offered if item.startswith(word)]


def help_text() -> str:
    """What there is, for people."""
    rows = [("QUERY", "a query, e.g. first 5 posts tagged #cats")]
    rows += [(f"{prefix} QUERY", text) for prefix, text in PREFIXES.items()]
    rows += [(f"{name} {wanted}".strip(), text) for name, (wanted, text) in COMMANDS.items()]
    width = max(len(left) for left, _ in rows)
    return "\n".join(f"  {left:<{width}}  {text}" for left, text in rows)
