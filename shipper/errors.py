"""The two ways in which the shipper gives up at its start, each with its exit code."""

from __future__ import annotations

from typing import ClassVar


class ShipperError(Exception):
    """Something that the person at the command line must mend; the message says what and where."""

    exit_code: ClassVar[int]


class ConfigurationError(ShipperError):
    """An option or variable is wrong; the message names option, value and rule."""

    exit_code = 2


class EnvironmentFailedError(ShipperError):
    """The machine refuses: the data directory, a permission, a missing package."""

    exit_code = 3
