"""Single values of OTLP/JSON: what a text or number of JSON means for a field of a protobuf type.

The rules are protobuf's JSON mapping with OTLP's deviations: numbers may come as numbers or as text, enums only as
integers, ids in hexadecimal digits. What does not fit is refused with a reason, and never changed to fit; the one
exception are lone surrogates, which JavaScript leaves when it cuts a text inside a character and which UTF-8 cannot
carry: each becomes U+FFFD, as it does in every other encoding that JavaScript offers.
"""

from __future__ import annotations

import base64
import math
import re
from collections import Counter
from decimal import Decimal
from typing import Any, Final

SHOWN_CHARACTERS_MAX: Final = 40
"""How much of a wrong value a message quotes."""

SHOWN_BITS_MAX: Final = 128
"""Numbers beyond this are not written out: digits cost time that grows with their square."""

NUMBER_CHARACTERS_MAX: Final = 400
"""Longest text that is looked at as a number; the longest exact double of everyday formatters has some 330."""

INTEGER_DIGITS_MAX: Final = 20
"""Digits of the largest 64-bit integer."""

_NUMBER: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_SPECIAL_DOUBLES: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_FROM_URL_ALPHABET: Final = str.maketrans("-_", "+/")


class RefusedError(Exception):
    """A value that OTLP/JSON does not allow where it stands.

    It collects the way to that place, innermost step first, while it passes the messages around it.

    Attributes:
        reason: what is wrong.
        steps: names of fields and indexes of elements.
    """

    def __init__(self, reason: str, *steps: str | int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.steps: list[str | int] = list(steps)

    @property
    def path(self) -> str:
        """The place, such as ``resourceSpans[0].scopeSpans[0].spans[7].traceId``."""
        return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in reversed(self.steps))[1:]


class RepeatedKeys(dict[str, Any]):
    """An object of JSON that has a key more than once; not an exact `dict`, so that no reader takes it for one."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.key = Counter(key for key, _ in pairs).most_common(1)[0][0]


def wrong_type(value: object, expected: str) -> RefusedError:
    """Return the refusal of a value of a wrong type."""
    if isinstance(value, RepeatedKeys):
        return RefusedError(f"the key {shown(value.key)} stands in one object more than once")
    return RefusedError(f"{shown(value)} is not {expected}")


def shown(value: object) -> str:
    """Return a value as a message quotes it: as JSON has it, and short."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "an array"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int) and value.bit_length() > SHOWN_BITS_MAX:
        return "a number of too many digits"
    text = ascii(value) if isinstance(value, str) else str(value)
    return text if len(text) <= SHOWN_CHARACTERS_MAX else f"{text[:SHOWN_CHARACTERS_MAX]}..."


def integer(value: object) -> int:
    """Return the integer that a JSON number or text stands for, of any size that a message may need.

    Raises:
        RefusedError: it is no integer, or one of many more digits than any field can hold.
    """
    if type(value) is int:
        return value
    if type(value) is str:
        if len(value) <= INTEGER_DIGITS_MAX and value.isdigit() and value.isascii():
            return int(value)
        if len(value) <= NUMBER_CHARACTERS_MAX and _NUMBER.fullmatch(value):
            number = Decimal(value)
            # An exponent can be beyond anything that fits into memory, so the size is looked at before the digits.
            if not number:
                return 0
            if number.adjusted() < INTEGER_DIGITS_MAX and number == number.to_integral_value():
                return int(number)
    elif type(value) is float and value.is_integer():
        return int(value)
    raise wrong_type(value, "an integer")


def enum_number(value: object) -> int:
    """Return the number of an enum's value.

    Raises:
        RefusedError: it is not an integer; OTLP/JSON has no names of enum values, unlike protobuf's JSON mapping.
    """
    if type(value) is int:
        return value
    if type(value) is float and value.is_integer():
        return int(value)
    raise wrong_type(value, "the integer of an enum's value, the only form that OTLP/JSON has for one")


def double(value: object) -> float:
    """Return the double that a JSON number or text stands for.

    Raises:
        RefusedError: it is no number, or beyond the range of a double.
    """
    if type(value) is float:
        number = value
    elif type(value) is int:
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
    elif type(value) is str:
        if value in _SPECIAL_DOUBLES:
            return _SPECIAL_DOUBLES[value]
        if len(value) > NUMBER_CHARACTERS_MAX or not _NUMBER.fullmatch(value):
            raise wrong_type(value, "a number")
        number = float(value)
    else:
        raise wrong_type(value, "a number")
    if math.isinf(number):
        raise RefusedError(f"{shown(value)} is beyond the range of a double")
    return number


def boolean(value: object) -> bool:
    """Return true or false.

    Raises:
        RefusedError: it is something else.
    """
    if type(value) is bool:
        return value
    raise wrong_type(value, "true or false")


def utf8(value: object) -> bytes:
    """Return the bytes of a text.

    Raises:
        RefusedError: it is no text.
    """
    if type(value) is not str:
        raise wrong_type(value, "a string")
    try:
        return value.encode()
    except UnicodeEncodeError:
        return _LONE_SURROGATE.sub("\ufffd", value).encode()


def from_base64(value: object) -> bytes:
    """Return the bytes that a text in either alphabet of base64 stands for, padded or not.

    Raises:
        RefusedError: it is no such text.
    """
    if type(value) is str:
        digits = value.rstrip("=").translate(_FROM_URL_ALPHABET)
        try:
            return base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)
        except ValueError:
            pass
    raise wrong_type(value, "bytes in base64")


def identifier(value: object, size: int) -> bytes:
    """Return the bytes of a trace's or span's id; nothing for an empty text.

    Raises:
        RefusedError: it is not that many bytes in hexadecimal digits of either case.
    """
    if type(value) is str and (len(value) == 2 * size or not value):
        try:
            found = bytes.fromhex(value)
        except ValueError:
            found = b" "
        if len(found) in {size, 0}:  # spaces between the digits are dropped by fromhex
            return found
    raise wrong_type(value, f"an id of {2 * size} hexadecimal digits")
