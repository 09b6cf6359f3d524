"""Who encodes a signal: this package where it knows the SDK's classes, the stock encoder elsewhere.

The direct encoder reads private fields, so it is used only for the minor versions of the SDK that it was tested with,
and only if the fields are there: before its first use each signal's encoder is tried on a sample. The choice falls once
per process and signal.
"""

from __future__ import annotations

import importlib
import logging
from typing import Any, Final

from opentelemetry.sdk.version import __version__ as _sdk_version

from comet_otel.encoding._batch import Codec

TESTED_SDK_VERSIONS: Final = ("1.45",)
"""Minor versions of opentelemetry-sdk whose classes the direct encoder reads."""

_HOME_OF: Final = {"SPANS": "_spans", "LOG_RECORDS": "_logs", "METRICS": "_metrics"}

_logger = logging.getLogger(__name__)
_reported: Final[set[str]] = set()


def codec(name: str, sdk_version: str = _sdk_version) -> Codec[Any]:
    """Return the codec of a signal by its public name."""
    reason = _untested(sdk_version)
    if reason is None:
        try:
            home = importlib.import_module(f"comet_otel.encoding.{_HOME_OF[name]}")
            home.check()
        except Exception as error:  # noqa: BLE001 - whatever a changed class makes of it
            reason = f"its classes are not those that are known here ({type(error).__name__}: {error})"
        else:
            direct: Codec[Any] = home.CODEC
            return direct
    _report(sdk_version, reason)
    from comet_otel.encoding import _stock  # noqa: PLC0415 - it loads protobuf, which nobody else needs

    return _stock.codec(name)


def _untested(sdk_version: str) -> str | None:
    minor = ".".join(sdk_version.split(".")[:2])
    if minor in TESTED_SDK_VERSIONS:
        return None
    return f"the direct encoder was tested with {', '.join(TESTED_SDK_VERSIONS)} only"


def _report(sdk_version: str, reason: str) -> None:
    """Say once, for all signals of the process, why telemetry will cost more time than it could."""
    if reason not in _reported:
        _reported.add(reason)
        _logger.warning("opentelemetry-sdk %s: the slower stock encoder is used, because %s", sdk_version, reason)
