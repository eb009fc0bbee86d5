"""Rows for people: a table where it fits the terminal, or one field a line where it does not.

Rules:
- The key stands first, long texts (`text`, `body`) last. No field is left out.
- The key, numbers and truth values are never cut, though in a block they may go on in the next line.
- Where a table is too wide, its widest texts are cut first, none below TEXT_COLUMNS_LEAST or its own width.
- Where that is not enough, each record is a block of lines, a field to a line; a text has TEXT_LINES of them.
- No line is wider than the terminal, counted in its columns: an ideograph or an emoji takes two.

Does not know: where rows come from, nor JSON for programs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.text import Text

TEXT_COLUMNS_LEAST = 12
TEXT_COLUMNS_MOST = 48
TEXT_LINES = 3
NARROWEST = 16  # a narrower terminal wraps

_GAP = "  "
_LAST = ("text", "body")


def table_lines(
    rows: Sequence[dict[str, Any]], width: int, cell: Callable[[Any], str], key: str | None = None
) -> list[Text]:
    """The lines for rows, at most `width` columns each.

    cell  a value as text without control characters; of None it is empty
    key   the field that comes first and is never cut; None: `id`, or else the first there is
    """
    width = max(width, NARROWEST)
    found = list(dict.fromkeys(name for row in rows for name in row))
    if not found:
        return []
    key = key or ("id" if "id" in found else found[0])
    names = sorted(found, key=lambda name: (name != key, name in _LAST))
    whole = [[name == key or isinstance(row.get(name), int | float) for name in names] for row in rows]
    cells = [[cell(row.get(name)) for name in names] for row in rows]
    heads = [cell(name) for name in names]
    widths = _widths(heads, cells, whole, width)
    if widths is None:
        return _blocks(heads, cells, whole, width)
    numbers = [all(_is_number(row.get(name)) for row in rows) for name in names]
    return [_line(heads, widths, numbers, "bold"), *(_line(row, widths, numbers) for row in cells)]


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _widths(heads: list[str], cells: list[list[str]], whole: list[list[bool]], width: int) -> list[int] | None:
    """How wide each column is to be; None where a table does not fit."""
    from rich.cells import cell_len

    natural = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    least = [cell_len(head) for head in heads]
    for row, is_whole in zip(cells, whole, strict=True):
        for at, text in enumerate(row):
            size = cell_len(text)
            least[at] = max(least[at], size if is_whole[at] else min(size, TEXT_COLUMNS_LEAST))
    room = width - len(_GAP) * (len(heads) - 1) - sum(least)
    if room < 0:
        return None
    widths = least
    while room and (growing := [at for at, size in enumerate(natural) if widths[at] < min(size, TEXT_COLUMNS_MOST)]):
        widths[min(growing, key=lambda at: widths[at])] += 1
        room -= 1
    return widths


def _line(row: list[str], widths: list[int], numbers: list[bool], style: str = "") -> Text:
    from rich.cells import cell_len
    from rich.text import Text

    padded = []
    for text, size, is_number in zip(row, widths, numbers, strict=True):
        shown = _cut(text, size)
        blanks = " " * (size - cell_len(shown))
        padded.append(blanks + shown if is_number else shown + blanks)
    return Text(_GAP.join(padded).rstrip(), style=style)


def _cut(text: str, size: int) -> str:
    """The text in at most `size` columns, with an ellipsis for what is gone."""
    from rich.cells import cell_len, set_cell_size

    return text if cell_len(text) <= size else set_cell_size(text, size - 1).rstrip() + "…"


def _blocks(heads: list[str], cells: list[list[str]], whole: list[list[bool]], width: int) -> list[Text]:
    """Each record one field a line, and an empty line between two of them. Fields without a value are left out."""
    from rich.cells import cell_len, chop_cells
    from rich.text import Text

    margin = min(max(map(cell_len, heads)), width // 2 - len(_GAP))
    lines: list[Text] = []
    for row, is_whole in zip(cells, whole, strict=True):
        lines += [Text("")] if lines else []
        for head, text, is_kept in zip(heads, row, is_whole, strict=True):
            if not text:
                continue
            size = width - margin - len(_GAP)
            for place, part in enumerate(chop_cells(text, size) if is_kept else _wrapped(text, size)):
                name = "" if place else _cut(head, margin)
                padded = name + " " * (margin - cell_len(name)) + _GAP
                lines.append(Text.assemble((padded, "bold"), part))
    return lines


def _wrapped(text: str, size: int) -> list[str]:
    """A text on at most TEXT_LINES lines of `size` columns, broken between words where there are any."""
    from rich.cells import cell_len, chop_cells

    lines: list[str] = []
    while cell_len(text) > size and len(lines) < TEXT_LINES - 1:
        part = chop_cells(text, size)[0]
        if text[len(part)] != " " and part.rfind(" ") > len(part) // 2:
            part = part[: part.rfind(" ")]
        lines.append(part)
        text = text[len(part) :].lstrip(" ")
    return [*lines, _cut(text, size)]
