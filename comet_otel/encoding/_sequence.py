"""Batches that are sequences of items, each with its resource and scope: spans and log records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from comet_otel.encoding._batch import PART_BYTES_UNLIMITED, EncodedBatch
from comet_otel.encoding._tree import Tree, one_item

_ItemT = TypeVar("_ItemT")


class SequenceCodec(Generic[_ItemT]):
    """Encodes and counts sequences of items."""

    def __init__(self, message: Callable[[Any, EncodedBatch], bytes]) -> None:
        """Encode items by `message`, which returns the content of one or raises, and counts lost attributes."""
        self._message = message

    def count(self, batch: Sequence[_ItemT]) -> int:
        """Return how many items there are."""
        return len(batch)

    def encode(self, batch: Sequence[_ItemT], part_bytes_max: int = PART_BYTES_UNLIMITED) -> EncodedBatch:
        """Encode a batch; the parameters and the result are those of `encode_parts`."""
        tally = EncodedBatch()
        if len(batch) == 1:
            self._encode_one(batch[0], tally)
        else:
            tally.payloads = self._tree(batch, tally).payloads(part_bytes_max)
        return tally

    def _tree(self, batch: Sequence[Any], tally: EncodedBatch) -> Tree:
        message = self._message
        tree = Tree(tally)
        resource: Any = tree  # what no item has
        scope: Any = None
        add: Any = None
        for item in batch:
            attributes_before = tally.unencodable_attributes
            try:
                content = message(item, tally)
                own_resource, own_scope = item.resource, item.instrumentation_scope
                if own_resource is not resource or own_scope is not scope:
                    add = tree.place(own_resource, own_scope or None).add
                    resource, scope = own_resource, own_scope
                add(content)
            except Exception as error:  # noqa: BLE001 - a foreign object may raise anything when looked at
                tally.leave_out(1, error, attributes_before)
        return tree

    def _encode_one(self, item: Any, tally: EncodedBatch) -> None:
        try:
            content = self._message(item, tally)
            tally.payloads.append(one_item(item.resource, item.instrumentation_scope or None, content, tally))
        except Exception as error:  # noqa: BLE001 - a foreign object may raise anything when looked at
            tally.leave_out(1, error, 0)
