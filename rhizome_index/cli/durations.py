"""Lengths of time as options of commands."""

from __future__ import annotations

from typing import Any

import click

from rhizome_index.index.duration import parse_duration
from rhizome_index.node.publish import FOREVER


class Duration(click.ParamType):  # type: ignore[type-arg]
    """A length of time, or forever where that is a choice."""

    name = "duration"

    def __init__(self, *, or_forever: bool = False) -> None:
        self._or_forever = or_forever

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        return FOREVER if self._or_forever and value == "forever" else parse_duration(value)


VALID_FOR = click.option(
    "--valid-for",
    "valid_seconds",
    type=Duration(or_forever=True),
    metavar="30d|forever",
    help="How long the head holds; by default as long as the one before it.",
)


FRESH = click.option(
    "--fresh", "age_seconds", type=Duration(), metavar="1h", help="Insist on a head signed so long ago at most."
)
