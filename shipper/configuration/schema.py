"""Which keys there are, in which table of the file each stands, and what it must be; explained in `docs/shipper.md`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

from shipper.configuration import values
from shipper.configuration.values import Kind
from shipper.settings import COMPRESSIONS, LOG_FORMATS, ORDERS, PROTOCOLS

Keys: TypeAlias = Mapping[str, Kind]

_KIB: Final = 1024
_MIB: Final = 1024 * _KIB
_GIB: Final = 1024 * _MIB
_DAY: Final = 86_400.0
_YEAR: Final = 366 * _DAY

SHIPPER: Final[Keys] = {
    "data_dir": Kind(values.path),
    "listen": Kind(values.listen),
    "log_format": Kind(values.choice(*LOG_FORMATS)),
    "shutdown_timeout": Kind(values.seconds(0, 3600)),
    "assignment": Kind(values.assignment),
    "dead_letter_share": Kind(values.size(_MIB, 1024 * _GIB)),
}
"""At the top of the file."""

SENDING: Final[Keys] = {
    "endpoint": Kind(values.text),
    "insecure": Kind(values.flag),
    "protocol": Kind(values.choice(*PROTOCOLS)),
    "headers": Kind(values.headers, secret=True),
    "compression": Kind(values.choice(*COMPRESSIONS)),
    "compression_level": Kind(values.whole(0, 3)),
    "timeout": Kind(values.seconds(0.1, 3600)),
    "certificate": Kind(values.path),
    "client_certificate": Kind(values.path),
    "client_key": Kind(values.path),
    "bearer_token_file": Kind(values.path),
    "proxy": Kind(values.proxy, secret=True),
}
"""In ``[destination.NAME]`` for all its signals, and in ``[destination.NAME.traces]`` and so on for one of them."""

DESTINATION: Final[Keys] = {
    "group": Kind(values.group),
    "signals": Kind(values.signals),
    "streams": Kind(values.streams),
    "max_request_bytes": Kind(values.size(_KIB, 64 * _MIB)),
    "max_request_wait": Kind(values.seconds(0, 60)),
    "window": Kind(values.whole(1, 64)),
    "ordered": Kind(values.flag),
    "order": Kind(values.choice(*ORDERS)),
    "max_lag_bytes": Kind(values.size(_KIB, 1024 * _GIB)),
    "max_lag_age": Kind(values.seconds(1, 10 * _YEAR)),
    "dead_letters": Kind(values.flag),
}
"""In ``[destination.NAME]``."""

RETRY: Final[Keys] = {
    "first": Kind(values.seconds(0.01, 3600)),
    "longest": Kind(values.seconds(0.01, 3600)),
    "pause_longest": Kind(values.seconds(0.01, _DAY)),
    "overrides": Kind(values.overrides),
}
"""In ``[destination.NAME.retry]``."""

PACING: Final[Keys] = {
    "max_bytes_per_second": Kind(values.size(_KIB, 1024 * _GIB)),
    "max_requests_per_second": Kind(values.number(0.001, 1e6)),
    "slow_start": Kind(values.flag),
}
"""In ``[destination.NAME.pacing]``."""

PATHS: Final = ("data_dir", "certificate", "client_certificate", "client_key", "bearer_token_file")
"""Keys whose values, in the file, are relative to the file."""
