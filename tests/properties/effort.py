"""How hard a property is tried: a fixed hundred of cases with every run, thousands of new ones in the slow set."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis.strategies import SearchStrategy

Check = Callable[..., None]


def quickly(check: Check, *strategies: SearchStrategy[Any], cases: int = 100) -> Check:
    """A test of the same cases every time."""
    return _with_effort(settings(max_examples=cases, derandomize=True)(given(*strategies)(_copied(check))))


def thoroughly(check: Check, *strategies: SearchStrategy[Any], cases: int = 2000) -> Check:
    """A slow test of other cases every time; a failure is printed, shrunk, to be kept as an example."""
    test = settings(max_examples=cases, derandomize=False, print_blob=True)(given(*strategies)(_copied(check)))
    return pytest.mark.slow(_with_effort(test))


def _with_effort(test: Check) -> Check:
    """Note that this is tried as often as it says, in whatever set."""
    vars(test)["has_own_effort"] = True
    return test


def _copied(check: Check) -> Check:
    """The same function a second time: hypothesis keeps its settings on the one it is given."""
    assert isinstance(check, FunctionType)
    return FunctionType(check.__code__, check.__globals__, check.__name__)
