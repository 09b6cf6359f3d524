"""The shipper keeps a log within its limits when the applications that write it are gone."""

from __future__ import annotations

import pytest

from comet_storage import Client, CometConfig, RetentionConfig, StorageConfig
from demo.processes import HOST, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SHARD = "events:v1:shard:0000"


def test_the_shipper_deletes_what_is_too_old_by_the_rules_of_the_writer_that_is_gone(node) -> None:
    """It has no rules of its own, and forwards nothing of this stream; the collector cannot even be reached."""
    config = CometConfig(
        storage=StorageConfig(max_file_size=4096),
        retention=RetentionConfig(max_total_size=1 << 22, max_age=1.0, cleanup_interval=0.5, min_files_to_keep=0),
    )
    with Client(node.data, config) as client:
        for _ in range(10):
            client.append(SHARD, [bytes(3000)])
    shipper = node.start_shipper(endpoint=f"http://{HOST}:1")
    with Client(node.data, read_only=True) as client:
        wait_until(lambda: client.len(SHARD) == 0, "the deletion of what is too old", shipper)
        assert {reason for each in client.evictions(SHARD) for reason in each.reasons} == {"age"}
        assert sum(each.count for each in client.evictions(SHARD)) == 10
    assert shipper.stop() == 0
