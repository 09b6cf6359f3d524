"""What holds for every test: Hypothesis profiles, a clean environment, visible skips, the flag for golden files."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

# A time limit per example would measure the disk and not the code, so no profile has one; for the same reason an
# example that is slow to build is no error.
_COMMON = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
# The same examples every time, so that a change is what turns a test red. `make property` searches on.
settings.register_profile("dev", _COMMON, max_examples=50, stateful_step_count=30, derandomize=True)
settings.register_profile("deep", _COMMON, max_examples=5_000, stateful_step_count=80, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))

# Set by the Makefile for the long campaign, by hand to repeat one state of it, and to name a folder of OTLP/JSON files;
# every other COMET_ variable would configure the code under test.
_OWN_VARIABLES = frozenset({"COMET_CRASH_FULL", "COMET_CRASH_STATE", "COMET_OTLP_JSON_SAMPLES"})


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the one flag with which the golden files may be written again."""
    parser.addoption(
        "--regenerate-golden",
        action="store_true",
        help="write the golden files of the current format version instead of comparing them (see CONTRIBUTING.md)",
    )


def pytest_configure() -> None:
    """Take away the configuration that the caller's environment would slip into exporters and shipper."""
    for name in list(os.environ):
        if name.startswith(("COMET_", "OTEL_")) and name not in _OWN_VARIABLES:
            del os.environ[name]


@pytest.fixture(scope="session")
def regenerate_golden(request: pytest.FixtureRequest) -> bool:
    """Whether the golden files are to be written instead of compared."""
    return bool(request.config.getoption("--regenerate-golden"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs the super-user, and say so, where the tests run as somebody else."""
    if os.geteuid() == 0:
        return
    skip = pytest.mark.skip(reason="needs root")
    for item in items:
        if item.get_closest_marker("root") is not None:
            item.add_marker(skip)
