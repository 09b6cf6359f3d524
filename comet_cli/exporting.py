"""Entries as a file that other programs read.

``otlp-json`` is OpenTelemetry's file format: one request in JSON per line, as the Collector's file exporter writes it
and its OTLP JSON file receiver reads it. ``otlp-proto`` is that exporter's other one: each request as it is stored,
after its length in four bytes, big endian. ``raw`` suits entries of any kind: a JSON object per line, the bytes in
base64.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import BinaryIO

from comet_cli.otlp_json import NotTelemetryError, parse_request, request_json
from comet_otel.streams import Signal
from comet_storage import StreamMessage
from shipper.errors import ConfigurationError, EnvironmentFailedError


class ExportFormat(str, Enum):
    """How entries are written."""

    OTLP_JSON = "otlp-json"
    OTLP_PROTO = "otlp-proto"
    RAW = "raw"


def telemetry_record(payload: bytes, signal: Signal, written: ExportFormat) -> bytes:
    """One request in one of the two formats of OpenTelemetry.

    Raises:
        NotTelemetryError: it is no request.
    """
    if written is ExportFormat.OTLP_PROTO:
        parse_request(payload, signal)
        return len(payload).to_bytes(4, "big") + payload
    return _line(request_json(payload, signal))


def raw_record(message: StreamMessage) -> bytes:
    """One entry of any kind."""
    return _line(
        {
            "stream": message.stream,
            "id": str(message.id),
            "timestamp": message.timestamp,
            "data": base64.b64encode(message.data).decode(),
        }
    )


def _line(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace") + b"\n"


@contextlib.contextmanager
def target_file(output: Path | None, *, overwrite: bool) -> Iterator[BinaryIO]:
    """What to write to: standard output, or a file that has its name only when it is whole.

    Raises:
        ConfigurationError: the file exists.
        EnvironmentFailedError: it cannot be written.
    """
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if output.exists() and not overwrite:
        raise ConfigurationError(f"{output} exists; --overwrite replaces it")
    partial = output.with_name(f"{output.name}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(output)
    except OSError as error:
        raise EnvironmentFailedError(f"cannot write {output}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def write_entries(
    messages: Iterator[StreamMessage], record: Callable[[StreamMessage], bytes], file: BinaryIO
) -> tuple[int, list[str]]:
    """Write one after the other. Returns how many were written, and what is said of those that could not be."""
    written, refused = 0, []
    for message in messages:
        try:
            found = record(message)
        except NotTelemetryError as error:
            refused.append(f"{message.stream} {message.id}: {error}")
        else:
            file.write(found)
            written += 1
    return written, refused
