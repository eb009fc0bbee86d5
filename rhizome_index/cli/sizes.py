"""Numbers of bytes as options of commands: 500MB, 2GB, 1.5GiB."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import click

from rhizome_index.errors import UsageError
from rhizome_index.limits import QUOTA_BYTES_MAX, QUOTA_BYTES_MIN

_UNITS = {
    "b": 1,
    **{f"{letter}b": 1000**power for power, letter in enumerate("kmgt", 1)},
    **{f"{letter}ib": 1024**power for power, letter in enumerate("kmgt", 1)},
    **{letter: 1000**power for power, letter in enumerate("kmgt", 1)},
}
NO_QUOTA = -1


def parse_size(text: str) -> int:
    """Bytes of `2GB`, `1.5 GiB` or `500000000`. Raises UsageError."""
    found = re.fullmatch(r"([0-9]{1,18}(?:\.[0-9]{1,6})?) ?([kmgt]?i?b?)", text.strip().lower(), re.ASCII)
    unit = _UNITS.get(found[2] or "b") if found is not None else None
    if found is None or unit is None:
        raise UsageError(f"not a size: {text!r}", hint="write 500MB, 2GB or 1.5GiB")
    return int(Decimal(found[1]) * unit)


class _Quota(click.ParamType):  # type: ignore[type-arg]
    """A quota: bytes, or NO_QUOTA."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if type(value) is int:
            return value
        if value.strip().lower() == "none":
            return NO_QUOTA
        found = parse_size(value)
        if not QUOTA_BYTES_MIN <= found <= QUOTA_BYTES_MAX:
            raise UsageError(
                f"a quota of {value} is out of range", hint=f"from {QUOTA_BYTES_MIN:,} bytes to a petabyte; or: none"
            )
        return found


QUOTA = _Quota()
