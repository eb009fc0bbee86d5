"""Sizes as people read them: 310 B, 1.5 kB, 44.0 MB, 10.0 GB."""

from __future__ import annotations


def say_size(count: int) -> str:
    """Bytes in the greatest decimal unit of which there is at least one."""
    if count < 1000:
        return f"{count} B"
    for unit, name in ((1000, "kB"), (1_000_000, "MB")):
        if count < 1000 * unit:
            return f"{count / unit:.1f} {name}"
    return f"{count / 1_000_000_000:.1f} GB"
