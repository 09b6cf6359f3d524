"""What encoding a batch is, whatever the signal and whoever does it."""

from __future__ import annotations

import dataclasses
from typing import Final, Protocol, TypeVar

PART_BYTES_UNLIMITED: Final = 2**63 - 1

_BatchT = TypeVar("_BatchT")
_BatchT_contra = TypeVar("_BatchT_contra", contravariant=True)


@dataclasses.dataclass(slots=True)
class EncodedBatch:
    """What became of one batch.

    Attributes:
        payloads: serialized requests, in order; several if the batch is larger than a part may be, none if it is empty
            or nothing of it could be encoded. Joined they are one valid request.
        unencodable_items: items left out because they cannot be encoded.
        unencodable_attributes: attributes left out of items that were encoded.
        first_error: what was wrong with the first item left out.
        first_attribute_error: what was wrong with the first attribute left out.
    """

    payloads: list[bytes] = dataclasses.field(default_factory=list)
    unencodable_items: int = 0
    unencodable_attributes: int = 0
    first_error: Exception | None = None
    first_attribute_error: Exception | None = None

    def leave_out(self, items: int, error: Exception, attributes_before: int) -> None:
        """Count items that cannot be encoded, and forget the attributes that they had already lost."""
        self.unencodable_items += items
        self.unencodable_attributes = attributes_before
        if self.first_error is None:
            self.first_error = error

    def leave_out_attribute(self, error: Exception) -> None:
        """Count an attribute that cannot be encoded."""
        self.unencodable_attributes += 1
        if self.first_attribute_error is None:
            self.first_attribute_error = error


class Codec(Protocol[_BatchT_contra]):
    """How the batches of one signal are encoded and counted."""

    def encode(self, batch: _BatchT_contra, part_bytes_max: int = PART_BYTES_UNLIMITED) -> EncodedBatch:
        """Return the serialized requests, and what had to be left out of them."""

    def count(self, batch: _BatchT_contra) -> int:
        """Return how many items (spans, log records, data points) are in the batch."""


def encode_parts(codec: Codec[_BatchT], batch: _BatchT, part_bytes_max: int = PART_BYTES_UNLIMITED) -> EncodedBatch:
    """Encode a batch in parts of limited size.

    Args:
        codec: the signal's codec.
        batch: what to encode; its items keep the order that they have in one request of all.
        part_bytes_max: no payload is larger, unless it is that of one item which alone is larger still; that one is to
            be refused or not by whoever stores it.
    """
    return codec.encode(batch, part_bytes_max)
