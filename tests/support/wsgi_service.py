"""A WSGI service for gunicorn: each request ends two spans, and tells of them in a file of its worker."""

from __future__ import annotations

import functools
import os
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import TracerProvider

from comet_otel import CometSpanProcessor

TOLD_VARIABLE = "TEST_TOLD_DIRECTORY"
_ID = struct.Struct("<Q")

# As applications do at import: in the master with ``--preload``, else in each worker.
_provider = TracerProvider()
_provider.add_span_processor(CometSpanProcessor())
_tracer = _provider.get_tracer("service")
with _tracer.start_as_current_span("start", attributes={"pid": os.getpid()}):
    pass


@functools.lru_cache(maxsize=1)
def _told(pid: int) -> int:
    """The file of this process."""
    return os.open(Path(os.environ[TOLD_VARIABLE]) / str(pid), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer with the worker's process id."""
    pid = os.getpid()
    with _tracer.start_as_current_span("request", attributes={"pid": pid}) as outer:
        inner = _tracer.start_span("query", attributes={"pid": pid})
        inner.end()
    ids = (span.get_span_context().span_id for span in (inner, outer))
    os.write(_told(pid), b"".join(map(_ID.pack, ids)))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(pid).encode()]


def ids_told(directory: Path) -> list[int]:
    """The spans that all workers ended."""
    return [found for path in directory.iterdir() for (found,) in _ID.iter_unpack(path.read_bytes())]
