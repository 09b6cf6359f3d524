"""What can come of sending a request, as a type, and the one table that says which answer means what.

The table follows the OTLP specification on what may be sent again. It differs in what the rest means: the specification
lets a client drop what must not be retried, but this client has the data on disk. An answer that speaks of the
destination (wrong path, wrong credentials) is a `Pause`, one that speaks of the size is a `Split`, one that speaks of
the request is a `Reject`. Only a `Reject` of a single entry, and a `Split` of a single item, ever take data out of the
log, and they take it to the dead letters.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias


@dataclass(frozen=True)
class Delivered:
    """The collector took the request."""


@dataclass(frozen=True)
class Partial:
    """The collector took the request but not all of its items; those must not be sent again.

    Attributes:
        rejected_items: spans, log records or data points that it did not take; 0 with a message is only a warning.
        message: what it said about them.
    """

    rejected_items: int
    message: str


@dataclass(frozen=True)
class Retry:
    """The collector cannot take the request now.

    Attributes:
        code: the status or the kind of failure, short and the same every time.
        message: details for people.
        after: seconds that the collector asked to wait, if it did.
        throttled: it asks for less, and not only for later.
        cut_off: the connection broke while the request was being sent. So end also those who refuse something large
            without a word.
    """

    code: str
    message: str
    after: float | None = None
    throttled: bool = False
    cut_off: bool = False


@dataclass(frozen=True)
class Pause:
    """The data is fine but this destination, as configured, is not: credentials, path, certificate, host name."""

    code: str
    message: str


@dataclass(frozen=True)
class Split:
    """The request is too large."""

    code: str
    message: str


@dataclass(frozen=True)
class Reject:
    """The collector says that it will never take this request as it is."""

    code: str
    message: str


Failure: TypeAlias = Retry | Pause | Split | Reject
Outcome: TypeAlias = Delivered | Partial | Failure


class Kind(Enum):
    """Which kind of failure an answer is; the value is its name in the configuration."""

    RETRY = "retry"
    PAUSE = "pause"
    SPLIT = "split"
    REJECT = "reject"


GRPC_KINDS: Final = {
    "CANCELLED": Kind.RETRY,
    "DEADLINE_EXCEEDED": Kind.RETRY,
    "ABORTED": Kind.RETRY,
    "OUT_OF_RANGE": Kind.RETRY,
    "UNAVAILABLE": Kind.RETRY,
    "DATA_LOSS": Kind.RETRY,
    # A quota that is used up, and nobody says for how long: with RetryInfo it is RETRY, about the size it is SPLIT.
    "RESOURCE_EXHAUSTED": Kind.PAUSE,
    "UNAUTHENTICATED": Kind.PAUSE,
    "PERMISSION_DENIED": Kind.PAUSE,
    "UNIMPLEMENTED": Kind.PAUSE,
    "NOT_FOUND": Kind.PAUSE,
    "UNKNOWN": Kind.REJECT,
    "INVALID_ARGUMENT": Kind.REJECT,
    "ALREADY_EXISTS": Kind.REJECT,
    "FAILED_PRECONDITION": Kind.REJECT,
    "INTERNAL": Kind.REJECT,
}
"""Kind of every gRPC status but OK, by name."""

HTTP_KINDS: Final = {
    429: Kind.RETRY,
    502: Kind.RETRY,
    503: Kind.RETRY,
    504: Kind.RETRY,
    408: Kind.RETRY,  # not in the specification's list; it says only that the request took too long to arrive
    413: Kind.SPLIT,
    401: Kind.PAUSE,
    402: Kind.PAUSE,
    403: Kind.PAUSE,
    404: Kind.PAUSE,
    405: Kind.PAUSE,
    407: Kind.PAUSE,
    410: Kind.PAUSE,
    421: Kind.PAUSE,
    426: Kind.PAUSE,
    451: Kind.PAUSE,
    501: Kind.PAUSE,
    505: Kind.PAUSE,
    511: Kind.PAUSE,
}
"""Kind of the HTTP statuses that are neither success nor, as all others of 400 and above, a `Reject`."""

_ERRORS: Final = 400
_THROTTLING: Final = frozenset({"RESOURCE_EXHAUSTED", "HTTP 429"})
_SIZE_SIGNS: Final = ("larger than max", "message too large", "message size", "exceeds the limit", "exceeds maximum")
"""Texts by which a RESOURCE_EXHAUSTED shows that it is about the size of the request."""


def from_grpc(code: str, message: str, retry_after: float | None) -> Failure:
    """Return what a gRPC status other than OK means.

    Args:
        code: the status code's name.
        message: the status message.
        retry_after: seconds from the answer's RetryInfo, if it had one.
    """
    kind = GRPC_KINDS.get(code, Kind.REJECT)
    if code == "RESOURCE_EXHAUSTED":
        if retry_after is not None:
            kind = Kind.RETRY
        elif "CLIENT:" in message:
            return Pause("answer too long", message)  # refused by this side, whatever became of the request
        elif any(sign in message.lower() for sign in _SIZE_SIGNS):
            kind = Kind.SPLIT
    return _failure(kind, code, message, retry_after)


def from_http(status: int, message: str, retry_after: float | None) -> Failure:
    """Return what an HTTP status other than 200 means.

    Args:
        status: the status code.
        message: the answer's text.
        retry_after: seconds from the answer's Retry-After header, if it had one.
    """
    code = f"HTTP {status}"
    if status < _ERRORS:
        # OTLP knows one success, 200; a portal that wants a login first knows many. Following a redirect would send
        # telemetry, perhaps with credentials, where nobody configured it to go.
        return Pause(code, message or "the answer of something that is not an OTLP endpoint")
    return _failure(HTTP_KINDS.get(status, Kind.REJECT), code, message, retry_after)


def overridden(outcome: Outcome, overrides: Iterable[tuple[str, str]]) -> Outcome:
    """Return what an outcome means to a destination that has its own view of some answers.

    Args:
        outcome: what the table says.
        overrides: pairs of a code (``HTTP 500``, ``INTERNAL``) and the name of a `Kind`.
    """
    if isinstance(outcome, Delivered | Partial):
        return outcome
    for code, kind in overrides:
        if code == outcome.code:
            return _failure(Kind(kind), outcome.code, outcome.message, getattr(outcome, "after", None))
    return outcome


def _failure(kind: Kind, code: str, message: str, retry_after: float | None) -> Failure:
    if kind is Kind.RETRY:
        return Retry(code, message, retry_after, throttled=code in _THROTTLING)
    if kind is Kind.PAUSE:
        return Pause(code, message)
    return Split(code, message) if kind is Kind.SPLIT else Reject(code, message)
