"""Every bound stands in limits.py with its reason, and bounds something."""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path

import pytest

from tests.test_layers import PACKAGE, modules

LIMITS = PACKAGE / "limits.py"
REASON_LETTERS_MIN = 12


def assigned(path: Path) -> dict[str, ast.Assign]:
    """The names that a module gives a value at its top."""
    found: dict[str, ast.Assign] = {}
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign):
            found |= {target.id: statement for target in statement.targets if isinstance(target, ast.Name)}
    return found


def comments(path: Path) -> dict[int, str]:
    """The comments of a module, by line."""
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline)
    return {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}


def names_in(node: ast.AST) -> set[str]:
    return {item.id for item in ast.walk(node) if isinstance(item, ast.Name)}


BOUNDS = assigned(LIMITS)


def test_there_are_bounds() -> None:
    assert len(BOUNDS) > 60 and "FRAME_BYTES_MAX" in BOUNDS


@pytest.mark.parametrize("name", BOUNDS)
def test_a_bound_says_why(name: str) -> None:
    last_line = BOUNDS[name].end_lineno or 0
    reason = comments(LIMITS).get(last_line, "").strip("# ")
    assert len(reason) >= REASON_LETTERS_MIN, f"{name} has no comment with its reason behind it"


@pytest.mark.parametrize("name", BOUNDS)
def test_a_bound_is_kept_somewhere(name: str) -> None:
    users = [path for path in modules() if path != LIMITS and name in path.read_text(encoding="utf-8")]
    used = [path for path in users if name in names_in(ast.parse(path.read_text(encoding="utf-8")))]
    by_others = [other for other, statement in BOUNDS.items() if other != name and name in names_in(statement)]
    assert used or by_others, f"nothing keeps to {name}"


@pytest.mark.parametrize("path", [path for path in modules() if path != LIMITS], ids=lambda path: path.stem)
def test_no_bound_stands_elsewhere(path: Path) -> None:
    """Unless it follows from others."""
    for name, statement in assigned(path).items():
        if name.endswith("_MAX"):
            assert names_in(statement.value), f"{name} belongs to limits.py, with its reason"
