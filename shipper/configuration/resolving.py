"""Puts flags, file, variables and defaults together to what the shipper works with.

A flag wins over the file, the file over variables, variables over defaults; within one origin, what is said of one
signal wins over what is said of all. Flags and variables speak of one destination: with several in the file, flags that
speak of a destination are refused, and variables fill in only the one that has no endpoint of its own, so that no
secret of theirs goes to another.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from comet_otel.streams import Signal, route_of_signal
from shipper.configuration import credentials, environment
from shipper.configuration.file import ConfigurationFile, FileDestination, read_file
from shipper.configuration.flags import Flags, flags_of_destinations, layer_of_flags
from shipper.configuration.layers import Layer, Problems, Setting, pick
from shipper.configuration.schema import DESTINATION, PACING, RETRY, SENDING, SHIPPER
from shipper.endpoint import Endpoint, parse_endpoint
from shipper.errors import ConfigurationError
from shipper.settings import DestinationConfig, PacingConfig, RetryConfig, ShipperConfig, SignalConfig, TLSConfig

DEFAULT_NAME: Final = "default"
DEFAULT_GROUP: Final = "shipper"


@dataclass(frozen=True)
class LoadedConfig:
    """What came of all origins.

    Attributes:
        config: the settings.
        path: the file that was read, if there was one.
        origins: where each value was set, by its place (``data_dir``, ``central.window``, ``central.traces.endpoint``);
            what is not there has its default.
        notices: sentences about what was set and has no effect.
    """

    config: ShipperConfig
    path: Path | None
    origins: Mapping[str, str]
    notices: tuple[str, ...]


def load_config(flags: Flags, variables: Mapping[str, str]) -> LoadedConfig:
    """Read and check everything.

    Raises:
        ConfigurationError: naming every wrong flag, variable or key of the file, its value and the rule.
    """
    problems = Problems()
    path = flags.config
    if path is None and (named := environment.variable(variables, environment.CONFIG_VARIABLE)):
        path = Path(named)
    file = ConfigurationFile() if path is None else read_file(path, variables, problems)
    loaded = _Resolver(flags, variables, file, path, problems).resolve()
    if problems.found:
        raise ConfigurationError(problems.found)
    return loaded


class _Resolver:
    """One resolution."""

    def __init__(
        self,
        flags: Flags,
        variables: Mapping[str, str],
        file: ConfigurationFile,
        path: Path | None,
        problems: Problems,
    ) -> None:
        self._flags = flags
        self._variables = variables
        self._file = file
        self._path = path
        self._problems = problems
        self._origins: dict[str, str] = {}
        self._notices: list[str] = []

    def resolve(self) -> LoadedConfig:
        layers = (
            layer_of_flags(self._flags, SHIPPER, self._problems),
            self._file.shipper,
            environment.shipper_layer(self._variables, self._problems),
        )
        top = self._picked("", SHIPPER, *layers)
        if "data_dir" not in top:
            self._problems.add("--data-dir", "is not given: say where the log is, or set COMET_DATA_DIR")
            top["data_dir"] = Path()
        config = ShipperConfig(destinations=self._destinations(), once=self._flags.once, **top)
        return LoadedConfig(config, self._path, self._origins, tuple(self._notices))

    def _destinations(self) -> tuple[DestinationConfig, ...]:
        in_file = self._file.destinations or [FileDestination(DEFAULT_NAME)]
        if len(in_file) > 1:
            for flag in flags_of_destinations(self._flags):
                self._problems.add(flag, "says something of a destination, and the file has several: say it there")
        without_endpoint = [each for each in in_file if not _has_endpoint(each)]
        if len(in_file) > 1 and len(without_endpoint) > 1:
            names = ", ".join(each.name for each in without_endpoint)
            self._problems.add(
                self._where(f"destinations {names}"), "have no endpoint; only one can take it from variables"
            )
        found = []
        for each in in_file:
            alone = len(in_file) == 1
            found.append(self._destination(each, flags=alone, variables=alone or each in without_endpoint))
        groups = Counter(each.group for each in found)
        for name, count in groups.items():
            if count > 1:
                self._problems.add(
                    self._where(f"group {name!r}"), f"is the group of {count} destinations: each needs its own"
                )
        if len(in_file) > 1 and not without_endpoint:
            self._notice_unused_variables()
        return tuple(found)

    def _destination(self, file: FileDestination, *, flags: bool, variables: bool) -> DestinationConfig:
        given = self._flags if flags else Flags()
        of_flags = {keys: layer_of_flags(given, table, self._problems) for keys, table in _TABLES.items()}
        settings = self._picked(file.name, DESTINATION, of_flags["destination"], file.settings)
        wanted = settings.pop("signals", tuple(Signal))
        streams = settings.get("streams", ())
        if streams:
            wanted = tuple(signal for signal in wanted if any(signal is held for _, held in streams))
        settings.setdefault("group", _default_group(file.name))
        read: Mapping[str, str] = self._variables if variables else {}
        general = environment.sending_layer(read, None, self._problems)
        signals, without = [], []
        for signal in wanted:
            layers = (
                of_flags["sending"],
                file.of_signal.get(signal, {}),
                file.sending,
                environment.sending_layer(read, signal, self._problems),
                general,
            )
            signals.append(self._signal(file.name, signal, layers))
            if pick("endpoint", *layers) is None:
                without.append(signal.value)
            self._notice_overruled(layers)
        self._no_endpoint(file.name, without, all_of_them=len(without) == len(wanted))
        for signal in set(file.of_signal) - set(wanted):
            self._notices.append(f"destination {file.name}: its table {signal.value!r} has no effect; see its signals")
        retry = self._picked(f"{file.name}.retry", RETRY, of_flags["retry"], file.retry)
        pacing = self._picked(f"{file.name}.pacing", PACING, of_flags["pacing"], file.pacing)
        return DestinationConfig(
            name=file.name,
            signals=tuple(each for each in signals if each is not None),
            retry=self._retry(file.name, retry),
            pacing=PacingConfig(**pacing),
            **settings,
        )

    def _signal(self, name: str, signal: Signal, layers: tuple[Layer, ...]) -> SignalConfig | None:
        place = f"{name}.{signal.value}"
        found = self._picked(place, SENDING, *layers)
        protocol = found.get("protocol", "grpc")
        given, insecure = pick("endpoint", *layers), pick("insecure", *layers)
        endpoint = self._endpoint(given, insecure, protocol)
        tls = self._tls(found, layers)
        for key in ("endpoint", "insecure", "certificate", "client_certificate", "client_key"):
            found.pop(key, None)
        credentials.check_token_file(pick("bearer_token_file", *layers), self._problems)
        if found.get("bearer_token_file") and any(n.lower() == "authorization" for n, _ in found.get("headers", ())):
            self._problems.add(
                place, "has both a bearer_token_file and a header 'authorization': leave one of them out"
            )
        if protocol == "grpc" and (headers := pick("headers", *layers)) is not None:
            self._check_metadata(headers)
        if endpoint is None or given is None:
            return None
        as_it_is = given.of_signal and protocol == "http/protobuf"
        return SignalConfig(signal=signal, endpoint=endpoint, tls=tls, http_path_is_complete=as_it_is, **found)

    def _endpoint(self, given: Setting | None, insecure: Setting | None, protocol: str) -> Endpoint | None:
        if given is None:
            return None
        try:
            endpoint = parse_endpoint(given.value, insecure=bool(insecure and insecure.value))
        except ValueError as error:
            self._problems.add(given.origin, str(error), shown=_without_secrets(given.value))
            return None
        if insecure and insecure.value and endpoint.secure and not insecure.origin.startswith(environment.PREFIX):
            rule = f"contradicts the https of the endpoint {_without_secrets(given.value)!r}: leave one of them out"
            self._problems.add(insecure.origin, rule)
        self._check_path(given, endpoint, protocol)
        keeps_path = given.of_signal and protocol == "http/protobuf"
        return parse_endpoint(given.value, insecure=not endpoint.secure, keep_path=True) if keeps_path else endpoint

    def _check_metadata(self, headers: Setting) -> None:
        for name, _ in headers.value:
            if not _METADATA_KEY.fullmatch(name.lower()) or name.lower().endswith("-bin"):
                rule = "cannot be sent by gRPC: must be of letters, digits, '-', '_' and '.', and not end with '-bin'"
                self._problems.add(headers.origin, f"{name!r}: {rule}")

    def _check_path(self, given: Setting, endpoint: Endpoint, protocol: str) -> None:
        """Say what is probably not meant: a path that is appended once more, or that nobody looks at."""
        shown = _without_secrets(given.value)
        if endpoint.unix:
            if protocol != "grpc":
                self._problems.add(given.origin, "is a Unix socket, which only the protocol grpc can use", shown=shown)
            return
        signal_path = endpoint.path.endswith(_SIGNAL_PATHS)
        notice = ""
        if protocol == "grpc" and endpoint.path:
            rule = "OTLP/gRPC has no use for the path" + ("; is the protocol http/protobuf?" if signal_path else "")
            notice = f"{given.origin} is {shown!r}: {rule}"
        elif signal_path and not given.of_signal:
            notice = (
                f"{given.origin} is {shown!r}: the path of each signal, such as /v1/traces, is appended to it once "
                "more; leave it out, or give it as the endpoint of that signal alone"
            )
        if notice and notice not in self._notices:
            self._notices.append(notice)

    def _no_endpoint(self, name: str, signals: list[str], *, all_of_them: bool) -> None:
        if not signals:
            return
        where = self._where(f"destination.{name}.endpoint") if self._file.destinations else "--endpoint"
        if all_of_them:
            rule = "is not given: say where the collector is, or set OTEL_EXPORTER_OTLP_ENDPOINT"
            self._problems.add(where, rule)
        else:
            rule = "is not given, and others have one: give it, or name the signals to send (signals, --signal)"
            self._problems.add(f"{where} of {' and '.join(signals)}", rule)

    def _tls(self, found: Mapping[str, Any], layers: tuple[Layer, ...]) -> TLSConfig:
        certificate, key = pick("client_certificate", *layers), pick("client_key", *layers)
        credentials.check_authorities(pick("certificate", *layers), self._problems)
        credentials.check_client_pair(certificate, key, self._problems)
        return TLSConfig(
            certificate=found.get("certificate"),
            client_certificate=found.get("client_certificate"),
            client_key=found.get("client_key"),
        )

    def _retry(self, name: str, given: dict[str, Any]) -> RetryConfig:
        retry = RetryConfig(**given)
        # Where only one of them is given, the others follow, so that "at most 1 s" is one key and not three.
        if "first" not in given:
            retry = replace(retry, first=min(retry.first, retry.longest))
        if "pause_longest" not in given:
            retry = replace(retry, pause_longest=max(retry.longest, min(retry.pause_longest, 10 * retry.longest)))
        if not retry.first <= retry.longest <= retry.pause_longest:
            self._problems.add(self._where(f"destination.{name}.retry"), "needs first <= longest <= pause_longest")
        return retry

    def _picked(self, place: str, keys: Mapping[str, object], *layers: Layer) -> dict[str, Any]:
        """Return the values that were set, and remember where."""
        found = {}
        for key in keys:
            setting = pick(key, *layers)
            if setting is not None:
                found[key] = setting.value
                self._origins[f"{place}.{key}" if place else key] = setting.origin
        return found

    def _where(self, place: str) -> str:
        return place if self._path is None else f"{self._path}: {place}"

    def _notice_overruled(self, layers: tuple[Layer, ...]) -> None:
        for layer in layers:
            for key, setting in layer.items():
                winner = pick(key, *layers)
                if winner is not setting and winner is not None and setting.origin.startswith(environment.PREFIX):
                    if winner.origin.startswith(environment.PREFIX):
                        continue  # one signal's variable before the general one is what it is for
                    notice = f"{setting.origin} has no effect: {winner.origin} comes first"
                    if notice not in self._notices:
                        self._notices.append(notice)

    def _notice_unused_variables(self) -> None:
        for name in sorted(self._variables):
            known = name.startswith(environment.PREFIX) and name.endswith(tuple(environment.SUFFIXES))
            if known and self._variables[name].strip():
                self._notices.append(f"{name} has no effect: every destination of the file has its own endpoint")


_SIGNAL_PATHS: Final = tuple(f"/{route_of_signal(signal).http_path}" for signal in Signal)

_METADATA_KEY: Final = re.compile(r"[a-z0-9_.-]+")

_TABLES: Final[Mapping[str, Mapping[str, Any]]] = {
    "sending": SENDING,
    "destination": DESTINATION,
    "retry": RETRY,
    "pacing": PACING,
}


def _has_endpoint(destination: FileDestination) -> bool:
    return "endpoint" in destination.sending or any("endpoint" in layer for layer in destination.of_signal.values())


def _default_group(name: str) -> str:
    return DEFAULT_GROUP if name == DEFAULT_NAME else f"{DEFAULT_GROUP}-{name}"


def _without_secrets(endpoint: str) -> str:
    """Return a text that is no endpoint without what may be a password or a key: user, query and fragment."""
    scheme, separator, rest = endpoint.rpartition("://")
    _, at, where = rest.rpartition("@")
    host, mark, _ = where.replace("#", "?").partition("?")
    return f"{scheme}{separator}{'***@' if at else ''}{host}{'?***' if mark else ''}"
