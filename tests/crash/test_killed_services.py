"""Is every span that ended, every record that was emitted and every batch that was exported there after kill -9?"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.children import Child
from tests.support.instrumented_child import (
    emit_log_records,
    end_spans,
    export_batches,
    ids_told,
    stored_log_ids,
    stored_span_ids,
)

pytestmark = [pytest.mark.crash, pytest.mark.slow]

KILLS = 100 if os.environ.get("COMET_CRASH_FULL") else 3
KILLS_PER_LOG = 10

CASES = {
    "CometSpanProcessor": (end_spans, stored_span_ids),
    "CometLogRecordProcessor": (emit_log_records, stored_log_ids),
    "BatchSpanProcessor and CometSpanExporter": (export_batches, stored_span_ids),
}


@pytest.mark.parametrize("name", CASES)
def test_what_a_killed_service_was_told_is_stored(tmp_path, capsys, name) -> None:
    """Every id that was told is in the log, and none is there twice; the next process goes on in the same log."""
    serve, stored_ids = CASES[name]
    told = Counter[int]()
    total = in_the_log = 0
    for kill in range(KILLS):
        directory = tmp_path / f"log{kill // KILLS_PER_LOG}"
        if kill % KILLS_PER_LOG == 0:
            told.clear()
        ids = ids_of_a_killed_service(serve, directory, random.Random(kill))
        total += len(ids)
        told.update(ids)
        assert told.most_common(1)[0][1] == 1
        stored = stored_ids(directory)
        missing = told.keys() - stored.keys()
        assert not missing, f"{len(missing)} of {len(ids)} lost by kill {kill}"
        assert stored.most_common(1)[0][1] == 1
        in_the_log = len(stored)
    with capsys.disabled():
        print(f"\n{name}: kills {KILLS}, acknowledged {total}, lost 0, doubled 0 (in the last log {in_the_log})")


def ids_of_a_killed_service(serve: Callable[..., None], directory: Path, chance: random.Random) -> list[int]:
    """Start a service, kill it at a random instant after it told its first ids, and return all that it told."""
    with Child(serve, str(directory)) as child:
        data = b""
        while not data:
            data = child.read_raw(time.monotonic() + 0.01)
            assert child.process.is_alive()
        data += child.read_raw(time.monotonic() + 0.3 * chance.random() ** 2)
        child.kill()
        return ids_told(data + child.read_rest())
