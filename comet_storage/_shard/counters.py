"""What a writer counts while it works; nothing of it in the append's fast path."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass
class WriterCounters:
    """Work of one writer since it claimed its shard, or the sum of several."""

    stored_bytes: int = 0
    """Bytes of the frames appended, as stored."""
    rotations: int = 0
    checkpoints: int = 0
    last_checkpoint_ns: int = 0
    index_errors: int = 0
    sync_failures: int = 0

    def add(self, other: WriterCounters) -> None:
        """Add another writer's work; the latest checkpoint is the later one."""
        latest = max(self.last_checkpoint_ns, other.last_checkpoint_ns)
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))
        self.last_checkpoint_ns = latest
