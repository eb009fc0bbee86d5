"""Rows for people: whatever they hold and however wide the terminal, nothing that matters is lost."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len

from rhizome_index.cli.show import _cell
from rhizome_index.cli.tables import TEXT_LINES, table_lines

EMOJI = {
    "id": "1F63A",
    "tags": ["animal", "cat", "face", "grinning", "mouth", "open", "smile", "smiling"],
    "text": "grinning cat",
    "emoji": "😺",
    "group": "smileys-emotion",
    "order": 126,
    "version": 0.6,
    "subgroup": "cat-face",
}
TEXTS = st.text(st.characters(codec="utf-8"), max_size=150)
VALUES = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), TEXTS)
RECORDS = st.dictionaries(st.sampled_from(["emoji", "order", "n" * 60, "text", "猫"]), VALUES)
KEYS = st.from_regex(r"[a-z0-9]{1,90}", fullmatch=True)


def lines_of(rows: list[dict[str, Any]], width: int) -> list[str]:
    return [line.plain for line in table_lines(rows, width, _cell)]


@given(st.lists(st.builds(lambda key, record: {**record, "id": key}, KEYS, RECORDS), min_size=1), st.integers(16, 250))
@example([{"id": "k" * 90, "n" * 60: 2**63 - 1}], 16)
@example([EMOJI], 40)
@example([{"id": "a", "text": "long " * 40}, {"id": "b", "text": 2**63 - 1}], 80)  # a number among texts was cut
def test_keys_and_numbers_are_whole_and_no_line_is_wider_than_the_terminal(
    rows: list[dict[str, Any]], width: int
) -> None:
    lines = lines_of(rows, width)
    assert all(cell_len(line) <= width for line in lines)
    flat = "".join("".join(line.split()) for line in lines)
    folded = "".join(line[-width:].split(" ")[-1] for line in lines)  # what was wrapped is whole again
    for row in rows:
        for value in row.values():
            if value == row["id"] or isinstance(value, int | float):
                assert _cell(value) in flat or _cell(value) in folded


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_no_field_is_left_out(width: int) -> None:
    shown = "\n".join(lines_of([EMOJI, {**EMOJI, "id": "1F638"}], width))
    assert all(name in shown for name in EMOJI)
    assert shown.startswith("id")
    assert "1F638" in shown


def test_what_is_cut_says_so() -> None:
    (_, row) = lines_of([{"id": "a", "text": "long " * 40}], 40)
    assert row.endswith("…")
    assert len(lines_of([{"id": "a" * 30, "text": "long " * 400}], 32)) == 2 + TEXT_LINES


def test_texts_are_broken_between_words_and_cut_only_where_they_are_too_long() -> None:
    lines = lines_of([{"id": "a" * 30, "text": "grinning cat with smiling eyes, all of it"}], 32)
    assert [line.split("  ")[-1] for line in lines][-2:] == ["grinning cat with smiling", "eyes, all of it"]


def test_nothing_takes_no_lines() -> None:
    assert lines_of([], 80) == lines_of([{}], 80) == []


def test_fields_without_a_value_take_no_line_of_a_record() -> None:
    assert lines_of([{"id": "a" * 30, "text": None, "other": 1}], 20)[-1].split() == ["other", "1"]
