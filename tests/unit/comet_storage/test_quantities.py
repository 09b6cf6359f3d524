"""Sizes and durations as people write them."""

from __future__ import annotations

import pytest

from comet_storage.quantities import parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1048576", 1 << 20),
        ("512 MiB", 512 << 20),
        ("1.5GB", 1_500_000_000),
        (" 2 kib ", 2048),
        ("7B", 7),
        ("3TiB", 3 << 40),
        ("9007199254740993", 9007199254740993),
        (f"{'9' * 400}.5 KiB", (10**400 - 1) * 1024 + 512),
    ],
)
def test_a_size_is_its_bytes(text, size) -> None:
    """Powers of 1000 and of 1024, in either case, exact."""
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "-1", "1 mile", "1,5 MB", "1 MiB 2", "0x10", "\u0661 MiB", "inf"])
def test_other_text_is_no_size(text) -> None:
    """Signs, other units and other digits are refused."""
    with pytest.raises(ValueError, match="must be a number of bytes"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("4h", 14_400.0),
        ("1h30m", 5400.0),
        ("250ms", 0.25),
        ("90", 90.0),
        ("0.5", 0.5),
        (" 7 d ", 604_800.0),
        ("2w", 1_209_600.0),
        ("1h 30min", 5400.0),
        ("1e-05s", 1e-05),
        ("100us", 1e-4),
        ("5ns", 5e-9),
    ],
)
def test_a_duration_is_its_seconds(text, duration) -> None:
    """Parts add up; a number alone is seconds."""
    assert parse_duration(text) == pytest.approx(duration)


@pytest.mark.parametrize("text", ["", "h", "-1s", "1y", "1h30", "30 1h", "1 hour", "nan", "1e999s", "4H"])
def test_other_text_is_no_duration(text) -> None:
    """Signs, other units and a number behind parts are refused."""
    with pytest.raises(ValueError, match="must be a number of seconds"):
        parse_duration(text)
