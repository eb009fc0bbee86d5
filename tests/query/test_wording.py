"""Conditions, paths and values as text can be read again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhizome_index.index.condition import Compare, Expr, Not, Or, all_of
from rhizome_index.query.parse import parse
from rhizome_index.query.wording import path_text, text_of, value_text


@pytest.mark.parametrize(
    "expr",
    [
        Compare("=", "a.b", "x"),
        Compare("in", "a", (1, "b", None, True)),
        Compare("starts with", "a", 'quoted "x"'),
        Compare("exists", "a", True),
        Not(Compare("exists", "a", True)),
        Or((Compare("<", "a", 1.5), all_of(Compare(">=", "b", -2), Not(Compare("!=", "c", "é"))))),
    ],
)
def test_conditions_in_words_can_be_asked_again(expr: Expr) -> None:
    assert parse(f"all posts where {text_of(expr)}")[0].where == expr


@given(
    st.text(st.characters(exclude_characters="`.", codec="utf-8"), min_size=1, max_size=20), st.integers() | st.text()
)
def test_paths_and_values_can_be_asked_again(name: str, value: object) -> None:
    if name.startswith(("-", "words(")) or (isinstance(value, int) and not -(2**63) <= value < 2**63):
        return
    text = f"all posts where {path_text(name)} = {value_text(value)}"
    (term,) = parse(text)[0].conjuncts()
    assert term == Compare("=", name, value)
