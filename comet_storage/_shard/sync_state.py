"""What is known of a shard's syncs: which failed, and whether the log refuses appends because of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from comet_storage.errors import CometError


@dataclass
class SyncState:
    """Failed syncs of one shard in this process.

    A segment whose sync failed is stored again in a new file (:mod:`._shard.replacement`). Where that fails as well,
    ``when_full`` decides: appends go on without being durable, or are refused until it works.
    """

    failures: int = 0
    """Syncs that failed since the shard was claimed."""
    last_error: OSError | None = None
    unsynced: set[int] = field(default_factory=set)
    """First entries of the segments that the disk does not have and has refused; a later sync would not write them."""
    refusal: CometError | None = None
    """Raised by every append, when set."""

    def count(self, error: OSError) -> None:
        """A sync failed, and nothing that was acknowledged depends on it."""
        self.failures += 1
        self.last_error = error

    def note(self, error: OSError, first_entry: int) -> None:
        """A sync of a segment failed that holds acknowledged entries."""
        self.count(error)
        self.unsynced.add(first_entry)

    def stored_again(self, first_entry: int) -> None:
        """The segment is on the disk after all, in a new file, or needs to be no more."""
        self.unsynced.discard(first_entry)
        if not self.unsynced:
            self.refusal = None
