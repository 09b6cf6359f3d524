"""Reads the few fields of a collector's answers that matter, straight from their bytes.

Two messages are read: ``Export*ServiceResponse``, whose partial success has the same field numbers for every signal,
and ``google.rpc.Status``, which carries an error's text and perhaps a ``RetryInfo``. Answers come from machines that
may be anything, so whatever cannot be read counts as not said.
"""

from __future__ import annotations

import email.utils
import time
from typing import TYPE_CHECKING, Final

from shipper.outcome import Delivered, Outcome, Partial

if TYPE_CHECKING:
    from collections.abc import Iterator

MESSAGE_LENGTH_MAX: Final = 300
"""Characters of a collector's text that are kept for log lines."""

_RESPONSE_PARTIAL_SUCCESS: Final = 1
_PARTIAL_REJECTED_ITEMS: Final = 1
_PARTIAL_MESSAGE: Final = 2
_STATUS_MESSAGE: Final = 2
_STATUS_DETAILS: Final = 3
_ANY_TYPE_URL: Final = 1
_ANY_VALUE: Final = 2
_RETRY_INFO_DELAY: Final = 1
_DURATION_SECONDS: Final = 1
_DURATION_NANOSECONDS: Final = 2

_VARINT: Final = 0
_FIXED64: Final = 1
_LENGTH_DELIMITED: Final = 2
_FIXED32: Final = 5
_FIXED_SIZES: Final = {_FIXED64: 8, _FIXED32: 4}
_VARINT_BYTES_MAX: Final = 10
_DIGITS_MAX: Final = 19


def success_outcome(response: bytes) -> Outcome:
    """Return the outcome of a request that was answered with success and this ``Export*ServiceResponse``."""
    partial = _bytes_field(response, _RESPONSE_PARTIAL_SUCCESS)
    rejected, message = 0, ""
    for number, value in _fields(partial):
        if number == _PARTIAL_REJECTED_ITEMS and isinstance(value, int):
            rejected = value if value < 2**63 else 0
        elif number == _PARTIAL_MESSAGE and isinstance(value, bytes):
            message = shortened(value)
    return Partial(rejected, message) if rejected or message else Delivered()


def json_success_outcome(response: object) -> Outcome:
    """Return the same for an answer in JSON, from a server that knows no other form."""
    partial = response.get("partialSuccess") if isinstance(response, dict) else None
    if not isinstance(partial, dict):
        return Delivered()
    message = partial.get("errorMessage")
    counts = [value for name, value in partial.items() if isinstance(name, str) and name.startswith("rejected")]
    count = str(counts[0]) if counts else "0"
    rejected = int(count) if count.isascii() and count.isdecimal() and len(count) < _DIGITS_MAX else 0
    text = shortened(message) if isinstance(message, str) else ""
    return Partial(rejected, text) if rejected or text else Delivered()


def status_message(status: bytes) -> str:
    """Return the text of a serialized ``google.rpc.Status``, or nothing."""
    return shortened(_bytes_field(status, _STATUS_MESSAGE))


def retry_delay(status: bytes) -> float | None:
    """Return the seconds that the ``RetryInfo`` in a serialized ``google.rpc.Status`` asks to wait."""
    for number, detail in _fields(status):
        if number != _STATUS_DETAILS or not isinstance(detail, bytes):
            continue
        if not _bytes_field(detail, _ANY_TYPE_URL).endswith(b"/google.rpc.RetryInfo"):
            continue
        duration = dict(_fields(_bytes_field(_bytes_field(detail, _ANY_VALUE), _RETRY_INFO_DELAY)))
        seconds, nanoseconds = duration.get(_DURATION_SECONDS, 0), duration.get(_DURATION_NANOSECONDS, 0)
        if isinstance(seconds, int) and isinstance(nanoseconds, int) and seconds < 2**63 and nanoseconds < 10**9:
            return seconds + nanoseconds / 1e9
    return None


def retry_after_header(value: str | None, now: float | None = None) -> float | None:
    """Return the seconds that a Retry-After header asks to wait, given as seconds or as a date.

    Args:
        value: the header, if there was one.
        now: seconds since 1970, instead of the clock's.
    """
    if not value:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        date = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, date.timestamp() - (time.time() if now is None else now))


def shortened(text: bytes | str) -> str:
    """Return text from outside in a form fit for one log line."""
    decoded = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    line = " ".join("".join(c if c.isprintable() else " " for c in decoded[: 2 * MESSAGE_LENGTH_MAX]).split())
    return line if len(line) <= MESSAGE_LENGTH_MAX else line[: MESSAGE_LENGTH_MAX - 3] + "..."


def _bytes_field(message: bytes, wanted: int) -> bytes:
    for number, value in _fields(message):
        if number == wanted and isinstance(value, bytes):
            return value
    return b""


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of each field of a serialized message, up to the first that is malformed."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        number, wire_type = tag >> 3, tag & 7
        if position < 0 or number == 0:
            return
        if wire_type == _VARINT:
            value, position = _varint(message, position)
            if position < 0:
                return
            yield number, value
            continue
        if wire_type == _LENGTH_DELIMITED:
            size, position = _varint(message, position)
        elif wire_type in _FIXED_SIZES:
            size = _FIXED_SIZES[wire_type]
        else:
            return
        if position < 0 or position + size > len(message):
            return
        yield number, message[position : position + size]
        position += size


def _varint(message: bytes, position: int) -> tuple[int, int]:
    """Return the number at `position` and the position behind it, which is -1 if there is no whole number."""
    value = 0
    for index, byte in enumerate(message[position : position + _VARINT_BYTES_MAX]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:  # noqa: PLR2004 - the bit that says whether the number goes on
            return value & (2**64 - 1), position + index + 1
    return 0, -1
