"""Lengths of time as people write and read them: 90s, 15min, 1h, 30d."""

from __future__ import annotations

import re

from rhizome_index.errors import UsageError
from rhizome_index.limits import DURATION_SECONDS_MAX

_UNITS = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DURATION = re.compile(r"([0-9]{1,12}) ?(s|min|m|h|d|w)")


def parse_duration(text: str) -> int:
    """So many seconds, at least one. Raises UsageError."""
    found = _DURATION.fullmatch(text.strip())
    seconds = int(found[1]) * _UNITS[found[2]] if found else 0
    if not 0 < seconds <= DURATION_SECONDS_MAX:
        raise UsageError(f"not a length of time: {text[:40]!r}", hint="write it as 90s, 15min, 1h, 30d or 2w")
    return seconds


def say_duration(seconds: float) -> str:
    """Seconds in the greatest unit of which there are two or more."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
