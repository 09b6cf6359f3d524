"""On a full volume an append is a typed error, nothing is half-written, and it goes on when there is room again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from comet_storage import Client, CometConfig, CompressionConfig, LogFullError, RetentionConfig
from comet_storage._log.directory import stores_through_maps
from comet_storage._os.door import Door
from tests.support.filesystems import KINDS, fill, free_bytes, mounted_image, remove_ballast

SHARD = "events:v1:shard:0000"

pytestmark = [pytest.mark.integration, pytest.mark.root, pytest.mark.slow]


@pytest.fixture(params=KINDS)
def volume(request, tmp_path) -> Iterator[Path]:
    """A small filesystem of each kind."""
    with mounted_image(tmp_path, request.param) as mount_point:
        yield mount_point


def run(scenario: str, directory: Path, write_method: str = "auto") -> None:
    """Run a scenario in a process of its own; a fatal signal shows as a negative exit status."""
    child = subprocess.run(
        [
            *(sys.executable, "-X", "faulthandler", "-m", "tests.integration.storage.full_disk_child"),
            *(scenario, str(directory), write_method),
        ],
        check=False,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
        timeout=120,
    )
    assert (child.returncode, child.stderr) == (0, "")


def append_until_full(client: Client, reason: str) -> int:
    """Append until that is refused for the reason given, and return how often it was not."""
    for stored in range(1000):
        try:
            client.append(SHARD, [bytes(64 * 1024)])
        except LogFullError as error:
            if reason not in str(error):
                raise
            return stored
    return pytest.fail("never full")


def test_maps_are_used_only_where_a_store_to_them_cannot_fail(volume) -> None:
    """`auto` means maps on ext4 and xfs and pwrite on btrfs, where rewriting a page needs a new block."""
    assert stores_through_maps(Door(), str(volume), "auto") == (volume.name in {"ext4", "xfs"})


def test_appends_until_the_volume_is_full_lose_nothing_and_go_on(volume) -> None:
    """Every append is stored whole or refused with LogFullError, readers go on, and freed room is used again."""
    run("filled_up", volume)


def test_a_volume_without_a_byte_left_harms_neither_the_open_log_nor_its_reopening(volume) -> None:
    """Somebody else takes the last block: appends within what was preallocated work, others are refused."""
    run("no_byte_left", volume)


def test_no_store_goes_to_a_block_that_was_never_allocated(volume) -> None:
    """Sparse and shared copies, and a page that promises too much, end in errors and not in a fatal signal."""
    run("holes", volume)


def test_pwrite_works_on_a_full_volume_of_a_kind_that_has_maps_too(tmp_path) -> None:
    """`write_method="pwrite"` keeps the same promises on ext4."""
    with mounted_image(tmp_path, "ext4") as volume:
        run("filled_up", volume, "pwrite")


@pytest.mark.parametrize("volume", ["ext4", "xfs"], indirect=True)  # btrfs tells what is free only after a while
def test_the_free_space_floor_is_kept_and_says_so(volume) -> None:
    """Below `min_free_bytes` the log takes no new blocks, and what is stored stays readable."""
    floor = 8 << 20
    fill(volume, leave=floor + (4 << 20))
    limited = CometConfig(
        compression=CompressionConfig(codec="none"),
        retention=RetentionConfig(max_total_size=1 << 30, min_free_bytes=floor),
    )
    with Client(volume / "log", limited) as client:
        stored = append_until_full(client, "min_free_bytes")
        assert stored > 10
        assert free_bytes(volume) >= floor - 1024 * 1024
        assert client.len(SHARD) == stored
    remove_ballast(volume)
    with Client(volume / "log", limited) as client:
        client.append(SHARD, [bytes(64 * 1024)])
        assert client.len(SHARD) == stored + 1
