"""Sizes and durations as people write them: ``512 MiB``, ``4h``."""

from __future__ import annotations

import math
import re
from fractions import Fraction

__all__ = ["DURATION_UNITS", "SIZE_UNITS", "parse_duration", "parse_size"]

SIZE_UNITS = {
    "": 1,
    "b": 1,
    **{f"{prefix}b": 1000**power for power, prefix in enumerate("kmgt", 1)},
    **{f"{prefix}ib": 1024**power for power, prefix in enumerate("kmgt", 1)},
}
"""Bytes of each unit, in lower case; case does not matter."""

DURATION_UNITS = {
    "": 1.0,
    "ns": 1e-9,
    "us": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86_400.0,
    "w": 604_800.0,
}
"""Seconds of each unit."""

_NUMBER = r"([0-9]+(?:\.[0-9]+)?)"
_SIZE = re.compile(rf"{_NUMBER}\s*([a-z]*)", re.IGNORECASE | re.ASCII)
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?(?:e-?[0-9]+)?)\s*([a-z]*)\s*", re.ASCII)


def parse_size(text: str) -> int:
    """Bytes, from text such as ``512 MiB``, ``1.5GB`` or ``1048576``.

    Raises:
        ValueError: the text is no size.
    """
    match = _SIZE.fullmatch(text.strip())
    unit = SIZE_UNITS.get(match[2].lower()) if match is not None else None
    if match is None or unit is None:
        raise ValueError("must be a number of bytes, or text such as '512 MiB'")
    return int(Fraction(match[1]) * unit)


def parse_duration(text: str) -> float:
    """Seconds, from text such as ``4h``, ``1h30m``, ``250ms``, ``7d`` or ``90``; several parts add up.

    Raises:
        ValueError: the text is no duration.
    """
    total, at, text = 0.0, 0, text.strip()
    while at < len(text):
        match = _DURATION.match(text, at)
        # A number without a unit is seconds, and stands alone.
        if match is None or match[2] not in DURATION_UNITS or (not match[2] and len(match[0]) < len(text)):
            break
        total += float(match[1]) * DURATION_UNITS[match[2]]
        at = match.end()
    if not text or at < len(text) or not math.isfinite(total):
        raise ValueError("must be a number of seconds, or text such as '4h', '1h30m' or '250ms'")
    return total
