"""Puts entries together into requests, without looking into them.

An entry is a serialized ``Export*ServiceRequest``, whose only field is repeated: joining the bytes of two of them gives
the request with the items of both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from comet_storage import MessageID, StreamMessage


@dataclass(frozen=True)
class Request:
    """One request to a collector.

    Attributes:
        body: the serialized request.
        ids: the entries in it, to be acknowledged once it is delivered.
    """

    body: bytes
    ids: tuple[MessageID, ...]


def requests(messages: Iterable[StreamMessage], max_request_bytes: int) -> Iterator[Request]:
    """Join entries, in order, into requests of at most `max_request_bytes`.

    An entry that is larger by itself is a request of its own: whether it is too large is the collector's to say.
    """
    parts: list[bytes] = []
    ids: list[MessageID] = []
    size = 0
    for message in messages:
        if parts and size + len(message.data) > max_request_bytes:
            yield Request(b"".join(parts), tuple(ids))
            parts, ids, size = [], [], 0
        parts.append(message.data)
        ids.append(message.id)
        size += len(message.data)
    if parts:
        yield Request(b"".join(parts), tuple(ids))
