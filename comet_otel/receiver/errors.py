"""Why a request is refused before it reaches the log.

ReceiverError
└── UndecodableError    the body is not the message that its content type says
"""

from __future__ import annotations

__all__ = ["ReceiverError", "UndecodableError"]


class ReceiverError(Exception):
    """Base of the errors that this package raises on purpose."""


class UndecodableError(ReceiverError):
    """The body is not the message that its content type says. Sending the same bytes again cannot help.

    The message says what is wrong and where; it is sent to the client, and carries nothing of other requests.
    """
