"""Shells complete commands, their options and what those may be."""

from __future__ import annotations

import pytest
from click.shell_completion import BashComplete

from rhizome_index.cli.main import Commands, cli


@pytest.mark.parametrize(
    ("words", "incomplete", "found"),
    [
        ([], "to", ["top"]),
        ([], "", list(Commands.MODULES)),
        (["node"], "--lo", ["--log", "--log-level"]),
        (["node", "--log-level"], "w", ["warning"]),
        (["node"], "--met", ["--metrics"]),
        (["top"], "--e", ["--every"]),
        (["index"], "a", ["add"]),
    ],
)
def test_what_is_completed(words: list[str], incomplete: str, found: list[str]) -> None:
    completions = BashComplete(cli, {}, "rhizome", "_RHIZOME_COMPLETE").get_completions(words, incomplete)
    assert [item.value for item in completions] == found
