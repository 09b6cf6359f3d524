"""The command ``comet-shipper``."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

from comet_otel.version import version_line
from shipper.configuration.effective import effective_settings
from shipper.configuration.environment import DATA_DIR_VARIABLE
from shipper.configuration.flags import Flags
from shipper.configuration.resolving import LoadedConfig, load_config
from shipper.errors import ConfigurationError, EnvironmentFailedError, ShipperError
from shipper.logs import set_up_logging

try:
    import rich.console
    import rich.live
    import typer
except ImportError as missing:
    sys.stderr.write(f"comet-shipper: {missing}; install what it needs with: pip install 'comet-otel[shipper]'\n")
    sys.exit(EnvironmentFailedError.exit_code)

NO: Final = 1
"""Exit code where the answer is no: ``run --once`` was stopped before the end, ``check`` found a destination amiss."""

INTERRUPTED: Final = 130

_PRECEDENCE = """
A flag wins over the file, the file over variables (OTEL_EXPORTER_OTLP_ENDPOINT and the others, also for one signal,
such as OTEL_EXPORTER_OTLP_TRACES_ENDPOINT; COMET_DATA_DIR; COMET_SHIPPER_CONFIG for --config), variables over defaults.
Headers in a variable, and tokens in a file, are not seen in process lists.
"""
_EXAMPLES_RUN = f"""
Examples:

  comet-shipper run --data-dir /var/lib/comet --endpoint http://collector:4317

  comet-shipper run --data-dir /var/lib/comet --endpoint https://otlp.example.com --protocol http/protobuf
  --header "api-key=TOKEN"

  comet-shipper run --config /etc/comet/shipper.toml

  comet-shipper run --data-dir ./telemetry --endpoint http://localhost:4317 --once

{_PRECEDENCE}
Signals: SIGTERM and SIGINT stop within --shutdown-timeout and lose nothing; SIGHUP reads the file again, and a wrong
one changes nothing.

Exit codes: 0 stopped as told, 1 --once was stopped before all was delivered, 2 wrong usage or configuration,
3 the environment failed (directory, permission, port, missing package).
"""
_EXAMPLES_CHECK = f"""
Examples:

  comet-shipper check --config /etc/comet/shipper.toml

  comet-shipper check --data-dir /var/lib/comet --endpoint https://collector:4317 --offline

Names everything that is wrong at once. Shows every setting in effect and where it is from, without secrets. Then looks
up each destination's name, connects, speaks TLS, and sends a request without any telemetry in it. Leaves the log alone.

{_PRECEDENCE}
Exit codes: 0 fine, 1 a destination did not answer as it should, 2 wrong usage or configuration, 3 the environment
failed (missing package).
"""
_EXAMPLES_STATUS = """
Examples:

  comet-shipper status --data-dir /var/lib/comet

  comet-shipper status --data-dir /var/lib/comet --watch

  comet-shipper status --data-dir /var/lib/comet --json

Works while applications and the shipper run, and changes nothing. Without --data-dir, COMET_DATA_DIR says where the
log is, or the file that --config or COMET_SHIPPER_CONFIG names.

Exit codes: 0 fine, 2 wrong usage, 3 there is no log or it cannot be read.
"""

app = typer.Typer(
    name="comet-shipper",
    help="Forward the telemetry log of this node to OpenTelemetry collectors.",
    epilog="Examples: [bold]comet-shipper run --help[/], [bold]check --help[/] and [bold]status --help[/]",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _option(help_text: str, metavar: str | None = None, *names: str) -> Any:
    return typer.Option(*names, help=help_text, metavar=metavar, show_default=False)


Config = Annotated[Path | None, _option("File of settings.", "TOML")]
DataDirectory = Annotated[Path | None, _option("Directory of the log.")]
Endpoint = Annotated[str | None, _option("Where the collector is, as a URL.")]
Protocol = Annotated[str | None, _option("grpc (default) or http/protobuf.")]
Compression = Annotated[str | None, _option("gzip (default) or none.")]
Header = Annotated[list[str] | None, _option("Sent with every request; repeatable.", "NAME=VALUE", "--header")]
Certificate = Annotated[Path | None, _option("Authorities to trust instead of the system's.", "PEM")]
ClientCertificate = Annotated[Path | None, _option("The shipper's own certificate.", "PEM")]
ClientKey = Annotated[Path | None, _option("The key of that.", "PEM")]
TokenFile = Annotated[Path | None, _option("Sent as bearer token; read again when it changes.", "FILE")]
Proxy = Annotated[str | None, _option("HTTP proxy to go through (http/protobuf).", "URL")]
Insecure = Annotated[bool, _option("No TLS, for an endpoint given without http:// or https://.", None, "--insecure")]
Signals = Annotated[list[str] | None, _option("traces, metrics or logs; repeatable (default all).", "NAME", "--signal")]
Group = Annotated[str | None, _option("Consumer group to read as (default shipper).", "NAME")]
RequestBytes = Annotated[str | None, _option("Join entries up to this size, before compression.", "SIZE")]
RequestWait = Annotated[str | None, _option("How long a small request waits for more (default 0.2 s).", "S")]
Timeout = Annotated[str | None, _option("Seconds that one request may take (default 10).", "S")]
RetryMax = Annotated[str | None, _option("Seconds that pauses between tries grow to (default 30).", "S")]
Window = Annotated[int | None, _option("Requests in flight at once (default 4).", "N")]
Order = Annotated[str | None, _option("oldest-first (default) or fresh-first.")]
BytesPerSecond = Annotated[str | None, _option("At most this much, before compression.", "SIZE")]
Listen = Annotated[str | None, _option("Serve /healthz, /readyz and /metrics there (default: nowhere).", "[HOST:]PORT")]
LogFormat = Annotated[str | None, _option("auto (default: text on a terminal), text or json.")]
ShutdownTimeout = Annotated[str | None, _option("Seconds for requests in flight at the end (default 5).", "S")]
Assignment = Annotated[str | None, _option("Serve only this part of the shards, such as 0/2.", "INDEX/TOTAL")]


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(version_line("comet-shipper"))
        raise typer.Exit


@app.callback()
def _app(
    _: Annotated[
        bool, typer.Option("--version", help="Say which release this is.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


def main() -> NoReturn:
    """Run the command and exit with its code."""
    try:
        app()
    except ConfigurationError as error:
        _complain(error.problems)
        sys.exit(error.exit_code)
    except ShipperError as error:
        _complain((str(error),))
        sys.exit(error.exit_code)
    sys.exit(0)


@app.command(epilog=_EXAMPLES_RUN)
def run(
    config: Config = None,
    data_dir: DataDirectory = None,
    endpoint: Endpoint = None,
    protocol: Protocol = None,
    compression: Compression = None,
    header: Header = None,
    certificate: Certificate = None,
    client_certificate: ClientCertificate = None,
    client_key: ClientKey = None,
    bearer_token_file: TokenFile = None,
    proxy: Proxy = None,
    insecure: Insecure = False,
    signal: Signals = None,
    group: Group = None,
    max_request_bytes: RequestBytes = None,
    max_request_wait: RequestWait = None,
    timeout: Timeout = None,
    retry_max: RetryMax = None,
    window: Window = None,
    order: Order = None,
    max_bytes_per_second: BytesPerSecond = None,
    listen: Listen = None,
    log_format: LogFormat = None,
    shutdown_timeout: ShutdownTimeout = None,
    assignment: Assignment = None,
    once: Annotated[bool, typer.Option("--once", help="Deliver what is there, then exit.")] = False,
) -> None:
    """Forward until told to stop. Nothing leaves the log unless a collector took it; there is no give-up time."""
    flags = _flags(locals())
    loaded = load_config(flags, os.environ)
    set_up_logging(loaded.config.log_format)
    from shipper.daemon import Daemon  # noqa: PLC0415 - so that --help and wrong options answer at once

    if not Daemon(loaded, lambda: load_config(flags, os.environ)).run():
        raise typer.Exit(NO)


@app.command(epilog=_EXAMPLES_CHECK)
def check(
    config: Config = None,
    data_dir: DataDirectory = None,
    endpoint: Endpoint = None,
    protocol: Protocol = None,
    compression: Compression = None,
    header: Header = None,
    certificate: Certificate = None,
    client_certificate: ClientCertificate = None,
    client_key: ClientKey = None,
    bearer_token_file: TokenFile = None,
    proxy: Proxy = None,
    insecure: Insecure = False,
    signal: Signals = None,
    group: Group = None,
    max_request_bytes: RequestBytes = None,
    max_request_wait: RequestWait = None,
    timeout: Timeout = None,
    retry_max: RetryMax = None,
    window: Window = None,
    order: Order = None,
    max_bytes_per_second: BytesPerSecond = None,
    listen: Listen = None,
    log_format: LogFormat = None,
    shutdown_timeout: ShutdownTimeout = None,
    assignment: Assignment = None,
    offline: Annotated[bool, typer.Option("--offline", help="Do not try the destinations.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Say whether the settings are right, which are in effect, and whether the destinations answer."""
    loaded = load_config(_flags(locals()), os.environ)
    from shipper.check import try_destinations  # noqa: PLC0415 - as above

    findings = []
    report: dict[str, Any] = {
        "config_file": None if loaded.path is None else str(loaded.path),
        "settings": {each.place: {"value": each.value, "from": each.origin} for each in effective_settings(loaded)},
        "notices": list(loaded.notices),
    }
    if not as_json:
        _print_settings(loaded)
    for finding in () if offline else try_destinations(loaded.config):
        findings.append(finding)
        if not as_json:
            sign = "ok  " if finding.good else "FAIL"
            print(f"{sign} {finding.destination} {finding.signal or finding.step}: {finding.text}", flush=True)  # noqa: T201 - this is the answer
    if as_json:
        report["findings"] = [dataclasses.asdict(finding) for finding in findings]
        print(json.dumps(report, indent=2))  # noqa: T201 - this is the answer
    if not all(finding.good for finding in findings):
        raise typer.Exit(NO)


@app.command(epilog=_EXAMPLES_STATUS)
def status(
    config: Config = None,
    data_dir: DataDirectory = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Go on until interrupted.")] = False,
    interval: Annotated[float, typer.Option(min=0.1, metavar="S", help="Seconds between two looks.")] = 1.0,
) -> None:
    """Say what waits in the log, how fast it goes and when it will be empty, and what was ever lost."""
    directory = _directory(data_dir, config)
    from shipper import status as status_module  # noqa: PLC0415 - as above
    from shipper.status_table import status_view  # noqa: PLC0415 - as above

    try:
        if as_json:
            while True:
                print(status_module.to_json(status_module.read_status(directory)), flush=True)  # noqa: T201 - this is the answer
                if not watch:
                    return
                time.sleep(interval)
        console = rich.console.Console()
        if not watch:
            console.print(status_view(status_module.read_status(directory)), highlight=False, soft_wrap=True)
            return
        with rich.live.Live(console=console, screen=console.is_terminal, auto_refresh=False) as live:
            while True:
                live.update(status_view(status_module.read_status(directory)), refresh=True)
                time.sleep(interval)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED if not watch else 0) from None


def _flags(given: Mapping[str, Any]) -> Flags:
    """Return what was given on the command line, from the arguments of a command."""
    values = {field.name: given[field.name] for field in dataclasses.fields(Flags) if field.name in given}
    for repeatable in ("header", "signal"):
        values[repeatable] = tuple(values[repeatable] or ())
    values["insecure"] = values["insecure"] or None
    return Flags(**values)


def _directory(data_dir: Path | None, config: Path | None) -> Path:
    if data_dir is None and config is None and os.environ.get(DATA_DIR_VARIABLE, "").strip():
        data_dir = Path(os.environ[DATA_DIR_VARIABLE])
    if data_dir is not None:
        return data_dir
    if config is None and not os.environ.get("COMET_SHIPPER_CONFIG", "").strip():
        raise ConfigurationError("--data-dir is not given: say where the log is, or set COMET_DATA_DIR")
    return load_config(Flags(config=config), os.environ).config.data_dir


def _print_settings(loaded: LoadedConfig) -> None:
    for each in effective_settings(loaded):
        print(f"{each.place} = {json.dumps(each.value)}  # {each.origin}")  # noqa: T201 - this is the answer
    for notice in loaded.notices:
        print(f"note: {notice}")  # noqa: T201 - as above


def _complain(problems: tuple[str, ...]) -> None:
    console = rich.console.Console(stderr=True, soft_wrap=True, highlight=False)
    for problem in problems:
        console.print(f"comet-shipper: {problem}", markup=False)
