"""An OTLP receiver that stores what it gets in the log: any language's telemetry under the same protection.

    from comet_otel.receiver import OTLPReceiver
    from comet_storage import Client

    with Client("/var/lib/comet") as client, OTLPReceiver(client) as receiver:
        ...

The command is ``comet-receiver``. What it needs beyond the exporters comes with the extra ``comet-otel[receiver]``, and
is imported when one of the names is first asked for.
"""

from __future__ import annotations

import importlib as _importlib
import typing as _typing

if _typing.TYPE_CHECKING:
    from comet_otel.receiver.config import ReceiverConfig
    from comet_otel.receiver.receiver import OTLPReceiver

__all__ = ["OTLPReceiver", "ReceiverConfig"]

_HOME_OF = {
    "OTLPReceiver": "comet_otel.receiver.receiver",
    "ReceiverConfig": "comet_otel.receiver.config",
}


def __getattr__(name: str) -> object:
    home = _HOME_OF.get(name)
    if home is None:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    try:
        module = _importlib.import_module(home)
    except ModuleNotFoundError as missing:
        message = f"{missing}; install what the receiver needs with: pip install 'comet-otel[receiver]'"
        raise ModuleNotFoundError(message, name=missing.name) from missing
    value: object = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
