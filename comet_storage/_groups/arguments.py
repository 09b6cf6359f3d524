"""What callers give: checked before anything is done, and named in the error."""

from __future__ import annotations

from collections.abc import Iterable

from comet_storage.errors import InvalidArgumentError
from comet_storage.names import SHARD_ID_MAX


def whole_number(name: str, value: object) -> int:
    """The value if it is a whole number.

    Raises:
        InvalidArgumentError: it is something else.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidArgumentError(f"{name} is {value!r}: must be a whole number")
    return value


def shard_numbers(shards: Iterable[int]) -> tuple[int, ...]:
    """The shard numbers of a list.

    Raises:
        InvalidArgumentError: it is no list, or not one of shard numbers.
    """
    try:
        numbers = tuple(shards)
    except TypeError:
        raise InvalidArgumentError(f"shards is {shards!r}: must be a list of shard numbers, or None") from None
    for number in numbers:
        if not 0 <= whole_number("one of shards", number) <= SHARD_ID_MAX:
            raise InvalidArgumentError(f"one of shards is {number!r}: must be 0 to {SHARD_ID_MAX}")
    return numbers


def ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Numbers as sorted ranges ``[first, end)``; each counts once however often it is there."""
    found: list[tuple[int, int]] = []
    for number in sorted(set(numbers)):
        if found and number == found[-1][1]:
            found[-1] = (found[-1][0], number + 1)
        else:
            found.append((number, number + 1))
    return found
