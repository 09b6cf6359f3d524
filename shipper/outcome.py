"""What can come of sending a request, as a type, and the one table that says which answer means what.

The table follows the OTLP specification on what may be sent again. It differs in what the rest means: the specification
lets a client drop what must not be retried, but this client has the data on disk. An answer that speaks of the
destination (wrong path, wrong credentials) is a `Pause`, one that speaks of the request is a `Reject`; both keep the
data.
"""

from __future__ import annotations

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
    """

    code: str
    message: str
    after: float | None = None


@dataclass(frozen=True)
class Pause:
    """The data is fine but this destination, as configured, is not: credentials, path, certificate, host name."""

    code: str
    message: str


@dataclass(frozen=True)
class Reject:
    """The collector says that it will never take this request as it is."""

    code: str
    message: str


Failure: TypeAlias = Retry | Pause | Reject
Outcome: TypeAlias = Delivered | Partial | Failure


class Kind(Enum):
    """Which kind of failure an answer is."""

    RETRY = "retry"
    PAUSE = "pause"
    REJECT = "reject"
    RETRY_IF_ASKED = "retry, if the answer says when"


GRPC_KINDS: Final = {
    "CANCELLED": Kind.RETRY,
    "DEADLINE_EXCEEDED": Kind.RETRY,
    "ABORTED": Kind.RETRY,
    "OUT_OF_RANGE": Kind.RETRY,
    "UNAVAILABLE": Kind.RETRY,
    "DATA_LOSS": Kind.RETRY,
    "RESOURCE_EXHAUSTED": Kind.RETRY_IF_ASKED,  # else it is the answer to a message that is too large
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
    401: Kind.PAUSE,
    403: Kind.PAUSE,
    404: Kind.PAUSE,
    405: Kind.PAUSE,
    407: Kind.PAUSE,
    501: Kind.PAUSE,
    505: Kind.PAUSE,
}
"""Kind of the HTTP statuses that are neither success nor, as all others of 400 and above, a `Reject`."""

_REDIRECT: Final = range(300, 400)


def from_grpc(code: str, message: str, retry_after: float | None) -> Failure:
    """Return what a gRPC status other than OK means.

    Args:
        code: the status code's name.
        message: the status message.
        retry_after: seconds from the answer's RetryInfo, if it had one.
    """
    return _failure(GRPC_KINDS.get(code, Kind.REJECT), code, message, retry_after)


def from_http(status: int, message: str, retry_after: float | None) -> Failure:
    """Return what an HTTP status other than 200 means.

    Args:
        status: the status code.
        message: the answer's text.
        retry_after: seconds from the answer's Retry-After header, if it had one.
    """
    if status in _REDIRECT or status < min(_REDIRECT):
        # Following a redirect would send telemetry, perhaps with credentials, where nobody configured it to go.
        return Pause(f"HTTP {status}", message or "the answer of something that is not an OTLP endpoint")
    return _failure(HTTP_KINDS.get(status, Kind.REJECT), f"HTTP {status}", message, retry_after)


def _failure(kind: Kind, code: str, message: str, retry_after: float | None) -> Failure:
    if kind is Kind.RETRY or (kind is Kind.RETRY_IF_ASKED and retry_after is not None):
        return Retry(code, message, retry_after)
    if kind is Kind.PAUSE:
        return Pause(code, message)
    return Reject(code, message)
