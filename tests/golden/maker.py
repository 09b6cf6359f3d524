"""Makes the golden log: the same bytes every time, because all that varies comes through a door that does not."""

from __future__ import annotations

import json
from pathlib import Path

from comet_storage import Client, ClosedError, CometConfig, CompressionConfig, Consumer, RetentionConfig, StorageConfig
from comet_storage._os.door import Door, FileStatus
from comet_storage._os.locks import HOLDER_BYTES
from comet_storage._shard.flush import flush_writer

SHARD_CLOSED = "golden:v1:shard:0000"
SHARD_CRASHED = "golden:v1:shard:0001"
SHARD_COMPRESSED = "golden:v1:shard:0000"
GROUP = "readers"

SEGMENT_BYTES = 4096
BLOCK_BYTES = 4096
CLOCK_START_NS = 1_700_000_000_000_000_000
CLOCK_STEP_NS = 1_000_000_001
FIRST_BOOT = bytes(range(16))
SECOND_BOOT = bytes(range(16, 32))

CLOSED_BATCHES = [
    [b"single entry"],
    [b"first of a batch", b"", b"third of a batch", b"\x00\xff" * 5],
    [b""],
    [b"", b""],
    [b"r" * 2500],
    # Does not fit behind the others: a rotation, after which the first segment gets its footer.
    [b"s" * 1200],
    # As long as the limit of a segment allows only by making the segment larger.
    [b"t" * 5000],
    [b"the last one"],
]
COMPRESSED_BATCHES = [
    [b"below the least size"],
    [b"one entry of many bytes " * 20],
    [b"entry %d of a batch" % number for number in range(40)],
    # Shrinks by too little, so it is stored as it is.
    [bytes(range(256))],
    [b"", b"z" * 6000, b""],
]
CRASHED_BATCHES = [[b"before the power cut %d" % number] for number in range(3)]
RECOVERED_BATCHES = [[b"after the power cut"], [b"and a batch", b"of two"]]


class GoldenDoor(Door):
    """The real files, but with a clock, random bytes, boot, inodes and block counts that are always the same."""

    def __init__(self, boot: bytes, seed: int) -> None:
        self._boot = boot
        self._now = CLOCK_START_NS + seed * 1_000_000 * CLOCK_STEP_NS
        self._since_boot = 100 * CLOCK_STEP_NS
        self._random = seed << 16

    def wall_clock_ns(self) -> int:  # type: ignore[override]  # the door has it as an attribute, for speed
        """Return a time that goes on by one step per question."""
        self._now += CLOCK_STEP_NS
        return self._now

    def boot_time_ns(self) -> int:
        """Return a time that goes on by one step per question."""
        self._since_boot += CLOCK_STEP_NS
        return self._since_boot

    def free_bytes(self, path: str) -> int:
        """Return more than the log may have."""
        return 1 << 40

    def random_bytes(self, count: int) -> bytes:
        """Return bytes that differ from call to call and never from run to run."""
        self._random += 1
        return (self._random.to_bytes(4, "big") * count)[:count]

    def boot_id(self) -> bytes:
        """Return the boot that the test says."""
        return self._boot

    def status(self, path: str) -> FileStatus:
        """Return the status with what the filesystem chose taken out."""
        return _plain(super().status(path))

    def descriptor_status(self, fd: int) -> FileStatus:
        """Return the status with what the filesystem chose taken out."""
        return _plain(super().descriptor_status(fd))

    def list_blocks(self, path: str) -> tuple[int, list[str]]:
        """Return the blocks that the sizes need, whatever the filesystem took."""
        found = [(name, self.status(f"{path}/{name}")) for name in self.list_directory(path)]
        return sum(status.allocated for _, status in found), [name for name, status in found if status.is_directory]


def _plain(status: FileStatus) -> FileStatus:
    size = BLOCK_BYTES if status.is_directory else -(-status.size // BLOCK_BYTES) * BLOCK_BYTES
    return status._replace(device=0x4444, inode=0x1111, allocated=size)


class _UnhurriedClient(Client):
    """A client without a background thread, which would ask for times and random bytes when it likes."""

    def _start_flusher(self) -> None:
        """Start nothing."""


def make_log(directory: Path, write_method: str) -> None:
    """Make the log, as every format detail needs it: closed cleanly, and left by a power cut and a crash."""
    config = CometConfig(
        compression=CompressionConfig(codec="none"),
        storage=StorageConfig(max_file_size=SEGMENT_BYTES, write_method=write_method, sync_interval=300.0),
        retention=RetentionConfig(max_total_size=1 << 20),
    )
    before = _UnhurriedClient(directory, config, _door=GoldenDoor(FIRST_BOOT, 1))
    for batch in CLOSED_BATCHES:
        before.append(SHARD_CLOSED, batch)
    before.append(SHARD_CRASHED, CRASHED_BATCHES[0])
    before.sync()
    for batch in CRASHED_BATCHES[1:]:
        before.append(SHARD_CRASHED, batch)
    before._writers.pop(SHARD_CRASHED).release(ClosedError("dropped as by a crash"))
    before.close()

    after = _UnhurriedClient(directory, config, _door=GoldenDoor(SECOND_BOOT, 2))
    for batch in RECOVERED_BATCHES:
        after.append(SHARD_CRASHED, batch)
    with Consumer(after, GROUP, stream="golden:v1") as consumer:
        messages = {shard: consumer.read([shard], 100) for shard in (0, 1)}
        ids = {(m.id.shard_id, m.id.entry_number): m.id for found in messages.values() for m in found}
        consumer.ack(ids[0, 0], ids[0, 1], ids[0, 3], ids[0, 4])
        consumer.reject(ids[0, 6], reason="a golden one")
        consumer.ack(*(m.id for m in messages[1] if m.id.entry_number < 3))
    flush_writer(after._writers[SHARD_CRASHED])
    after._writers.pop(SHARD_CRASHED).release(ClosedError("dropped as by a crash"))
    after.close()


def make_compressed_log(directory: Path) -> None:
    """Make a log with frames of codec 1; what stands in them is the installed zstd's."""
    config = CometConfig(
        compression=CompressionConfig(min_compress_size=200),
        storage=StorageConfig(max_file_size=SEGMENT_BYTES, sync_interval=300.0),
        retention=RetentionConfig(max_total_size=1 << 20),
    )
    with Client(directory, config, _door=GoldenDoor(FIRST_BOOT, 3)) as client:
        for batch in COMPRESSED_BATCHES:
            client.append(SHARD_COMPRESSED, batch)


def normalized(directory: Path) -> dict[str, bytes]:
    """Return the files by name, with the holder of each lock masked: host, pid and command are the machine's.

    Nothing else is masked: inode and device come through the door.
    """
    files = {}
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            files[path.relative_to(directory).as_posix()] = _masked(data) if path.suffix == ".lock" else data
    return files


def _masked(data: bytes) -> bytes:
    text = data[:HOLDER_BYTES].strip(b" \0")
    if not text:
        return data
    holder = json.loads(text) | {"host": "golden-host", "pid": 4711, "command": "golden"}
    return json.dumps(holder).encode().ljust(HOLDER_BYTES, b" ") + data[HOLDER_BYTES:]


def write_files(directory: Path, files: dict[str, bytes]) -> None:
    """Write files below a directory that holds none yet."""
    for name, data in files.items():
        path = directory / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_bytes(data)
