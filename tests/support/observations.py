"""What a running shipper might say of itself."""

from __future__ import annotations

from typing import Any

from comet_otel.streams import TRACES
from shipper.delivery.progress import PipelineState
from shipper.observation import Observation, PipelineReport


def report(
    *, destination: str = "central", signal: str = "traces", stream: str = TRACES, **facts: Any
) -> PipelineReport:
    """Return a report of a pipeline; `facts` are fields of the report or of its state."""
    of_report = {
        name: facts.pop(name) for name in list(facts) if name in PipelineReport.__dataclass_fields__ and name != "state"
    }
    state = PipelineState(destination, signal, stream, **{"state": "idle", **facts})
    defaults = {
        "group": "shipper",
        "endpoint": "http://collector:4317",
        "protocol": "grpc",
        "server_address": "collector",
        "server_port": 4317,
        "alive": True,
    }
    return PipelineReport(state=state, **{**defaults, **of_report})


def observation(*pipelines: PipelineReport, pid: int = 4711, log_open: bool = True, **facts: Any) -> Observation:
    """Return an observation of a shipper with these pipelines."""
    defaults = {"version": "1", "started": 1.0, "observed": 2.0, "data_dir": "/log", "config_file": None}
    return Observation(pid=pid, log_open=log_open, pipelines=pipelines, **{**defaults, **facts})
