"""Settings that all tests share: how hard properties are tried, and which real data there is.

`pytest` tries each property a few dozen times, the same cases every time. `pytest -m slow`
(`make test-slow`) runs the tests marked slow, and every other property once more with
thousands of new cases.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, is_hypothesis_test, settings

QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
settings.register_profile("quick", max_examples=40, deadline=None, derandomize=True, suppress_health_check=QUIET)
settings.register_profile(
    "slow", max_examples=2000, deadline=None, derandomize=False, print_blob=True, suppress_health_check=QUIET
)


def _is_slow(config: pytest.Config) -> bool:
    return "slow" in config.option.markexpr and "not slow" not in config.option.markexpr


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("slow" if _is_slow(config) else "quick")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In the slow set are all properties that do not say themselves how often they are tried."""
    if _is_slow(config):
        for item in items:
            test = getattr(item, "obj", None)
            if is_hypothesis_test(test) and not getattr(test, "has_own_effort", False):
                item.add_marker(pytest.mark.slow)


def debian_packages() -> Path | None:
    """The real data set that some tests use where it can be found."""
    path = _debian_packages_path()
    return path if path.exists() else None


def _debian_packages_path() -> Path:
    named = os.environ.get("RHIZOME_DEBIAN_PACKAGES")
    return Path(named) if named else Path(__file__).parents[2] / "shared/data/debian-packages.jsonl.gz"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say plainly which real data is missing."""
    if debian_packages() is None:
        terminalreporter.write_line(
            f"real data not found: {_debian_packages_path()} (RHIZOME_DEBIAN_PACKAGES names another place); "
            "queries were tried on the bundled emoji and on made posts instead"
        )
