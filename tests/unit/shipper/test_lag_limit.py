"""Up to where retention waits for a destination."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator

import pytest

from comet_otel.streams import LOGS, TRACES, Signal
from comet_storage import Client, CometConfig, Consumer, LogFullError, RetentionConfig, StorageConfig
from comet_storage.config import SMALL_FILES_BYTES
from shipper.endpoint import parse_endpoint
from shipper.lag_limit import LagLimit
from shipper.settings import DestinationConfig, SignalConfig

SEGMENT = 4096
ENTRY = random.Random(1).randbytes(1000)
"""Not to be compressed."""
SHARD = f"{TRACES}:shard:0000"


def destination(**limits) -> DestinationConfig:
    """Return a destination with a limit."""
    signal = SignalConfig(signal=Signal.TRACES, endpoint=parse_endpoint("http://collector:4317"))
    return DestinationConfig(name="central", group="shipper-central", signals=(signal,), **limits)


@pytest.fixture
def log(tmp_path) -> Iterator[Client]:
    """Return a log that refuses new entries rather than deleting what somebody wants, with a dead and a live group."""
    config = CometConfig(
        storage=StorageConfig(max_file_size=SEGMENT),
        retention=RetentionConfig(
            max_total_size=SMALL_FILES_BYTES + 40 * SEGMENT, when_full="reject_new", min_files_to_keep=1
        ),
    )
    with Client(tmp_path / "log", config) as client:
        client.register_group(TRACES, "shipper-central")
        yield client


def protected(log: Client) -> bool:
    """Tell whether retention waits for the destination."""
    return log.is_group_protected(TRACES, "shipper-central")


def fill_until_full(log: Client, limit: LagLimit) -> None:
    """Append until the log refuses."""
    for _ in range(1000):
        try:
            log.append(SHARD, [ENTRY])
        except LogFullError:
            return
        limit.apply([TRACES])
    pytest.fail("the log was to be full by now")


def test_a_destination_without_a_limit_is_waited_for_for_ever(log) -> None:
    """A full log refuses new entries rather than leaving it behind."""
    limit = LagLimit(log, destination())
    fill_until_full(log, limit)
    assert protected(log)
    assert log.accounting(TRACES, "shipper-central").evicted == 0


def test_beyond_its_limit_in_bytes_a_dead_destination_is_left_behind_and_counted(log, caplog) -> None:
    """Applications write on, a destination that keeps up loses nothing, and the dead one's loss adds up."""
    caplog.set_level(logging.INFO)
    limit = LagLimit(log, destination(max_lag_bytes=20 * SEGMENT))
    with Consumer(log, "alive", stream=TRACES) as alive:
        for _ in range(300):
            log.append(SHARD, [ENTRY])
            limit.apply([TRACES])
            alive.ack(*(message.id for message in alive.read()))
        lagging, up_to_date = log.accounting(TRACES, "shipper-central"), log.accounting(TRACES, "alive")
        assert (up_to_date.delivered, up_to_date.evicted) == (300, 0)
    assert lagging.evicted > 0
    assert lagging.evicted + lagging.pending == lagging.total == 300
    lines = [record.message for record in caplog.records if "retention does not wait" in record.message]
    assert len(lines) == 1, "one line per change"
    assert "max_lag_bytes" in lines[0]


def test_a_destination_that_comes_back_is_protected_again(log, caplog) -> None:
    """As soon as it is well below its limit; nothing was thrown away that retention did not need."""
    caplog.set_level(logging.INFO)
    limit = LagLimit(log, destination(max_lag_bytes=2 * SEGMENT))
    log.append(SHARD, [random.Random(number).randbytes(1000) for number in range(20)])
    limit.apply([TRACES])
    assert not protected(log)
    with Consumer(log, "shipper-central", stream=TRACES) as consumer:
        messages = consumer.read()
        assert len(messages) == 20
        consumer.ack(*(message.id for message in messages))
    limit.apply([TRACES])
    assert protected(log)
    assert log.accounting(TRACES, "shipper-central").evicted == 0
    assert "within its lag limit again" in caplog.text


def test_the_age_of_what_waits_is_a_limit_too(log) -> None:
    """Of the oldest entry that the destination has still to get."""
    now = [0.0]
    limit = LagLimit(log, destination(max_lag_age=60.0), clock=lambda: now[0])
    log.append(SHARD, [ENTRY])
    (message,) = log.scan(SHARD)
    now[0] = message.timestamp / 1e9 + 59
    limit.apply([TRACES])
    assert protected(log)
    now[0] += 2
    limit.apply([TRACES])
    assert not protected(log)


def test_a_limit_that_is_taken_away_gives_the_protection_back(log) -> None:
    """Also by another process than the one that took it."""
    log.append(SHARD, [random.Random(number).randbytes(1000) for number in range(20)])
    LagLimit(log, destination(max_lag_bytes=1024)).apply([TRACES])
    assert not protected(log)
    LagLimit(log, destination()).apply([TRACES, LOGS])
    assert protected(log)
