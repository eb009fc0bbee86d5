"""One line for each figure: ours, the other's, the ratio, and what is asked for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def say(what: str, ours: str, theirs: str = "", ratio: str = "", wanted: str = "") -> None:
    print(f"{what:<46}{ours:>22}{theirs:>16}{ratio:>15}   {wanted}".rstrip(), flush=True)


def seconds_of(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
