"""What waits in a log, how old it is, how fast it goes, what was ever lost: the answer of ``comet-shipper status``.

Places and losses are read from the log, whether a shipper runs or not; what only a running shipper knows is asked of
it. Reads only; neither writers nor a running shipper notice.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from comet_otel.streams import ROUTES, Signal
from comet_otel.wire import count_items
from comet_storage import Client, CometError
from shipper import data_directory
from shipper.errors import EnvironmentFailedError
from shipper.status_socket import ask_shippers

DEAD_LETTER_STREAM: Final = "deadletter:v1"
NOT_RUNNING: Final = "no shipper"
SAMPLE_ENTRIES_MAX: Final = 1000
"""Entries that are looked into to tell how many items wait; with more waiting, their average stands for the rest."""

SAMPLE_BYTES_MAX: Final = 8 * 1024 * 1024
_STATES_BY_NEWS: Final = ("paused", "retrying", "delivering", "starting", "idle", "stopped", "standby")
"""Where several shippers serve one group: the state that is shown for it is the first of these."""


@dataclass(frozen=True)
class GroupStatus:
    """One consumer group's place in one stream, and how its delivery goes.

    Attributes:
        signal: the signal's name; empty where a stream is none of the standard ones and no shipper forwards it.
        stream: the stream.
        group: the group; None where no shipper has ever read the stream, so that everything in it waits.
        destination: the destination's name; None if no running shipper serves the group.
        endpoint: where it is sent to; None likewise.
        state: what the shipper does with it, or ``no shipper``.
        reason: why it is in that state.
        since: since when, seconds since 1970; None if no shipper runs.
        pending: entries that the group has still to get.
        pending_items: spans, log records or data points in them; None if they cannot be counted.
        pending_items_exact: they were counted; otherwise a sample of the entries stands for all.
        pending_bytes: bytes of them on disk, to the nearest frame.
        oldest_age_seconds: how long ago the oldest of them was written; None if nothing waits.
        protected: retention spares what is pending; false where the lag is over the destination's limit.
        bytes_per_second: delivered now, before compression.
        entries_per_second: delivered now.
        seconds_to_empty: until nothing is pending, at the present rates; None if that is never, or not known.
        last_success: when a request was last delivered, seconds since 1970; None if none was.
        last_error: the last failure's code and message; empty if there was none.
        delivered: entries delivered.
        rejected: entries that went to the dead letters.
        skipped: entries jumped over by an explicit reset.
        evicted: entries that retention deleted before they were delivered.
        corrupt: entries that were damaged on disk.
        lost: entries that a power cut took.
        rejected_items: items that the collector declined within requests that it took, since the shipper started.
        dead_lettered_items: items that went to the dead letters since the shipper started.
        duplicates_possible: requests sent again although they may have arrived, since the shipper started.
        shippers: processes that serve the group.
    """

    signal: str
    stream: str
    group: str | None
    destination: str | None
    endpoint: str | None
    state: str
    reason: str
    since: float | None
    pending: int
    pending_items: int | None
    pending_items_exact: bool
    pending_bytes: int
    oldest_age_seconds: float | None
    protected: bool
    bytes_per_second: float
    entries_per_second: float
    seconds_to_empty: float | None
    last_success: float | None
    last_error: str
    delivered: int
    rejected: int
    skipped: int
    evicted: int
    corrupt: int
    lost: int
    rejected_items: int
    dead_lettered_items: int
    duplicates_possible: int
    shippers: tuple[int, ...]


@dataclass(frozen=True)
class LogStatus:
    """The state of one log.

    Attributes:
        data_dir: its directory.
        bytes_on_disk: bytes of the blocks of all its files.
        dead_letters: entries that the dead letters hold.
        shippers: processes that forward it, each with its version and since when, and with what is wrong with its file
            of settings, if that could not be taken when it was last read again.
        groups: every group of every stream that holds telemetry.
    """

    data_dir: str
    bytes_on_disk: int
    dead_letters: int
    shippers: tuple[dict[str, Any], ...]
    groups: tuple[GroupStatus, ...]


def read_status(data_dir: Path) -> LogStatus:
    """Read the state of the log in a directory.

    Raises:
        EnvironmentFailedError: there is no log, or it cannot be read.
    """
    if data_directory.find_log(data_dir) is None:
        raise EnvironmentFailedError(f"there is no log in {data_dir}; has the application written to it yet?")
    running = ask_shippers(data_dir)
    try:
        with Client(data_dir, read_only=True) as client:
            return LogStatus(
                str(data_dir),
                client.allocated_bytes(),
                client.len(DEAD_LETTER_STREAM) if DEAD_LETTER_STREAM in client.streams() else 0,
                tuple(_shipper(each) for each in running),
                tuple(_groups(client, running)),
            )
    except CometError as error:
        raise EnvironmentFailedError(f"cannot read the log in {data_dir}: {error}") from error


def to_json(status: LogStatus) -> str:
    """Return the status for programs; ages and durations in seconds, times since 1970, sizes in bytes."""
    return json.dumps(dataclasses.asdict(status), indent=2)


def _shipper(observation: Mapping[str, Any]) -> dict[str, Any]:
    names = ("pid", "version", "started", "config_file", "configuration_error")
    return {name: observation.get(name) for name in names}


def _groups(client: Client, running: list[dict[str, Any]]) -> list[GroupStatus]:
    """Return the groups, standard streams first, in the order in which OpenTelemetry names its signals."""
    reports = [{**report, "pid": each.get("pid")} for each in running for report in each.get("pipelines", ())]
    standard = {route.stream: route.signal.value for route in ROUTES}
    existing = client.streams()
    found = []
    for stream in (*standard, *(each for each in existing if each not in standard and each != DEAD_LETTER_STREAM)):
        if stream not in existing:
            continue
        groups: list[str | None] = [*client.groups(stream)]
        if not groups and stream in standard:
            groups = [None]
        for group in groups:
            serving = [report for report in reports if report["group"] == group and report["state"]["stream"] == stream]
            signal = standard.get(stream) or (serving[0]["state"]["signal"] if serving else "")
            found.append(_group_status(client, signal, stream, group, serving))
    return found


def _group_status(
    client: Client, signal: str, stream: str, group: str | None, serving: list[dict[str, Any]]
) -> GroupStatus:
    # A group that does not exist has its offsets at the beginning, which is where a new one would start.
    name = group or "status"
    total = client.accounting(stream, name)
    oldest = client.oldest_pending(stream, name)
    items, exact = _pending_items(client, signal, stream, name, total.pending)
    shown = min(serving, key=lambda report: _news(report["state"]["state"]), default=None)
    state = shown["state"] if shown else {}
    successes = [report["state"]["last_success"] for report in serving if report["state"]["last_success"]]
    return GroupStatus(
        signal=signal,
        stream=stream,
        group=group,
        destination=state.get("destination"),
        endpoint=shown["endpoint"] if shown else None,
        state=state.get("state", NOT_RUNNING),
        reason=state.get("reason", ""),
        since=state.get("since"),
        pending=total.pending,
        pending_items=items,
        pending_items_exact=exact,
        pending_bytes=client.pending_bytes(stream, name),
        oldest_age_seconds=None if oldest is None else max(0.0, time.time() - oldest / 1e9),
        protected=group is None or client.is_group_protected(stream, group),
        bytes_per_second=sum(report["state"]["bytes_per_second"] for report in serving),
        entries_per_second=max((report["entries_per_second"] for report in serving), default=0.0),
        seconds_to_empty=shown["seconds_to_empty"] if shown else None,
        last_success=max(successes, default=None),
        last_error=state.get("last_error", ""),
        delivered=total.delivered,
        rejected=total.rejected,
        skipped=total.skipped,
        evicted=total.evicted,
        corrupt=total.corrupt,
        lost=total.lost,
        rejected_items=sum(report["state"]["rejected_items"] for report in serving),
        dead_lettered_items=sum(report["state"]["dead_lettered_items"] for report in serving),
        duplicates_possible=sum(report["state"]["duplicates_possible"] for report in serving),
        shippers=tuple(report["pid"] for report in serving),
    )


def _news(state: str) -> int:
    return _STATES_BY_NEWS.index(state) if state in _STATES_BY_NEWS else len(_STATES_BY_NEWS)


def _pending_items(client: Client, signal: str, stream: str, group: str, pending: int) -> tuple[int | None, bool]:
    """Return how many items wait, and whether they were counted one by one."""
    if not pending:
        return 0, True
    if not signal:
        return None, False
    entries = items = size = 0
    shards = client.shards(stream)
    share = max(1, SAMPLE_ENTRIES_MAX // len(shards)) if shards else 0
    complete = True
    for shard_id in shards:
        offset = client.shard_stats(stream, shard_id).consumer_offsets.get(group, 0)
        scan = client.scan(f"{stream}:shard:{shard_id:04d}", offset)
        for message in islice(scan, share):
            if size > SAMPLE_BYTES_MAX:
                complete = False
                break
            entries, size = entries + 1, size + len(message.data)
            try:
                items += count_items(message.data, Signal(signal))
            except ValueError:
                continue  # not an OTLP request: no items, and a dead letter in the end
        complete = complete and next(scan, None) is None
    if entries == 0:
        return None, False
    exact = complete and entries == pending
    return (items if exact else round(items * pending / entries)), exact
