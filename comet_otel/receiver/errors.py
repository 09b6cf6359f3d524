"""Why a request is refused, and what its sender is told: one tree, and in it the one table of codes.

    ReceiverError
    ├── UndecodableError            the body is not the message that its headers say          400  INVALID_ARGUMENT
    ├── UnauthenticatedError        no bearer token, or an unknown one                        401  UNAUTHENTICATED
    ├── UnknownPathError            nothing is there                                          404  UNIMPLEMENTED
    ├── MethodNotAllowedError       something is there, for another method                    405  UNIMPLEMENTED
    ├── TooSlowError                the body did not come in time                             408  DEADLINE_EXCEEDED
    ├── TooLargeError               the body is over the limit, before or after decompression 413  RESOURCE_EXHAUSTED
    ├── UnsupportedMediaTypeError   a content type or encoding that is not taken              415  UNIMPLEMENTED
    ├── HeadersTooLargeError        the headers are over the limit                            431  RESOURCE_EXHAUSTED
    ├── InternalError               a mistake of this program                                 500  INTERNAL
    ├── OverloadedError             too much at once                                          503  UNAVAILABLE
    └── NotStoredError              the log did not take it                                   503  UNAVAILABLE

Those with a `retry_after` are worth another try with the same bytes; the others never are. A slow body is the
exception: it has none, and both protocols' clients try again by themselves when it is the time that ran out.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "HeadersTooLargeError",
    "InternalError",
    "MethodNotAllowedError",
    "NotStoredError",
    "OverloadedError",
    "ReceiverError",
    "TooLargeError",
    "TooSlowError",
    "UnauthenticatedError",
    "UndecodableError",
    "UnknownPathError",
    "UnsupportedMediaTypeError",
]


class ReceiverError(Exception):
    """Base of the errors that this package raises on purpose.

    The message is sent to the client: it says what is wrong and where, and carries nothing of other requests.

    Attributes:
        reason: the word for it in metrics.
        http_status: the status of an HTTP answer.
        grpc_code: number of the gRPC status code, also in the ``google.rpc.Status`` of an HTTP answer.
        retry_after: seconds after which the same request may succeed; None: it will not.
    """

    reason: ClassVar[str] = "internal"
    http_status: ClassVar[int] = 500
    grpc_code: ClassVar[int] = 13
    retry_after: ClassVar[float | None] = None

    def detached(self) -> ReceiverError:
        """Return the error without the frames that it came through: they hold the body, as long as they are held."""
        self.__cause__ = self.__context__ = None
        return self.with_traceback(None)


class UndecodableError(ReceiverError):
    """The body is not the message that its headers say. Sending the same bytes again cannot help."""

    reason = "undecodable"
    http_status = 400
    grpc_code = 3


class UnauthenticatedError(ReceiverError):
    """The request carries no bearer token, or one that is not in the file of tokens."""

    reason = "unauthenticated"
    http_status = 401
    grpc_code = 16


class UnknownPathError(ReceiverError):
    """Nothing is at this path."""

    reason = "unknown_path"
    http_status = 404
    grpc_code = 12


class MethodNotAllowedError(ReceiverError):
    """The path is known, and takes another method.

    Attributes:
        allowed: the methods that it takes, as the header ``Allow`` lists them.
    """

    reason = "method_not_allowed"
    http_status = 405
    grpc_code = 12

    def __init__(self, message: str, allowed: str) -> None:
        super().__init__(message)
        self.allowed = allowed


class TooSlowError(ReceiverError):
    """The body, or the next piece of it, did not come in time."""

    reason = "too_slow"
    http_status = 408
    grpc_code = 4


class TooLargeError(ReceiverError):
    """The body is over the limit, before or after decompression, or has more parts than are taken apart."""

    reason = "too_large"
    http_status = 413
    grpc_code = 8


class UnsupportedMediaTypeError(ReceiverError):
    """The content type or the content encoding is none that is taken; the message lists those that are."""

    reason = "unsupported_media_type"
    http_status = 415
    grpc_code = 12


class HeadersTooLargeError(ReceiverError):
    """The headers of the request are over the limit."""

    reason = "headers_too_large"
    http_status = 431
    grpc_code = 8


class InternalError(ReceiverError):
    """Something happened that must not. It is in the log lines of this program, with its traceback."""


class OverloadedError(ReceiverError):
    """More requests, or more bytes, at once than this receiver takes."""

    reason = "overloaded"
    http_status = 503
    grpc_code = 14
    retry_after = 1.0


class NotStoredError(ReceiverError):
    """The log did not take the request: no room, a lock that stays taken, a disk that refuses."""

    reason = "not_stored"
    http_status = 503
    grpc_code = 14
    retry_after = 5.0
