"""Settings that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import HealthCheck, settings

QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
settings.register_profile("quick", max_examples=40, deadline=None, derandomize=True, suppress_health_check=QUIET)
settings.register_profile("slow", max_examples=2000, deadline=None, suppress_health_check=QUIET)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def debian_packages() -> Path | None:
    """The real data set that some tests use where it can be found."""
    named = os.environ.get("RHIZOME_DEBIAN_PACKAGES")
    beside = Path(__file__).parents[2] / "shared/data/debian-packages.jsonl.gz"
    path = Path(named) if named else beside
    return path if path.exists() else None


def pytest_report_header() -> str:
    """Say plainly which real data is missing."""
    if debian_packages() is None:
        return "real data: debian-packages.jsonl.gz not found (RHIZOME_DEBIAN_PACKAGES); using bundled and made records"
    return "real data: debian-packages.jsonl.gz"
