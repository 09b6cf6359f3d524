"""The two ways in which the shipper gives up at its start, each with its exit code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class ShipperError(Exception):
    """Something that the person at the command line must mend; the message says what and where."""

    exit_code: ClassVar[int]


class ConfigurationError(ShipperError):
    """Settings are wrong; the message names each flag, variable or key, its value and the rule.

    Attributes:
        problems: a sentence for each.
    """

    exit_code = 2

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("; ".join(self.problems))


class EnvironmentFailedError(ShipperError):
    """The machine refuses: the data directory, a permission, a missing package."""

    exit_code = 3
