"""What becomes of a request's body before it is stored: decompressed, transcoded, checked, and split if need be."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from comet_otel.receiver.allowance import Allowance
from comet_otel.receiver.config import WORKING_COPIES
from comet_otel.receiver.decompression import decompress
from comet_otel.receiver.duplicates import Duplicates
from comet_otel.receiver.errors import OverloadedError, TooLargeError, UndecodableError
from comet_otel.receiver.json_transcoder import transcode
from comet_otel.receiver.wellformed import check
from comet_otel.streams import Signal
from comet_otel.wire import Field, MalformedError, split_request, walk
from comet_otel.wire.fields import LENGTH_DELIMITED
from comet_otel.wire.levels import LEVELS

__all__ = ["Entries", "Preparer", "Request"]

FIELDS_MAX: Final = 1_000_000
"""Resources, scopes and items that a request may have which has to be split; each becomes an object on the way."""

JSON_COPIES: Final = 3
"""Times a JSON body counts more than others: the tree that it is read into is many times its size."""


@dataclass(slots=True)
class Request:
    """A request as it came.

    Attributes:
        signal: of its method or path.
        body: the bytes.
        encoding: the content encoding of the body, one of `decompression.ACCEPTED_ENCODINGS`.
        is_json: whether the body is JSON and not protobuf.
        request_id: what the shipper calls it; empty for others.
        charged: bytes in flight that are counted for it, and given back when it is answered.
    """

    signal: Signal
    body: bytes
    encoding: str = "identity"
    is_json: bool = False
    request_id: str = ""
    charged: int = 0


@dataclass(slots=True)
class Entries:
    """What is to be stored of a request.

    Attributes:
        payloads: the entries; none for an empty request and for a duplicate.
        rejected_items: spans, log records or data points that cannot be stored.
        message: why.
        key: what to remember the request by once it is stored.
        duplicate: whether it is stored already.
    """

    payloads: list[bytes] = field(default_factory=list)
    rejected_items: int = 0
    message: str = ""
    key: tuple[Signal, str, bytes] | None = None
    duplicate: bool = False


class Preparer:
    """Turns requests into entries. Used by several threads at once.

    Args:
        max_body_bytes: most that a body may have without its encoding.
        entry_bytes_max: size from which on a request is split, so that the shipper can send what is stored.
        item_bytes_max: size of an entry that the log refuses.
        memory: the bytes in flight.
        duplicates: what was stored before.
    """

    def __init__(
        self,
        *,
        max_body_bytes: int,
        entry_bytes_max: int,
        item_bytes_max: int,
        memory: Allowance,
        duplicates: Duplicates,
    ) -> None:
        self._max_body_bytes = max_body_bytes
        self._entry_bytes_max = entry_bytes_max
        self._item_bytes_max = item_bytes_max
        self._memory = memory
        self._duplicates = duplicates

    def prepare(self, request: Request) -> Entries:
        """Return the entries of a request.

        Raises:
            ReceiverError: it is none, too large, or there is no memory for it now.
        """
        key = self._duplicates.key(request.signal, request.request_id, request.body)
        if key is not None and self._duplicates.is_known(key):
            return Entries(duplicate=True)
        allow = functools.partial(self._charge, request)
        payload = decompress(request.body, request.encoding, self._max_body_bytes, allow)
        if request.is_json:
            allow(JSON_COPIES * len(payload))
            payload = transcode(request.signal, payload)
        else:
            check(request.signal, payload)
        if not payload:
            return Entries(key=key)
        if len(payload) <= self._entry_bytes_max:
            return Entries([payload], key=key)
        return self._split(request.signal, payload, key)

    def _charge(self, request: Request, size: int) -> None:
        """Count more bytes for a request, at most all there are: a large one is then worked on alone."""
        size = min(size * WORKING_COPIES, self._memory.most - request.charged)
        if not self._memory.try_take(size):
            raise OverloadedError("too many bytes in flight at once; try again later")
        request.charged += size

    def _split(self, signal: Signal, payload: bytes, key: tuple[Signal, str, bytes] | None) -> Entries:
        try:
            self._check_count(signal, payload)
            parts = split_request(payload, signal, self._entry_bytes_max)
        except MalformedError as error:
            raise UndecodableError(f"the body is no request: {error}") from None
        found = Entries(key=key)
        for part in parts:
            # What cannot be cut is stored all the same, where the log takes it: some receivers take it too.
            if len(part.payload) <= self._item_bytes_max:
                found.payloads.append(part.payload)
            else:
                found.rejected_items += part.items
                found.message = f"an item has {len(part.payload)} bytes; the log takes {self._item_bytes_max} at most"
        if not found.payloads:
            raise TooLargeError(found.message)
        return found

    @staticmethod
    def _check_count(signal: Signal, payload: bytes) -> None:
        fields = _fields(payload, 0, len(payload), LEVELS[signal])
        if next(itertools.islice(fields, FIELDS_MAX, None), None) is not None:
            raise TooLargeError(f"a request of this size may have at most {FIELDS_MAX} resources, scopes and items")


def _fields(data: bytes, start: int, end: int, levels: tuple[frozenset[int], ...]) -> Iterator[Field]:
    """Yield the resources, scopes and items of a request, and the fields beside them."""
    for field_ in walk(data, start, end):
        yield field_
        if levels and field_.number in levels[0] and field_.wire_type == LENGTH_DELIMITED:
            yield from _fields(data, field_.value_start, field_.end, levels[1:])
