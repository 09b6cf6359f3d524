"""What a section of settings is: typed fields, read from and written to JSON, with every wrong one named.

A field's annotation tells its kind. What is wrong with a value beyond its kind is said by the section's ``problems``.
"""

from __future__ import annotations

import functools
import math
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, dataclass, fields, replace
from datetime import timedelta
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from comet_storage.quantities import parse_duration, parse_size

_SectionT = TypeVar("_SectionT", bound="Section")

NANOSECONDS_FROM = 1e8
"""A plain number this large (three years) in the place of seconds was written in nanoseconds, as Go does."""


@dataclass(frozen=True)
class Kind:
    """One kind of value."""

    rule: str
    """What a value must be; follows "must be"."""
    fits: Callable[[Any], bool]
    read: Callable[[Any], Any] = lambda value: value
    """From JSON to what the field holds. May raise ValueError; what comes out is looked at by ``fits``."""
    write: Callable[[Any], Any] = lambda value: value


def _is_whole(value: object) -> bool:
    # More than 64 bits are not even worth a rule: they fit nowhere, floats included.
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63


def _is_number(value: object) -> bool:
    return _is_whole(value) or (isinstance(value, float) and math.isfinite(value))


def _read_size(value: Any) -> Any:
    return parse_size(value) if isinstance(value, str) else value


def _read_duration(value: Any) -> Any:
    if isinstance(value, str):
        return parse_duration(value)
    if _is_number(value) and value >= NANOSECONDS_FROM:
        raise ValueError("numbers are seconds; write nanoseconds as text, such as '4h'")
    return value


def _write_duration(value: float) -> float | str:
    return value if value < NANOSECONDS_FROM else f"{value!r}s"


def _read_milliseconds(value: Any) -> Any:
    if isinstance(value, str):
        return parse_duration(value)
    return value / 1000 if _is_number(value) else value


def _write_milliseconds(value: float) -> int | str:
    # Whole milliseconds as the original has them; anything else so that it is read back exactly.
    return int(value * 1000) if int(value * 1000) / 1000 == value else f"{value!r}s"


FLAG = Kind("true or false", lambda value: isinstance(value, bool))
WHOLE = Kind("a whole number", _is_whole)
TEXT = Kind("text", lambda value: isinstance(value, str))
NUMBER = Kind("a number", _is_number)
SIZE = Kind("a number of bytes, or in JSON text such as '512 MiB'", _is_whole, _read_size)
DURATION = Kind(
    "a number of seconds, a timedelta, or in JSON text such as '4h'", _is_number, _read_duration, _write_duration
)
MILLISECONDS = Kind(
    "a number of seconds, a timedelta, or in JSON milliseconds or text such as '2s'",
    _is_number,
    _read_milliseconds,
    _write_milliseconds,
)
COUNTS = Kind(
    "whole numbers by name",
    lambda value: isinstance(value, Mapping) and all(map(_is_whole, value.values())),
    write=dict,
)

Size = Annotated[int, SIZE]
"""Bytes."""
Duration = Annotated[float | timedelta, DURATION]
"""Seconds; a timedelta is turned into them."""
Milliseconds = Annotated[float | timedelta, MILLISECONDS]
"""As :data:`Duration`, but in JSON a number is milliseconds."""

_KINDS: dict[Any, Kind] = {bool: FLAG, int: WHOLE, str: TEXT, float: NUMBER}


@dataclass(frozen=True, kw_only=True)
class Section:
    """Base of the dataclasses that hold settings."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, timedelta):
                # So that two spellings of one configuration are equal.
                object.__setattr__(self, field.name, value.total_seconds())

    def problems(self) -> Iterator[str]:
        """Yield a sentence for every broken rule; every field has a value of its kind."""
        yield from ()


def json_name(field: Field[Any]) -> str:
    """Key of a field in JSON."""
    return str(field.metadata.get("json", field.name))


def kinds(section: Any) -> dict[str, tuple[Kind, bool]]:
    """Kind of each field of a section, and whether it may be None."""
    return _kinds(section)


@functools.cache
def _kinds(section: Any) -> dict[str, tuple[Kind, bool]]:
    hints = get_type_hints(section, include_extras=True)
    return {field.name: _kind(hints[field.name]) for field in fields(section)}


def _kind(hint: Any) -> tuple[Kind, bool]:
    if get_origin(hint) is Annotated:
        return hint.__metadata__[0], False
    if get_origin(hint) in {Union, types.UnionType}:
        members = get_args(hint)
        optional = type(None) in members
        if timedelta in members:
            return DURATION, optional
        (inner,) = (member for member in members if member is not type(None))
        return _kind(inner)[0], optional
    if get_origin(hint) in {dict, Mapping}:
        return COUNTS, False
    return _KINDS[hint], False


def section_problems(name: str, section: Section) -> Iterator[str]:
    """Yield a sentence for each field of a wrong kind and each broken rule of a section."""
    wrong = {}
    kinds_by_name = kinds(type(section))
    for field in fields(section):
        kind, optional = kinds_by_name[field.name]
        value = getattr(section, field.name)
        if not (kind.fits(value) or (optional and value is None)):
            wrong[field.name] = default_of(field)
            yield f"{name}.{field.name} is {value!r}: must be {kind.rule}{', or None' if optional else ''}"
    # The other fields' rules are looked at all the same.
    yield from replace(section, **wrong).problems() if wrong else section.problems()


def default_of(field: Field[Any]) -> Any:
    """What a field holds unless something else is given."""
    return field.default_factory() if callable(field.default_factory) else field.default


def write_section(section: Section) -> dict[str, Any]:
    """A section as JSON has it."""
    found = {}
    kinds_by_name = kinds(type(section))
    for field in fields(section):
        value = getattr(section, field.name)
        found[json_name(field)] = None if value is None else kinds_by_name[field.name][0].write(value)
    return found


def read_section(section: type[_SectionT], name: str, values: object, problems: list[str]) -> _SectionT:
    """A section from JSON; what is wrong goes to ``problems``, and its default takes its place."""
    if not isinstance(values, dict):
        problems.append(f"{name} is {values!r}: must be an object")
        return section()
    by_key = {json_name(field): field for field in fields(section)}
    given: dict[str, Any] = {}
    kinds_by_name = kinds(section)
    for key, value in values.items():
        if key not in by_key:
            problems.append(f"{name}.{key} is unknown: the keys of {name} are {', '.join(by_key)}")
            continue
        kind, optional = kinds_by_name[by_key[key].name]
        if optional and value is None:
            given[by_key[key].name] = None
            continue
        try:
            read = kind.read(value)
            if not kind.fits(read):
                raise ValueError(f"must be {kind.rule}{', or null' if optional else ''}")  # noqa: TRY301 - one way to tell
        except ValueError as error:
            problems.append(f"{name}.{key} is {value!r}: {error}")
        else:
            given[by_key[key].name] = read
    return section(**given)
