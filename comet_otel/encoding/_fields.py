"""Comparison of the SDK's classes with what the direct encoder knows of them."""

from __future__ import annotations

import dataclasses
from typing import Any


def check_fields(value: Any, *names: str) -> None:
    """Check that an object of the SDK has exactly the fields that are encoded.

    A field that is missing could not be read; one that is new would be left out of the telemetry in silence.

    Raises:
        TypeError: it has others.
    """
    check_names(type(value), vars(value), *names)


def check_dataclass(data_type: type, *names: str) -> None:
    """Check that a data class of the SDK has exactly the fields that are encoded.

    Raises:
        TypeError: it has others.
    """
    check_names(data_type, [field.name for field in dataclasses.fields(data_type)], *names)


def check_names(owner: type, found: Any, *names: str) -> None:
    """Check that the names found in a class of the SDK are the expected ones.

    Raises:
        TypeError: they are not.
    """
    if set(found) != set(names):
        raise TypeError(f"{owner.__name__} has the fields {', '.join(sorted(found))}")
