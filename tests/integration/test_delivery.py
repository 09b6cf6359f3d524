"""From exporter to collector, through outages and kills: everything that an exporter acknowledged arrives."""

from __future__ import annotations

import shutil

import pytest

from demo.processes import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.mark.parametrize("compression", ["gzip", "none"])
@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_everything_exported_arrives_once(node, protocol, compression) -> None:
    """Over both protocols, with and without compression."""
    node.start_collector()
    shipper = node.start_shipper("--compression", compression, protocol=protocol)
    application = node.start_application(rounds=300)
    wait_until(lambda: not application.alive(), "end of the application")
    node.wait_until_drained(shipper)
    assert shipper.stop() == 0
    node.assert_nothing_lost()
    assert {report.signal: report.exported for report in node.reports()}["traces"] == 300
    expected = ("grpc", None) if protocol == "grpc" else ("http", "gzip" if compression == "gzip" else "")
    assert node.encodings() == {expected}


def test_a_shipper_started_first_waits_for_the_log_and_finds_it(node) -> None:
    """The order in which a machine starts its services does not matter."""
    node.start_collector()
    shipper = node.start_shipper()
    wait_until(lambda: "waiting for a log" in shipper.last_words(), "line about waiting", shipper)
    assert not node.data.exists()
    application = node.start_application(rounds=50)
    wait_until(lambda: not application.alive(), "end of the application")
    node.wait_until_drained(shipper)
    assert shipper.stop() == 0
    node.assert_nothing_lost()


def test_nothing_is_lost_when_the_collector_is_killed_again_and_again(node) -> None:
    """What was taken but not answered for is sent again: duplicates are possible, losses are not."""
    application = node.start_application()
    shipper = node.start_shipper("--max-request-bytes", "4096")
    for _ in range(4):
        collector = node.start_collector()
        node.wait_until_received(5, shipper)
        collector.kill()
    collector = node.start_collector()
    assert application.stop() == 0
    node.wait_until_drained(shipper)
    assert shipper.stop() == 0
    node.assert_nothing_lost(duplicates=True)
    # One line about each outage's beginning and end, for each signal, and not one per try.
    assert shipper.output.read_text().count("cannot deliver") <= 5 * 3 * 2


def test_nothing_is_lost_when_the_shipper_is_killed_again_and_again(node) -> None:
    """Only the requests in flight at the kills are sent twice."""
    application = node.start_application()
    node.start_collector("--work-seconds", "0.02")
    kills = 5
    for _ in range(kills):
        shipper = node.start_shipper("--max-request-bytes", "4096")
        node.wait_until_received(4, shipper)
        shipper.kill()
    shipper = node.start_shipper()
    assert application.stop() == 0
    node.wait_until_drained(shipper)
    assert shipper.stop() == 0
    node.assert_nothing_lost(duplicates=True)
    for report in node.reports():
        # A request of 4 KiB holds fewer items than this.
        assert report.duplicates <= kills * 100


def test_nothing_acknowledged_is_lost_when_applications_are_killed(node) -> None:
    """What `export` returned success for is in the log, whatever happens to the process next."""
    node.start_collector()
    shipper = node.start_shipper()
    for _ in range(3):
        application = node.start_application()
        node.wait_until_received(6, shipper)
        application.kill()
    node.wait_until_drained(shipper)
    assert shipper.stop() == 0
    node.assert_nothing_lost()


def test_once_delivers_the_backlog_and_exits(node) -> None:
    """With exit code 0, after which nothing is pending."""
    application = node.start_application(rounds=100)
    wait_until(lambda: not application.alive(), "end of the application")
    node.start_collector()
    shipper = node.start_shipper("--once")
    wait_until(lambda: not shipper.alive(), "end of the shipper")
    assert shipper.stop() == 0
    node.assert_nothing_lost()


def test_a_log_that_is_removed_and_made_anew_is_forwarded_again(node) -> None:
    """Neither applications nor the shipper have to be started again; only what was in the removed log is lost."""
    node.start_collector()
    application = node.start_application()
    shipper = node.start_shipper()
    node.wait_until_received(3, shipper)
    # Moved away first, because a directory that is being written to cannot be removed in one step.
    shutil.rmtree(node.data.rename(node.data.with_name("away")))
    wait_until(lambda: "removed or replaced" in shipper.last_words(), "line about the removal", shipper)
    node.wait_until_received(10, shipper)
    assert application.stop() == 0
    node.wait_until_drained(shipper)
    assert shipper.stop() == 0
