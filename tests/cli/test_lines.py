"""Lines of the shell: what they ask for, and what may stand in them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhizome_index.cli.lines import (
    COMMANDS,
    EXECUTE,
    EXPLAIN,
    PREFIXES,
    QUERY,
    WATCH,
    Line,
    complete_line,
    help_text,
    read_line,
)
from rhizome_index.errors import UsageError
from tests.query.test_complete import Names


@pytest.mark.parametrize(
    ("line", "read"),
    [
        ("", Line("", "")),
        ("  # count posts", Line("", "")),
        (" ; ", Line("", "")),
        ("count posts", Line(QUERY, "count posts")),
        ("count posts ;\n", Line(QUERY, "count posts")),
        ("Explain  count posts", Line(EXPLAIN, "count posts")),
        ("explain --execute count posts", Line(EXECUTE, "count posts")),
        ("explain   --execute", Line(EXECUTE, "")),
        ("watch first 3 posts", Line(WATCH, "first 3 posts")),
        ("watchful", Line(QUERY, "watchful")),
        (".use  main ", Line(".use", "main")),
        (".json on", Line(".json", "on")),
        (".json", Line(".json", "")),
        ("HELP", Line(".help", "")),
        ("exit", Line(".quit", "")),
        (".more;", Line(".more", "")),
    ],
)
def test_what_a_line_asks_for(line: str, read: Line) -> None:
    assert read_line(line) == read


@pytest.mark.parametrize(
    ("line", "says", "hint"),
    [
        (".jsn", "there is no .jsn", 'did you mean ".json"?'),
        (".", "there is no .", ".help"),
        (".json maybe", ".json is on or off, not 'maybe'", ""),
        (".more 3", ".more stands alone", ""),
    ],
)
def test_what_is_no_command(line: str, says: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_line(line)
    assert str(caught.value) == says and hint in caught.value.hint


def offered(text: str) -> list[str]:
    found = complete_line(text, len(text), Names(), lambda: ["main", "rhizome:x/main"])
    return [text[: item.start] + item.text for item in found]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (".", list(COMMANDS)),
        (".js", [".json"]),
        (" .json o", [" .json on", " .json off"]),
        (".use ", [".use main", ".use rhizome:x/main"]),
        (".use rh", [".use rhizome:x/main"]),
        (".indexes po", [".indexes posts"]),
        (".more ", []),
        ("exp", ["explain"]),
        ("explain --e", ["explain --execute"]),
        ("explain cou", ["explain count"]),
        ("explain count po", ["explain count posts"]),
        ("watch first 3 posts tagged #cat", ["watch first 3 posts tagged #cats", "watch first 3 posts tagged #cattle"]),
        ("count po", ["count posts"]),
        ("explain explain", []),
    ],
)
def test_what_may_stand_there(text: str, found: list[str]) -> None:
    assert offered(text) == found


def test_everything_can_begin_a_line() -> None:
    assert set(offered("")) >= {"first", "count", EXPLAIN, WATCH}
    assert set(offered("explain ")) >= {"explain first", "explain --execute"}


@given(st.text(max_size=30) | st.sampled_from([*COMMANDS, *PREFIXES]), st.text(max_size=10), st.integers(0, 40))
def test_any_line_is_read_or_refused(start: str, rest: str, cursor: int) -> None:
    text = f"{start} {rest}"
    for item in complete_line(text, min(cursor, len(text)), Names(), list):
        assert 0 <= item.start <= cursor
    try:
        line = read_line(text)
    except UsageError:
        return
    assert line.verb in ("", QUERY, *PREFIXES, *COMMANDS) and line.text in text


def test_help_has_all_there_is() -> None:
    assert all(f"  {name}" in help_text() for name in (*COMMANDS, *PREFIXES))
